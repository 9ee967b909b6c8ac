/** Tree ACLs and their native twins against the linear one, on rule sets of many shapes and sizes. */

import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { headersOf } from '../../../bench/data/headers.ts'
import { inIpv6, readRules, ruleSetPath } from '../../../bench/data/rules.ts'
import type { Acl, AclRule } from '../../../dataplane/acl/acl.ts'
import { linear4, linear6 } from '../../../dataplane/acl/linear.ts'
import { columnsOf } from '../../../dataplane/acl/rebuild/columns.ts'
import { flatten } from '../../../dataplane/acl/rule.ts'
import { blockShape, MAX_TREES, openTree, treeSizes } from '../../../dataplane/acl/tree/layout.ts'
import { tree4, tree6, treeStructure } from '../../../dataplane/acl/tree/tree.ts'
import { tree4_native, tree6_native } from '../../../dataplane/acl/tree/tree_native.ts'
import { native } from '../../../native/native.ts'
import { noData } from '../../harness/needs.ts'
import { answers, FAMILIES, type Family, holding, rulesOf, SHAPES } from './rebuild-sets.ts'

const TREE = { 4: tree4, 6: tree6 }
const LINEAR = { 4: linear4, 6: linear6 }

/** Every reader of a tree: TypeScript, and the native ones with each width of vectors. */
const TWINS: Record<Family, [string, Acl['reader']][]> = {
  4: [
    ['TypeScript', tree4.reader],
    ['native', tree4_native.reader],
    ['AVX2', twin(native.classifyTree4Avx2)],
    ['scalar', twin(native.classifyTree4Scalar)],
  ],
  6: [
    ['TypeScript', tree6.reader],
    ['native', tree6_native.reader],
    ['AVX2', twin(native.classifyTree6Avx2)],
    ['scalar', twin(native.classifyTree6Scalar)],
  ],
}

function twin(classify: typeof native.classifyTree4): Acl['reader'] {
  return memory => {
    const handle = native.openTable(memory)
    return { classify: (headers, n, rules) => classify(handle, headers, n, rules) }
  }
}

/** All readers say what the linear ACL says, about headers around these rules. */
async function compare(family: Family, rules: readonly AclRule[], headers: number): Promise<void> {
  const { memory } = await holding(TREE[family], rules)
  const oracle = await holding(LINEAR[family], rules)
  const probes = headersOf(rules, family, headers, 0, headers)
  const right = answers(oracle.reader, family, probes)
  expect(right.some(id => id !== 0)).toBe(true)
  for (const [name, reader] of TWINS[family]) {
    const limits = { rules: rules.length }
    expect(answers(reader(memory, limits), family, probes), name).toEqual(right)
  }
}

