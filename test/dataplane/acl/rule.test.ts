/** Which rules are taken, and what one of them matches. */
import { describe, expect, test } from 'vitest'
import { type AclRule, MAX_PRIORITY, MAX_RULE_ID } from '../../../dataplane/acl/acl.ts'
import {
  checkLimits,
  checkRule,
  flatten,
  idOf,
  matches,
  NO_RANK,
  rankOf,
  ruleBook,
} from '../../../dataplane/acl/rule.ts'

const base = { id: 7, priority: 1 }
const v4 = { address: [0x0a00_0000], prefix: 8 }
const v6 = { address: [0xfd00_0000, 0, 0, 0], prefix: 8 }

const BAD: [string, 4 | 6, unknown, RegExp][] = [
  ['id 0', 4, { id: 0, priority: 0 }, /^rule 0: id 0 is not in 1\.\.65535 \(MAX_RULE_ID\)$/],
  ['id above the last', 4, { id: 65_536, priority: 0 }, /MAX_RULE_ID/],
  ['id with a fraction', 4, { id: 1.5, priority: 0 }, /^rule 1\.5: id/],
  ['negative priority', 4, { id: 7, priority: -1 }, /^rule 7: priority -1 is not in 0\.\.65535/],
  ['priority above the last', 4, { id: 7, priority: 65_536 }, /MAX_PRIORITY/],
  ['no priority', 4, { id: 7 }, /^rule 7: priority undefined/],
  [
    'source of the other family',
    4,
    { ...base, source: v6 },
    /^rule 7: source has 4 words: an IPv4/,
  ],
  [
    'destination of the other family',
    6,
    { ...base, destination: v4 },
    /^rule 7: destination has 1 words/,
  ],
  [
    'a word of 33 bits',
    4,
    { ...base, source: { address: [2 ** 32], prefix: 32 } },
    /^rule 7: source word 4294967296/,
  ],
  [
    'a negative word',
    4,
    { ...base, source: { address: [-1], prefix: 32 } },
    /^rule 7: source word -1/,
  ],
  [
    'prefix too long',
    4,
    { ...base, source: { ...v4, prefix: 33 } },
    /^rule 7: source prefix length 33 is not in 0\.\.32/,
  ],
  [
    'IPv6 prefix too long',
    6,
    { ...base, destination: { ...v6, prefix: 129 } },
    /^rule 7: destination prefix length 129 is not in 0\.\.128/,
  ],
  [
    'bits behind the prefix',
    4,
    { ...base, source: { ...v4, prefix: 6 } },
    /^rule 7: source 10\.0\.0\.0\/6 has bits behind/,
  ],
  [
    'IPv6 bits behind the prefix',
    6,
    { ...base, source: { ...v6, prefix: 7 } },
    /^rule 7: source fd00::\/7 has bits behind/,
  ],
  ['protocol 256', 4, { ...base, protocol: 256 }, /^rule 7: protocol 256 is not in 0\.\.255/],
  [
    'ports without a protocol',
    4,
    { ...base, sourcePorts: { first: 1, last: 2 } },
    /^rule 7: sourcePorts needs a protocol with ports .*undefined/,
  ],
  [
    'ports of ICMP',
    4,
    { ...base, protocol: 1, destinationPorts: { first: 1, last: 2 } },
    /^rule 7: destinationPorts needs/,
  ],
  [
    'a backward range',
    4,
    { ...base, protocol: 6, sourcePorts: { first: 2, last: 1 } },
    /^rule 7: sourcePorts 2\.\.1 is backwards/,
  ],
  [
    'a port above the last',
    4,
    { ...base, protocol: 6, destinationPorts: { first: 2, last: 65_536 } },
    /^rule 7: destinationPorts last 65536/,
  ],
  [
    'a port that is no number',
    4,
    { ...base, protocol: 6, destinationPorts: { first: Number.NaN, last: 2 } },
    /^rule 7: destinationPorts first NaN/,
  ],
  [
    'an ICMP type without protocol',
    4,
    { ...base, icmpType: 8 },
    /^rule 7: icmpType needs protocol 1, not undefined/,
  ],
  [
    'an ICMPv6 protocol in IPv4',
    4,
    { ...base, protocol: 58, icmpType: 8 },
    /^rule 7: icmpType needs protocol 1, not 58/,
  ],
  [
    'a protocol without types in IPv6',
    6,
    { ...base, protocol: 6, icmpType: 8 },
    /^rule 7: icmpType needs protocol 58 or 1, not 6/,
  ],
  ['an ICMP type of 9 bits', 4, { ...base, protocol: 1, icmpType: 256 }, /^rule 7: icmpType 256/],
  [
    'an ICMP code without type',
    4,
    { ...base, protocol: 1, icmpCode: 0 },
    /^rule 7: icmpCode needs an icmpType/,
  ],
  [
    'an ICMP code of 9 bits',
    4,
    { ...base, protocol: 1, icmpType: 3, icmpCode: 256 },
    /^rule 7: icmpCode 256/,
  ],
]

