// Connections that are begun and never established: they take only so much of the flow table, from one pod, or of one pod.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLOW_TIMEOUTS } from '../../../dataplane/limits.ts'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import {
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { ethernet, tcp, udp, vxlan } from '../../harness/packets.ts'

const tun = '10.244.1.2'
const veth = '10.244.1.3'
const far = '10.244.2.9'
const data = new Uint8Array(8)
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16]
/** `policy.flows.halfOpenOfPod` here. */
const MOST = 50
const PORT_80: Program = {
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: [{ ports: { first: 80, last: 80 }, protocol: 6 }],
          origin: 0,
        },
      ],
      otherwise: VERDICT.DENY,
      origin: 1,
    },
  ],
}

let now: number
let world: TestEngine
beforeEach(async () => {
  now = 1e15
  world = testEngine({ policy: { halfOpenOfPod: MOST }, clock: () => now })
  const at = (address: string, identity: number, vtep: string) => ({ address, identity, vtep })
  const [TUN, VETH, FAR] = [podIdentity(1, 1), podIdentity(1, 2), podIdentity(2, 1)]
  await world.setPolicy({
    identities: [at(tun, TUN, VTEP), at(veth, VETH, VTEP), at(far, FAR, PEER)],
    pods: new Map([
      ['tun', { identity: TUN, ingress: PORT_80, egress: PORT_80 }],
      ['veth', { identity: VETH, ingress: PORT_80, egress: OPEN }],
    ]),
  })
})
afterEach(() => expect(world.leaked()).toBe(0))

type End = 'tun' | 'veth' | 'far'
const ADDRESS = { tun, veth, far }

function send(from: End, packet: Uint8Array): boolean {
  const port = { tun: TUN_POD, veth: VETH_POD, far: UNDERLAY }[from]
  const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }
  const frame =
    from === 'tun'
      ? packet
      : from === 'veth'
        ? ethernet(VETH_MAC, POD_MAC, 0x0800, packet)
        : ethernet(
            UNDERLAY_MAC,
            UNDERLAY_PEER_MAC,
            0x0800,
            vxlan({ src: PEER, dst: VTEP, ...macs, inner: packet }),
          )
  return world.send(port, frame).some(sent => sent.length > 0)
}

/** A segment of the connection from `client`, port `port`, to port 80 of `server`. */
function segment(client: End, server: End, port: number, flags: number, reply = false): boolean {
  const ends = reply
    ? { src: ADDRESS[server], dst: ADDRESS[client], sport: 80, dport: port }
    : { src: ADDRESS[client], dst: ADDRESS[server], sport: port, dport: 80 }
  return send(reply ? server : client, tcp({ ...ends, flags }, data))
}

function connect(client: End, server: End, port: number): boolean {
  return (
    segment(client, server, port, SYN) &&
    segment(client, server, port, SYN | ACK, true) &&
    segment(client, server, port, ACK)
  )
}

const states = (): Record<string, number> => {
  const counted: Record<string, number> = {}
  for (const { state } of world.enforcement!.flows(1e6)) counted[state] = (counted[state] ?? 0) + 1
  return counted
}

/** Every way to begin and not to establish, again and again. Returns how many of their first segments have passed. */
function flood(client: End, server: End, answer: number): number {
  let passed = 0
  for (let port = 10_000; port < 10_000 + 10 * MOST; port++) {
    if (!segment(client, server, port, answer === 0 ? ACK : SYN)) continue
    passed++
    if (answer !== 0) segment(client, server, port, answer, true)
  }
  return passed
}

test.each([
  ['SYN that nobody answers', -1, 'opening'],
  ['SYN that the server answers', SYN | ACK, 'answered'],
  ['SYN to a closed port', RST | ACK, 'refused'],
  ['ACK out of nowhere', 0, 'opening'],
] as const)('a flood from one pod: %s', (_, answer, state) => {
  expect(connect('veth', 'tun', 5000)).toBe(true)
  expect(connect('far', 'tun', 5000)).toBe(true)
  const passed = answer === -1 ? flood('veth', 'tun', SYN) : flood('veth', 'tun', answer)
  expect(passed).toBe(MOST)
  expect(states()).toEqual({ established: 2, [state]: MOST })
  expect(world.drops()).toEqual({ 'half-open': 9 * MOST })
  // What is established goes on, and others begin.
  expect(segment('veth', 'tun', 5000, ACK)).toBe(true)
  expect(segment('veth', 'tun', 5000, ACK, true)).toBe(true)
  expect(connect('far', 'tun', 5001)).toBe(true)
  expect(connect('far', 'veth', 5001)).toBe(true)
  expect(connect('tun', 'veth', 5001)).toBe(true)
  // The pod's datagrams are no connections.
  expect(send('veth', udp({ src: veth, dst: far, sport: 1, dport: 2 }, data))).toBe(true)
  expect(connect('veth', 'far', 5002)).toBe(false)
  // Once they are old there is room again.
  now += (FLOW_TIMEOUTS.opening + 2) * 1e9
  world.engine.judge!.sweep(now)
  expect(connect('veth', 'tun', 5003)).toBe(true)
})

test('a flood at one pod, from other nodes, leaves what other pods have, and what this one has begun', () => {
  expect(connect('far', 'tun', 5000)).toBe(true)
  expect(flood('far', 'tun', SYN | ACK)).toBe(MOST)
  expect(segment('far', 'tun', 5000, ACK)).toBe(true)
  expect(connect('far', 'tun', 5001)).toBe(false)
  expect(connect('far', 'veth', 5001)).toBe(true)
  expect(connect('tun', 'far', 5001)).toBe(true)
  expect(connect('veth', 'tun', 5001)).toBe(true)
})

test('established is what both ends have agreed to', () => {
  segment('veth', 'tun', 1, SYN)
  expect(states()).toEqual({ opening: 1 })
  // Neither the client alone nor a second SYN makes it so.
  segment('veth', 'tun', 1, ACK)
  segment('veth', 'tun', 1, SYN)
  expect(states()).toEqual({ opening: 1 })
  segment('veth', 'tun', 1, SYN | ACK, true)
  segment('veth', 'tun', 1, SYN | ACK)
  expect(states()).toEqual({ answered: 1 })
  segment('veth', 'tun', 1, ACK)
  // Nor does a SYN end it (RFC 5961 section 4).
  segment('veth', 'tun', 1, SYN)
  expect(states()).toEqual({ established: 1 })
  segment('veth', 'tun', 1, FIN | ACK)
  expect(states()).toEqual({ closing: 1 })
  segment('veth', 'tun', 1, SYN)
  expect(states()).toEqual({ opening: 1 })
  expect(world.engine.judge!.table.pending(VETH_POD)).toBe(1)
  segment('veth', 'tun', 1, RST, true)
  expect(states()).toEqual({ refused: 1 })
  // In the middle: with the first that comes back.
  segment('veth', 'tun', 2, ACK)
  segment('veth', 'tun', 2, ACK, true)
  expect(states()).toEqual({ refused: 1, established: 1 })
})
