/**
 * The engine: what one worker's stages work on. One object a worker (or a test), no threads in it.
 */

import { type BatchHandle, native } from '../../native/native.ts'
import type { FibReader } from '../fib/fib.ts'
import { BATCH_SIZE, MAX_NEXT_HOPS, MAX_PORTS, MAX_WORKERS } from '../limits.ts'
import {
  type Arena,
  COUNTER,
  HEADER,
  NEXT_HOP_BYTES,
  PORT_COUNTER,
  portCounters,
} from '../memory/arena.ts'
import type { Frames } from '../memory/frames.ts'
import type { Batch } from '../packet/batch.ts'
import type { Judge } from '../policy/judge.ts'
import type { Port } from '../ports/port.ts'
import { MAX_NETWORK, readGateways } from '../tables/networks.ts'
import { anyPoliced, limitsIngress, type PortRecord, readPort } from '../tables/ports.ts'
import { TableReader } from '../tables/tables.ts'
import { ETHERNET } from '../wire/ethernet.ts'
import { ErrorLimiter } from './error-limiter.ts'
import { OpenFlows } from './open-flows.ts'

export class Engine {
  readonly arena: Arena
  readonly view: DataView
  readonly bytes: Uint8Array
  readonly frames: Frames
  readonly counters: Float64Array
  readonly tables: TableReader
  /** Only ever changed between two batches. */
  fib4: FibReader
  fib6: FibReader
  /** By port index; undefined where this worker has no port. */
  readonly ports: (Port | undefined)[] = new Array(MAX_PORTS).fill(undefined)
  /** The records behind `ports`. */
  readonly records: (PortRecord | undefined)[] = new Array(MAX_PORTS).fill(undefined)
  /** Ports that were sent to since the last flush. */
  readonly touched: Port[] = []
  readonly isTouched = new Uint8Array(MAX_PORTS)
  readonly limiter = new ErrorLimiter()
  /** Monotonic nanoseconds, the same for all workers. */
  clock: () => number = native.monotonic
  /** What `coalesce` has open while a batch goes by. */
  readonly flows = new OpenFlows()
  /** Answers of batch lookups, and one address for a single one. */
  readonly found4 = new Uint16Array(BATCH_SIZE)
  readonly found6 = new Uint16Array(BATCH_SIZE)
  readonly oneAddress = new Uint32Array(4)
  readonly oneFound = new Uint16Array(1)

  /** Facts about this node, from the header (see HEADER). */
  vni = 0
  vxlanPort = 0
  vtep4 = 0
  vtep6: [number, number, number, number] = [0, 0, 0, 0]
  /** By network, the source of ICMP errors; 0: none. IPv6: four words each. */
  readonly gateway4 = new Uint32Array(MAX_NETWORK + 1)
  readonly gateway6 = new Uint32Array((MAX_NETWORK + 1) * 4)
  vtepMacHigh = 0
  vtepMacLow = 0
  hostPort = -1
  /** Port of the kernel's own sockets: it fragments what is too large for the way; -1: none. */
  kernelPort = -1
  /** The last outer IPv4 packet's; modulo MAX_WORKERS it is the worker's number. */
  identification = 0
  /** Whether any pod's receiving is limited; most nodes have none. */
  limitsIngress = false
  /** Whether stages may leave work to their native twins. */
  twins = true
  /** A worker has a batch or two, a test some. */
  private readonly handles = new WeakMap<Batch, BatchHandle>()
  /** Absent where policy is not switched on. */
  judge: Judge | undefined
  /** Whether flows of any pod are kept for policy. */
  policed = false

  constructor(
    arena: Arena,
    frames: Frames,
    counters: Float64Array,
    fib4: FibReader,
    fib6: FibReader,
  ) {
    this.arena = arena
    this.view = arena.view
    this.bytes = arena.bytes
    this.frames = frames
    this.counters = counters
    this.fib4 = fib4
    this.fib6 = fib6
    this.tables = new TableReader(arena)
  }

