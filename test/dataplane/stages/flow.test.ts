// The fast lane of known flows: it lets pass exactly what the slow way would, and follows routes, policy and ages.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ENTRY } from '../../../dataplane/flow/flow.ts'
import { FLOW_TICK_MS, FLOW_TIMEOUTS } from '../../../dataplane/limits.ts'
import { hopOf } from '../../../dataplane/policy/action.ts'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import {
  HOST,
  OTHER_PEER,
  PEER,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { concat, icmp, ip, tcp, udp } from '../../harness/packets.ts'
import { fromPeer, fromVeth } from '../../packets/cases/frames.ts'
import { random } from '../hash/random.ts'

const TUN = podIdentity(1, 1)
const VETH = podIdentity(1, 2)
const FAR = podIdentity(2, 1)
const [tun, veth, far] = ['10.244.1.2', '10.244.1.3', '10.244.2.9']
const [tun6, veth6, far6] = ['fd44:0:0:1::2', 'fd44:0:0:1::3', 'fd44:0:0:2::9']
const data = new Uint8Array(32).fill(7)
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16]

/** Ports below 90 of one protocol, from and to anybody. */
const below = (protocol: number): Program => ({
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: [{ protocol, ports: { first: 0, last: 89 } }],
          origin: 0,
        },
      ],
      otherwise: VERDICT.DENY,
      origin: 1,
    },
  ],
})

const fromPod = (value: number): Program => ({
  tiers: [
    {
      rules: [{ verdict: VERDICT.ALLOW, matches: [{ peer: { value, bits: 32 } }], origin: 0 }],
      otherwise: VERDICT.DENY,
      origin: 1,
    },
  ],
})

const IDENTITIES = [
  ...[tun, tun6].map(address => ({ address, identity: TUN, vtep: VTEP })),
  ...[veth, veth6].map(address => ({ address, identity: VETH, vtep: VTEP })),
  ...[far, far6].map(address => ({ address, identity: FAR, vtep: PEER })),
]

function inForce(world: TestEngine, protocol: number): Promise<void> {
  const open = { ingress: OPEN, egress: OPEN }
  return world.setPolicy({
    identities: IDENTITIES,
    pods: new Map([
      ['tun', { ...open, identity: TUN, ingress: below(protocol) }],
      ['veth', { ...open, identity: VETH }],
    ]),
  })
}

/** Any packet of few flows, so that most are of a flow that is known. */
function anyPacket(draw: () => number): { port: number; packet: Uint8Array } {
  const pick = <T>(of: readonly T[]): T => of[draw() % of.length]!
  const six = draw() % 4 === 0
  const ends = six ? [tun6, veth6, far6] : [tun, veth, far, '198.51.100.7', '10.244.1.1']
  const from = draw() % ends.length
  const [src, dst] = [ends[from]!, pick(ends)]
  const [sport, dport] = [pick([80, 89, 90, 4000]), pick([80, 89, 90, 4000])]
  const flags = pick([ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST])
  const echo = Uint8Array.from([
    six ? 128 + (draw() % 2) : 8 * (draw() % 2),
    0,
    0,
    0,
    0,
    draw() % 2,
    0,
    1,
  ])
  const unreachable = (inner: Uint8Array): Uint8Array =>
    icmp({ src, dst }, six ? 1 : 3, six ? 4 : 3, concat(new Uint8Array(4), inner))
  const made = [
    () => tcp({ src, dst, sport, dport, flags }, data),
    () => tcp({ src, dst, sport, dport, flags: ACK }, data),
    () => udp({ src, dst, sport, dport }, data),
    () => udp({ src, dst, sport, dport }, data),
    () => ip({ src, dst, proto: six ? 58 : 1, payload: echo }),
    () =>
      ip({ src, dst, proto: 132, payload: Uint8Array.from([0, 80, 0, dport & 255, 1, 2, 3, 4]) }),
    () => ip({ src, dst, proto: 132, payload: Uint8Array.from([0, 80]) }),
    () => ip({ src, dst, proto: pick([0x2f, 58, 1]), payload: data }),
    () => unreachable(udp({ src: dst, dst: src, sport, dport }, data)),
    () =>
      six
        ? data
        : ip({
            src,
            dst,
            proto: 17,
            fragment: 0x2000,
            id: draw() % 3,
            payload: udp({ src, dst, sport, dport }, data).subarray(20),
          }),
    () => (six ? data : ip({ src, dst, proto: 17, fragment: 5, id: draw() % 3, payload: data })),
  ]
  const packet = pick(made)()
  const port = [TUN_POD, VETH_POD, UNDERLAY, HOST, HOST][from]!
  return {
    port,
    packet: port === VETH_POD ? fromVeth(packet) : port === UNDERLAY ? fromPeer(packet) : packet,
  }
}

