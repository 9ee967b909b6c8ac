// Names in the path: what a pod asks a resolver for opens what the answer says, for that pod, in time, and nothing else.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PodIdentity, PodPolicy } from '../../../dataplane/control.ts'
import { regionAt } from '../../../dataplane/dns/memory.ts'
import {
  DNS_ADDRESSES_OF_NAME,
  DNS_GRACE_SECONDS,
  DNS_NAMES,
  DNS_QUESTION_SECONDS,
  DNS_QUESTIONS,
  FLOW_TIMEOUTS,
} from '../../../dataplane/limits.ts'
import { unlock } from '../../../dataplane/memory/mutex.ts'
import { GSO_UDP_L4 } from '../../../dataplane/packet/batch.ts'
import { Judge } from '../../../dataplane/policy/judge.ts'
import {
  type Match,
  OPEN,
  type Program,
  podIdentity,
  type Rule,
  VERDICT,
} from '../../../dataplane/policy-program.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import { Dice } from '../../cni/policy/worlds.ts'
import { A, AAAA, answer, CNAME, type DnsFields, pointer, question } from '../../harness/dns.ts'
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
import { concat, tcp, udp } from '../../harness/packets.ts'
import { fromPeer, fromVeth } from '../../packets/cases/frames.ts'

const TUN = podIdentity(1, 1)
const VETH = podIdentity(1, 2)
const FAR = podIdentity(2, 1)
const tun = '10.244.1.2'
const tun6 = 'fd44:0:0:1::2'
/** Resolvers: a pod of the node, one of another node, the world. */
const near = '10.244.1.3'
const near6 = 'fd44:0:0:1::3'
const far = '10.244.2.9'
const outside = '198.51.100.53'
const RESOLVERS = [near, near6, '10.244.2.0/28', outside]
/** Where names lead. */
const web = '198.51.100.7'
const web2 = '198.51.100.8'
const web6 = 'fd44:0:0:2::7'

const IDENTITIES: PodIdentity[] = [
  { address: tun, identity: TUN, vtep: VTEP },
  { address: near, identity: VETH, vtep: VTEP },
  { address: far, identity: FAR, vtep: PEER },
]
const allow = (...matches: Match[]): Rule => ({ verdict: VERDICT.ALLOW, matches, origin: 0 })
const program = (...rules: Rule[]): Program => ({
  tiers: [{ rules, otherwise: VERDICT.DENY, origin: 1 }],
})
const dns = allow(
  ...[17, 6].map(protocol => ({ protocol, ports: { first: 53, last: 53 } }) satisfies Match),
)
const SYN = 2
const ACK = 16
const FIN = 1

