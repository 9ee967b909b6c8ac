/** Traces of headers from files, and seeded ones drawn from rules. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { dataPath } from '../../../bench/data/files.ts'
import { flowsOf, headersOf, matched, readHeaders } from '../../../bench/data/headers.ts'
import { inIpv6, readRules } from '../../../bench/data/rules.ts'
import { type AclRule, HEADER_WORDS } from '../../../dataplane/acl/acl.ts'
import { flatten, matches } from '../../../dataplane/acl/rule.ts'
import { noData } from '../../harness/needs.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-headers-'))

afterAll(() => {
  rmSync(folder, { recursive: true })
})

const RULES: AclRule[] = [
  { id: 1, priority: 0, protocol: 6, destinationPorts: { first: 80, last: 90 } },
  { id: 2, priority: 1, source: { address: [0x0a00_0000], prefix: 8 } },
  { id: 3, priority: 2, protocol: 1, icmpType: 8 },
  { id: 4, priority: 3, destination: { address: [0x0102_0304], prefix: 32 }, protocol: 17 },
]

test('a trace file', () => {
  const path = join(folder, 'trace')
  const lines = [
    '3266998700\t1458994818\t0\t1521\t6\t268439552\t214',
    '# a comment',
    '1 2 3 4 17',
    '1 2 65535 0 1 4294903808 7',
    '1 2 65535 9 47 0 8',
    '1 2 65536 0 6 0 0',
    '1 2 3 4 256',
    '1 2 3 4',
    '4294967296 2 3 4 6',
    '1 2 3 -4 6',
  ]
  writeFileSync(path, lines.join('\r\n'))
  const { count, headers, from, intake } = readHeaders(path)
  expect([count, intake.taken, intake.refused]).toEqual([4, 4, 5])
  expect([...headers]).toEqual([
    ...[3266998700, 1458994818, 1521, 6],
    ...[1, 2, 0x3_0004, 17],
    ...[1, 2, 8 << 16, 1],
    ...[1, 2, 0, 47],
  ])
  expect([...from]).toEqual([214, -1, 7, 8])
  expect(intake.told[0]).toMatch(/^line 6: .*too large/)
  expect(intake.told[4]).toMatch(/^line 10: .*not five to seven/)
})

test.each([4, 6] as const)(
  'flows of IPv%i are different, the same for a seed, and of their rules',
  family => {
    const rules = family === 4 ? RULES : inIpv6(RULES)
    const words = HEADER_WORDS[family]
    const flows = flowsOf(rules, family, 2000)
    const texts = Array.from({ length: 2000 }, (_, i) =>
      flows.subarray(i * words, (i + 1) * words).join(),
    )
    expect(new Set(texts).size).toBe(2000)
    expect(flowsOf(rules, family, 2000)).toEqual(flows)
    expect(flowsOf(rules, family, 2000, 2)).not.toEqual(flows)
    expect(matched(rules, family, flows)).toBeGreaterThan(1500)
    expect(matched(rules, family, flows)).toBeLessThan(2000)
    for (const rule of rules) {
      const flat = flatten(family, rule)
      const hits = texts.filter((_, i) => matches(flat, flows, i * words)).length
      expect(hits).toBeGreaterThan(300)
    }
    for (let i = 0; i < 2000; i++) {
      const protocol = flows[(i + 1) * words - 1]!
      const ports = flows[(i + 1) * words - 2]!
      expect(protocol).toBeLessThan(256)
      if ([47, 50].includes(protocol)) expect(ports).toBe(0)
      if (protocol === (family === 4 ? 1 : 58)) expect(ports & 0xff00_ff00).toBe(0)
    }
  },
)

test('rules with a single header, and none at all, have enough flows', () => {
  const host = { address: [1], prefix: 32 }
  const ports = { first: 1, last: 1 }
  const one: AclRule = {
    id: 1,
    priority: 1,
    protocol: 6,
    source: host,
    destination: host,
    sourcePorts: ports,
    destinationPorts: ports,
  }
  expect(flowsOf([one], 4, 100).length).toBe(400)
  expect(flowsOf([], 6, 10).length).toBe(100)
})

test('a trace asks its flows evenly, or by Zipf', () => {
  const counts = (zipf: number) => {
    const trace = headersOf(RULES, 4, 100, zipf, 20_000)
    const seen = new Map<string, number>()
    for (let i = 0; i < 20_000; i++) {
      const key = trace.subarray(i * 4, i * 4 + 4).join()
      seen.set(key, (seen.get(key) ?? 0) + 1)
    }
    return [...seen.values()].sort((a, b) => b - a)
  }
  const even = counts(0)
  expect(even.length).toBe(100)
  expect(even[0]! / even[99]!).toBeLessThan(3)
  const skewed = counts(1)
  // 1 / H(100) of all is 0.193.
  expect(skewed[0]! / 20_000).toBeCloseTo(0.193, 1)
  expect(skewed[0]! / skewed[9]!).toBeGreaterThan(5)
})

test('the trace of the outside data is one of its rules', context => {
  const [rules, trace] = ['rules/acl1_traced.rules', 'rules/acl1_traced.trace.gz'].map(dataPath)
  if (!existsSync(rules!) || !existsSync(trace!)) {
    context.skip(noData(trace))
    return
  }
  const flat = readRules(rules!).rules.map(rule => flatten(4, rule))
  const { count, headers, from, intake } = readHeaders(trace!)
  expect(intake.refused).toBe(0)
  expect(count).toBeGreaterThan(11_000)
  let own = 0
  for (let i = 0; i < count; i++) if (matches(flat[from[i]!]!, headers, 4 * i)) own++
  // Of protocols without ports, and of ICMP types that the trace has at random, a few don't.
  expect(own / count).toBeGreaterThan(0.99)
})
