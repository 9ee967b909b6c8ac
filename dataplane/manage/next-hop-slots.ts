/** Next hop ids as the main thread manages them. All writes happen inside a change of the tables. */
import { randomInt } from 'node:crypto'
import { MAX_NEXT_HOPS } from '../limits.ts'
import { type Arena, HEADER } from '../memory/arena.ts'
import { HOP, type NextHop, writeNextHop } from '../tables/next-hops.ts'

export const NO_HOP: NextHop = {
  kind: HOP.NONE,
  network: 0,
  port: 0,
  mtu: 0,
  header: new Uint8Array(0),
  macHigh: 0,
  macLow: 0,
  macKnown: false,
}

export class NextHopSlots {
  private readonly arena: Arena
  private readonly hops: (NextHop | undefined)[] = [NO_HOP]
  /** Ids that have been given back. */
  private readonly freed: number[] = []
  private readonly incarnations = new Uint16Array(MAX_NEXT_HOPS)
  /** By id: the stamp of its use. The first is any, so that none of an earlier process is taken for one of ours. */
  private readonly stamps = new Uint16Array(MAX_NEXT_HOPS)
  private uses = randomInt(0x1_0000)
  /** Ids that were written since they were last told. */
  private readonly written = new Set<number>()

  constructor(arena: Arena) {
    this.arena = arena
  }

  /** Writes a new entry; returns its id. Throws RangeError when all are taken. */
  add(hop: NextHop): number {
    const id = this.freed.pop() ?? this.hops.length
    if (id >= MAX_NEXT_HOPS) {
      throw new RangeError(`no free next hop: a node has ${MAX_NEXT_HOPS} (MAX_NEXT_HOPS)`)
    }
    this.uses = (this.uses + 1) & 0xffff
    this.stamps[id] = this.uses
    this.update(id, hop)
    return id
  }

  /** How many more `add` takes. */
  get room(): number {
    return MAX_NEXT_HOPS - this.hops.length + this.freed.length
  }

  /** An entry that is as it was is left alone: workers copy what is written. */
  update(id: number, hop: NextHop): void {
    const there = this.hops[id]
    if (there !== undefined && isSame(there, hop)) return
    const header = this.arena.header()
    this.hops[id] = hop
    this.write(id, hop)
    this.written.add(id)
    header[HEADER.NEXT_HOP_COUNT] = Math.max(header[HEADER.NEXT_HOP_COUNT]!, id + 1)
  }

  /**
   * Flows that were routed by `id` are routed again at their next packet: a route to it is gone, or one below it has
   * come. Only when the FIB says so already: what a worker decides by this incarnation must be what is right now.
   */
  advance(id: number): void {
    const hop = this.hops[id]
    if (hop === undefined) return
    this.incarnations[id]!++
    this.write(id, hop)
  }

  /** Frees an id that no route names any more. No flow that names it finds it again. */
  free(id: number): void {
    this.advance(id)
    this.update(id, NO_HOP)
    this.hops[id] = undefined
    this.freed.push(id)
  }

  /** What has been written since the last call, for whoever keeps a copy: behind each change of the tables. */
  takeWritten(tell: (id: number, hop: NextHop | undefined, stamp: number) => void): void {
    for (const id of this.written) tell(id, this.hops[id], this.stamps[id]!)
    this.written.clear()
  }

  get(id: number): NextHop | undefined {
    return this.hops[id]
  }

  private write(id: number, hop: NextHop): void {
    const stamp = hop.kind === HOP.VXLAN ? this.stamps[id] : 0
    writeNextHop(this.arena, id, hop, this.incarnations[id], stamp)
  }
}

const NOTHING = new Uint8Array(0)

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

function isSame(a: NextHop, b: NextHop): boolean {
  return (
    a.kind === b.kind &&
    a.network === b.network &&
    a.port === b.port &&
    a.mtu === b.mtu &&
    a.macHigh === b.macHigh &&
    a.macLow === b.macLow &&
    a.macKnown === b.macKnown &&
    isEqual(a.header, b.header) &&
    isEqual(a.tunnel ?? NOTHING, b.tunnel ?? NOTHING)
  )
}