let now = 1e15
let world: TestEngine
beforeEach(async () => {
  now = 1e15
  world = testEngine({ policy: true, clock: () => now, resolvers: RESOLVERS })
  await inForce(program(dns, allow({ domain: 'example.org' }, { domain: '*.example.org' })))
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

const second = () => Math.floor(now / 1e9)
const pass = (seconds: number) => {
  now += seconds * 1e9
}

async function inForce(egress: Program, other = egress): Promise<void> {
  const policy = (identity: number, its: Program): PodPolicy => ({
    identity,
    ingress: OPEN,
    egress: its,
  })
  await world.setPolicy({
    identities: IDENTITIES,
    pods: new Map([
      ['tun', policy(TUN, egress)],
      ['veth', policy(VETH, other)],
    ]),
  })
}

const passes = (port: number, packet: Uint8Array | MemPacket): boolean =>
  world.send(port, packet).some(packets => packets.length > 0)

/** A datagram of a resolver's, by the port that it comes by. */
function fromResolver(src: string, packet: Uint8Array): [number, Uint8Array] {
  if (src === near || src === near6) return [VETH_POD, fromVeth(packet)]
  return src === far ? [UNDERLAY, fromPeer(packet)] : [HOST, packet]
}

interface Talk {
  resolver?: string
  /** Whose question it is, and to whom the answer goes. */
  pod?: string
  sport?: number
}

function ask(fields: DnsFields = {}, { resolver = near, pod = tun, sport = 4000 }: Talk = {}) {
  return passes(TUN_POD, udp({ src: pod, dst: resolver, sport, dport: 53 }, question(fields)))
}

function reply(
  fields: Parameters<typeof answer>[0],
  { resolver = near, pod = tun, sport = 4000 }: Talk = {},
) {
  const packet = udp({ src: resolver, dst: pod, sport: 53, dport: sport }, answer(fields))
  return passes(...fromResolver(resolver, packet))
}

/** Asks and is answered. */
function learn(fields: Parameters<typeof answer>[0], talk: Talk = {}): void {
  const { to: _, ttl: __, ...asked } = fields
  expect(ask(asked, talk)).toBe(true)
  expect(reply(fields, talk)).toBe(true)
}

/** What is out of date goes with the second look that finds it unused. */
async function age(): Promise<void> {
  for (let look = 0; look < 2; look++) await world.enforcement!.names!.age(second())
}

let sport = 10_000
const reaches = (dst: string, src = tun): boolean =>
  passes(TUN_POD, tcp({ src, dst, sport: sport++, dport: 443, flags: SYN }, new Uint8Array(0)))
const counts = () => world.enforcement!.names!.status()

describe('what is learned', () => {
  test.each([near, far, outside])(
    'an answer of %s opens its addresses, and closes in time',
    resolver => {
      expect(reaches(web)).toBe(false)
      learn({ to: [web], ttl: 60 }, { resolver })
      expect(reaches(web)).toBe(true)
      expect(reaches(web2)).toBe(false)
      pass(60 + DNS_GRACE_SECONDS - 1)
      expect(reaches(web)).toBe(true)
      pass(1)
      expect(reaches(web)).toBe(false)
      expect(world.drops()).toEqual({ 'policy-egress': 3 })
    },
  )

  test('over IPv6, and of IPv6', () => {
    const talk = { resolver: near6, pod: tun6 }
    expect(reaches(web6, tun6)).toBe(false)
    learn({ type: AAAA, to: [web6] }, talk)
    expect(reaches(web6, tun6)).toBe(true)
    learn({ to: [web] }, talk)
    expect(reaches(web)).toBe(true)
  })

  test('a wildcard, in any case, along CNAMEs; another name does not', () => {
    const to = [
      { name: 'Www.Example.ORG', type: CNAME, data: 'edge.example.net' },
      { name: 'edge.example.net', type: A, data: web },
    ]
    learn({ name: 'Www.Example.ORG', to })
    expect(reaches(web)).toBe(true)
    learn({ name: 'edge.example.net', to: [web2] })
    expect(reaches(web2)).toBe(false)
    expect(world.enforcement!.names!.list(second())).toEqual([
      { pod: 'tun', name: 'www.example.org', address: web, seconds: 60 + DNS_GRACE_SECONDS },
      { pod: 'tun', name: 'edge.example.net', address: web2, seconds: 60 + DNS_GRACE_SECONDS },
    ])
  })

  test('a name that was asked before its rule was there is found by the rule', async () => {
    learn({ name: 'other.org', to: [web] })
    expect(reaches(web)).toBe(false)
    await inForce(program(dns, allow({ domain: 'other.org' })))
    expect(reaches(web)).toBe(true)
  })

  test('a rule that stands before says no', async () => {
    const no: Rule = {
      verdict: VERDICT.DENY,
      matches: [{ network: { family: 4, words: Uint32Array.of(0), prefix: 0 }, protocol: 6 }],
      origin: 5,
    }
    await inForce(program(dns, no, allow({ domain: 'example.org' })))
    learn({ to: [web] })
    expect(reaches(web)).toBe(false)
    await inForce(program(dns, allow({ domain: 'example.org' }), no))
    expect(reaches(web)).toBe(true)
  })
})

describe('what is not learned', () => {
  test('an answer that nobody has asked for, or not so', () => {
    // Each with ids of its own: what was asked stays asked.
    const wrong: [string, () => unknown][] = [
      ['no question', () => reply({ id: 1, to: [web] })],
      ['another id', () => ask({ id: 2 }) && reply({ id: 102, to: [web] })],
      [
        'another name',
        () => {
          ask({ id: 3 })
          const to = [{ name: pointer(12), type: A, data: web }]
          reply({ id: 3, name: 'www.example.org', to })
        },
      ],
      ['another case', () => ask({ id: 4, name: 'eXample.org' }) && reply({ id: 4, to: [web] })],
      ['another type', () => ask({ id: 5 }) && reply({ id: 5, type: AAAA, to: [web6] })],
      [
        'another port',
        () => {
          ask({ id: 6 }, { sport: 4000 })
          ask({ id: 106 }, { sport: 4001 })
          reply({ id: 6, to: [web] }, { sport: 4001 })
        },
      ],
      [
        'another resolver',
        () => {
          ask({ id: 7 }, { resolver: near })
          ask({ id: 107 }, { resolver: outside })
          reply({ id: 7, to: [web] }, { resolver: outside })
        },
      ],
      [
        'too late',
        () => {
          ask({ id: 8 })
          pass(DNS_QUESTION_SECONDS + 1)
          reply({ id: 8, to: [web] })
        },
      ],
    ]
    for (const [why, talk] of wrong) {
      talk()
      expect(reaches(web), why).toBe(false)
    }
    // Where nothing was asked policy has denied the answer.
    expect(counts()).toMatchObject({ addresses: 0, learned: 0, unasked: wrong.length - 1 })
  })

  test('the second answer to a question', () => {
    learn({ to: [web] })
    expect(reply({ to: [web2] })).toBe(true)
    expect(reaches(web2)).toBe(false)
  })

  test('what a pod that is no resolver says, and what claims to be one of another node', async () => {
    const far2 = '10.244.2.200'
    expect(ask({}, { resolver: far2 })).toBe(true)
    expect(
      passes(
        UNDERLAY,
        fromPeer(udp({ src: far2, dst: tun, sport: 53, dport: 4000 }, answer({ to: [web] }))),
      ),
    ).toBe(true)
    expect(reaches(web)).toBe(false)
    await world.setPolicy({
      identities: [...IDENTITIES.slice(0, 2), { address: far, identity: FAR, vtep: '192.0.2.77' }],
      pods: new Map(),
    })
    expect(ask({}, { resolver: far })).toBe(true)
    expect(reply({ to: [web] }, { resolver: far })).toBe(true)
    expect(reaches(web)).toBe(false)
    // By the node: nobody there is a pod of another node.
    expect(ask({}, { resolver: far })).toBe(true)
    expect(
      passes(HOST, udp({ src: far, dst: tun, sport: 53, dport: 4000 }, answer({ to: [web] }))),
    ).toBe(true)
    expect(reaches(web)).toBe(false)
    expect(counts().learned).toBe(0)
  })

  test('what another pod has asked', () => {
    learn({ to: [web] })
    const theirs = tcp({ src: near, dst: web, sport: 1, dport: 443, flags: SYN }, new Uint8Array(0))
    expect(passes(VETH_POD, fromVeth(theirs))).toBe(false)
  })

  test('a fragment, and several datagrams in one; they pass', () => {
    const flow = { dst: tun, sport: 53, dport: 4000 }
    ask()
    const packet = udp({ ...flow, src: near, fragment: 0x2000 }, answer({ to: [web] }))
    expect(passes(VETH_POD, fromVeth(packet))).toBe(true)
    ask({}, { resolver: outside })
    const bytes = udp({ ...flow, src: outside, partial: true }, answer({ to: [web] }))
    const whole = { bytes, partial: true, gsoType: GSO_UDP_L4, gsoSize: 20 }
    expect(passes(HOST, whole)).toBe(true)
    expect(reaches(web)).toBe(false)
    expect(counts().learned).toBe(0)
  })

  test('garbage, which is counted; it passes', () => {
    ask()
    const packet = udp(
      { src: near, dst: tun, sport: 53, dport: 4000 },
      answer({ to: [web] }).subarray(0, 40),
    )
    expect(passes(VETH_POD, fromVeth(packet))).toBe(true)
    expect(counts()).toMatchObject({ learned: 0, malformed: 1 })
  })
})

test('mutations of answers: each packet passes or is dropped whole, and nothing opens what was never said', () => {
  const dice = new Dice(17)
  const to = [
    { name: pointer(12), type: CNAME, data: 'edge.example.net' },
    { name: 'edge.example.net', type: A, data: web },
  ]
  for (let round = 0; round < 1500; round++) {
    ask({ id: round })
    const bytes = answer({ id: round, to })
    for (let n = dice.below(3); n > 0; n--) bytes[dice.below(bytes.length)] = dice.below(256)
    const cut = dice.chance(0.2) ? bytes.subarray(0, dice.below(bytes.length)) : bytes
    world.send(VETH_POD, fromVeth(udp({ src: near, dst: tun, sport: 53, dport: 4000 }, cut)))
    pass(1)
  }
  const { learned, malformed, unasked } = counts()
  expect([learned > 100, malformed > 100, unasked > 10]).toEqual([true, true, true])
  // What a changed byte of the address made of it is an answer like another.
  const names = world.enforcement!.names!.list(second())
  expect(names.every(({ name }) => name === 'example.org')).toBe(true)
  expect(reaches(web)).toBe(true)
})

describe('limits', () => {
  test('names of a pod', async () => {
    for (let k = 0; k <= DNS_NAMES; k++) learn({ name: `n${k}.example.org`, to: [web] })
    learn({ to: [web2] })
    expect(reaches(web2)).toBe(false)
    expect(counts().refused).toMatchObject({ [`${DNS_NAMES} names of a pod`]: 2 })
    // Room comes with time.
    pass(60 + DNS_GRACE_SECONDS)
    await age()
    expect(counts().addresses).toBe(0)
    learn({ to: [web2] })
    expect(reaches(web2)).toBe(true)
  })

  test('a name that no rule means makes room for one that a rule does', () => {
    for (let k = 0; k < DNS_NAMES; k++) learn({ name: `n${k}.other.net`, to: [web, web2] })
    learn({ name: 'one.other.net', to: [web] })
    const full = { [`${DNS_NAMES} names of a pod`]: 1 }
    expect(counts()).toMatchObject({ refused: full, addresses: 2 * DNS_NAMES })
    learn({ to: [web2] })
    expect([reaches(web), reaches(web2)]).toEqual([false, true])
    expect(counts()).toMatchObject({ refused: full, addresses: 2 * DNS_NAMES - 1 })
  })

  test('addresses of a name', () => {
    for (let k = 0; k < 4; k++) {
      const address = (n: number) => `198.51.100.${k * 50 + n}`
      learn({
        to: Array.from({ length: 50 }, (_, n) => ({
          name: pointer(12),
          type: A,
          data: address(n),
        })),
      })
    }
    expect(reaches(`198.51.100.${DNS_ADDRESSES_OF_NAME - 1}`)).toBe(true)
    expect(reaches(`198.51.100.${DNS_ADDRESSES_OF_NAME}`)).toBe(false)
    expect(counts().refused).toMatchObject({
      [`${DNS_ADDRESSES_OF_NAME} addresses of a name`]: 200 - DNS_ADDRESSES_OF_NAME,
    })
  })

  test('questions of a pod: the oldest goes', () => {
    for (let k = 0; k <= DNS_QUESTIONS; k++) {
      ask({ id: k })
      pass(k === 0 ? 1 : 0)
    }
    reply({ id: 0, to: [web] })
    expect(reaches(web)).toBe(false)
    reply({ id: 1, to: [web] })
    expect(reaches(web)).toBe(true)
  })

  test('an answer that others hold up is dropped: the pod must not know it before it counts', () => {
    const { regions } = world.enforcement!.memory.dns!
    ask()
    regions[regionAt(TUN_POD)] = 1
    expect(reply({ to: [web] })).toBe(false)
    expect(ask({ id: 8 })).toBe(false)
    expect(world.drops()).toEqual({ 'dns-busy': 2 })
    unlock(regions, regionAt(TUN_POD))
    expect(reply({ to: [web] })).toBe(true)
    expect(reaches(web)).toBe(true)
  })
})

describe('flows', () => {
  const segment = (flags: number) =>
    passes(TUN_POD, tcp({ src: tun, dst: web, sport: 5000, dport: 443, flags }, new Uint8Array(0)))

  test('go on beyond the time of their address, through changes of policy, and no new one begins', async () => {
    learn({ to: [web], ttl: 5 })
    expect(segment(SYN)).toBe(true)
    expect(
      passes(
        HOST,
        tcp({ src: web, dst: tun, sport: 443, dport: 5000, flags: SYN | ACK }, new Uint8Array(0)),
      ),
    ).toBe(true)
    pass(5 + DNS_GRACE_SECONDS)
    await age()
    await inForce(program(dns, allow({ domain: '*.example.org' }, { domain: 'example.org' })))
    expect(segment(ACK)).toBe(true)
    expect(reaches(web)).toBe(false)
    // A rule that goes ends them.
    await inForce(program(dns, allow({ domain: '*.example.org' })))
    expect(segment(ACK)).toBe(false)
  })

  test('an address goes when the last flow has', async () => {
    learn({ to: [web], ttl: 5 })
    expect(segment(SYN)).toBe(true)
    expect(segment(FIN | ACK)).toBe(true)
    pass(5 + DNS_GRACE_SECONDS)
    await age()
    expect(counts().addresses).toBe(1)
    pass(FLOW_TIMEOUTS.closing + 1)
    world.engine.judge!.sweep(now)
    await world.enforcement!.names!.age(second())
    expect(counts().addresses).toBe(1)
    await age()
    expect(counts().addresses).toBe(0)
  })

  test('what an earlier engine has learned is put back with its time', () => {
    const names = world.enforcement!.names!
    const of = { name: 'www.example.org', seconds: 20 }
    const known = [
      { ...of, address: web },
      { ...of, address: web6 },
      { ...of, name: 'a\\.b.example.org', address: web2 },
    ]
    names.enter(TUN_POD, known, second())
    expect([reaches(web), reaches(web6, tun6), reaches(web2)]).toEqual([true, true, false])
    expect(names.list(second())).toEqual(known.slice(0, 2).map(each => ({ pod: 'tun', ...each })))
    pass(20)
    expect(reaches(web)).toBe(false)
  })

  test('a port that is another pod’s has learned nothing', async () => {
    learn({ to: [web] })
    world.enforcement!.names!.enter(TUN_POD)
    expect(reaches(web)).toBe(false)
    expect(counts().addresses).toBe(0)
  })
})

describe('over TCP', () => {
  const framed = (message: Uint8Array) =>
    concat(Uint8Array.from([message.length >> 8, message.length & 255]), message)
  const up = (seq: number, flags: number, data: Uint8Array = new Uint8Array(0)) =>
    passes(TUN_POD, tcp({ src: tun, dst: near, sport: 4000, dport: 53, seq, flags }, data))
  const down = (seq: number, flags: number, data: Uint8Array = new Uint8Array(0)) =>
    passes(
      VETH_POD,
      fromVeth(tcp({ src: near, dst: tun, sport: 53, dport: 4000, seq, flags }, data)),
    )
  /** Both begin just before their numbers go round. */
  const UP = 0xffff_fff0
  const DOWN = 0xffff_ffff
  beforeEach(() => {
    expect(up(UP, SYN)).toBe(true)
    expect(down(DOWN, SYN | ACK)).toBe(true)
  })
  const past = (start: number, bytes = 0) => (start + 1 + bytes) >>> 0

  test('a question and an answer, each in one segment', () => {
    up(past(UP), ACK, framed(question({})))
    down(past(DOWN), ACK, framed(answer({ to: [web] })))
    expect(reaches(web)).toBe(true)
  })

  test('in pieces of any size, some of them twice', () => {
    const asked = framed(question({}))
    const said = framed(answer({ to: [web] }))
    for (const size of [1, 2, 3, 7]) {
      for (let k = 0; k < asked.length; k += size) up(past(UP, k), ACK, asked.subarray(k, k + size))
      for (let k = 0; k < said.length; k += size) {
        expect(reaches(web)).toBe(false)
        down(past(DOWN, k), ACK, said.subarray(k, k + size))
        // Again, with what lies before it.
        const from = Math.max(0, k - 1)
        down(past(DOWN, from), ACK, said.subarray(from, k + size))
      }
      expect(reaches(web)).toBe(true)
      world.enforcement!.names!.enter(TUN_POD)
      up(UP, SYN)
      down(DOWN, SYN | ACK)
    }
  })

  test('several in one segment, and one that ends in the next', () => {
    const questions = concat(framed(question({ id: 1 })), framed(question({ id: 2 })))
    up(past(UP), ACK, questions)
    const said = concat(framed(answer({ id: 2, to: [web] })), framed(answer({ id: 1, to: [web2] })))
    down(past(DOWN), ACK, said.subarray(0, said.length - 3))
    expect([reaches(web), reaches(web2)]).toEqual([true, false])
    down(past(DOWN, said.length - 3), ACK, said.subarray(said.length - 3))
    expect(reaches(web2)).toBe(true)
  })

  test('what has a gap is not followed, nor what was never begun; it passes', () => {
    up(past(UP), ACK, framed(question({})))
    const said = framed(answer({ to: [web] }))
    expect(down(past(DOWN, 5), ACK, said.subarray(5))).toBe(true)
    expect(down(past(DOWN), ACK, said)).toBe(true)
    expect(reaches(web)).toBe(false)
    expect(counts().unfollowed).toBe(2)
  })

  test('a message that is too long is passed over, and the next one read', () => {
    up(past(UP), ACK, framed(question({})))
    const long = framed(new Uint8Array(6000))
    const said = concat(long, framed(answer({ to: [web] })))
    for (let k = 0; k < said.length; k += 1000) {
      down(past(DOWN, k), ACK, said.subarray(k, k + 1000))
    }
    expect(reaches(web)).toBe(true)
  })

  test('one that others hold up is dropped, and read when it comes again', () => {
    up(past(UP), ACK, framed(question({})))
    const { regions } = world.enforcement!.memory.dns!
    const said = framed(answer({ to: [web] }))
    regions[regionAt(TUN_POD)] = 1
    expect(down(past(DOWN), ACK, said)).toBe(false)
    unlock(regions, regionAt(TUN_POD))
    expect(down(past(DOWN), ACK, said)).toBe(true)
    expect(reaches(web)).toBe(true)
  })

  test('a stream that comes to another worker is followed there', () => {
    up(past(UP), ACK, framed(question({})))
    const said = framed(answer({ to: [web] }))
    down(past(DOWN), ACK, said.subarray(0, 9))
    world.engine.judge = new Judge(world.enforcement!.memory, 1)
    down(past(DOWN, 9), ACK, said.subarray(9))
    expect(reaches(web)).toBe(true)
  })
})

test('without resolvers nothing is learned', async () => {
  world = testEngine({ policy: true, clock: () => now })
  await inForce(program(dns, allow({ domain: 'example.org' })))
  learn({ to: [web] })
  expect(reaches(web)).toBe(false)
  expect(world.enforcement!.names).toBeUndefined()
})
