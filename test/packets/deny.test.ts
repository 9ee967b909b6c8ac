/**
 * Whatever is sent, malformed, changed or strange: under policies that deny everything nothing arrives, and under
 * policies that allow one UDP port nothing but that. What comes out is read by a parser of its own (hostile/read.ts).
 *
 * What passes nevertheless is the node's: answers to ARP and neighbour solicitations, and ICMP errors about a packet
 * of the very sender, out of the port that it came in by; and by the rule `node` what the node itself exchanges with its pods.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { PodPolicy } from '../../dataplane/control.ts'
import { type Program, podIdentity, VERDICT } from '../../dataplane/policy-program.ts'
import type { MemPacket } from '../../dataplane/ports/mem.ts'
import { native } from '../../native/native.ts'
import {
  HOST,
  PEER,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  VETH_POD,
  VTEP,
} from '../harness/engine.ts'
import { ip4Bytes, ip6Bytes } from '../harness/packets.ts'
import { LONG } from '../runner/tiers.ts'
import { type PacketCase, PORTS } from './case.ts'
import { GENERATED } from './generate.ts'
import { isError, read, type Seen } from './hostile/read.ts'
import { repaired } from './hostile/repair.ts'
import { ENDS, hostile, type Sent } from './hostile/seeds.ts'
import { generator, mutate } from './mutate.ts'

const PACKETS = LONG ? 4_000_000 : 40_000
/** Different packets that are sent as they are, or changed. */
const SEEDS = 12_000
const SEED = 0x6564_6765

const [TUN, VETH, FAR] = [podIdentity(1, 1), podIdentity(1, 2), podIdentity(2, 1)]
const NOTHING: Program = { tiers: [{ rules: [], otherwise: VERDICT.DENY, origin: 1 }] }
const only = (...peers: number[]): Program => ({
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: peers.map(value => ({
            peer: { value, bits: 32 },
            protocol: 17,
            ports: { first: 80, last: 80 },
          })),
          origin: 0,
        },
      ],
      otherwise: VERDICT.DENY,
      origin: 1,
    },
  ],
})

const hex = (text: string): string =>
  Buffer.from(text.includes(':') ? ip6Bytes(text) : ip4Bytes(text)).toString('hex')
const [tun, veth, far] = (['tun', 'veth', 'far'] as const).map(name => [
  hex(ENDS[4][name]),
  hex(ENDS[6][name]),
])
const OWN = new Set([ENDS[4].node, ENDS[6].node, VTEP, '2001:db8::1'].map(hex))