test.each(BAD)('refused: %s', (_, family, rule, message) => {
  const book = ruleBook(family, { rules: 4 })
  expect(() => checkRule(family, rule as AclRule)).toThrow(RangeError)
  expect(() => book.insert(rule as AclRule)).toThrow(message)
  expect([book.size, ...book.rules(), ...book.flat()]).toEqual([0])
})

describe('taken', () => {
  test.each([6, 17, 33, 132, 136])('ports of protocol %i', protocol => {
    const ports = { first: 0, last: 0xffff }
    checkRule(4, { ...base, protocol, sourcePorts: ports, destinationPorts: ports })
    checkRule(6, { ...base, protocol, sourcePorts: ports, destinationPorts: ports })
  })

  test('the ends of all ranges', () => {
    checkRule(4, { id: 1, priority: 0, source: { address: [0], prefix: 0 } })
    checkRule(6, {
      id: MAX_RULE_ID,
      priority: MAX_PRIORITY,
      source: { address: [1, 2, 3, 4], prefix: 128 },
    })
    checkRule(4, { ...base, protocol: 1, icmpType: 0, icmpCode: 255 })
    checkRule(6, { ...base, protocol: 58, icmpType: 255 })
    checkLimits({ rules: MAX_RULE_ID })
  })
})

test('ranks order by priority, then by id; none is the last', () => {
  const ordered = [
    rankOf(0, 1),
    rankOf(0, 2),
    rankOf(0, MAX_RULE_ID),
    rankOf(1, 1),
    rankOf(0x8000, 1),
    rankOf(MAX_PRIORITY, MAX_RULE_ID),
    NO_RANK,
  ]
  expect([...ordered].sort((a, b) => a - b)).toEqual(ordered)
  expect(new Set(ordered).size).toBe(ordered.length)
  expect(ordered.map(idOf)).toEqual([1, 2, MAX_RULE_ID, 1, 1, MAX_RULE_ID, 0])
  expect(ordered.every(rank => rank === rank >>> 0)).toBe(true)
})

test('the flat form', () => {
  const tcp = flatten(4, {
    ...base,
    source: v4,
    protocol: 6,
    destinationPorts: { first: 80, last: 443 },
  })
  expect(tcp).toMatchObject({ sourceLength: 8, destinationLength: 0, protocol: 6 })
  expect([tcp.sourceFirst, tcp.sourceLast, tcp.destinationFirst, tcp.destinationLast]).toEqual([
    0, 0xffff, 80, 443,
  ])
  const echo = flatten(6, { ...base, protocol: 58, icmpType: 128, icmpCode: 3 })
  expect([echo.sourceFirst, echo.sourceLast, echo.destinationFirst, echo.destinationLast]).toEqual([
    128, 128, 3, 3,
  ])
  expect([echo.source.length, flatten(4, base).protocol]).toEqual([4, -1])
  expect(matches(tcp, [0x0aff_ffff, 9, 443, 6])).toBe(true)
  expect(matches(tcp, [0, 0x0b00_0000, 9, 443, 6], 1)).toBe(false)
  expect(matches(tcp, [0x0aff_ffff, 9, 444, 6])).toBe(false)
  expect(matches(tcp, [0x0aff_ffff, 9, 443, 17])).toBe(false)
})

test('the book counts, replaces and refuses beyond its limit', () => {
  const book = ruleBook(4, { rules: 1 })
  expect(book.insert(base).replaced).toBeUndefined()
  const { flat, replaced } = book.insert({ ...base, priority: 9 })
  expect([flat.rank, replaced?.rank]).toEqual([rankOf(9, 7), rankOf(1, 7)])
  expect(() => book.insert({ id: 8, priority: 1 })).toThrow(
    'rule 8: no room, the ACL has its 1 rules',
  )
  expect([book.size, book.get(7), book.get(8)]).toEqual([1, flat, undefined])
  expect([book.remove(7), book.remove(7), book.size]).toEqual([flat, undefined, 0])
})
