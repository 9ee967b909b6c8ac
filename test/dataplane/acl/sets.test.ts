/** Large rule sets: ClassBench's where they are, and seeded ones of a node's policies; whole, then half taken out. */
import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { flowsOf } from '../../../bench/data/headers.ts'
import { inIpv6, RULE_SETS, readRules, ruleSetPath } from '../../../bench/data/rules.ts'
import type { AclRule } from '../../../dataplane/acl/acl.ts'
import { noData } from '../../harness/needs.ts'
import { BUT_LINEAR, classify, commit, dice, table } from './tables.ts'

/** The linear oracle reads every rule for each. */
const HEADERS = { '1k': 4096, '10k': 512 }

/** As IPv6 rules the sets have the same shapes, so one of the large ones is enough. */
const SETS = {
  4: RULE_SETS,
  6: RULE_SETS.filter(set => set.endsWith('1k') || set === 'ipc1_10k'),
}

/** As from network policies: pods' addresses, few ports, a default below. */
function policies(count: number): AclRule[] {
  const roll = dice(count)
  const rules: AclRule[] = [{ id: count, priority: 0xffff }]
  for (let id = 1; id < count; id++) {
    const pod = { address: [0x0af4_0000 + roll(4096)], prefix: 32 }
    const peer = [pod, { address: [0x0af4_0000 + (roll(16) << 8)], prefix: 24 }, undefined][roll(3)]
    const protocol = [6, 6, 6, 17][roll(4)]!
    const first = [80, 443, 8080, 53, 30_000][roll(5)]!
    const last = first === 30_000 ? 32_767 : first
    const [source, destination] = roll(2) === 0 ? [pod, peer] : [peer, pod]
    rules.push({
      id,
      priority: 10 + roll(100),
      protocol,
      destinationPorts: { first, last },
      ...(source && { source }),
      ...(destination && { destination }),
    })
  }
  return rules
}

interface Truth {
  headers: Uint32Array
  whole: Uint16Array
  half: Uint16Array
}

const truths = new Map<string, Truth>()

/** Right answers of a set, and of it without every other rule. */
function truthOf(key: string, rules: readonly AclRule[], family: 4 | 6, count: number): Truth {
  const known = truths.get(key)
  if (known !== undefined) return known
  const headers = flowsOf(rules, family, count)
  const { writer, reader } = table(`linear${family}`, family, rules.length)
  for (const rule of rules) writer.insert(rule)
  const whole = classify(reader, headers, family)
  for (const [i, { id }] of rules.entries()) if (i % 2 === 0) writer.remove(id)
  const truth = { headers, whole, half: classify(reader, headers, family) }
  truths.set(key, truth)
  return truth
}

async function check(name: string, family: 4 | 6, set: string, of: readonly AclRule[]) {
  const rules = family === 4 ? of : inIpv6(of)
  const count = HEADERS[rules.length > 2000 ? '10k' : '1k']
  const { headers, whole, half } = truthOf(`${set} ${family}`, rules, family, count)
  expect(whole.filter(id => id > 0).length).toBeGreaterThan(count / 2)
  const { writer, reader } = table(name, family, rules.length)
  for (const rule of rules) writer.insert(rule)
  await commit(writer)
  expect(writer.size).toBe(rules.length)
  expect(classify(reader, headers, family)).toEqual(whole)
  for (const [i, { id }] of rules.entries()) if (i % 2 === 0) writer.remove(id)
  await commit(writer)
  expect(classify(reader, headers, family)).toEqual(half)
  if (rules.length > 2000) return
  for (const [i, rule] of rules.entries()) if (i % 2 === 0) writer.insert(rule)
  await commit(writer)
  expect(classify(reader, headers, family)).toEqual(whole)
}

describe.each(BUT_LINEAR)('$name', ({ name, family }) => {
  test('policies of a node', () => check(name, family, 'policies', policies(1500)))

  test.for(SETS[family])('%s', async (set, context) => {
    const path = ruleSetPath(set)
    if (!existsSync(path)) {
      context.skip(noData(path))
      return
    }
    await check(name, family, set, readRules(path).rules)
  })
})
