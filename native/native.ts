/**
 * The typed face of the addon: everything that TypeScript asks of the kernel goes through here.
 *
 * Two kinds of function live in it.
 *
 * **Control** functions (open, bind, attach, netlink) may allocate. They throw an `Error` whose
 * message names the object, the cause and the remedy, and which carries `errno` (positive) and
 * `code` ("EPERM").
 *
 * **Burst** functions run on the packet path. They take integers only: byte offsets into the one
 * arena that the calling thread has given to `bind`, counts and file descriptors. They check that
 * every offset lies inside the arena, build no objects, throw nothing, and return a count, or
 * `-errno` when nothing at all was done. `EAGAIN` counts as 0.
 *
 * A *descriptor* is a pair of little-endian u32 in the arena, `{ offset, length }`: the arena
 * offset of the first byte and the number of bytes.
 *
 * File descriptors belong to the process: one opened by one thread may be used by another.
 * Functions that take `netns` enter that network namespace on a short-lived thread of their own,
 * so that no other code ever runs in the wrong one. `''` is the caller's own namespace. A path
 * that is not an nsfs file is refused (EINVAL).
 */
import { createRequire } from 'node:module'

export interface XskRings {
  /** Arena offset where the fill ring is mapped; page aligned. 0 = none (then no completion ring). */
  fill: number
  completion: number
  /** 0 = none. */
  rx: number
  tx: number
  /** Entries, powers of two. */
  fillSize: number
  completionSize: number
  rxSize: number
  txSize: number
}

/** Where the kernel puts the fields of a ring, bytes from the start of its mapping (if_xdp.h). */
export interface XskRingOffsets {
  producer: number
  consumer: number
  desc: number
  flags: number
}

export interface XskOffsets {
  rx: XskRingOffsets
  tx: XskRingOffsets
  fill: XskRingOffsets
  completion: XskRingOffsets
}

export interface XskStatistics {
  rxDropped: number
  rxInvalidDescs: number
  txInvalidDescs: number
  rxRingFull: number
  rxFillRingEmpty: number
  txRingEmpty: number
}

export interface NetnsIdentity {
  dev: bigint
  ino: bigint
}

/** See `openTable`. */
export type TableHandle = { readonly table: unique symbol }

/** See `openFlowTable`. */
export type FlowTableHandle = { readonly flowTable: unique symbol }

/** See `openBatch`. */
export type BatchHandle = { readonly batch: unique symbol }

/** See `openKnownFlows`. */
export type KnownFlowsHandle = { readonly knownFlows: unique symbol }

export interface Native {
  // ---- memory ----------------------------------------------------------------------------------
  pageSize(): number
  /** Address of the first byte of `view`; for alignment. */
  addressOf(view: Uint8Array): bigint
  /** Makes `arena` the calling thread's arena for the burst functions and for ring mappings. Kept alive. */
  bind(arena: Uint8Array): void
  /** Gives the pages of `view`, which nobody may be using, back to the kernel; it reads as zeros. */
  discard(view: Uint8Array): void

  // ---- descriptors, events ---------------------------------------------------------------------
  close(fd: number): void
  /**
   * Makes the kernel's table of this process's descriptors large enough for `count`, or as many as
   * RLIMIT_NOFILE allows: growing it later stops the opening thread for some 10 ms, in the middle of
   * other work. Returns for how many there is room.
   */
  reserveDescriptors(count: number): number
  /** Non-blocking, close-on-exec. */
  eventfd(): number
  eventfdSignal(fd: number): number
  eventfdDrain(fd: number): number
  epollCreate(): number
  /** `events`: EPOLLIN = 1, EPOLLET = 0x80000000 (as an unsigned number). `data` comes back from epollWait. */
  epollAdd(epfd: number, fd: number, data: number, events: number): void
  epollRemove(epfd: number, fd: number): void
  /** Burst. Writes the `data` word of each ready descriptor as u32 to `out`; blocks `timeoutMs` (-1 for ever, 0 not at all). */
  epollWait(epfd: number, out: number, max: number, timeoutMs: number): number
  /**
   * Resolves when one of `fds` has something to read, or is broken; they must stay open until then.
   * A thread of its own waits, and the process doesn't stay for it. Rejects with EAGAIN without a thread.
   */
  waitReadable(fds: readonly number[]): Promise<void>

