/**
 * The arena: one SharedArrayBuffer that holds everything that workers share with the main thread
 * and with the kernel. `planArena` is the table of its regions; nothing else decides an offset.
 *
 * Arena offset 0 lies on a page boundary of the address space, so that every region that starts on
 * a page may be registered as UMEM or covered by a MAP_FIXED mapping.
 */
import { DROP_SLOTS } from '../drops.ts'
import {
  DEFAULT_PEERS,
  FRAME_BYTES,
  LARGE_FRAME_BYTES,
  MAX_NEXT_HOPS,
  MAX_PEERS,
  MAX_PORTS,
  MAX_WORKERS,
  NETWORK_SLOTS,
} from '../limits.ts'
import { sharedPages } from './pages.ts'

export const PAGE = 4096
/** Arena offsets are 32-bit numbers, in batches, descriptors and rings. */
const MAX_ARENA_BYTES = 2 ** 32
/** So few that small clusters share a page, so many that they don't crowd. */
const MIN_VTEP_SLOTS = 64

export interface ArenaPlan {
  /** 1 .. MAX_WORKERS. */
  workers: number
  /** Frames of FRAME_BYTES for each worker. */
  smallFrames: number
  /** Frames of LARGE_FRAME_BYTES for each worker. */
  largeFrames: number
  /** AF_XDP sockets in all, the root of the UMEM included. */
  xdpSockets: number
  /** Bytes of the rings of one AF_XDP socket, a multiple of PAGE. */
  xdpSocketBytes: number
  /** Bytes of each FIB. */
  fib4Bytes: number
  fib6Bytes: number
  /** Peers, at most MAX_PEERS; DEFAULT_PEERS when absent. */
  peers?: number
}

export interface Region {
  readonly offset: number
  readonly bytes: number
}

/** 4-byte words of the header region. */
export const HEADER = {
  /** Grows by 2 with each change of the tables; odd while the main thread writes them. */
  SEQUENCE: 0,
  /** Grows by 1 after each change; a worker that sees it move copies the tables. */
  GENERATION: 1,
  /** 1: workers shall return. */
  STOP: 2,
  /** Highest port index in use plus one; highest next hop in use plus one. */
  PORT_COUNT: 3,
  NEXT_HOP_COUNT: 4,
  /** Facts about this node that the stages read: of its networks the cluster's own. */
  VNI: 5,
  VXLAN_PORT: 6,
  VTEP4: 7,
  /** Four words. */
  VTEP6: 8,
  GATEWAY4: 12,
  /** Four words. */
  GATEWAY6: 13,
  /** The inner MAC of this node, two words: first four bytes, last two. */
  VTEP_MAC_HIGH: 17,
  VTEP_MAC_LOW: 18,
  /** Host port index + 1. */
  HOST_PORT: 19,
  /** Ring field offsets of AF_XDP: rx, tx, fill, completion; four words each: producer, consumer, desc, flags. */
  XSK_OFFSETS: 20,
  /** Known VTEPs, and networks beside the cluster's own, in their tables. */
  VTEP_COUNT: 36,
  NETWORK_COUNT: 37,
  /** Port of the underlay whose sockets are the kernel's, + 1. */
  KERNEL_PORT: 38,
  WORDS: 64,
} as const

/** 4-byte words of a worker's control block. */
export const WORKER = {
  /** The generation that this worker works by. */
  ACKNOWLEDGED: 0,
  /** 0 not started, 1 running, 2 returned. */
  STATE: 1,
  /** Descriptor of the eventfd that wakes it. */
  WAKE_FD: 2,
  /** 1 while it sleeps in the kernel. */
  ASLEEP: 3,
  /** Frames of this worker by owner, refreshed once a second and at each change: free, in kernel, small in all. */
  SMALL_FREE: 4,
  SMALL_HELD: 5,
  LARGE_FREE: 6,
  /** Frames that have no owner: a bug. */
  LEAKED: 7,
  /** Number of the last order (worker.ts) that it has carried out or refused. */
  ORDER: 8,
  WORDS: 16,
} as const

