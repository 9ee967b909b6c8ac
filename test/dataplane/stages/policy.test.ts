// Policy in the path: flows begin where both ends' programs let them, go on both ways, and are judged again.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseCidr } from '../../../dataplane/addresses.ts'
import type { PodIdentity, PodPolicy } from '../../../dataplane/control.ts'
import {
  type Match,
  OPEN,
  type Program,
  podIdentity,
  VERDICT,
} from '../../../dataplane/policy-program.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import {
  HOST,
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

const TUN = podIdentity(1, 1)
const VETH = podIdentity(1, 2)
const FAR = podIdentity(2, 1)
const tun = '10.244.1.2'
const veth = '10.244.1.3'
const far = '10.244.2.9'
const data = new Uint8Array(32).fill(7)

const allow = (...matches: Match[]): Program => ({
  tiers: [
    { rules: [{ verdict: VERDICT.ALLOW, matches, origin: 0 }], otherwise: VERDICT.DENY, origin: 1 },
  ],
})
const NOTHING: Program = { tiers: [{ rules: [], otherwise: VERDICT.DENY, origin: 1 }] }
const from = (identity: number, protocol = 6, port = 80): Match => ({
  peer: { value: identity, bits: 32 },
  protocol,
  ports: { first: port, last: port },
})

const IDENTITIES: PodIdentity[] = [
  { address: tun, identity: TUN, vtep: VTEP },
  { address: veth, identity: VETH, vtep: VTEP },
  { address: far, identity: FAR, vtep: PEER },
  { address: 'fd44:0:0:1::2', identity: TUN, vtep: VTEP },
  { address: 'fd44:0:0:1::3', identity: VETH, vtep: VTEP },
  { address: 'fd44:0:0:2::9', identity: FAR, vtep: PEER },
]

let now = 1e15
let world: TestEngine
beforeEach(() => {
  now = 1e15
  world = testEngine({ policy: true, clock: () => now })
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

type Ends = { tun?: Partial<PodPolicy>; veth?: Partial<PodPolicy> }

async function inForce({ tun = {}, veth = {} }: Ends, identities = IDENTITIES): Promise<void> {
  const whole = (policy: Partial<PodPolicy>, identity: number): PodPolicy => ({
    identity,
    ingress: OPEN,
    egress: OPEN,
    ...policy,
  })
  await world.setPolicy({
    identities,
    pods: new Map([
      ['tun', whole(tun, TUN)],
      ['veth', whole(veth, VETH)],
    ]),
  })
}

const passes = (port: number, packet: Uint8Array | MemPacket): boolean =>
  world.send(port, packet).some(packets => packets.length > 0)

const SYN = 2
const ACK = 16
const segment = (src: string, dst: string, sport: number, dport: number, flags: number) =>
  tcp({ src, dst, sport, dport, flags }, data)

describe('TCP between two pods of the node', () => {
  beforeEach(() => inForce({ tun: { ingress: allow(from(VETH)) } }))

  test('a connection that is allowed goes on both ways', () => {
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, SYN)))).toBe(true)
    expect(passes(TUN_POD, segment(tun, veth, 80, 4000, SYN | ACK))).toBe(true)
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, ACK)))).toBe(true)
    expect(world.enforcement!.flows(9)).toEqual([
      {
        ...{ source: veth, destination: tun, sourcePort: 4000, destinationPort: 80, protocol: 6 },
        ...{ idle: expect.any(Number), state: 'established', age: expect.any(Number) },
        // Three segments of 32 bytes; the rule of the one that is isolated.
        ...{ packets: 3, bytes: 3 * 72, ingress: 0 },
      },
    ])
    expect(world.drops()).toEqual({})
  })

  test('another port, and another protocol, are not', () => {
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 81, SYN)))).toBe(false)
    const datagram = udp({ src: veth, dst: tun, sport: 4000, dport: 80 }, data)
    expect(passes(VETH_POD, fromVeth(datagram))).toBe(false)
    expect(world.drops()).toEqual({ 'policy-ingress': 2 })
    expect(world.enforcement!.flows(9)).toEqual([])
  })

  test('what the isolated pod begins is answered', () => {
    expect(passes(TUN_POD, segment(tun, veth, 5000, 9000, SYN))).toBe(true)
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 9000, 5000, SYN | ACK)))).toBe(true)
    // Not so what pretends to be an answer.
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 9000, 5001, ACK)))).toBe(false)
  })

  test('the node itself reaches its pod, and the pod the node; the world does not', () => {
    expect(passes(HOST, segment('10.244.1.1', tun, 5000, 1, SYN))).toBe(true)
    expect(passes(TUN_POD, segment(tun, '10.244.1.1', 1, 5000, SYN | ACK))).toBe(true)
    expect(passes(HOST, segment('198.51.100.7', tun, 5000, 80, SYN))).toBe(false)
    expect(world.enforcement!.flows(9)).toEqual([])
  })
})