  // ---- namespaces ------------------------------------------------------------------------------
  /** Device and inode of a namespace file; EINVAL if the path is no network namespace (nsfs, CLONE_NEWNET). */
  netnsIdentity(path: string): NetnsIdentity
  /** Writes `value` to /proc/sys/net/`key` (`ipv4/ip_forward`) inside `netns`. `..` in the key is refused. */
  sysctlWrite(netns: string, key: string, value: string): void
  sysctlRead(netns: string, key: string): string

  // ---- netlink and sockets (control) -----------------------------------------------------------
  /** A netlink socket of `protocol` (NETLINK_ROUTE = 0) that lives in `netns`, close-on-exec, with extended acks, joined to `groups` (bit mask of the first 32). `everywhere`: it hears of the namespaces that have a number in this one (nsid), too; needs CAP_NET_BROADCAST. */
  netlinkOpen(netns: string, protocol: number, groups: number, everywhere?: boolean): number
  /** Sends one datagram; returns the bytes sent. */
  send(fd: number, data: Uint8Array): number
  /** As `send`, of a copy, on a thread of its own: for what the kernel takes long over. */
  sendInBackground(fd: number, data: Uint8Array): Promise<void>
  /** Receives one datagram into `into`; returns its full length (MSG_TRUNC), 0 after `timeoutMs`. */
  receive(fd: number, into: Uint8Array, timeoutMs: number): number
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number }
  /** if_nametoindex in `netns`; 0 if there is none. */
  interfaceIndex(netns: string, name: string): number
  /** The same in the namespace of a socket of any kind: no thread has to go there. */
  socketInterface(fd: number, name: string): number
  /** Receive queues in use of an interface in a socket's namespace (ethtool(8), channels); 0 where the driver doesn't tell. */
  receiveQueues(fd: number, name: string): number

  // ---- TUN -------------------------------------------------------------------------------------
  /**
   * Opens `queues` queues of the TUN device `name` in `netns`: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR |
   * IFF_MULTI_QUEUE, non-blocking, close-on-exec, 10-byte virtio_net_hdr, little endian. The device
   * is made if it is not there; `persistent` keeps it when the descriptors close (TUNSETPERSIST).
   * With `ethernet` it is a TAP (IFF_TAP): each packet has its Ethernet header. Undoes everything on failure.
   */
  tunOpen(
    netns: string,
    name: string,
    queues: number,
    persistent: boolean,
    ethernet?: boolean,
  ): number[]
  /** TUNSETOFFLOAD. Returns 0 or -errno (a refused mask is an answer, not an error). */
  tunSetOffload(fd: number, mask: number): number
  tunSetPersistent(fd: number, persistent: boolean): void
  /**
   * Closes the descriptors `fds`, all of a device that is not persistent, on threads of their own.
   * Resolves when the interface `name` with that index is no longer in `netns`; the last close may
   * go on for some 20 ms. Never rejects.
   */
  tunVanish(netns: string, name: string, index: number, fds: readonly number[]): Promise<void>
  /**
   * Burst. Reads up to `count` packets, each with its virtio_net_hdr in front. `small` and `large`
   * are arena offsets of u32 arrays of frame offsets to read to. A packet (header included) of at
   * most `smallCap` bytes lies whole in the next small frame; a longer one is put together in the
   * next large frame, at most `largeCap` bytes, and the small frame is used again. One that is
   * longer still is cut: its descriptor has the small frame and a length above the cap. Writes
   * descriptors to `out` in order; the caller sees from the offset which frame was taken. Stops
   * when small or large frames run out, behind 128 KiB, or when the queue is empty.
   */
  tunRead(
    fd: number,
    count: number,
    small: number,
    nSmall: number,
    smallCap: number,
    large: number,
    nLarge: number,
    largeCap: number,
    out: number,
  ): number
  /**
   * Burst. Writes `count` descriptors (virtio_net_hdr first). Each descriptor's length becomes 0
   * when the kernel took it, else the errno; nothing more is tried after EIO and EBADFD, which say that
   * the device is down or gone. Returns how many were taken.
   */
  tunWrite(fd: number, descs: number, count: number): number

  // ---- UDP -------------------------------------------------------------------------------------
  /**
   * A UDP socket in `netns` bound to `address`:`port`, non-blocking, SO_REUSEADDR; with
   * `reusePort` SO_REUSEPORT; IPv6 sockets are V6ONLY. `noChecksum` sets SO_NO_CHECK (IPv4).
   * Outer IPv4 packets may be fragmented on the way (IP_PMTUDISC_DONT). Receives TOS and TTL as ancillary data. Send and receive buffers of `bufferBytes`.
   */
  udpOpen(
    netns: string,
    address: string,
    port: number,
    reusePort: boolean,
    noChecksum: boolean,
    bufferBytes: number,
  ): number
  /**
   * A raw socket for UDP packets to `address` that the kernel delivers, put together if they came in
   * fragments, and whose port it leaves to others: of those, what `filter` (classic BPF, 8 bytes an
   * instruction) lets through. `udpReceive` gives an IPv4 packet from its IP header on, an IPv6 one from
   * its UDP header on. With `hearErrors` (IPV6_RECVERR) the kernel takes what routers say of UDP packets
   * from `address` into its routes, whoever sent them; such a socket is always ready, with errors that
   * nobody has to read.
   */
  udpOpenRaw(
    netns: string,
    address: string,
    filter: Uint8Array,
    bufferBytes: number,
    hearErrors: boolean,
  ): number
  /** SO_ATTACH_FILTER: another filter in the place of the one before. */
  socketFilter(fd: number, filter: Uint8Array): void
  /**
   * Turns UDP_GRO on and asks whether the kernel knows UDP_SEGMENT (udp(7)). False when it lacks one:
   * datagrams then come and go one by one. A socket with `noChecksum` can't send segments.
   */
  udpSegments(fd: number): boolean
  /**
   * Sends segments from one socket on `address` to another, both made for it: whether the kernel sends
   * them (UDP_SEGMENT) and all arrive. Returns 0, or -errno (ETIMEDOUT within a second).
   */
  udpTrySegments(netns: string, address: string): number
  /**
   * Burst, recvmmsg. `frames` is an arena offset of `count` u32: where each payload goes, at most
   * `cap` bytes. With `largeCap` not 0, `larges` is a list of as many: a longer one goes there
   * instead, at most `largeCap` bytes. Writes descriptors to `out` and, 32 bytes a packet, to `meta`:
   * META of dataplane/ports/udp-meta.ts: family, tos, ttl, whether it was cut off, source port,
   * segment size (UDP_GRO: datagrams of that many bytes, the last one maybe shorter; 0: it is one),
   * source address.
   */
  udpReceive(
    fd: number,
    count: number,
    frames: number,
    cap: number,
    larges: number,
    largeCap: number,
    out: number,
    meta: number,
  ): number
  /**
   * Burst, sendmmsg. Payloads in `descs`; `meta` as in udpReceive but with destination port and
   * address, tos (sent as ancillary data) and ttl and segment size ignored. Up to `segments`
   * neighbours (at most 64, 65,507 bytes) to one place with one tos and one length, the last maybe
   * shorter, go as one message (UDP_SEGMENT); one that is refused is sent again packet by packet.
   * META.FLAGS of the first packet of the burst becomes SENT. A descriptor's length becomes 0 when
   * the kernel took it, else the errno (EAGAIN for those never tried; nothing more is tried after
   * ENETDOWN, ENODEV and EADDRNOTAVAIL, which say that the device fails). Returns how many were taken.
   */
  udpSend(fd: number, descs: number, meta: number, count: number, segments: number): number
  /**
   * Burst. Copies `length` bytes at `from` to `count` places, an arena offset of u32 each: `size`
   * bytes to each, the rest to the last. Returns how many places it used.
   */
  scatter(from: number, length: number, size: number, frames: number, count: number): number

  // ---- AF_XDP ----------------------------------------------------------------------------------
  /** A bare AF_XDP socket (in `netns`). */
  xskOpen(netns: string): number
  /** XDP_UMEM_REG over arena bytes [offset, offset + bytes). `txMetadataBytes` 0 = none, else 16 (kernel 6.8+). Returns 0 or -errno. */
  xskRegisterUmem(
    fd: number,
    offset: number,
    bytes: number,
    chunkBytes: number,
    headroom: number,
    txMetadataBytes: number,
  ): number
  /** Sets the ring sizes and maps the rings with MAP_FIXED over the arena. */
  xskMapRings(fd: number, rings: XskRings): XskOffsets
  /**
   * Binds to queue `queue` of `ifindex`. `flags`: XDP_SHARED_UMEM 1, XDP_COPY 2, XDP_ZEROCOPY 4,
   * XDP_USE_NEED_WAKEUP 8. `sharedFd`: socket whose UMEM is shared, with XDP_SHARED_UMEM. Returns 0
   * or -errno (EBUSY while an earlier socket is still closing).
   */
  xskBind(fd: number, ifindex: number, queue: number, flags: number, sharedFd: number): number
  /** Puts anonymous zero pages over the ring mappings and closes the socket. After it the kernel touches no frame of this socket. */
  xskClose(fd: number, rings: XskRings): void
  xskStatistics(fd: number): XskStatistics
  /** Burst. sendto(MSG_DONTWAIT) with no data: transmits what is in the TX ring. 0 or -errno. */
  xskKick(fd: number): number
  /** Burst. recvfrom(MSG_DONTWAIT): tells the kernel that the fill ring has frames again. 0 or -errno. */
  xskWakeRx(fd: number): number

  // ---- BPF -------------------------------------------------------------------------------------
  /** BPF_MAP_CREATE. Types: ARRAY 2, PERCPU_ARRAY 6, XSKMAP 17. */
  bpfMapCreate(
    type: number,
    keyBytes: number,
    valueBytes: number,
    entries: number,
    name: string,
  ): number
  bpfMapUpdate(fd: number, key: Uint8Array, value: Uint8Array): void
  bpfMapDelete(fd: number, key: Uint8Array): void
  /** Fills `value`; a per-CPU map fills 8-byte-aligned values for every possible CPU. False if the key is not there. */
  bpfMapLookup(fd: number, key: Uint8Array, value: Uint8Array): boolean
  /** BPF_PROG_LOAD of an XDP program. `instructions`: 8 bytes each (bpf_insn). Throws with the verifier's log. */
  bpfLoadXdp(instructions: Uint8Array, name: string): number
  /** BPF_PROG_TEST_RUN: runs an XDP or tc program once over `packet` (14 to some 3,500 bytes), which it may rewrite; a tc program as on loopback. Returns its answer. */
  bpfRun(program: number, packet: Uint8Array): number
  /** BPF_LINK_CREATE for XDP on `ifindex` in `netns`; flags: SKB (generic) 2, DRV (native) 4. Returns the link's descriptor (closing it detaches). */
  bpfAttachXdp(netns: string, program: number, ifindex: number, flags: number): number
  /** BPF_PROG_LOAD of a program for tc (BPF_PROG_TYPE_SCHED_CLS). As bpfLoadXdp. */
  bpfLoadTc(instructions: Uint8Array, name: string): number
  /**
   * Attaches a tc program to `ifindex` in `netns`, for what comes in (BPF_TCX_INGRESS, kernel
   * 6.6: EINVAL before), in front of others' programs; where one called `name` is attached, in its
   * place, and no packet goes by neither. It needs no descriptor from then on: it stays until the interface goes.
   */
  bpfAttachTcx(netns: string, program: number, ifindex: number, name: string): void
  /** Names of the programs that `bpfAttachTcx` and others have attached to `ifindex`, in order. */
  bpfTcxNames(netns: string, ifindex: number): string[]
  possibleCpus(): number

  // ---- checksums and copies (burst) ------------------------------------------------------------
  /** One's-complement sum (RFC 1071) of arena bytes plus `seed`, folded to 16 bits, not inverted, as the big-endian value of the field. Odd lengths are padded with zero. */
  checksum(offset: number, length: number, seed: number): number
  /** As `checksum`, always the scalar loop; for tests and benches. */
  checksumScalar(offset: number, length: number, seed: number): number
  /** Copies and sums in one call; same result as checksum of the source. */
  copyChecksum(to: number, from: number, length: number, seed: number): number
  /**
   * `checksum` of each of `count` descriptors at `descs`. `sums` is an arena offset of u32: the seed
   * of each before, its sum after; 0xffffffff for bytes outside the arena. Returns how many sums
   * were made.
   */
  checksumBatch(descs: number, count: number, sums: number): number
  /** 'avx512', 'avx2' or 'scalar': what all of these but checksumScalar use. */
  checksumKind(): string
  /** The kinds that this CPU has, the best first. */
  checksumKinds(): string[]
  /** For tests and benches: the whole process uses this kind from now on. Throws RangeError for one that this CPU doesn't have. */
  checksumForce(kind: string): void

  // ---- native twins of lookup algorithms (burst) -----------------------------------------------
  /** A handle for the region of one table, kept alive by it; what the batch functions take first. */
  openTable(memory: Uint8Array): TableHandle
  /**
   * Asks for huge pages (2 MiB) under the table: for pages touched from now on, and for those that
   * are. Other pages stay untouched. Returns how many it asked for, 0 when the kernel grants none.
   */
  adviseHugePages(memory: Uint8Array): number
  /** Next hops of `n` IPv4 addresses, from a table of dataplane/fib/dir24_8/dir24_8.ts. */
  lookupDir24_8(table: TableHandle, addresses: Uint32Array, n: number, nextHops: Uint16Array): void
  /** As `lookupDir24_8`, always without AVX-512; for tests and benches. */
  lookupDir24_8Scalar: Native['lookupDir24_8']
  /** Next hops of `n` IPv4 addresses, from a table of dataplane/fib/dxr/dxr.ts. */
  lookupDxr(table: TableHandle, addresses: Uint32Array, n: number, nextHops: Uint16Array): void
  /** As `lookupDxr`, always without the POPCNT instruction; for tests and benches. */
  lookupDxrPortable: Native['lookupDxr']
  /** Next hops of `n` IPv4 addresses, from a table of dataplane/fib/poptrie/poptrie.ts. */
  lookupPoptrie4(table: TableHandle, addresses: Uint32Array, n: number, nextHops: Uint16Array): void
  /** The same of IPv6 addresses, four words each. */
  lookupPoptrie6: Native['lookupPoptrie4']
  /** As those, always without the CPU's bit count; for tests and benches. */
  lookupPoptrie4Scalar: Native['lookupPoptrie4']
  lookupPoptrie6Scalar: Native['lookupPoptrie6']
  /** Next hops of `n` IPv6 addresses, from a table of dataplane/fib/planb/planb6.ts. */
  lookupPlanb6(table: TableHandle, addresses: Uint32Array, n: number, nextHops: Uint16Array): void
  /** As `lookupPlanb6`, always with AVX2 where the CPU has it, or with neither; for tests and benches. */
  lookupPlanb6Avx2: Native['lookupPlanb6']
  lookupPlanb6Scalar: Native['lookupPlanb6']
  /** Next hops of `n` IPv6 addresses, from a table of dataplane/fib/trie6/trie6.ts. */
  lookupTrie6(table: TableHandle, addresses: Uint32Array, n: number, nextHops: Uint16Array): void
  /** Rule ids of `n` IPv4 headers, from an ACL of dataplane/acl/tree/tree.ts. */
  classifyTree4(table: TableHandle, headers: Uint32Array, n: number, rules: Uint16Array): void
  classifyTree6: Native['classifyTree4']
  /** As `classifyTree4`, at most with AVX2, or without SIMD; for tests and benches. */
  classifyTree4Avx2: Native['classifyTree4']
  classifyTree6Avx2: Native['classifyTree4']
  classifyTree4Scalar: Native['classifyTree4']
  classifyTree6Scalar: Native['classifyTree4']
  /** Rule ids of `n` IPv4 headers, from an ACL of dataplane/acl/tuple/tuplemerge.ts or tss.ts. */
  classifyTuples4(table: TableHandle, headers: Uint32Array, n: number, rules: Uint16Array): void
  /** The same of IPv6 headers. */
  classifyTuples6: Native['classifyTuples4']
  /** As those, always without AVX-512; for tests and benches. */
  classifyTuples4Scalar: Native['classifyTuples4']
  classifyTuples6Scalar: Native['classifyTuples4']

  /** A handle for a flow table (dataplane/flow/cuckoo.ts) of `slots` places, kept alive by it; the parts are byte offsets in `memory`. */
  openFlowTable(
    memory: Uint8Array,
    locks: number,
    tags: number,
    entries: number,
    slots: number,
    accounts: number,
  ): FlowTableHandle
  /** The probe of `cuckoo`: columns as in FlowKeys and FlowAnswers of dataplane/flow/flow.ts. Does nothing when one is too short. */
  probeFlows(
    table: FlowTableHandle,
    words: Uint32Array,
    hashes: Uint32Array,
    directions: Uint8Array,
    n: number,
    generation: number,
    slots: Int32Array,
    actions: Uint32Array,
    found: Uint8Array,
  ): void
  /** A handle for `knownFlows`, kept alive by it. `seed0`, `seed1`: of the keys' hash, halfsip13. */
  openKnownFlows(table: FlowTableHandle, seed0: number, seed1: number): KnownFlowsHandle
  /**
   * Writes `known` of the first `n` packets: the flow's action where policy `epoch` has allowed it and its next hop is
   * the one it was; these flows had a packet at `tick`, which goes into their accounts. 0 for the others. `network`: of
   * all packets, or -1, of each its own. `sender`: how the node that sent them is known, SENDER of dataplane/policy/known.ts;
   * it must be where the flow's answers go. Returns how many that are not dropped are not known, or -errno.
   */
  knownFlows(
    known: KnownFlowsHandle,
    batch: BatchHandle,
    n: number,
    network: number,
    epoch: number,
    tick: number,
    sender: number,
  ): number

  // ---- batches ---------------------------------------------------------------------------------
  /**
   * A handle for a batch of packets in `arena`, all of which it keeps alive. `nextHops`: the worker's copy of that table.
   * `columns` of packet/batch.ts: drop, flags, proto, l3, l4, len, src4, dst4, network, nextHop, known, dst6,
   * gsoType, csumStart, parsed, source.
   */
  openBatch(
    arena: Uint8Array,
    nextHops: Uint8Array,
    columns: readonly ArrayBufferView[],
  ): BatchHandle
  /**
   * The twin of dataplane/stages/parse.ts for plain packets: does to those of the first `n` what `parse` does, says in
   * `parsed` which they are, and leaves the others as they were. Port: whether it has Ethernet headers (0 or 1), is a
   * pod's, both MACs, and whether checksums may be partial unsaid. Returns how many that are not dropped are left, << 9
   * how many are IPv4 and << 18 IPv6 of those that are not; or -errno.
   */
  parse(
    batch: BatchHandle,
    n: number,
    ethernet: number,
    pod: number,
    macHigh: number,
    macLow: number,
    peerMacHigh: number,
    peerMacLow: number,
    hiddenPartial: number,
  ): number
  /**
   * The twin of dataplane/stages/encap.ts for outer IPv4: does to the first `n` packets what `encap` does, but that
   * checksums which must not stay partial are complete. `identification`: of the last outer packet; the next one's is `step` more. Returns how many
   * packets it has encapsulated, and << 16 how many are left to TypeScript; or -errno.
   */
  encapIpv4(batch: BatchHandle, n: number, identification: number, step: number): number

  // ---- threads ---------------------------------------------------------------------------------
  /** Pins the calling thread to `cpu`. Returns 0 or -errno. */
  pinThread(cpu: number): number
  /** CPU time of the calling thread in ns (CLOCK_THREAD_CPUTIME_ID). */
  threadCpuTime(): number
  /** CLOCK_MONOTONIC in ns. Burst. */
  monotonic(): number
}

/** The addon; one instance per thread, loaded from build/Release. */
export const native: Native = createRequire(import.meta.url)('../build/Release/hawser_native.node')