/** Counters (float64, one writer each) of a worker. */
export const COUNTER = {
  ROUNDS: 0,
  BATCHES: 1,
  PACKETS: 2,
  SLEEPS: 3,
  ENCAPSULATED: 4,
  DECAPSULATED: 5,
  ICMP_ERRORS: 6,
  ICMP_LIMITED: 7,
  /** Superframes that were cut, and what they were cut into: sent, or dropped for want of frames. */
  SEGMENTED: 8,
  SEGMENTS: 9,
  CHECKSUMS: 10,
  KICKS: 11,
  CPU_NS: 12,
  /** Lookups of a FIB from a file that threw, or answered what is no next hop. */
  FIB_FAULTS: 13,
  /** TCP segments that were joined to the one before them. */
  COALESCED: 14,
  /** DROP_SLOTS counters from here. */
  DROPS: 16,
} as const

/**
 * Counters of one port in one worker. Bytes are those of frames, with the Ethernet header where there is
 * one. A superframe is one packet wherever it is whole, in drops too; `segment` makes packets of it.
 */
export const PORT_COUNTER = {
  RX_PACKETS: 0,
  RX_BYTES: 1,
  TX_PACKETS: 2,
  TX_BYTES: 3,
  /** Packets that came in by this port and were dropped. */
  RX_DROPS: 4,
  /** Packets that this port could not send. */
  TX_DROPS: 5,
  /** No counter: what the port knows of its device (ports/device-state.ts). */
  DEVICE: 6,
  /** Packets that the kernel dropped before this port saw them; the main thread's (afxdp/kernel-drops.ts). */
  KERNEL_DROPS: 7,
  COUNT: 8,
} as const

const PORT_COUNTERS_AT = COUNTER.DROPS + DROP_SLOTS
/** Float64 counters of one worker. */
export const WORKER_COUNTERS = PORT_COUNTERS_AT + MAX_PORTS * PORT_COUNTER.COUNT

/** Index of the first counter of `port` among a worker's counters. */
export function portCounters(port: number): number {
  return PORT_COUNTERS_AT + port * PORT_COUNTER.COUNT
}

export const PORT_RECORD_BYTES = 256
export const NEXT_HOP_BYTES = 128
export const VTEP_BYTES = 32
export const NETWORK_BYTES = 32

/** Slots of a table of `vteps` VTEPs: a power of two; at least half of them stay empty. */
export function vtepSlots(vteps: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(MIN_VTEP_SLOTS, 2 * vteps)))
}

/** A head as long as a slot, and the slots (tables/vteps.ts). */
export function vtepTableBytes(vteps: number): number {
  return (1 + vtepSlots(vteps)) * VTEP_BYTES
}

/** What of a table a worker copies when something in it has changed (tables/blocks.ts); whole entries. */
export const BLOCK_BYTES = {
  ports: PORT_RECORD_BYTES,
  nextHops: PAGE,
  vteps: PAGE,
  networks: PAGE,
} as const
/** Scratch of one worker: descriptors, frame lists and metadata of the burst calls. */
export const SCRATCH_BYTES = 64 * 1024

export interface ArenaLayout {
  readonly plan: ArenaPlan
  readonly header: Region
  readonly control: Region
  readonly ports: Region
  readonly nextHops: Region
  readonly vteps: Region
  readonly networks: Region
  readonly moved: Region
  readonly counters: Region
  readonly scratch: Region
  readonly fib4: Region
  readonly fib6: Region
  readonly rings: Region
  readonly small: Region
  readonly large: Region
  readonly total: number
}

function round(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE
}

