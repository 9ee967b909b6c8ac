/**
 * Every limit of the packet engine, in one place. Nothing on the packet path grows: at a limit a
 * packet is dropped and counted, and a control call is refused with an error that names the limit.
 */

/** Worker threads of one daemon; each owns one queue of every port. */
export const MAX_WORKERS = 8
/** Ports of one daemon: pods, underlay, host. */
export const MAX_PORTS = 512
/** Descriptors of a port beside one for each worker, and of all the rest of the process: room is made at start. */
export const PORT_DESCRIPTORS = 3
export const SPARE_DESCRIPTORS = 1024
/**
 * Next hops: one a pod, one a remote node and network. Ids are 1 .. MAX_NEXT_HOPS - 1, what 15 bits hold
 * (MAX_NEXT_HOP_ID of a FIB). Memory of those that are not used is never touched.
 */
export const MAX_NEXT_HOPS = 32_768
/** Remote nodes, by default and at the most (option `peers`). */
export const DEFAULT_PEERS = 8192
export const MAX_PEERS = 16_384
/** Networks of a cluster beside its own. */
export const MAX_NETWORKS = 64
/** Slots of the table of their VNIs (open addressing; at most half of them are used). */
export const NETWORK_SLOTS = 128
/** VNI of the cluster's own network, when nobody says another; and the largest there is (RFC 7348 section 5). */
export const DEFAULT_VNI = 1
export const MAX_VNI = 2 ** 24 - 1
/** Routes of one family in the FIB, by default. */
export const DEFAULT_ROUTES = 16_384

/** Packets that travel together through the stages. */
export const BATCH_SIZE = 256
/** Packets taken from a TUN queue before the next port has its turn. */
export const RECEIVE_BURST = 64
/** The same for any port: AF_XDP, where taking packets costs no system call, and UDP, whose datagrams are many packets; at most BATCH_SIZE. */
export const PORT_BURST = 256

/** Bytes of a small frame: one AF_XDP chunk; a power of two. */
export const FRAME_BYTES = 2048
/** Bytes in front of a received packet; the kernel's XDP_PACKET_HEADROOM. VXLAN over IPv6 takes 70 + 14. */
export const FRAME_HEADROOM = 256
/** Largest IP packet that fits a small frame behind its Ethernet header. */
export const MAX_SMALL_PACKET = FRAME_BYTES - FRAME_HEADROOM - 14
/** Bytes of a large frame: headroom, virtio_net_hdr and a 65,535-byte superframe; a power of two (frames.ts). */
export const LARGE_FRAME_BYTES = 131_072
/** Small frames of one worker, by default. */
export const DEFAULT_SMALL_FRAMES = 32_768
/** Large frames of one worker, by default. */
export const DEFAULT_LARGE_FRAMES = 128

/** Entries of each AF_XDP ring. */
export const XDP_RING_SIZE = 2048
/** AF_XDP sockets (a port's queues each take one) of one worker, by default. */
export const DEFAULT_XDP_SOCKETS = 128
/** Frames that a pod's fill ring holds: while little comes, when much does, and when frames are short (afxdp/fill-level.ts). */
export const POD_FILL_SHARE = 96
export const POD_FILL_FRAMES = 2048
export const MIN_FILL_FRAMES = 16
/** Of a worker's small frames: what the fill rings of pods share, and below which part that is free frames are short. */
export const FILL_BUDGET = 1 / 2
export const FRAME_RESERVE = 1 / 8
/** Frames that an underlay device's fill ring holds. */
export const UNDERLAY_FILL_FRAMES = 2048
/** Largest pod MTU: an outer packet of it fits a small frame on every kind of underlay. */
export const MAX_POD_MTU = 1700
/** Smallest: IPv6 asks for it (RFC 8200 section 5). */
export const MIN_POD_MTU = 1280
/** Kicks of one flush before the rest waits for the next one. */
export const MAX_KICKS = 16
/** Milliseconds between two tries with a device that is down, and between two looks at what ports can't be told of. */
export const PORT_RETRY_MS = 100
export const PORT_LOOK_MS = 1000

/** UDP sockets, each with its own source port, over which the `udp` underlay spreads flows. */
export const UDP_ENTROPY_SOCKETS = 8
/** Packets that leave, or come in, as one datagram of segments (UDP_MAX_SEGMENTS; GRO joins no more). */
export const UDP_SEGMENTS = 64
/** Bytes of the longest datagram. */
export const UDP_DATAGRAM_BYTES = 65_507
/** Bursts in a row whose segments the kernel refuses before a worker sends one by one, and milliseconds until it tries again. */
export const UDP_REFUSALS = 16
export const UDP_RETRY_MS = 10_000

