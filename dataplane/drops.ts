/**
 * Why packets are dropped. One line a reason: number, counter name, what an operator should read.
 * The number is what a stage writes into the batch's `drop` column; the counters of a worker are
 * indexed by it. Add a reason at the end, and a case for it in test/packets.
 *
 * A superframe counts as one packet as long as it is whole, wherever it is dropped; once `segment` has begun
 * to cut it, each segment that is dropped counts.
 */
export const DROPS = [
  ['none', 'not dropped'],
  ['l2-truncated', 'the frame is shorter than an Ethernet header'],
  ['l2-foreign', 'the frame is addressed to another MAC'],
  ['ethertype', 'the frame carries neither IPv4, IPv6 nor ARP'],
  ['source-mac', 'the pod sent from a MAC that is not its own'],
  ['ip-truncated', 'the packet is shorter than its IP header says'],
  ['ip-version', 'the IP version is neither 4 nor 6, or does not fit the frame'],
  ['ip-header', 'the IP header length or an extension header is malformed'],
  ['ip-checksum', 'the IPv4 header checksum is wrong'],
  ['l4-truncated', 'the TCP, UDP or ICMP header is cut short or malformed'],
  ['offload', "the device's offload fields do not fit the packet"],
  ['arp-malformed', 'the ARP packet is not an Ethernet/IPv4 request, or not for us'],
  ['arp-spoof', "an ARP sender address is not the pod's own"],
  [
    'nd-malformed',
    'the neighbour discovery packet is malformed or of a kind that pods may not send',
  ],
  ['nd-spoof', "a neighbour discovery source is not the pod's own"],
  ['source-ip', 'the pod sent from an address that is not its own'],
  ['multicast', 'the destination is multicast, broadcast, loopback or unspecified'],
  ['not-vxlan', 'an underlay packet is not VXLAN to our port and address'],
  ['vxlan-header', 'the VXLAN header lacks the I flag or is cut short'],
  ['vxlan-vni', 'the VNI is not ours'],
  ['vxlan-vtep', 'the sender is not a known VTEP'],
  ['vxlan-inner', 'the inner frame is not addressed to this node or is not IP'],
  ['vxlan-checksum', 'the outer UDP checksum is wrong'],
  ['vxlan-ecn', 'the inner packet is not ECN capable but the outer one is marked (RFC 6040)'],
  ['overlay-transit', 'a packet from the overlay would go back into the overlay'],
  ['no-route', 'no route to the destination'],
  ['unreachable', 'the route says unreachable: no such pod on this node'],
  ['ttl', 'the TTL or hop limit ran out'],
  ['mtu', "the packet is larger than the next hop's MTU"],
  ['neighbour', "the next hop's MAC address is not resolved yet"],
  ['port-gone', 'the port of the next hop is not there'],
  ['tx-full', 'the transmit ring or the device queue is full'],
  ['tx-error', 'the kernel refused the packet'],
  ['no-frames', 'no free frame'],
  ['loop', 'the packet would leave by the port it came from'],
  ['handled', 'answered by the node itself (not a loss)'],
  ['rate', 'the pod sends or receives more than its bandwidth lets'],
  ['redirect', 'the pod sent an ICMP redirect or router advertisement, as only routers may'],
  ['to-vtep', "the pod sent to the overlay's UDP port of a node: only nodes speak there"],
  ['other-network', "the destination is in another network than the packet's"],
  ['port-down', 'the device of the port of the next hop is down'],
  ['fill-empty', 'a burst was larger than what its AF_XDP socket had frames for'],
  [
    'rx-full',
    "packets came to an AF_XDP socket, or the node's TAP, faster than a worker took them",
  ],
  ['rx-long', 'a packet was longer than a frame of its AF_XDP socket'],
  ['descriptor', 'the kernel refused a frame of an AF_XDP ring: a bug of this program'],
  ['policy-egress', 'policy does not let the pod send it'],
  ['policy-ingress', 'policy does not let the pod receive it'],
  ['policy-fragment', 'a fragment whose first one policy has not seen, or has not let pass'],
  ['policy-icmp', 'an ICMP error about a flow that policy has not let pass'],
  [
    'half-open',
    'the pod has begun, or was sent, as many connections that are half open as it may have',
  ],
  [
    'vxlan-peer',
    "the kernel's vxlan device got it from no known VTEP, or of a network that its node is not in",
  ],
  ['dns-busy', 'a DNS message that could not be written down in time; it is sent again'],
  [
    'vxlan-device',
    "the kernel's vxlan device got it at another address of this node, or for another node's inner MAC",
  ],
  [
    'tap-gone',
    "a frame found its port, next hop or device gone, or not there yet, on the way from or to the node's TAP",
  ],
] as const

