import { describe, expect, test } from 'vitest'
import { aclByName, aclNames } from '../../../dataplane/acl/index.ts'
import { type Cidr, parseCidr } from '../../../dataplane/addresses.ts'
import { domainBytes } from '../../../dataplane/dns/names.ts'
import { PatternReader, PatternWriter, patternMemory } from '../../../dataplane/dns/patterns.ts'
import { MAX_PATTERNS } from '../../../dataplane/limits.ts'
import { sharedPages } from '../../../dataplane/memory/pages.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import {
  IPV4_PEER,
  PolicyReader,
  policyFacts,
  policyTables,
  Questions,
} from '../../../dataplane/policy/tables.ts'
import {
  EVERY_POD,
  IDENTITY,
  type Match,
  type Program,
  podIdentity,
  type Question,
  type Tier,
  VERDICT,
} from '../../../dataplane/policy-program.ts'
import { Dice } from '../../cni/policy/worlds.ts'

const LIMITS = { matches: 8192 }
const IDENTITIES = [
  IDENTITY.WORLD,
  IDENTITY.HOST,
  ...[1, 2].flatMap(n => [1, 2, 3].map(kind => podIdentity(n, kind))),
]
const NETWORKS = [
  ...['0.0.0.0/0', '10.0.0.0/8', '10.1.2.3/32', '::/0', '8000::/1', 'f000::/4', 'fd00::/8'],
  ...['ff00::/8', 'fd00::1/128', '::/96'],
].map(parseCidr)
const ADDRESSES = [
  ...['10.1.2.3/32', '10.9.9.9/32', '192.0.2.1/32', 'fd00::1/128', '2001:db8::1/128'],
  ...['fe00::1/128', '::1/128', '::ffff:10.1.2.3/128'],
].map(parseCidr)
const PORTS = [0, 1, 79, 80, 81, 443, 65_535]

const DOMAINS = ['a.org', '*.org', '*.a.org', 'b.a.org', '*.net']
const NAMES = ['a.org', 'b.a.org', 'c.b.a.org', 'd.net', 'e.com']

function randomMatch(dice: Dice): Match {
  const protocol = dice.chance(0.6) ? { protocol: dice.one([6, 17, 132, 1, 58]) } : {}
  const ported =
    'protocol' in protocol &&
    protocol.protocol !== 1 &&
    protocol.protocol !== 58 &&
    dice.chance(0.7)
  const icmp = 'protocol' in protocol && [1, 58].includes(protocol.protocol) && dice.chance(0.7)
  const first = dice.one(PORTS)
  const namespace = podIdentity(dice.one([1, 2]), 0)
  return {
    ...protocol,
    ...(dice.chance(0.3)
      ? { domain: dice.one(DOMAINS) }
      : dice.chance(0.6)
        ? {
            peer: dice.one([
              EVERY_POD,
              { value: namespace, bits: 16 },
              { value: dice.one(IDENTITIES), bits: 32 },
            ]),
          }
        : {}),
    ...(dice.chance(0.4) ? { network: dice.one(NETWORKS) } : {}),
    ...(ported ? { ports: { first, last: Math.min(65_535, first + dice.below(500)) } } : {}),
    ...(icmp ? { icmp: { type: dice.one([0, 8]), ...(dice.chance(0.5) ? { code: 1 } : {}) } } : {}),
  }
}

function randomProgram(dice: Dice): Program {
  const staged = dice.chance(0.3) ? { staged: randomTiers(dice) } : {}
  return { tiers: randomTiers(dice), ...staged }
}

function randomTiers(dice: Dice): Tier[] {
  return dice.some(3, () => ({
    rules: dice.some(8, () => ({
      verdict: dice.one([VERDICT.ALLOW, VERDICT.DENY, VERDICT.PASS]),
      matches: dice.some(3, () => randomMatch(dice), 1),
      origin: dice.below(1000),
    })),
    otherwise: dice.one([VERDICT.PASS, VERDICT.DENY]),
    origin: dice.below(1000),
  }))
}

function named(...domains: string[]): Program {
  const matches = domains.map(domain => ({ domain }))
  const rules = [{ verdict: VERDICT.ALLOW, matches, origin: 1 }]
  return { tiers: [{ rules, otherwise: VERDICT.DENY, origin: 2 }] }
}

function peerWords({ family, words }: Cidr): number[] {
  return family === 6 ? [...words] : [IPV4_PEER, 0, 0, words[0]!]
}