test('egress: the sender’s node enforces it, and answers come back', async () => {
  await inForce({ tun: { egress: allow(from(FAR, 17, 53)) } })
  const question = udp({ src: tun, dst: far, sport: 5000, dport: 53 }, data)
  const reply = udp({ src: far, dst: tun, sport: 53, dport: 5000 }, data)
  expect(passes(UNDERLAY, fromPeer(reply))).toBe(true)
  expect(passes(TUN_POD, question)).toBe(true)
  expect(passes(UNDERLAY, fromPeer(reply))).toBe(true)
  expect(passes(TUN_POD, udp({ src: tun, dst: far, sport: 5000, dport: 54 }, data))).toBe(false)
  expect(passes(TUN_POD, udp({ src: tun, dst: veth, sport: 5000, dport: 53 }, data))).toBe(false)
  expect(world.drops()).toEqual({ 'policy-egress': 2 })
})

test('a pod is known by its address and its node: from another one it is nobody', async () => {
  await inForce({ tun: { ingress: allow(from(FAR)) } })
  const first = segment(far, tun, 4000, 80, SYN)
  expect(passes(UNDERLAY, fromPeer(first))).toBe(true)
  const elsewhere = IDENTITIES.map(each => ({ ...each, vtep: '192.0.2.77' }))
  await inForce({ tun: { ingress: allow(from(FAR)) } }, elsewhere)
  expect(passes(UNDERLAY, fromPeer(segment(far, tun, 4001, 80, SYN)))).toBe(false)
  // Who answers the node's clients from the world with a pod's address is nobody either.
  expect(passes(HOST, segment(far, tun, 4002, 80, SYN))).toBe(false)
})

test('networks: an address that is no pod’s is judged by its prefix', async () => {
  const network = parseCidr('198.51.100.0/25')
  await inForce({ tun: { egress: allow({ network }) } })
  expect(passes(TUN_POD, segment(tun, '198.51.100.7', 4000, 443, SYN))).toBe(true)
  expect(passes(HOST, segment('198.51.100.7', tun, 443, 4000, SYN | ACK))).toBe(true)
  expect(passes(TUN_POD, segment(tun, '198.51.100.200', 4000, 443, SYN))).toBe(false)
})

test('IPv6 is judged alike', async () => {
  await inForce({ tun: { ingress: allow(from(VETH)) } })
  const [a, b] = ['fd44:0:0:1::3', 'fd44:0:0:1::2']
  expect(passes(VETH_POD, fromVeth(segment(a, b, 4000, 80, SYN)))).toBe(true)
  expect(passes(TUN_POD, segment(b, a, 80, 4000, SYN | ACK))).toBe(true)
  expect(passes(VETH_POD, fromVeth(segment(a, b, 4000, 81, SYN)))).toBe(false)
})

