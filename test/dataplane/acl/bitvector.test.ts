/** Bit vector ACLs against the linear one; their limit. */
import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { headersOf } from '../../../bench/data/headers.ts'
import { inIpv6, readRules, ruleSetPath } from '../../../bench/data/rules.ts'
import type { AclRule } from '../../../dataplane/acl/acl.ts'
import { bitvector4, bitvector6 } from '../../../dataplane/acl/bitvector/bitvector.ts'
import { MAX_BITVECTOR_RULES, vectorWords } from '../../../dataplane/acl/bitvector/layout.ts'
import { linear4, linear6 } from '../../../dataplane/acl/linear.ts'
import { noData } from '../../harness/needs.ts'
import { answers, FAMILIES, type Family, holding, rulesOf, SHAPES } from './rebuild-sets.ts'

const BITVECTOR = { 4: bitvector4, 6: bitvector6 }
const LINEAR = { 4: linear4, 6: linear6 }

async function compare(family: Family, rules: readonly AclRule[], headers: number): Promise<void> {
  const { reader } = await holding(BITVECTOR[family], rules)
  const oracle = await holding(LINEAR[family], rules)
  const probes = headersOf(rules, family, headers, 0, headers)
  expect(answers(reader, family, probes)).toEqual(answers(oracle.reader, family, probes))
}

describe.each(FAMILIES)('IPv%i', family => {
  describe.each(Object.entries(SHAPES))('%s', (_, shape) => {
    // 32 and 1,024 rules are where a vector and its aggregate take another word.
    test.each([1, 32, 33, 1024, 1025])('%i rules', async count => {
      await compare(family, rulesOf(shape, family, count, count), 500)
    })
  })

  test.for(['acl1_10k', 'fw1_10k', 'ipc1_10k'] as const)('ClassBench %s', async (set, context) => {
    const path = ruleSetPath(set)
    if (!existsSync(path)) {
      context.skip(noData(path))
      return
    }
    const { rules } = readRules(path)
    await compare(family, family === 4 ? rules : inIpv6(rules), 1000)
  })

  test('the ends of the address space', async () => {
    const ones = new Array<number>(family === 4 ? 1 : 4).fill(0xffff_ffff)
    const zero = ones.map(() => 0)
    const bits = 32 * ones.length
    const rules: AclRule[] = [
      { id: 1, priority: 3, source: { address: ones, prefix: bits } },
      {
        id: 2,
        priority: 2,
        source: { address: zero, prefix: bits },
        destination: { address: ones, prefix: bits },
      },
      { id: 3, priority: 4, destination: { address: [0x8000_0000, ...zero.slice(1)], prefix: 1 } },
    ]
    const { reader } = await holding(BITVECTOR[family], rules)
    const header = (source: number[], destination: number[]) => [...source, ...destination, 0, 0]
    const probes = [header(ones, zero), header(zero, ones), header(ones, ones), header(zero, zero)]
    expect([...answers(reader, family, Uint32Array.from(probes.flat()))]).toEqual([1, 2, 1, 0])
  })
})

describe('memory', () => {
  const line = (bytes: number) => Math.ceil(bytes / 64) * 64

  test('bytes of a region', () => {
    for (const rules of [1, 33, 1000, MAX_BITVECTOR_RULES]) {
      for (const family of FAMILIES) {
        const intervals = 2 * rules + 1
        const { vector, aggregate } = vectorWords(rules)
        const most = [rules + 1, rules + 1, intervals, intervals, 257]
        const half =
          64 +
          line(2 * rules) +
          2 * (line(4 * intervals * (family === 4 ? 1 : 4)) + line(2 * intervals)) +
          2 * 2 ** 17 +
          512 +
          most.reduce((sum, count) => sum + line(4 * count * (vector + aggregate)), 0)
        expect(BITVECTOR[family].bytes({ rules })).toBe(64 + 2 * half)
      }
    }
  })

  test('more rules than vectors are made for', () => {
    for (const family of FAMILIES) {
      const rules = MAX_BITVECTOR_RULES + 1
      expect(() => BITVECTOR[family].bytes({ rules })).toThrow(RangeError)
      expect(() => BITVECTOR[family].bytes({ rules })).toThrow('MAX_BITVECTOR_RULES')
      expect(BITVECTOR[family].bytes({ rules: MAX_BITVECTOR_RULES })).toBeLessThan(2 ** 28)
    }
  })
})
