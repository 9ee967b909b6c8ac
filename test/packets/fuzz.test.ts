// Seeded changes of good packets, 120,000 of them, at length a hundred times as many: nothing throws, no
// packet and no frame is lost.
import { expect, test } from 'vitest'
import type { MemPacket } from '../../dataplane/ports/mem.ts'
import { testEngine } from '../harness/engine.ts'
import { LONG } from '../runner/tiers.ts'
import { Accounts } from './accounting.ts'
import { type PacketCase, PORTS } from './case.ts'
import { GENERATED } from './generate.ts'

const PACKETS = LONG ? 12_000_000 : 120_000
const SEED = 0x6861_7773

/** xorshift32 (Marsaglia 2003). */
function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** Values that length and offset fields go wrong by. */
const EDGES = [0, 1, 4, 5, 6, 7, 8, 20, 40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xfe, 0xff]

function mutate(packet: MemPacket, random: (below: number) => number): MemPacket {
  const bytes = packet.bytes.slice(
    0,
    random(4) === 0 ? random(packet.bytes.length + 1) : packet.bytes.length,
  )
  for (let k = random(4); k > 0 && bytes.length > 0; k--) {
    // Most fields of interest lie in the first 128 bytes.
    const at = random(3) === 0 ? random(bytes.length) : random(Math.min(bytes.length, 128))
    const kind = random(3)
    if (kind === 0) bytes[at] = EDGES[random(EDGES.length)]!
    else if (kind === 1) bytes[at]! ^= 1 << random(8)
    else bytes[at] = random(256)
  }
  if (packet.partial !== true || random(2) === 0) return { ...packet, bytes }
  return {
    bytes,
    partial: random(8) !== 0,
    gsoType: [0, 1, 4, 5][random(4)]!,
    // The TUN port lets no superframe without a segment size through (ports/tun.ts).
    gsoSize: 1 + random(2000),
    csumStart: random(3) === 0 ? random(70) : packet.csumStart!,
    csumOffset: random(3) === 0 ? random(20) : packet.csumOffset!,
  }
}

test('changed packets never throw and are never lost', () => {
  const random = generator(SEED)
  const good = PORTS.map(port =>
    Object.values(GENERATED).flatMap((one: PacketCase) =>
      one.in.filter(each => each.port === port).map(each => each.packet),
    ),
  )
  const worlds = [
    testEngine({ smallFrames: 4096 }),
    testEngine({ smallFrames: 4096, underlay: 6, partialChecksums: true }),
    // So few that superframes are abandoned halfway.
    testEngine({ smallFrames: 24 }),
  ]
  const accounts = worlds.map(world => new Accounts(world))
  for (let done = 0, batches = 0; done < PACKETS; batches++) {
    const port = random(PORTS.length)
    const packets = Array.from({ length: 1 + random(8) }, () =>
      mutate(good[port]![random(good[port]!.length)]!, random),
    )
    accounts[batches % worlds.length]!.send(port, ...packets)
    done += packets.length
    if ((batches & 0xfff) === 0) for (const world of worlds) expect(world.leaked()).toBe(0)
  }
  for (const [k, world] of worlds.entries()) {
    expect(world.leaked()).toBe(0)
    expect(accounts[k]!.missing).toBe(0)
    // A good part passed, a good part was refused, and for many reasons.
    const drops = world.drops()
    const refused = Object.values(drops).reduce((sum, n) => sum + n, 0)
    expect(refused).toBeGreaterThan(PACKETS / 8)
    expect(refused).toBeLessThan(PACKETS / 2)
    expect(Object.keys(drops).length).toBeGreaterThan(25)
  }
})