describe.each(aclNames(6))('%s', name => {
  const acl = aclByName(name, 6)
  const room = () => ({
    facts: policyFacts(LIMITS),
    memory: sharedPages(acl.bytes({ rules: LIMITS.matches })),
  })
  const made = () => {
    const { facts, memory } = room()
    const patterns = patternMemory()
    const tables = policyTables(acl, memory, LIMITS, facts, new PatternWriter(patterns))
    const reader = new PolicyReader(acl.reader(memory, { rules: LIMITS.matches }), facts, 256)
    return { tables, reader, patterns: new PatternReader(patterns, 32) }
  }
  const publish = async (tables: ReturnType<typeof made>['tables']) => {
    await tables.commit()
    tables.quiesced()
  }

  test('random programs that come and go answer as they do when read rule by rule', async () => {
    const { tables, reader, patterns } = made()
    const dice = new Dice(7)
    const q = new Questions(256)
    const programs: { program: Program; number: number }[] = []
    for (let round = 0; round < 12; round++) {
      for (let n = 0; n < 4; n++) {
        const program = randomProgram(dice)
        programs.push({ program, number: tables.add(program) })
      }
      if (programs.length > 20) {
        for (const { number } of programs.splice(dice.below(10), 8)) tables.remove(number)
      }
      await publish(tables)
      for (let batch = 0; batch < 6; batch++) {
        const asked = Array.from({ length: 256 }, () => {
          const address = dice.one(ADDRESSES)
          const protocol = dice.one([6, 17, 132, 1, 58, 0])
          const icmp = protocol === 1 || protocol === 58
          return {
            ...dice.one(programs),
            address,
            question: {
              identity: dice.one(IDENTITIES),
              address: address.words,
              protocol,
              port: icmp ? dice.one([0, 1, 8 << 16, (8 << 16) | 1]) : dice.one(PORTS),
              names: dice.some(2, () => dice.one(NAMES)),
            } satisfies Question,
          }
        })
        for (const [i, { number, address, question }] of asked.entries()) {
          q.programs[i] = number
          q.identities[i] = question.identity
          q.addresses.set(peerWords(address), i * 4)
          q.protocols[i] = question.protocol
          q.ports[i] = question.port
          patterns.clear()
          for (const name of question.names) {
            const { bytes } = domainBytes(name)
            patterns.match(bytes, 0, bytes.length)
          }
          q.setPatterns(i, patterns)
        }
        reader.judge(q, 256)
        const answers = asked.map((_, i) => ({ verdict: q.verdicts[i], origin: q.origins[i] }))
        expect(answers).toEqual(asked.map(({ program, question }) => evaluate(program, question)))
        const tried = asked.map((_, i) => ({
          verdict: q.stagedVerdicts[i],
          origin: q.stagedOrigins[i],
        }))
        expect(tried).toEqual(
          asked.map(({ program: { tiers, staged }, question }) =>
            evaluate({ tiers: staged ?? tiers }, question),
          ),
        )
      }
    }
  })

  test('rules about names match nothing where no name is learned', async () => {
    const { facts, memory } = room()
    const tables = policyTables(acl, memory, LIMITS, facts)
    const number = tables.add(named('a.org'))
    await publish(tables)
    const reader = new PolicyReader(acl.reader(memory, { rules: LIMITS.matches }), facts, 256)
    expect(reader.asksNames(number)).toBe(false)
    const q = new Questions(1)
    q.programs[0] = number
    reader.judge(q, 1)
    expect(q.verdicts[0]).toBe(VERDICT.DENY)
  })

  test('a pattern too many is refused by the limit, and nothing is left of its program', () => {
    const { tables } = made()
    const domains = Array.from({ length: MAX_PATTERNS }, (_, k) => `n${k}.org`)
    tables.add(named(...domains))
    const { size } = tables
    expect(() => tables.add(named('n0.org', 'one.more'))).toThrow(/MAX_PATTERNS/)
    expect(tables.size).toBe(size)
  })

  test('equal programs share their rules until the last user is gone', async () => {
    const { tables } = made()
    const program = (): Program => ({
      tiers: [
        {
          rules: [{ verdict: VERDICT.ALLOW, matches: [{ network: NETWORKS[0]! }], origin: 1 }],
          otherwise: VERDICT.DENY,
          origin: 2,
        },
      ],
    })
    const number = tables.add(program())
    expect(tables.add(program())).toBe(number)
    expect(tables.size).toBe(1)
    tables.remove(number)
    expect(tables.size).toBe(1)
    tables.remove(number)
    expect(tables.size).toBe(0)
    await publish(tables)
    expect(() => tables.remove(number)).toThrow(/it is not there/)
  })

  test('tiers without a rule take room, too, and are refused when there is none', () => {
    const { tables } = made()
    const empty = (origin: number): Program => ({
      tiers: [{ rules: [], otherwise: VERDICT.DENY, origin }],
    })
    const numbers = Array.from({ length: LIMITS.matches }, (_, origin) => tables.add(empty(origin)))
    expect(new Set(numbers).size).toBe(LIMITS.matches)
    expect(() => tables.add(empty(-1))).toThrow(
      /1 more tiers are needed, 0 of 8192 are free \(policy matches\)/,
    )
    tables.remove(numbers[7]!)
    expect(tables.add(empty(-1))).toBe(numbers[7])
  })

  test('a program beyond the limit is refused by its name, and nothing is left of it', async () => {
    const { tables } = made()
    const rule = (port: number) => ({
      verdict: VERDICT.ALLOW,
      matches: [{ protocol: 6, ports: { first: port, last: port } }],
      origin: port,
    })
    const rules = Array.from({ length: LIMITS.matches }, (_, port) => rule(port))
    const tier = { otherwise: VERDICT.DENY, origin: 0 } as const
    const full = tables.add({ tiers: [{ ...tier, rules }] })
    expect(() => tables.add({ tiers: [{ ...tier, rules: [rule(1)] }] })).toThrow(
      /1 more matches are needed, 0 of 8192 are free \(policy matches\)/,
    )
    expect(tables.size).toBe(LIMITS.matches)
    tables.remove(full)
    expect(tables.size).toBe(0)
    expect(tables.add({ tiers: [{ ...tier, rules: [rule(1)] }] })).toBeGreaterThan(0)
  })
})