describe('a change of policy', () => {
  test('ends what it forbids with the next packet, either way, and nothing else', async () => {
    await inForce({ tun: { ingress: allow(from(VETH), from(VETH, 6, 81)) } })
    for (const port of [80, 81]) {
      expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, port, SYN)))).toBe(true)
      expect(passes(TUN_POD, segment(tun, veth, port, 4000, SYN | ACK))).toBe(true)
    }
    await inForce({ tun: { ingress: allow(from(VETH, 6, 81)) } })
    // The server speaks first: it is judged as the client's connection, which is not allowed any more.
    expect(passes(TUN_POD, segment(tun, veth, 80, 4000, ACK))).toBe(false)
    expect(passes(TUN_POD, segment(tun, veth, 81, 4000, ACK))).toBe(true)
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 81, ACK)))).toBe(true)
    expect(world.enforcement!.flows(9).map(flow => flow.destinationPort)).toEqual([81])
  })

  test('that comes to the same makes no flow stale', async () => {
    await inForce({ tun: { ingress: allow(from(VETH)) } })
    passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, SYN)))
    const before = world.engine.judge!.table.counters()
    await inForce({ tun: { ingress: allow(from(VETH)) } })
    expect(passes(TUN_POD, segment(tun, veth, 80, 4000, SYN | ACK))).toBe(true)
    expect(world.engine.judge!.table.counters()).toMatchObject({ refreshed: before.refreshed })
  })

  test('that a limit refuses changes nothing', async () => {
    await inForce({ tun: { ingress: allow(from(VETH)) } })
    const many = Array.from({ length: 2000 }, (_, n) => from(VETH, 6, n))
    await expect(inForce({ tun: { ingress: allow(...many) } })).rejects.toThrow('policy matches')
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, SYN)))).toBe(true)
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 81, SYN)))).toBe(false)
  })

  test('an address that is another pod’s now has none of the old one’s flows', async () => {
    await inForce({ tun: { ingress: allow(from(FAR)) } })
    passes(UNDERLAY, fromPeer(segment(far, tun, 4000, 80, SYN)))
    expect(world.enforcement!.flows(9)).toHaveLength(1)
    await inForce(
      { tun: { ingress: allow(from(FAR)) } },
      IDENTITIES.filter(({ address }) => address !== far),
    )
    expect(world.enforcement!.flows(9)).toEqual([])
    expect(passes(UNDERLAY, fromPeer(segment(far, tun, 4000, 80, ACK)))).toBe(false)
  })
})

describe('ICMP', () => {
  test('echo is judged, and answered', async () => {
    await inForce({ tun: { ingress: allow({ peer: { value: VETH, bits: 32 } }) } })
    const echo = (src: string, dst: string, type: number, id: number) =>
      icmp({ src, dst }, type, 0, Uint8Array.of(0, id, 0, 1, 1, 2, 3, 4))
    expect(passes(VETH_POD, fromVeth(echo(veth, tun, 8, 77)))).toBe(true)
    expect(passes(TUN_POD, echo(tun, veth, 0, 77))).toBe(true)
    await inForce({ tun: { ingress: NOTHING } })
    expect(passes(VETH_POD, fromVeth(echo(veth, tun, 8, 78)))).toBe(false)
  })

  test('an error passes about a flow that is allowed, and about no other', async () => {
    await inForce({ tun: { ingress: NOTHING } })
    const sent = udp({ src: tun, dst: far, sport: 5000, dport: 53 }, data)
    const unreachable = (quoted: Uint8Array) =>
      icmp({ src: far, dst: tun }, 3, 3, concat(new Uint8Array(4), quoted.subarray(0, 28)))
    expect(passes(UNDERLAY, fromPeer(unreachable(sent)))).toBe(false)
    expect(passes(TUN_POD, sent)).toBe(true)
    expect(passes(UNDERLAY, fromPeer(unreachable(sent)))).toBe(true)
    const other = udp({ src: veth, dst: far, sport: 5000, dport: 53 }, data)
    expect(passes(UNDERLAY, fromPeer(unreachable(other)))).toBe(false)
    expect(world.drops()).toEqual({ 'policy-icmp': 2 })
  })
})