let now: number
let world: TestEngine
beforeEach(() => {
  // As behind a start: connections of before would be taken on.
  now = native.monotonic()
  world = testEngine({ policy: { resumeSeconds: 1e6 }, clock: () => now, smallFrames: 2048 })
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

async function inForce(
  tunPolicy: Partial<PodPolicy>,
  vethPolicy: Partial<PodPolicy>,
): Promise<void> {
  const both = { ingress: NOTHING, egress: NOTHING }
  const at = ([four, six]: readonly [string, string], identity: number, vtep: string) =>
    [four, six].map(address => ({ address, identity, vtep }))
  await world.setPolicy({
    identities: [
      ...at([ENDS[4].tun, ENDS[6].tun], TUN, VTEP),
      ...at([ENDS[4].veth, ENDS[6].veth], VETH, VTEP),
      ...at([ENDS[4].far, ENDS[6].far], FAR, PEER),
    ],
    pods: new Map([
      ['tun', { identity: TUN, ...both, ...tunPolicy }],
      ['veth', { identity: VETH, ...both, ...vethPolicy }],
    ]),
  })
}

/** Packets of the cases in this folder, changed; those of hostile/seeds.ts, every other one changed, too. */
function* packets(): Generator<Sent[]> {
  const random = generator(SEED)
  const good = PORTS.map(port =>
    Object.values(GENERATED).flatMap((one: PacketCase) =>
      one.in.filter(each => each.port === port).map(each => each.packet),
    ),
  )
  const changed = (port: number, packet: MemPacket): Sent => {
    const mutant = mutate(packet, random)
    if (random(4) === 0) return { port, packet: mutant }
    const bytes = repaired(mutant.bytes, port === VETH_POD || port === UNDERLAY)
    return { port, packet: { ...mutant, bytes } }
  }
  const strange = PORTS.map((): MemPacket[] => [])
  for (let k = 0; k < SEEDS; k++) {
    const { port, packet } = hostile(random)
    strange[port]!.push(packet)
  }
  for (let done = 0; done < PACKETS; ) {
    const port = [HOST, UNDERLAY, UNDERLAY, TUN_POD, TUN_POD, VETH_POD, VETH_POD, VETH_POD][
      random(8)
    ]!
    const pool = (random(4) === 0 ? good : strange)[port]!
    const burst = Array.from({ length: 1 + random(8) }, (): Sent => {
      const packet = pool[random(pool.length)]!
      return random(2) === 0 ? { port, packet } : changed(port, packet)
    })
    yield burst
    done += burst.length
  }
}

/** The IP packet of a frame that left by `port`; undefined for an answer to ARP. */
function networkLayer(port: number, { bytes }: MemPacket): Uint8Array | undefined {
  if (port === UNDERLAY) return bytes.subarray(14 + 20 + 8 + 8 + 14)
  if (port !== VETH_POD) return bytes
  const type = (bytes[12]! << 8) | bytes[13]!
  if (type === 0x0806) return undefined
  expect(type).toBe(bytes[14]! >> 4 === 4 ? 0x0800 : 0x86dd)
  return bytes.subarray(14)
}

/** Whether what left by `port`, of what came in by `from`, is the node's own word. */
function isOfTheNode(from: number, port: number, packet: MemPacket): boolean {
  const bytes = networkLayer(port, packet)
  if (bytes === undefined) return port === from && packet.bytes[21] === 2
  const seen = read(bytes)
  if (from === HOST && port !== UNDERLAY && OWN.has(seen.source)) return true
  if (port === HOST && from !== UNDERLAY && OWN.has(seen.destination)) return true
  // What is not a pod's of this node passes it by.
  if (from === HOST && port === UNDERLAY) return true
  if (from === UNDERLAY && port === HOST) return true
  if (port !== from) return false
  if (seen.icmp?.type === 136) return true
  const quoted = isError(seen) && OWN.has(seen.source) ? read(seen.icmp!.quoted, true) : undefined
  return quoted?.source === seen.destination
}

test('where everything is denied nothing arrives, and nothing is kept of it', async () => {
  await inForce({}, {})
  const bursts = packets()
  const mine = { answers: 0, packets: 0 }
  for (const burst of bursts) {
    const { port } = burst[0]!
    const out = world.send(port, ...burst.map(each => each.packet))
    for (const [to, sent] of out.entries()) {
      for (const packet of sent) {
        if (!isOfTheNode(port, to, packet)) {
          expect.fail(
            `came in by ${port}, left by ${to}: ${Buffer.from(packet.bytes).toString('hex')}`,
          )
        }
        if (port === to) mine.answers++
      }
    }
    mine.packets += burst.length
    now += 1e7
  }
  expect(world.enforcement!.flows(9)).toEqual([])
  // It was no idle run: much of it came as far as policy, and the node had much to answer.
  const drops = world.drops()
  for (const reason of ['policy-egress', 'policy-ingress', 'policy-fragment', 'policy-icmp']) {
    expect(drops[reason], reason).toBeGreaterThan(mine.packets / 200)
  }
  expect(mine.answers).toBeGreaterThan(mine.packets / 200)
})

/** What one pod has been given so far, as its own stack would have put it together. */
class Receiver {
  /** End of the first fragment, by key. */
  private readonly firsts = new Map<string, number>()

  /** Throws Error when `seen` is neither of a flow that `isAllowed`, nor a piece or an error of one. */
  take(seen: Seen, isAllowed: (ends: Seen) => boolean): void {
    const { fragment } = seen
    if (fragment !== undefined && fragment.offset > 0) {
      const end = this.firsts.get(fragment.key)
      if (end === undefined) throw new Error('a fragment without a first one')
      if (fragment.offset < end)
        throw new Error(
          `a fragment at ${fragment.offset} overlaps the first one, which ends at ${end}`,
        )
      return
    }
    if (fragment !== undefined) this.firsts.set(fragment.key, fragment.end)
    const about = isError(seen) ? read(seen.icmp!.quoted, true) : seen
    if (about !== seen && about.source !== seen.destination)
      throw new Error("an error about another's packet")
    if (!isAllowed(about)) throw new Error('not of a flow that is allowed')
  }
}

test('where one UDP port is allowed only that arrives, its answers, fragments and errors', async () => {
  await inForce({ ingress: only(VETH, FAR) }, { egress: only(TUN) })
  const receivers = PORTS.map(() => new Receiver())
  /** Clients of the port, as `address port`. */
  const clients = new Set<string>()
  const is = (address: string, ...ends: (string[] | undefined)[]): boolean =>
    ends.some(end => end?.includes(address))
  const isAllowed = ({ protocol, ports, source, destination }: Seen): boolean => {
    if (protocol !== 17 || ports === undefined) return false
    if (is(destination, tun) && is(source, veth, far) && ports.destination === 80) {
      clients.add(`${source} ${ports.source}`)
      return true
    }
    return (
      is(source, tun) && ports.source === 80 && clients.has(`${destination} ${ports.destination}`)
    )
  }
  let arrived = 0
  for (const burst of packets()) {
    const { port } = burst[0]!
    const out = world.send(port, ...burst.map(each => each.packet))
    for (const [to, sent] of out.entries()) {
      for (const packet of sent) {
        if (isOfTheNode(port, to, packet)) continue
        arrived++
        const bytes = networkLayer(to, packet)!
        try {
          receivers[to]!.take(read(bytes), isAllowed)
        } catch (error) {
          const text = Buffer.from(packet.bytes).toString('hex')
          expect.fail(`came in by ${port}, left by ${to}: ${(error as Error).message}: ${text}`)
        }
      }
    }
    now += 1e7
  }
  expect(arrived).toBeGreaterThan(PACKETS / 200)
  for (const { destination, destinationPort, protocol } of world.enforcement!.flows(1e6)) {
    expect([destinationPort, protocol]).toEqual([80, 17])
    expect([ENDS[4].tun, ENDS[6].tun]).toContain(destination)
  }
})
