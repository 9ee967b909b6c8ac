/** Numbers of AF_XDP that the kernel decides (linux/if_xdp.h, linux/bpf.h), for control and packet path alike. */

/** sockaddr_xdp.sxdp_flags. */
export const XDP_SHARED_UMEM = 1
export const XDP_COPY = 2
export const XDP_USE_NEED_WAKEUP = 8

/** Flag of a ring: its consumer waits for a system call. */
export const XDP_RING_NEED_WAKEUP = 1
/** Bytes of an entry of the fill and completion rings (u64), and of the RX and TX rings (struct xdp_desc). */
export const ADDRESS_BYTES = 8
export const XDP_DESC_BYTES = 16
/** Bytes that a ring has in front of its entries at the most (320 in kernel 6.18). */
export const RING_HEADER_MAX = 512

/** xdp_desc.options: metadata lies in front of the packet (kernel 6.8). */
export const XDP_TX_METADATA = 2
/** Bytes of `struct xsk_tx_metadata` in front of a packet that asks for its checksum: flags u64, csum_start u16, csum_offset u16, padding. */
export const TX_METADATA_BYTES = 16
/** xsk_tx_metadata.flags: complete the checksum at csum_offset from csum_start on (kernel 6.8). */
export const XDP_TXMD_FLAGS_CHECKSUM = 2

/** Type of the map that an XDP program finds the sockets in. */
export const BPF_MAP_TYPE_XSKMAP = 17