/** Keys, actions, owners and ticks of the flows that are kept. */
function entries(world: TestEngine): string[] {
  return [...world.enforcement!.table.flows()].map(entry => entry.slice(ENTRY.KEY).join()).sort()
}

describe('beside the slow way', () => {
  test.each([1, 2, 3])(
    'the same packets come out, and the same is counted (seed %s)',
    async seed => {
      const draw = random(seed)
      let now = 1e15
      const both = [0, 1].map(() => testEngine({ policy: true, clock: () => now }))
      const [fast, slow] = both as [TestEngine, TestEngine]
      slow.engine.judge!.pass = () => {}
      const pass = fast.engine.judge!.pass.bind(fast.engine.judge)
      let known = 0
      fast.engine.judge!.pass = (b, ...more) => {
        pass(b, ...more)
        let unknown = 0
        for (let i = 0; i < b.n; i++) {
          if (b.known[i] !== 0) known++
          else if (b.drop[i] === 0) unknown++
        }
        expect(b.unknown).toBe(unknown)
      }
      for (let round = 0; round < 40; round++) {
        if (round % 10 === 0)
          for (const world of both) await inForce(world, [6, 17, 132, 6][round / 10]!)
        now += (draw() % 4) * FLOW_TICK_MS * 1e6
        const port = [TUN_POD, VETH_POD, UNDERLAY, HOST][draw() % 4]!
        const packets: Uint8Array[] = []
        while (packets.length < 40) {
          const one = anyPacket(draw)
          if (one.port === port) packets.push(one.packet)
        }
        for (let turn = 0; turn < 2; turn++) {
          const [a, b] = both.map(world => world.send(port, ...packets))
          expect(a).toEqual(b)
        }
        expect(fast.drops()).toEqual(slow.drops())
        expect(entries(fast)).toEqual(entries(slow))
      }
      // A good part of the packets took the fast lane.
      expect(known).toBeGreaterThan(200)
      expect(both.map(world => world.leaked())).toEqual([0, 0])
    },
  )
})