test('ICMPv6: an error passes about a flow that is allowed, and about no other', async () => {
  const [src, dst] = ['fd44:0:0:1::2', 'fd44:0:0:2::9']
  await inForce({ tun: { ingress: NOTHING } })
  const sent = udp({ src, dst, sport: 5000, dport: 53 }, data)
  const tooBig = fromPeer(
    icmp({ src: dst, dst: src }, 2, 0, concat(Uint8Array.of(0, 0, 5, 0), sent.subarray(0, 48))),
  )
  expect(passes(UNDERLAY, tooBig)).toBe(false)
  expect(passes(TUN_POD, sent)).toBe(true)
  expect(passes(UNDERLAY, tooBig)).toBe(true)
  expect(world.drops()).toEqual({ 'policy-icmp': 1 })
})

test('a routing header of type 0 takes no packet past its judge', async () => {
  const [src, dst] = ['fd44:0:0:1::3', 'fd44:0:0:1::2']
  await inForce({})
  const inner = udp({ src, dst }, data).subarray(40)
  const routed = (type: number, left: number) => {
    const header = new Uint8Array(24)
    header.set([17, 2, type, left])
    return fromVeth(ip({ src, dst, proto: 43, payload: concat(header, inner) }))
  }
  expect(passes(VETH_POD, routed(0, 1))).toBe(false)
  expect(world.drops()).toEqual({ 'ip-header': 1 })
  // Nothing is left to visit (RFC 5095 section 3), or another type.
  expect(passes(VETH_POD, routed(0, 0))).toBe(true)
  expect(passes(VETH_POD, routed(4, 1))).toBe(true)
})

describe('fragments', () => {
  const fragments = (src: string, dst: string, dport: number, id: number): Uint8Array[] => {
    const whole = udp({ src, dst, sport: 4000, dport }, new Uint8Array(72).fill(5)).subarray(20)
    const part = (at: number, end: number) =>
      ip({
        ...{ src, dst, proto: 17, id, payload: whole.subarray(at, end) },
        fragment: (at / 8) | (end < whole.length ? 0x2000 : 0),
      })
    return [part(0, 40), part(40, 80)]
  }

  beforeEach(() => inForce({ tun: { ingress: allow(from(VETH, 17, 80)) } }))

  test('have the verdict of their first one', () => {
    const [first, second] = fragments(veth, tun, 80, 7)
    expect(passes(VETH_POD, fromVeth(first!))).toBe(true)
    expect(passes(VETH_POD, fromVeth(second!))).toBe(true)
    const [bad, after] = fragments(veth, tun, 81, 8)
    expect(passes(VETH_POD, fromVeth(bad!))).toBe(false)
    expect(passes(VETH_POD, fromVeth(after!))).toBe(false)
    expect(world.drops()).toEqual({ 'policy-ingress': 1, 'policy-fragment': 1 })
  })

  test('of TCP none begins inside of the header that was judged', async () => {
    await inForce({ tun: { ingress: allow(from(VETH)) } })
    const whole = segment(veth, tun, 4000, 80, SYN).subarray(20)
    const part = (fragment: number, payload: Uint8Array) =>
      fromVeth(ip({ src: veth, dst: tun, proto: 6, id: 11, fragment, payload }))
    expect(passes(VETH_POD, part(0x2000, whole.subarray(0, 24)))).toBe(true)
    expect(passes(VETH_POD, part(0x2001, whole.subarray(8, 24)))).toBe(false)
    expect(passes(VETH_POD, part(3, whole.subarray(24)))).toBe(false)
    expect(passes(VETH_POD, part(8, whole.subarray(0, 8)))).toBe(true)
    expect(world.drops()).toEqual({ 'policy-fragment': 2 })
  })

  test('of IPv6 alike, by the identification of their header', () => {
    const [src, dst] = ['fd44:0:0:1::3', 'fd44:0:0:1::2']
    const part = (dport: number, id: number, offset: number) => {
      const whole = udp({ src, dst, sport: 4000, dport }, new Uint8Array(72).fill(5)).subarray(40)
      const more = offset === 0 ? 1 : 0
      const header = Uint8Array.of(17, 0, offset >> 8, offset | more, 0, 0, 0, id)
      const payload = concat(header, whole.subarray(offset, offset + 40))
      return fromVeth(ip({ src, dst, proto: 44, payload }))
    }
    expect(passes(VETH_POD, part(80, 1, 0))).toBe(true)
    expect(passes(VETH_POD, part(80, 1, 40))).toBe(true)
    expect(passes(VETH_POD, part(80, 2, 40))).toBe(false)
    expect(passes(VETH_POD, part(81, 3, 0))).toBe(false)
    expect(passes(VETH_POD, part(81, 3, 40))).toBe(false)
    expect(world.drops()).toEqual({ 'policy-fragment': 2, 'policy-ingress': 1 })
  })

  test('none overlaps its first one, or has another in it, and what is no fragment opens nothing', async () => {
    const [src, dst] = ['fd44:0:0:1::3', 'fd44:0:0:1::2']
    const header = (next: number, place: number, id: number) =>
      Uint8Array.of(next, 0, place >> 8, place & 255, 0, 0, 0, id)
    const sent = (...parts: Uint8Array[]) =>
      passes(VETH_POD, fromVeth(ip({ src, dst, proto: 44, payload: concat(...parts) })))
    const whole = udp({ src, dst, sport: 4000, dport: 80 }, data).subarray(40)
    const options = concat(Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0), whole)
    const bad = udp({ src, dst, sport: 4000, dport: 81 }, data).subarray(40)
    expect(sent(header(60, 1, 1), options)).toBe(true)
    expect(sent(header(60, 8, 1), bad)).toBe(false)
    expect(sent(header(60, options.length, 1), data)).toBe(true)
    // One that is whole (RFC 6946), and a fragment of the same name.
    expect(sent(header(17, 0, 2), whole)).toBe(true)
    expect(sent(header(17, 8, 2), data)).toBe(false)
    expect(sent(header(44, 1, 3), header(17, 0, 1), whole)).toBe(false)
    expect(world.drops()).toEqual({ 'policy-fragment': 2, 'ip-header': 1 })
  })

  test('in one burst, too; one without its first, or after a minute, is dropped', () => {
    const [first, second] = fragments(veth, tun, 80, 9)
    expect(world.send(VETH_POD, fromVeth(first!), fromVeth(second!))[TUN_POD]).toHaveLength(2)
    expect(passes(VETH_POD, fromVeth(fragments(veth, tun, 80, 10)[1]!))).toBe(false)
    now += 61e9
    expect(passes(VETH_POD, fromVeth(second!))).toBe(false)
  })
})

