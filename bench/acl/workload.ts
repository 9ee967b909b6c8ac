/** The rule sets that are classified by, the headers that are classified, and what must be answered. */
import { existsSync } from 'node:fs'
import { type AclRule, HEADER_WORDS } from '../../dataplane/acl/acl.ts'
import { linear4, linear6 } from '../../dataplane/acl/linear.ts'
import { flatten, matches } from '../../dataplane/acl/rule.ts'
import { sharedPages } from '../../dataplane/memory/pages.ts'
import { headersOf } from '../data/headers.ts'
import { type RULE_SETS, readRules, ruleSetPath } from '../data/rules.ts'
import { type ProfileName, rulesLike } from './generate.ts'

export interface RuleSet {
  name: string
  family: 4 | 6
  rules: readonly AclRule[]
}

export interface Trace {
  /** `10k flows`. */
  name: string
  /** `n` headers behind each other. */
  headers: Uint32Array
  n: number
  /** By the oracle. */
  answers: Uint16Array
}

/** Rules of the sets that ClassBench's names promise, where they have to be generated. */
const GENERATED = { '1k': 1000, '10k': 10_000 }
export type SetName = (typeof RULE_SETS)[number]

/** The set of that name: ClassBench's where the data is there, else a generated one, which says so. */
export function ruleSet(name: SetName, notes: string[]): RuleSet {
  const path = ruleSetPath(name)
  if (existsSync(path)) {
    const { family, rules, intake, flagsLeftOut } = readRules(path)
    notes.push(
      `${name}: ${intake.taken} lines taken, ${intake.refused} refused; TCP flags of ` +
        `${flagsLeftOut} rules are not matched`,
    )
    return { name, family, rules }
  }
  const [profile, size] = name.split('_') as [string, keyof typeof GENERATED]
  notes.push(`${name} is generated: ${path} is not there`)
  const rules = rulesLike(profile.replace(/\d/, '') as ProfileName, GENERATED[size])
  return { name, family: 4, rules }
}

/** Headers of a trace, at least; each flow comes up this often on average, at least. */
const LEAST_HEADERS = 1 << 16
const FLOW_HEADERS = 1.5

/** A trace over so many flows of a set, all equally likely. */
export function traceOf(set: RuleSet, flows: number, name: string, short = false): Trace {
  const length = short ? flows : Math.max(LEAST_HEADERS, Math.ceil(flows * FLOW_HEADERS))
  return answered(set, headersOf(set.rules, set.family, flows, 0, length), name)
}

/** Headers of which the oracle itself is compared with reading the rules. */
const DOUBLE_CHECKED = 64

/** Asks the naive ACL, once for each different header. */
export function answered({ family, rules }: RuleSet, headers: Uint32Array, name: string): Trace {
  const words = HEADER_WORDS[family]
  const n = headers.length / words
  const numbers = new Map<string, number>()
  const which = Uint32Array.from({ length: n }, (_, i) => {
    const key = headers.subarray(i * words, (i + 1) * words).join()
    const number = numbers.get(key) ?? numbers.size
    numbers.set(key, number)
    return number
  })
  const different = new Uint32Array(numbers.size * words)
  for (let i = n - 1; i >= 0; i--) {
    different.set(headers.subarray(i * words, (i + 1) * words), which[i]! * words)
  }
  const decided = decide(family, rules, different, numbers.size)
  return { name, headers, n, answers: Uint16Array.from(which, number => decided[number]!) }
}

function decide(
  family: 4 | 6,
  rules: readonly AclRule[],
  headers: Uint32Array,
  n: number,
): Uint16Array {
  const oracle = family === 4 ? linear4 : linear6
  const limits = { rules: rules.length }
  const memory = sharedPages(oracle.bytes(limits))
  const writer = oracle.writer(memory, limits)
  for (const rule of rules) writer.insert(rule)
  const found = new Uint16Array(n)
  oracle.reader(memory, limits).classify(headers, n, found)
  const flat = rules.map(rule => flatten(family, rule)).sort((a, b) => a.rank - b.rank)
  for (let i = 0; i < Math.min(n, DOUBLE_CHECKED); i++) {
    const right = flat.find(rule => matches(rule, headers, i * HEADER_WORDS[family]))?.id ?? 0
    if (found[i] !== right) throw new Error(`the oracles differ: ${found[i]} and ${right}`)
  }
  return found
}