describe('a flow that is known', () => {
  let now = 1e15
  let world: TestEngine
  let known: number[]
  beforeEach(async () => {
    now = 1e15
    world = testEngine({ policy: true, clock: () => now })
    await inForce(world, 17)
    const judge = world.engine.judge!
    const pass = judge.pass.bind(judge)
    known = []
    judge.pass = (b, ...more) => {
      pass(b, ...more)
      for (let i = 0; i < b.n; i++) known.push(hopOf(b.known[i]!))
    }
  })
  afterEach(() => {
    expect(world.leaked()).toBe(0)
  })

  const question = () => udp({ src: tun, dst: far, sport: 5000, dport: 53 }, data)
  const answer = () => fromPeer(udp({ src: far, dst: tun, sport: 53, dport: 5000 }, data))
  const out = (packets: MemPacket[][]): number => packets.findIndex(each => each.length > 0)

  test('goes where it went; its answers are known from their second on', () => {
    expect(out(world.send(TUN_POD, question()))).toBe(UNDERLAY)
    expect(out(world.send(TUN_POD, question()))).toBe(UNDERLAY)
    expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
    expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
    const hop = world.engine.lookupOne.bind(world.engine)
    world.engine.oneAddress[0] = 0x0af4_0209
    const toFar = hop(false)
    world.engine.oneAddress[0] = 0x0af4_0102
    expect(known).toEqual([0, toFar, 0, hop(false)])
  })

  test('is routed again when its next hop has moved, and judged no other way', () => {
    world.send(TUN_POD, question())
    world.engine.oneAddress[0] = 0xc633_6401
    const host = world.engine.lookupOne(false)
    world.engine.oneAddress[0] = 0x0af4_0209
    const before = world.engine.lookupOne(false)
    // Nobody has said so yet.
    world.route('10.244.2.9/32', host)
    world.engine.update()
    expect(out(world.send(TUN_POD, question()))).toBe(UNDERLAY)
    world.hops.advance(before)
    world.route('10.244.2.9/32', host)
    world.engine.update()
    expect(out(world.send(TUN_POD, question()))).toBe(HOST)
    expect(out(world.send(TUN_POD, question()))).toBe(HOST)
    expect(known).toEqual([0, before, 0, host])
    expect(world.enforcement!.flows(9)).toHaveLength(1)
  })

  test('with a next hop whose id is another one’s by now is not sent there', () => {
    world.send(TUN_POD, question())
    world.engine.oneAddress[0] = 0x0af4_0209
    const before = world.engine.lookupOne(false)
    const hop = world.hops.get(before)!
    world.hops.free(before)
    expect(world.hops.add(hop)).toBe(before)
    world.engine.update()
    expect(out(world.send(TUN_POD, question()))).toBe(UNDERLAY)
    expect(known).toEqual([0, 0])
  })

  test('comes from where its answers go: from another node it is judged as what it is', async () => {
    // Two ways in: begun by the pod, and begun by the other node.
    world.send(TUN_POD, question())
    const begun = (src: string, dport = 80) =>
      fromPeer(udp({ src: far, dst: tun, sport: 5000, dport }, data), { src })
    expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
    expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
    expect(out(world.send(UNDERLAY, begun(PEER)))).toBe(TUN_POD)
    expect(out(world.send(UNDERLAY, begun(PEER)))).toBe(TUN_POD)
    expect(known.map(hop => hop > 0)).toEqual([false, false, true, false, true])
    await world.setPolicy({
      identities: IDENTITIES,
      pods: new Map([
        ['tun', { identity: TUN, egress: OPEN, ingress: fromPod(FAR) }],
        ['veth', { identity: VETH, egress: OPEN, ingress: OPEN }],
      ]),
    })
    for (let turn = 0; turn < 2; turn++) {
      expect(out(world.send(TUN_POD, question()))).toBe(UNDERLAY)
      expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
      expect(out(world.send(UNDERLAY, begun(PEER)))).toBe(TUN_POD)
    }
    known.length = 0
    const spoofed = [
      begun(OTHER_PEER),
      fromPeer(udp({ src: far, dst: tun, sport: 53, dport: 5000 }, data), { src: OTHER_PEER }),
    ]
    for (const each of spoofed) expect(out(world.send(UNDERLAY, each))).toBe(-1)
    expect(known).toEqual([0, 0])
    expect(world.drops()).toEqual({ 'policy-ingress': 2 })
    // It has changed nothing for those who may.
    expect(out(world.send(UNDERLAY, answer()))).toBe(TUN_POD)
    expect(out(world.send(UNDERLAY, begun(PEER)))).toBe(TUN_POD)
    expect(known.slice(2).every(hop => hop > 0)).toBe(true)
  })

  test('lives as long as it has packets', () => {
    for (let k = 0; k < 5; k++) {
      now += (FLOW_TIMEOUTS.datagram - 1) * FLOW_TICK_MS * 1e6
      world.send(TUN_POD, question())
      for (let part = 0; part < 64; part++) world.engine.judge!.sweep(now)
    }
    expect(known.slice(1).every(hop => hop > 0)).toBe(true)
    now += (FLOW_TIMEOUTS.datagram + 1) * FLOW_TICK_MS * 1e6
    for (let part = 0; part < 64; part++) world.engine.judge!.sweep(now)
    expect(world.enforcement!.flows(9)).toEqual([])
  })

  test('is dropped by what is true of the packet alone', () => {
    world.send(TUN_POD, question())
    const dying = question()
    dying[8] = 1
    dying[10] = 0
    dying[11] = 0
    let sum = 0
    for (let at = 0; at < 20; at += 2) sum += (dying[at]! << 8) | dying[at + 1]!
    sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff
    dying[10] = sum >>> 8
    dying[11] = sum & 255
    expect(out(world.send(TUN_POD, dying))).toBe(TUN_POD)
    expect(world.drops()).toEqual({ ttl: 1 })
    expect(known[1]).toBeGreaterThan(0)
  })
})