test('a deny-all lets nothing pass of what is odd', async () => {
  await inForce({ tun: { ingress: NOTHING }, veth: { egress: NOTHING } })
  for (let protocol = 0; protocol < 256; protocol++) {
    const packet = ip({ src: veth, dst: tun, proto: protocol, payload: concat(data, data) })
    expect(passes(VETH_POD, fromVeth(packet)), `protocol ${protocol}`).toBe(false)
  }
})

describe('what is denied', () => {
  test('is told with the pod and the rule that says no', async () => {
    await inForce({ tun: { ingress: allow(from(VETH)) }, veth: { egress: NOTHING } })
    const enforcement = world.enforcement!
    const { read } = enforcement.denials()
    passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, SYN)))
    passes(UNDERLAY, fromPeer(segment(far, tun, 4001, 80, SYN)))
    const { denials, missed, read: after } = enforcement.denials(read)
    expect(missed).toBe(0)
    expect(denials).toEqual([
      {
        ...{ pod: 'veth', direction: 'egress', verdict: 'denied', source: veth, destination: tun },
        ...{ sourcePort: 4000, destinationPort: 80, protocol: 6, origin: 1 },
        time: expect.stringMatching(/^\d{4}-.*Z$/),
      },
      {
        ...{ pod: 'tun', direction: 'ingress', verdict: 'denied', source: far, destination: tun },
        ...{ sourcePort: 4001, destinationPort: 80, protocol: 6, origin: 1 },
        time: expect.any(String),
      },
    ])
    expect(enforcement.denials(after)).toEqual({ denials: [], missed: 0, read: after })
    // Both ends were asked of the first one: `tun` would have let it come.
    expect(enforcement.hits([0, 1])).toEqual([1, 2])
  })

  test('of a flood only so many a second, and the rest is counted', async () => {
    await inForce({ tun: { ingress: NOTHING } })
    const enforcement = world.enforcement!
    const { read } = enforcement.denials()
    for (let k = 0; k < 700; k++) passes(VETH_POD, fromVeth(segment(veth, tun, k, 80, SYN)))
    const { denials, missed } = enforcement.denials(read)
    expect([denials.length, missed]).toEqual([500, 200])
    now += 1e9
    passes(VETH_POD, fromVeth(segment(veth, tun, 1, 80, SYN)))
    expect(enforcement.denials(read).denials).toHaveLength(501)
  })

  test('a reader that comes late is told how many it has missed', async () => {
    await inForce({ tun: { ingress: NOTHING } })
    const enforcement = world.enforcement!
    const { read } = enforcement.denials()
    for (let k = 0; k < 1500; k++) {
      if (k % 500 === 0) now += 1e9
      passes(VETH_POD, fromVeth(segment(veth, tun, k, 80, SYN)))
    }
    const { denials, missed } = enforcement.denials(read)
    expect(denials.length + missed).toBe(1500)
    expect(denials.at(-1)!.sourcePort).toBe(1499)
    expect(denials.length).toBeGreaterThan(1000)
  })
})