/** The table of regions, each from a page boundary. Throws RangeError when the plan is out of range. */
export function planArena(plan: ArenaPlan): ArenaLayout {
  if (!(Number.isInteger(plan.workers) && plan.workers >= 1 && plan.workers <= MAX_WORKERS)) {
    throw new RangeError(`workers: ${plan.workers} is not in 1..${MAX_WORKERS}`)
  }
  for (const [name, value] of Object.entries(plan)) {
    if (!(Number.isInteger(value) && value >= 0)) {
      throw new RangeError(`${name}: ${value} is no count`)
    }
  }
  if ((plan.peers ?? 0) > MAX_PEERS) {
    throw new RangeError(`peers: ${plan.peers} is not in 0..${MAX_PEERS} (MAX_PEERS)`)
  }
  let next = 0
  const region = (bytes: number): Region => {
    const at = { offset: next, bytes: round(bytes) }
    next += at.bytes
    return at
  }
  const tables = {
    header: region(HEADER.WORDS * 4),
    ports: region(MAX_PORTS * PORT_RECORD_BYTES),
    nextHops: region(MAX_NEXT_HOPS * NEXT_HOP_BYTES),
    vteps: region(vtepTableBytes(plan.peers ?? DEFAULT_PEERS)),
    networks: region(NETWORK_SLOTS * NETWORK_BYTES),
  }
  const blocks = Object.entries(BLOCK_BYTES).map(([table, bytes]) =>
    Math.ceil(tables[table as keyof typeof BLOCK_BYTES].bytes / bytes),
  )
  const layout = {
    plan,
    ...tables,
    moved: region(blocks.reduce((sum, n) => sum + n, 0) * 4),
    control: region(MAX_WORKERS * WORKER.WORDS * 4),
    counters: region(plan.workers * WORKER_COUNTERS * 8),
    scratch: region(plan.workers * SCRATCH_BYTES),
    fib4: region(plan.fib4Bytes),
    fib6: region(plan.fib6Bytes),
    rings: region(plan.xdpSockets * plan.xdpSocketBytes),
    small: region(plan.workers * plan.smallFrames * FRAME_BYTES),
    large: region(plan.workers * plan.largeFrames * LARGE_FRAME_BYTES),
  }
  // One page of zeros behind the last frame: 8-byte reads at the very end stay inside.
  const total = next + PAGE
  if (total > MAX_ARENA_BYTES) {
    throw new RangeError(`arena of ${total} bytes: more than 2^32 (fewer frames or workers)`)
  }
  return { ...layout, total }
}

export class Arena {
  readonly buffer: SharedArrayBuffer
  /** Byte offset of arena offset 0 inside `buffer`. */
  readonly base: number
  readonly layout: ArenaLayout
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Little-endian words of the whole arena; index = arena offset / 4. */
  readonly words: Int32Array

  private constructor(buffer: SharedArrayBuffer, base: number, layout: ArenaLayout) {
    this.buffer = buffer
    this.base = base
    this.layout = layout
    this.bytes = new Uint8Array(buffer, base, layout.total)
    this.view = new DataView(buffer, base, layout.total)
    this.words = new Int32Array(buffer, base, layout.total / 4)
  }

  /** A new arena, zeroed. */
  static create(layout: ArenaLayout): Arena {
    const { buffer, byteOffset } = sharedPages(layout.total, PAGE)
    return new Arena(buffer, byteOffset, layout)
  }

  /** The same arena in another thread. */
  static open(handle: ArenaHandle): Arena {
    return new Arena(handle.buffer, handle.base, handle.layout)
  }

  /** What another thread needs to open it; a structured clone shares the memory. */
  handle(): ArenaHandle {
    return { buffer: this.buffer, base: this.base, layout: this.layout }
  }

  /** Words of the header, for Atomics. */
  header(): Int32Array {
    return new Int32Array(this.buffer, this.base + this.layout.header.offset, HEADER.WORDS)
  }

  control(worker: number): Int32Array {
    const at = this.base + this.layout.control.offset + worker * WORKER.WORDS * 4
    return new Int32Array(this.buffer, at, WORKER.WORDS)
  }

  counters(worker: number): Float64Array {
    const at = this.base + this.layout.counters.offset + worker * WORKER_COUNTERS * 8
    return new Float64Array(this.buffer, at, WORKER_COUNTERS)
  }

  slice(region: Region): Uint8Array {
    return new Uint8Array(this.buffer, this.base + region.offset, region.bytes)
  }
}

export interface ArenaHandle {
  readonly buffer: SharedArrayBuffer
  readonly base: number
  readonly layout: ArenaLayout
}
