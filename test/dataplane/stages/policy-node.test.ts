// What the node itself receives from pods, where it has rules for that: what it has begun is always answered.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PolicyState } from '../../../dataplane/control.ts'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import {
  HOST,
  PEER,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  VTEP,
} from '../../harness/engine.ts'
import { concat, icmp, ip, tcp, udp } from '../../harness/packets.ts'
import { fromPeer } from '../../packets/cases/frames.ts'

const [TUN, VETH, FAR] = [podIdentity(1, 1), podIdentity(1, 2), podIdentity(2, 1)]
const tun = '10.244.1.2'
const far = '10.244.2.9'
const node = '10.244.1.1'
const data = new Uint8Array(16)
const [SYN, ACK] = [2, 16]
const NOTHING: Program = { tiers: [{ rules: [], otherwise: VERDICT.DENY, origin: 9 }] }
/** Pods reach UDP 53; nothing else. */
const DNS_ONLY: Program = {
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: [{ protocol: 17, ports: { first: 53, last: 53 } }],
          origin: 1,
        },
        { verdict: VERDICT.DENY, matches: [{}], origin: 2 },
      ],
      otherwise: VERDICT.PASS,
      origin: -1,
    },
  ],
}

let world: TestEngine
beforeEach(() => {
  world = testEngine({ policy: true })
})
afterEach(() => expect(world.leaked()).toBe(0))

const identities = [
  ...[tun, 'fd44:0:0:1::2'].map(address => ({ address, identity: TUN, vtep: VTEP })),
  { address: '10.244.1.3', identity: VETH, vtep: VTEP },
  { address: far, identity: FAR, vtep: PEER },
]
function inForce(rules?: Program, own: Program = OPEN): Promise<void> {
  const state: PolicyState = {
    identities,
    pods: new Map([
      ['tun', { identity: TUN, ingress: own, egress: own }],
      ['veth', { identity: VETH, ingress: OPEN, egress: OPEN }],
    ]),
    ...(rules === undefined ? {} : { node: rules }),
  }
  return world.setPolicy(state)
}

const passes = (port: number, packet: Uint8Array): boolean =>
  world.send(port, packet).some(sent => sent.length > 0)
const segment = (src: string, dst: string, sport: number, dport: number, flags: number) =>
  tcp({ src, dst, sport, dport, flags }, data)
const datagram = (src: string, dst: string, sport: number, dport: number) =>
  udp({ src, dst, sport, dport }, data)

test('without rules everything reaches the node, and nothing is kept', async () => {
  await inForce(undefined, NOTHING)
  expect(passes(TUN_POD, segment(tun, node, 4000, 10_250, SYN))).toBe(true)
  expect(passes(HOST, segment(node, tun, 4000, 80, SYN))).toBe(true)
  expect(world.enforcement!.flows(9)).toEqual([])
})