describe.each(FAMILIES)('IPv%i', family => {
  describe.each(Object.entries(SHAPES))('%s', (_, shape) => {
    test.each([1, 8, 9, 300, 3000])('%i rules', async count => {
      await compare(family, rulesOf(shape, family, count, count), 1000)
    })
  })

  test('all shapes together', async () => {
    const rules = Object.values(SHAPES).flatMap((shape, i) => {
      return rulesOf(shape, family, 400, i + 1).map(rule => ({ ...rule, id: rule.id + 400 * i }))
    })
    await compare(family, rules, 4000)
  })

  test.for(['acl1_1k', 'fw1_1k', 'ipc1_1k', 'acl1_10k', 'fw1_10k', 'ipc1_10k'] as const)(
    'ClassBench %s',
    async (set, context) => {
      const path = ruleSetPath(set)
      if (!existsSync(path)) {
        context.skip(noData(path))
        return
      }
      const { rules } = readRules(path)
      expect(rules.length).toBeGreaterThan(600)
      await compare(family, family === 4 ? rules : inIpv6(rules), 1500)
    },
  )

  test('a batch of any length, and headers that no rule has', async () => {
    const rules = rulesOf(SHAPES['prefixes of every length']!, family, 200, 3)
    const { memory } = await holding(TREE[family], rules)
    const probes = headersOf(rules, family, 200)
    const all = answers(TREE[family].reader(memory, { rules: 200 }), family, probes)
    const words = probes.length / all.length
    for (const [name, reader] of TWINS[family]) {
      const { classify } = reader(memory, { rules: 200 })
      for (const n of [0, 1, 63, 64, 65, 130]) {
        const found = new Uint16Array(200).fill(0xaaaa)
        classify(probes.subarray(0, n * words), n, found)
        const untouched = new Uint16Array(200 - n).fill(0xaaaa)
        expect([...found], `${name} ${n}`).toEqual([...all.subarray(0, n), ...untouched])
      }
      const found = new Uint16Array(2)
      classify(new Uint32Array(2 * words).fill(0xffff_ffff), 2, found)
      const ones = answers(
        TREE[family].reader(memory, { rules: 200 }),
        family,
        new Uint32Array(2 * words).fill(0xffff_ffff),
      )
      expect(found, name).toEqual(ones)
    }
  })

  test('before the first commit, and without rules, nothing matches', async () => {
    const { writer, memory } = await holding(TREE[family], [])
    const headers = new Uint32Array(10)
    const ask = () => {
      return TWINS[family].map(
        ([, reader]) => answers(reader(memory, { rules: 1 }), family, headers)[0],
      )
    }
    expect(ask()).toEqual([0, 0, 0, 0])
    writer.insert({ id: 5, priority: 1 })
    expect(ask()).toEqual([0, 0, 0, 0])
    await writer.commit()
    expect(ask()).toEqual([5, 5, 5, 5])
    writer.remove(5)
    writer.quiesced()
    await writer.commit()
    expect(ask()).toEqual([0, 0, 0, 0])
  })
})

describe('memory', () => {
  test('bytes of a half', () => {
    for (const family of FAMILIES) {
      for (const rules of [1, 100, 10_000, 65_535]) {
        const nodes = Math.ceil((128 + 8 * (8 * rules + 2048)) / 64) * 64
        const blocks = Math.ceil(rules / 2) + 64
        const half = nodes + blocks * (family === 4 ? 192 : 384)
        expect(treeSizes(family, { rules }).bytes).toBe(half)
        expect(TREE[family].bytes({ rules })).toBe(64 + 2 * half)
        expect(blockShape(family).bytes % 64).toBe(0)
      }
    }
  })

  /** Nodes and blocks of a set, and how many steps it took to build. */
  function built(rules: readonly AclRule[]) {
    const limits = { rules: rules.length }
    const structure = treeStructure(4)
    const half = new Uint8Array(structure.halfBytes(limits)).fill(0xff)
    const columns = columnsOf(
      4,
      rules.map(rule => flatten(4, rule)),
    )
    let steps = 0
    for (;;) {
      const { done, value } = columns.next()
      if (done !== true) continue
      for (const build = structure.build(value, half, limits); build.next().done !== true; ) steps++
      break
    }
    const [trees, , , nodes, blocks] = openTree(4, half, limits).words
    return { trees: trees!, nodes: nodes!, blocks: blocks!, steps, sizes: treeSizes(4, limits) }
  }

  test('rules with narrow addresses need hardly more blocks than they fill', () => {
    const { trees, blocks, nodes, sizes } = built(rulesOf(SHAPES['pods with ports']!, 4, 4000, 1))
    expect(trees).toBeLessThanOrEqual(4)
    expect(blocks).toBeLessThan((1.6 * 4000) / 8)
    expect(nodes).toBeLessThan(sizes.nodes / 2)
  })

  test('rules that every cut copies end in larger leaves, and fit', async () => {
    const rules = rulesOf(SHAPES['ranges of ports only']!, 4, 6000, 9)
    const { trees, blocks, sizes } = built(rules)
    expect(trees).toBeLessThanOrEqual(MAX_TREES)
    expect(blocks).toBeLessThanOrEqual(sizes.blocks)
    await compare(4, rules, 600)
  })

  test('a build is many small steps', () => {
    expect(built(rulesOf(SHAPES['pods with ports']!, 4, 4000, 1)).steps).toBeGreaterThan(50)
  })
})