test('policies that are only tried are counted and told, and change nothing', async () => {
  const tiers = allow(from(VETH)).tiers
  const staged = [
    {
      rules: [{ verdict: VERDICT.DENY, matches: [{ protocol: 6 }], origin: 7 }],
      otherwise: VERDICT.PASS,
      origin: -1,
    },
    ...tiers,
  ]
  await inForce({ tun: { ingress: { tiers, staged } } })
  const enforcement = world.enforcement!
  const { read } = enforcement.denials()
  expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, SYN)))).toBe(true)
  expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, ACK)))).toBe(true)
  const { denials } = enforcement.denials(read)
  expect(denials).toMatchObject([{ pod: 'tun', verdict: 'staged', origin: 7 }])
  expect(enforcement.hits([0, 7])).toEqual([1, 1])
  // Of a pod that nothing is enforced for, too.
  await inForce({ tun: { ingress: { tiers: [], staged } } })
  expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4001, 80, SYN)))).toBe(true)
  expect(enforcement.hits([7])).toEqual([2])
})

test('a rule that is logged tells of each new flow that it lets begin', async () => {
  const rules = [{ verdict: VERDICT.ALLOW, matches: [from(VETH)], origin: 3, log: true }]
  await inForce({ tun: { ingress: { tiers: [{ rules, otherwise: VERDICT.DENY, origin: 1 }] } } })
  const enforcement = world.enforcement!
  const { read } = enforcement.denials()
  for (const flags of [SYN, ACK, ACK]) {
    passes(VETH_POD, fromVeth(segment(veth, tun, 4000, 80, flags)))
  }
  expect(enforcement.denials(read).denials).toMatchObject([{ verdict: 'allowed', origin: 3 }])
})

test('ICMP by type: a ping that is allowed is answered, and an answer to nothing begins nothing', async () => {
  const echo = (src: string, dst: string, type: number, id = 9) =>
    icmp({ src, dst }, type, 0, Uint8Array.of(0, id, 0, 1, 1, 2, 3, 4))
  const only = (type: number) => allow({ protocol: 1, icmp: { type } })
  await inForce({ tun: { ingress: only(8) } })
  expect(passes(VETH_POD, fromVeth(echo(veth, tun, 13)))).toBe(false)
  expect(passes(VETH_POD, fromVeth(echo(veth, tun, 0)))).toBe(false)
  expect(passes(VETH_POD, fromVeth(echo(veth, tun, 8)))).toBe(true)
  expect(passes(TUN_POD, echo(tun, veth, 0))).toBe(true)
  // Judged again it still is the request that counts, whichever comes next.
  await inForce({ tun: { ingress: allow({ protocol: 1, icmp: { type: 8, code: 0 } }) } })
  expect(passes(TUN_POD, echo(tun, veth, 0))).toBe(true)
  await inForce({ tun: { ingress: only(0) } })
  expect(passes(VETH_POD, fromVeth(echo(veth, tun, 0, 10)))).toBe(true)
  expect(world.enforcement!.flows(9).map(flow => flow.sourcePort)).toEqual([9])
})

