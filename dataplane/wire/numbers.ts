/** Assigned numbers that headers carry (IANA registries), under the names that the RFCs give them. */

/** What an Ethernet frame carries (RFC 9542 appendix B). */
export const ETHERTYPE_IPV4 = 0x0800
export const ETHERTYPE_ARP = 0x0806
export const ETHERTYPE_VLAN = 0x8100
export const ETHERTYPE_IPV6 = 0x86dd

/** IPv4 protocols and IPv6 next headers. */
export const PROTO_HOP_BY_HOP = 0
export const PROTO_ICMP = 1
export const PROTO_TCP = 6
export const PROTO_UDP = 17
export const PROTO_ROUTING = 43
export const PROTO_FRAGMENT = 44
export const PROTO_ESP = 50
export const PROTO_AH = 51
export const PROTO_ICMPV6 = 58
export const PROTO_NO_NEXT_HEADER = 59
export const PROTO_DESTINATION_OPTIONS = 60
export const PROTO_SCTP = 132

/** UDP port of VXLAN (RFC 7348 section 8), and the one that Linux took before it was assigned. */
export const PORT_VXLAN = 4789
export const PORT_VXLAN_LINUX = 8472

/** Congestion experienced: the ECN field of a marked packet (RFC 3168 section 5). */
export const ECN_CE = 3
