// Connections of before a start: whichever end speaks first, what policy lets one of them begin goes on.
import { beforeEach, expect, test } from 'vitest'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import { native } from '../../../native/native.ts'
import {
  HOST,
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { ethernet, tcp, udp } from '../../harness/packets.ts'

const [FIN, SYN, RST, ACK] = [1, 2, 4, 16]
const data = new Uint8Array(8)
const tun = '10.244.1.2'
const veth = '10.244.1.3'
const NOTHING: Program = { tiers: [{ rules: [], otherwise: VERDICT.DENY, origin: 9 }] }
const to80: Program = {
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: [{ protocol: 6, ports: { first: 80, last: 80 } }],
          origin: 1,
        },
      ],
      otherwise: VERDICT.DENY,
      origin: 2,
    },
  ],
}

let now: number
let world: TestEngine

/** An engine that has just started; `veth` is a client that nobody may reach, `tun` serves port 80. */
beforeEach(async () => {
  now = native.monotonic()
  world = testEngine({ policy: { resumeSeconds: 60 }, clock: () => now })
  await inForce(to80, NOTHING)
})

function inForce(ingress: Program, egress: Program, node = NOTHING): Promise<void> {
  const [TUN, VETH] = [podIdentity(1, 1), podIdentity(1, 2)]
  return world.setPolicy({
    identities: [
      { address: tun, identity: TUN, vtep: VTEP },
      { address: veth, identity: VETH, vtep: VTEP },
    ],
    pods: new Map([
      ['tun', { identity: TUN, ingress, egress }],
      ['veth', { identity: VETH, ingress: egress, egress: to80 }],
    ]),
    node,
  })
}

const passes = (port: number, packet: Uint8Array): boolean =>
  world.send(port, packet).some(sent => sent.length > 0)
const fromServer = (flags: number, sport = 80, dport = 5000) =>
  passes(TUN_POD, tcp({ src: tun, dst: veth, sport, dport, flags }, data))
const fromClient = (flags: number, sport = 5000, dport = 80) =>
  passes(
    VETH_POD,
    ethernet(VETH_MAC, POD_MAC, 0x0800, tcp({ src: veth, dst: tun, sport, dport, flags }, data)),
  )

test('one whose server speaks first goes on, as its client has begun it', () => {
  expect(fromServer(ACK)).toBe(true)
  expect(world.enforcement!.flows(9)).toMatchObject([
    { source: veth, sourcePort: 5000, destination: tun, destinationPort: 80, state: 'answered' },
  ])
  // The server alone makes nothing established.
  expect(fromServer(ACK)).toBe(true)
  expect(world.enforcement!.flows(9)[0]!.state).toBe('answered')
  expect(fromClient(ACK)).toBe(true)
  expect(world.enforcement!.flows(9)[0]!.state).toBe('established')
  now += 3600e9
  expect(fromServer(ACK)).toBe(true)
  expect(world.enforcement!.hits([1, 2, 9])).toEqual([2, 0, 0])
})

test('nothing passes that is denied both ways, nothing that begins or is no segment, and nothing later', () => {
  for (const [sport, dport] of [
    [81, 5000],
    [5000, 81],
    [5000, 5001],
  ] as const) {
    expect(fromServer(ACK, sport, dport)).toBe(false)
    expect(fromServer(FIN | ACK, sport, dport)).toBe(false)
  }
  for (const flags of [SYN, SYN | ACK, RST | ACK, RST, FIN, 0]) {
    expect(fromServer(flags)).toBe(false)
  }
  expect(passes(TUN_POD, udp({ src: tun, dst: veth, sport: 80, dport: 5000 }, data))).toBe(false)
  expect(world.enforcement!.flows(9)).toEqual([])
  now += 61e9
  expect(fromServer(ACK)).toBe(false)
  expect(world.enforcement!.flows(9)).toEqual([])
})

test('a change of policy judges it as its client has begun it', async () => {
  expect(fromServer(ACK)).toBe(true)
  await inForce(NOTHING, OPEN)
  // That the server might begin one doesn't help: it is known who has.
  expect(fromServer(ACK)).toBe(false)
})

test('a connection of the node’s on which its pod speaks first goes on', () => {
  const ends = { src: tun, dst: '10.244.1.1', sport: 8080, dport: 40_000 }
  const answer = tcp({ ...ends, flags: ACK }, data)
  expect(passes(TUN_POD, answer)).toBe(true)
  const own = { src: ends.dst, dst: ends.src, sport: ends.dport, dport: ends.sport, flags: ACK }
  expect(passes(HOST, tcp(own, data))).toBe(true)
  now += 61e9
  expect(passes(TUN_POD, answer)).toBe(true)
  expect(passes(TUN_POD, tcp({ ...ends, dport: 40_001, flags: ACK }, data))).toBe(false)
})