describe('an echo that is allowed opens nothing beside its reply', () => {
  const message = (src: string, dst: string, type: number, code: number, id: number) =>
    icmp({ src, dst }, type, code, Uint8Array.of(id >> 8, id & 255, 0, 1, 1, 2, 3, 4))

  test.each([9, 0xffff, 0x0800, 0xfffe])('identifier %i', async id => {
    const only = allow({ protocol: 1, icmp: { type: 8, code: 0 } })
    await inForce({ tun: { ingress: only }, veth: { ingress: NOTHING } })
    expect(passes(VETH_POD, fromVeth(message(veth, tun, 8, 0, id)))).toBe(true)
    for (const [type, code] of [
      [8, 1],
      [0, 0],
      [13, 0],
      [255, 255],
      [255, 254],
    ] as const) {
      const strange = message(veth, tun, type, code, id)
      expect(passes(VETH_POD, fromVeth(strange)), `${type}/${code}`).toBe(false)
    }
    expect(passes(TUN_POD, message(tun, veth, 8, 0, id))).toBe(false)
    expect(passes(TUN_POD, message(tun, veth, 0, 1, id))).toBe(false)
    expect(passes(TUN_POD, message(tun, veth, 0, 0, id))).toBe(true)
    const [flow, ...others] = world.enforcement!.flows(9)
    expect(flow).toMatchObject({ sourcePort: id, destinationPort: id, protocol: 1 })
    expect(others).toEqual([])
  })

  test('a kind that nothing answers goes one way', async () => {
    const only = allow({ protocol: 1, icmp: { type: 13 } })
    await inForce({ tun: { ingress: only }, veth: { ingress: NOTHING } })
    expect(passes(VETH_POD, fromVeth(message(veth, tun, 13, 0, 1)))).toBe(true)
    expect(passes(TUN_POD, message(tun, veth, 13, 0, 1))).toBe(false)
    expect(passes(TUN_POD, message(tun, veth, 14, 0, 1))).toBe(false)
  })
})

test('a checksum that a pod has written elsewhere changes no header that was judged', async () => {
  const [src, dst] = ['fd44:0:0:1::2', 'fd44:0:0:2::9']
  await inForce({ tun: { egress: allow({ protocol: 17, ports: { first: 80, last: 80 } }) } })
  const inner = udp({ src, dst, dport: 80 }, data).subarray(40)
  const bytes = ip({
    src,
    dst,
    proto: 60,
    payload: concat(Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0), inner),
  })
  expect(passes(TUN_POD, bytes)).toBe(true)
  for (const csumStart of [20, 24, 40, 44]) {
    expect(passes(TUN_POD, { bytes, partial: true, csumStart, csumOffset: 0 })).toBe(false)
  }
  expect(world.drops()).toEqual({ offload: 4 })
})

test('a pod may begin so many flows, and what others begin with it is not counted', async () => {
  await inForce({ tun: { ingress: allow({ protocol: 6 }) } })
  world.enforcement!.table.setQuota(VETH_POD, 3)
  for (let k = 0; k < 10; k++) {
    expect(passes(VETH_POD, fromVeth(segment(veth, tun, 4000 + k, 80, SYN)))).toBe(true)
  }
  expect(world.enforcement!.flows(99)).toHaveLength(3)
  for (let k = 0; k < 10; k++) {
    expect(passes(UNDERLAY, fromPeer(segment(far, tun, 4000 + k, 80, SYN)))).toBe(true)
  }
  expect(world.enforcement!.flows(99)).toHaveLength(13)
})
