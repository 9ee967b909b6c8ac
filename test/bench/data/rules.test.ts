/** The reader of ClassBench rule sets, and of files that are none. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, expect, test } from 'vitest'
import {
  describeRules,
  inIpv6,
  RULE_SETS,
  readRules,
  ruleSetPath,
} from '../../../bench/data/rules.ts'
import { MAX_RULE_ID } from '../../../dataplane/acl/acl.ts'
import { checkRule } from '../../../dataplane/acl/rule.ts'
import { noData } from '../../harness/needs.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-rules-'))

afterAll(() => {
  rmSync(folder, { recursive: true })
})

function file(content: string | Buffer): string {
  const path = join(folder, 'set')
  writeFileSync(path, content)
  return path
}

const LINES = [
  '@10.1.2.0/24\t192.168.1.1/32\t0 : 65535\t1024 : 2047\t0x06/0xFF\t0x1000/0x1000\t',
  '@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t',
  '@1.2.3.4/32\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0801/0xffff',
  '@1.2.3.4/32 5.0.0.0/8 0 : 65535 0 : 65535 0x01/0xFF 0x0300/0xff00',
  '@1.2.3.4/32 5.0.0.0/8 7:9 53 : 53 0x11/0xFF',
]

const RULES = [
  {
    id: 1,
    priority: 0,
    source: { address: [0x0a01_0200], prefix: 24 },
    destination: { address: [0xc0a8_0101], prefix: 32 },
    protocol: 6,
    destinationPorts: { first: 1024, last: 2047 },
  },
  { id: 2, priority: 1 },
  {
    id: 3,
    priority: 2,
    source: { address: [0x0102_0304], prefix: 32 },
    protocol: 1,
    icmpType: 8,
    icmpCode: 1,
  },
  {
    id: 4,
    priority: 3,
    source: { address: [0x0102_0304], prefix: 32 },
    destination: { address: [0x0500_0000], prefix: 8 },
    protocol: 1,
    icmpType: 3,
  },
  {
    id: 5,
    priority: 4,
    source: { address: [0x0102_0304], prefix: 32 },
    destination: { address: [0x0500_0000], prefix: 8 },
    protocol: 17,
    sourcePorts: { first: 7, last: 9 },
    destinationPorts: { first: 53, last: 53 },
  },
]

test.each([
  ['LF', LINES.join('\n')],
  ['CRLF, comments, blank lines', `# a set\r\n\r\n${LINES.join('\r\n')}\r\n`],
  ['gzip', gzipSync(`${LINES.join('\n')}\n`)],
])('a rule set: %s', (_, content) => {
  const read = readRules(file(content))
  expect(read.rules).toEqual(RULES)
  expect(read).toMatchObject({ family: 4, flagsLeftOut: 1, intake: { taken: 5, refused: 0 } })
  expect(describeRules(read)).toEqual([
    `${join(folder, 'set')}: 5 lines taken, 0 refused; TCP flags of 1 rules are not matched`,
  ])
})

test('refused lines are counted with number and reason, and keep their ids free', () => {
  const any = '0 : 65535\t0 : 65535'
  const bad: [string, RegExp][] = [
    ['hello', /no rule in the format of ClassBench/],
    [`@1.2.3.256/32 0.0.0.0/0 ${any} 0x06/0xFF`, /no prefix/],
    [`@1.2.3.4/33 0.0.0.0/0 ${any} 0x06/0xFF`, /no prefix/],
    [`@1.2.3.4/32 0.0.0.0/0 ${any} 0x06/0x0F`, /the mask of the protocol is partial/],
    [
      `@1.2.3.4/32 0.0.0.0/0 ${any} 0x01/0xFF 0x0800/0x0f00`,
      /the mask of type and code is partial/,
    ],
    ['@1.2.3.4/32 0.0.0.0/0 0 : 65535 80 : 80 0x00/0x00', /destinationPorts needs a protocol/],
    ['@1.2.3.4/32 0.0.0.0/0 0 : 65535 80 : 70 0x06/0xFF', /backwards/],
    ['@1.2.3.4/32 0.0.0.0/0 0 : 65535 80 : 70000 0x06/0xFF', /70000/],
    [`@2001:db8::/32 2001:db8::/32 ${any} 0x06/0xFF`, /the file's rules are IPv4/],
    [`@1.2.3.4/32 ::/0 ${any} 0x06/0xFF`, /addresses of two families/],
  ]
  const { rules, intake } = readRules(
    file([LINES[0], ...bad.map(([line]) => line), LINES[1]].join('\n')),
  )
  expect(rules.map(({ id }) => id)).toEqual([1, bad.length + 2])
  expect([intake.taken, intake.refused]).toEqual([2, bad.length])
  for (const [i, [, why]] of bad.entries()) {
    expect(intake.told[i]).toMatch(why)
    expect(intake.told[i]).toMatch(`line ${i + 2}: `)
  }
})

test('bits behind a prefix are cleared', () => {
  const [rule] = readRules(file('@10.1.2.3/24 1.2.3.4/0 0 : 65535 0 : 65535 0x06/0xFF')).rules
  expect(rule).toEqual({
    id: 1,
    priority: 0,
    protocol: 6,
    source: { address: [0x0a01_0200], prefix: 24 },
  })
})

test('IPv6 rules', () => {
  const { family, rules } = readRules(
    file('@2001:db8::/32 ::1/128 0 : 65535 0 : 65535 0x3a/0xFF 0x8000/0xff00'),
  )
  expect(family).toBe(6)
  expect(rules).toEqual([
    {
      id: 1,
      priority: 0,
      source: { address: [0x2001_0db8, 0, 0, 0], prefix: 32 },
      destination: { address: [0, 0, 0, 1], prefix: 128 },
      protocol: 58,
      icmpType: 128,
    },
  ])
})

test('more rules than ids', () => {
  const line = `${LINES[1]}\n`
  const { rules, intake } = readRules(file(line.repeat(MAX_RULE_ID + 3)))
  expect([rules.length, intake.refused]).toEqual([MAX_RULE_ID, 3])
  expect(intake.told[0]).toMatch(/more than 65535 rules \(MAX_RULE_ID\)/)
})

test('a file that is not there', () => {
  expect(() => readRules(join(folder, 'none'))).toThrow(join(folder, 'none'))
})

test('IPv4 rules moved into IPv6', () => {
  for (const rule of inIpv6(RULES)) checkRule(6, rule)
  expect(inIpv6(RULES)[3]).toEqual({
    id: 4,
    priority: 3,
    source: { address: [0x2001_0db8, 1, 0x0102_0304, 0], prefix: 96 },
    destination: { address: [0x2001_0db8, 1, 0x0500_0000, 0], prefix: 72 },
    protocol: 58,
    icmpType: 3,
  })
})

test.for(RULE_SETS)('%s is taken whole', (set, context) => {
  if (!existsSync(ruleSetPath(set))) {
    context.skip(noData(ruleSetPath(set)))
    return
  }
  const { rules, intake, family } = readRules(ruleSetPath(set))
  expect([intake.refused, family, rules.length]).toEqual([0, 4, intake.taken])
  expect(rules.length).toBeGreaterThan(set.endsWith('10k') ? 7000 : 600)
})