export type DropName = (typeof DROPS)[number][0]

/** Room for reasons in a worker's counters. */
export const DROP_SLOTS = 64

function number(name: DropName): number {
  return DROPS.findIndex(([each]) => each === name)
}

export const DROP_NONE = 0
export const DROP_L2_TRUNCATED = number('l2-truncated')
export const DROP_L2_FOREIGN = number('l2-foreign')
export const DROP_ETHERTYPE = number('ethertype')
export const DROP_SOURCE_MAC = number('source-mac')
export const DROP_IP_TRUNCATED = number('ip-truncated')
export const DROP_IP_VERSION = number('ip-version')
export const DROP_IP_HEADER = number('ip-header')
export const DROP_IP_CHECKSUM = number('ip-checksum')
export const DROP_L4_TRUNCATED = number('l4-truncated')
export const DROP_OFFLOAD = number('offload')
export const DROP_ARP_MALFORMED = number('arp-malformed')
export const DROP_ARP_SPOOF = number('arp-spoof')
export const DROP_ND_MALFORMED = number('nd-malformed')
export const DROP_ND_SPOOF = number('nd-spoof')
export const DROP_SOURCE_IP = number('source-ip')
export const DROP_MULTICAST = number('multicast')
export const DROP_NOT_VXLAN = number('not-vxlan')
export const DROP_VXLAN_HEADER = number('vxlan-header')
export const DROP_VXLAN_VNI = number('vxlan-vni')
export const DROP_VXLAN_VTEP = number('vxlan-vtep')
export const DROP_VXLAN_INNER = number('vxlan-inner')
export const DROP_VXLAN_CHECKSUM = number('vxlan-checksum')
export const DROP_VXLAN_ECN = number('vxlan-ecn')
export const DROP_OVERLAY_TRANSIT = number('overlay-transit')
export const DROP_NO_ROUTE = number('no-route')
export const DROP_UNREACHABLE = number('unreachable')
export const DROP_TTL = number('ttl')
export const DROP_MTU = number('mtu')
export const DROP_NEIGHBOUR = number('neighbour')
export const DROP_PORT_GONE = number('port-gone')
export const DROP_TX_FULL = number('tx-full')
export const DROP_TX_ERROR = number('tx-error')
export const DROP_NO_FRAMES = number('no-frames')
export const DROP_LOOP = number('loop')
export const DROP_HANDLED = number('handled')
export const DROP_RATE = number('rate')
export const DROP_REDIRECT = number('redirect')
export const DROP_TO_VTEP = number('to-vtep')
export const DROP_OTHER_NETWORK = number('other-network')
export const DROP_PORT_DOWN = number('port-down')
export const DROP_FILL_EMPTY = number('fill-empty')
export const DROP_RX_FULL = number('rx-full')
export const DROP_RX_LONG = number('rx-long')
export const DROP_DESCRIPTOR = number('descriptor')
export const DROP_POLICY_EGRESS = number('policy-egress')
export const DROP_POLICY_INGRESS = number('policy-ingress')
export const DROP_POLICY_FRAGMENT = number('policy-fragment')
export const DROP_POLICY_ICMP = number('policy-icmp')
export const DROP_HALF_OPEN = number('half-open')
export const DROP_VXLAN_PEER = number('vxlan-peer')
export const DROP_DNS_BUSY = number('dns-busy')
export const DROP_VXLAN_DEVICE = number('vxlan-device')
export const DROP_TAP_GONE = number('tap-gone')

/** Not a reason: the packet is finished at layer 2 and goes straight to `transmit`. */
export const DELIVER_AS_IS = 255
/** Not a reason: the packet lives on in other frames, and its own has been given back. */
export const CONSUMED = 254