/** Bytes that a round gives each port of a worker (worker/fair-shares.ts): about a burst of small packets. */
export const ROUND_BYTES = 16_384

/** Empty rounds of a worker before it sleeps in the kernel. */
export const SPIN_ROUNDS = 256
/** Milliseconds that a sleeping worker stays away at the most. */
export const SLEEP_MS = 1000

/** ICMP errors of one worker, sustained and at once: to one sender, to all behind a port that is no pod's, in all. */
export const ICMP_ERRORS_OF_SENDER = { perSecond: 100, burst: 50 } as const
export const ICMP_ERRORS_OF_PORT = { perSecond: 1000, burst: 200 } as const
export const ICMP_ERRORS = { perSecond: 5000, burst: 1000 } as const
/** Buckets for the senders behind such ports, chosen by their addresses. */
export const ICMP_ERROR_SOURCES = 256

/** Largest rate of a pod's bucket, in bytes a second: 34.3 Gbit/s (tables/rates.ts counts in 32 bits). */
export const MAX_RATE_BYTES = 2 ** 32 - 1
/** Largest burst, in bytes; two of them lie between a bucket that is full and one whose clock went round. */
export const MAX_BURST_BYTES = 2 ** 30
/** Burst of a rate that came without one: so many seconds of it, and no fewer bytes. */
export const DEFAULT_BURST_SECONDS = 0.5
export const MIN_BURST_BYTES = 131_072

/** Room of policy when nobody says otherwise (control.ts, PolicyLimits). */
export const DEFAULT_POLICY_MATCHES = 32_768
export const DEFAULT_POLICY_ADDRESSES = 65_536
export const DEFAULT_FLOWS = 131_072
/** Most flows that one pod has begun, and that other nodes and the host have begun with it. */
export const FLOWS_OF_POD = 32_768
export const FLOWS_WITH_POD = 65_536
/** Of TCP, how many of either may be half open: begun, and not established yet, or not ever. */
export const HALF_OPEN_OF_POD = 2048
/** Seconds from a start in which connections that were there before are taken on by whichever end speaks first: TCP gives up no sooner (RFC 1122 section 4.2.3.5, and some). */
export const RESUME_SECONDS = 900
/** Denials that a worker tells of in a tick of the flow table. */
export const DENIALS_A_TICK = 500
/** Milliseconds of a tick of the flow table, and ticks that flows without packets are kept. */
export const FLOW_TICK_MS = 1000
export const FLOW_TIMEOUTS = {
  opening: 60,
  established: 14_400,
  closing: 120,
  answered: 60,
  refused: 10,
  datagram: 180,
  icmp: 30,
} as const

/** Different domain names, and `*.` names, of all programs of this node's pods. */
export const MAX_PATTERNS = 4096
/** Of a pod: questions for names that are not answered yet, and seconds that one waits for its answer. */
export const DNS_QUESTIONS = 128
export const DNS_QUESTION_SECONDS = 10
/** Of a pod: names that are learned, their addresses in all, and those of one name (network-policy-api asks for 100). */
export const DNS_NAMES = 256
export const DNS_ADDRESSES = 2048
export const DNS_ADDRESSES_OF_NAME = 128
/** Seconds that new flows may go to an address beyond its TTL, and the longest TTL that counts (RFC 8767 section 4: a week). */
export const DNS_GRACE_SECONDS = 30
export const DNS_TTL_SECONDS = 604_800
/** Patterns that the names of one address may have. */
export const PATTERNS_OF_ADDRESS = 32
/** DNS over TCP, of a pod: streams that are followed, and bytes of the longest message that comes in parts. */
export const DNS_STREAMS = 8
export const DNS_STREAM_BYTES = 4096
/** Milliseconds between two looks for addresses that are out of date. */
export const DNS_AGE_MS = 5000

/** Longest IP packet whose outer one has no more than 65,535 bytes, over either family. */
export const MAX_TUNNELLED_BYTES = 65_465
/** Largest superframe that a stack gives a veth of ours, its Ethernet header included: such packets fit a tunnel whole. */
export const POD_GSO_BYTES = 65_408
/** Frames that wait in a queue of the node's TAP for their worker: what some hundred TCP windows have in flight. */
export const TAP_QUEUE_LENGTH = 4096

/** Overhead of VXLAN in front of an inner IP packet: outer IP, UDP, VXLAN, inner Ethernet. */
export const VXLAN_OVERHEAD_IPV4 = 50
export const VXLAN_OVERHEAD_IPV6 = 70

/** Names of the node's TAP and of its vxlan device. */
export const TAP_DEVICE = 'hawser-tap'
export const VXLAN_DEVICE = 'hawser-vxlan'
/** Name of the TUN device that is the node's own port, when nobody says another. */
export const DEFAULT_HOST_DEVICE = 'hawser0'
