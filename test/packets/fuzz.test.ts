// Seeded changes of good packets, 120,000 of them, at length a hundred times as many: nothing throws, no
// packet and no frame is lost.
import { expect, test } from 'vitest'
import { testEngine } from '../harness/engine.ts'
import { LONG } from '../runner/tiers.ts'
import { Accounts } from './accounting.ts'
import { type PacketCase, PORTS } from './case.ts'
import { GENERATED } from './generate.ts'
import { generator, mutate } from './mutate.ts'

const PACKETS = LONG ? 12_000_000 : 120_000
const SEED = 0x6861_7773

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