describe('with rules', () => {
  beforeEach(() => inForce(DNS_ONLY))

  test('pods reach what they allow, by both families, and are answered', () => {
    expect(passes(TUN_POD, datagram(tun, node, 5000, 53))).toBe(true)
    expect(passes(HOST, datagram(node, tun, 53, 5000))).toBe(true)
    expect(passes(TUN_POD, datagram(tun, node, 5000, 54))).toBe(false)
    expect(passes(TUN_POD, segment(tun, node, 5000, 10_250, SYN))).toBe(false)
    const [six, gateway6] = ['fd44:0:0:1::2', 'fd44:0:0:1::1']
    expect(passes(TUN_POD, datagram(six, gateway6, 5000, 53))).toBe(true)
    expect(passes(TUN_POD, datagram(six, gateway6, 5000, 54))).toBe(false)
    expect(world.drops()).toEqual({ 'policy-ingress': 3 })
  })

  test('pods of other nodes as well, and what is no pod reaches the node as before', () => {
    expect(passes(UNDERLAY, fromPeer(datagram(far, node, 5000, 53)))).toBe(true)
    expect(passes(UNDERLAY, fromPeer(datagram(far, node, 5000, 54)))).toBe(false)
    expect(passes(UNDERLAY, fromPeer(datagram('10.244.2.1', node, 5000, 54)))).toBe(true)
    // Beyond the node nothing is different.
    expect(passes(TUN_POD, datagram(tun, '198.51.100.7', 5000, 54))).toBe(true)
  })

  test('what the node begins is answered, whatever its rules and the pod’s policies say', async () => {
    await inForce(DNS_ONLY, NOTHING)
    expect(passes(HOST, segment(node, tun, 40_000, 8080, SYN))).toBe(true)
    expect(passes(TUN_POD, segment(tun, node, 8080, 40_000, SYN | ACK))).toBe(true)
    expect(passes(HOST, segment(node, tun, 40_000, 8080, ACK))).toBe(true)
    expect(passes(TUN_POD, segment(tun, node, 8080, 40_001, SYN | ACK))).toBe(false)
    const echo = (src: string, dst: string, type: number) =>
      icmp({ src, dst }, type, 0, Uint8Array.of(0, 7, 0, 1))
    expect(passes(HOST, echo(node, tun, 8))).toBe(true)
    expect(passes(TUN_POD, echo(tun, node, 0))).toBe(true)
    expect(passes(TUN_POD, echo(tun, node, 8))).toBe(false)
    // To other nodes, too.
    expect(passes(HOST, segment(node, far, 40_002, 80, SYN))).toBe(true)
    expect(passes(UNDERLAY, fromPeer(segment(far, node, 80, 40_002, SYN | ACK)))).toBe(true)
    // A change of the rules leaves it.
    await inForce({ tiers: NOTHING.tiers }, NOTHING)
    expect(passes(TUN_POD, segment(tun, node, 8080, 40_000, ACK))).toBe(true)
    expect(passes(HOST, segment(node, tun, 40_000, 8080, ACK))).toBe(true)
  })

  test('nothing that the node sends is dropped: errors, fragments, and however many it begins', () => {
    const quoted = datagram(tun, node, 1, 2).subarray(0, 28)
    const error = icmp({ src: node, dst: tun }, 3, 3, concat(new Uint8Array(4), quoted))
    expect(passes(HOST, error)).toBe(true)
    const later = ip({ src: node, dst: tun, proto: 17, id: 1, fragment: 8, payload: data })
    expect(passes(HOST, later)).toBe(true)
    world.enforcement!.table.setPendingQuota(TUN_POD, 0)
    for (let port = 1; port < 300; port++) {
      expect(passes(HOST, segment(node, tun, port, 80, SYN))).toBe(true)
    }
    expect(world.drops()).toEqual({})
  })

  test('a denial is told as the node’s, and counted; flows have the rule', () => {
    const enforcement = world.enforcement!
    const { read } = enforcement.denials()
    passes(TUN_POD, datagram(tun, node, 5000, 54))
    passes(TUN_POD, datagram(tun, node, 5000, 53))
    const { denials } = enforcement.denials(read)
    expect(denials).toMatchObject([
      { node: true, direction: 'ingress', source: tun, destination: node, origin: 2 },
    ])
    expect(enforcement.hits([1, 2])).toEqual([1, 1])
    expect(enforcement.flows(9)).toMatchObject([
      { destination: node, destinationPort: 53, ingress: 1 },
    ])
  })

  test('tables are asked as workers ask them', async () => {
    await inForce(DNS_ONLY, NOTHING)
    const { enforcement } = world
    const ask = (port: number, pod?: string, peer = tun) =>
      enforcement!.ask({
        ...{ direction: 'ingress' as const, peer, protocol: 17, port },
        ...(pod === undefined ? {} : { pod }),
      })
    expect(ask(53)).toEqual({ allowed: true, origin: 1, identity: TUN })
    expect(ask(54)).toMatchObject({ allowed: false, origin: 2 })
    expect(ask(53, 'tun', far)).toEqual({ allowed: false, origin: 9, identity: FAR })
    expect(ask(53, 'veth', '198.51.100.7')).toEqual({ allowed: true, origin: -1, identity: 0 })
    expect(ask(53, 'nobody')).toBeUndefined()
  })

  test('a change of the rules ends what pods have begun', async () => {
    expect(passes(TUN_POD, datagram(tun, node, 5000, 53))).toBe(true)
    await inForce({ tiers: NOTHING.tiers })
    expect(passes(TUN_POD, datagram(tun, node, 5000, 53))).toBe(false)
    // Nor does the node's next word bring it back.
    expect(passes(HOST, datagram(node, tun, 53, 5000))).toBe(true)
    await inForce(undefined)
    expect(passes(TUN_POD, datagram(tun, node, 5000, 99))).toBe(true)
  })

  test('rules that a limit refuses change nothing', async () => {
    const matches = Array.from({ length: 2000 }, (_, first) => ({
      ...{ protocol: 17, ports: { first, last: first } },
    }))
    const many: Program = {
      tiers: [
        {
          rules: [{ verdict: VERDICT.ALLOW, matches, origin: 0 }],
          otherwise: VERDICT.DENY,
          origin: 0,
        },
      ],
    }
    await expect(inForce(many)).rejects.toThrow('policy matches')
    expect(passes(TUN_POD, datagram(tun, node, 5000, 54))).toBe(false)
    expect(passes(TUN_POD, datagram(tun, node, 5000, 53))).toBe(true)
  })
})