  /** Copies what of the tables has changed, and reads the node's facts from the copy. */
  update(): void {
    const { tables } = this
    tables.update()
    const word = (i: number): number => tables.words[i]! >>> 0
    this.vni = word(HEADER.VNI)
    this.vxlanPort = word(HEADER.VXLAN_PORT)
    this.vtep4 = word(HEADER.VTEP4)
    for (let w = 0; w < 4; w++) {
      this.vtep6[w] = word(HEADER.VTEP6 + w)
    }
    if (tables.networksMoved) {
      readGateways(tables.words, tables.networksAt / 4, this.gateway4, this.gateway6)
    }
    this.gateway4[0] = word(HEADER.GATEWAY4)
    for (let w = 0; w < 4; w++) this.gateway6[w] = word(HEADER.GATEWAY6 + w)
    this.vtepMacHigh = word(HEADER.VTEP_MAC_HIGH)
    this.vtepMacLow = word(HEADER.VTEP_MAC_LOW)
    this.hostPort = word(HEADER.HOST_PORT) - 1
    this.kernelPort = word(HEADER.KERNEL_PORT) - 1
    if (tables.movedCount > 0) {
      this.limitsIngress = limitsIngress(tables.words, tables.portsAt, this.portCount())
      this.policed = anyPoliced(tables.words, tables.portsAt, this.portCount())
    }
  }

  /** Of an outer IPv4 packet: workers take turns, so that no two use the same one at a time. */
  nextIdentification(): number {
    this.identification = (this.identification + MAX_WORKERS) & 0xffff
    return this.identification
  }

  /** What native functions know a batch by; made when it is first asked for. */
  handleOf(b: Batch): BatchHandle {
    let handle = this.handles.get(b)
    if (handle === undefined) {
      const { words, nextHopsAt } = this.tables
      const hops = new Uint8Array(words.buffer, nextHopsAt, MAX_NEXT_HOPS * NEXT_HOP_BYTES)
      const { drop, flags, proto, l3, l4, len, src4, dst4, network, nextHop, known } = b
      const columns = [drop, flags, proto, l3, l4, len, src4, dst4, network, nextHop, known]
      columns.push(b.dst6, b.gsoType, b.csumStart, b.parsed, b.source)
      handle = native.openBatch(this.bytes, hops, columns)
      this.handles.set(b, handle)
    }
    return handle
  }

  portCount(): number {
    return this.tables.words[HEADER.PORT_COUNT]!
  }

  /** A new object: only for ports whose records have changed. */
  record(port: number): PortRecord {
    return readPort(this.tables.words, this.tables.portsAt, port)
  }

  /**
   * Counts a burst that came in by `port`, in bytes of its frames, which it returns. Nothing about them is proven yet: of a
   * frame shorter than an Ethernet header `len` is below zero, modulo 2^32, until that is added.
   */
  countReceived(port: Port, b: Batch): number {
    const { counters } = this
    let bytes = 0
    for (let i = 0; i < b.n; i++) bytes = (bytes + b.len[i]!) | 0
    if (port.ethernet) bytes += b.n * ETHERNET.BYTES
    const at = portCounters(port.index)
    counters[at + PORT_COUNTER.RX_PACKETS]! += b.n
    counters[at + PORT_COUNTER.RX_BYTES]! += bytes
    counters[COUNTER.BATCHES]!++
    counters[COUNTER.PACKETS]! += b.n
    return bytes
  }

  /** Counts a drop of a packet, or of several, that came in by `port`. */
  countDrop(reason: number, port: number, packets = 1): void {
    this.counters[COUNTER.DROPS + reason]! += packets
    this.counters[portCounters(port) + PORT_COUNTER.RX_DROPS]! += packets
  }

  /** Next hop id of a single address (IPv4 in word 0 of `oneAddress`). */
  lookupOne(ipv6: boolean): number {
    const fib = ipv6 ? this.fib6 : this.fib4
    fib.lookup(this.oneAddress, 1, this.oneFound)
    return this.oneFound[0]!
  }

  touch(port: Port): void {
    if (this.isTouched[port.index] !== 0) return
    this.isTouched[port.index] = 1
    this.touched.push(port)
  }

  flush(): void {
    const { touched, isTouched } = this
    while (touched.length > 0) {
      const port = touched.pop()!
      isTouched[port.index] = 0
      port.flush()
    }
  }
}
