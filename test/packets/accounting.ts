/** Whether an engine has lost a packet: everything that went in came out, was dropped for a reason, or was answered. */
import { COUNTER } from '../../dataplane/memory/arena.ts'
import type { MemPacket } from '../../dataplane/ports/mem.ts'
import type { TestEngine } from '../harness/engine.ts'

export class Accounts {
  private readonly world: TestEngine
  private sent = 0
  private received = 0

  constructor(world: TestEngine) {
    this.world = world
  }

  send(port: number, ...packets: (Uint8Array | MemPacket)[]): void {
    this.sent += packets.length
    for (const out of this.world.send(port, ...packets)) this.received += out.length
  }

  get packets(): number {
    return this.sent
  }

  /**
   * Packets that are missing (or too many). A superframe that was cut counts by its segments, sent or
   * dropped, and segments that were joined as one; an ICMP error is one more packet, since the one that
   * it is about counts as dropped.
   */
  get missing(): number {
    const { world } = this
    const drops = Object.values(world.drops()).reduce((sum, n) => sum + n, 0)
    const more =
      world.counter(COUNTER.ICMP_ERRORS) +
      world.counter(COUNTER.SEGMENTS) -
      world.counter(COUNTER.SEGMENTED) -
      world.counter(COUNTER.COALESCED)
    return this.sent + more - this.received - drops
  }
}
