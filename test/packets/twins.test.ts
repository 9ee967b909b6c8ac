// The native twins of stages: whatever is sent, with them and without them the same comes out.
import { expect, test } from 'vitest'
import { type TestEngineOptions, testEngine } from '../harness/engine.ts'
import { LONG } from '../runner/tiers.ts'
import { type PacketCase, PORTS } from './case.ts'
import { GENERATED } from './generate.ts'
import { hostile, type Sent } from './hostile/seeds.ts'
import { generator, mutate } from './mutate.ts'

const PACKETS = LONG ? 2_000_000 : 30_000
const SEEDS = 6_000

test.each<[string, TestEngineOptions]>([
  ['over IPv4', {}],
  ['over IPv4, where ports complete checksums', { partialChecksums: true, superframes: true }],
  ['over IPv6', { underlay: 6 }],
])('%s', (_, options) => {
  const random = generator(0x7477_696e)
  const clock = () => 1e15
  const seeds: Sent[] = [
    ...Object.values(GENERATED).flatMap((one: PacketCase) =>
      one.in.map(({ port, packet }) => ({ port: PORTS.indexOf(port), packet })),
    ),
    ...Array.from({ length: SEEDS }, () => hostile(random)),
  ]
  const byPort = PORTS.map((_, port) => seeds.filter(each => each.port === port))
  const worlds = [true, false].map(twins => {
    const world = testEngine({ ...options, clock, smallFrames: 2048 })
    world.engine.twins = twins
    return world
  })
  const [twin, plain] = worlds
  let passed = 0
  for (let done = 0; done < PACKETS; ) {
    const of = byPort[random(PORTS.length)]!
    const packets = Array.from({ length: 1 + random(60) }, () => {
      const { packet } = of[random(of.length)]!
      return random(2) === 0 ? packet : mutate(packet, random)
    })
    const { port } = of[0]!
    const [a, b] = worlds.map(world => world.send(port, ...packets))
    expect(a).toEqual(b)
    done += packets.length
    passed += a!.flat().length
  }
  expect(twin!.drops()).toEqual(plain!.drops())
  expect(worlds.map(world => world.leaked())).toEqual([0, 0])
  expect(passed).toBeGreaterThan(PACKETS / 8)
})
