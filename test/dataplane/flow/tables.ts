/** Tables on page-aligned memory of their own, and keys for them. */
import type {
  FlowAnswers,
  FlowDecisions,
  FlowKeys,
  FlowLimits,
  FlowTable,
} from '../../../dataplane/flow/flow.ts'
import { flowByName } from '../../../dataplane/flow/index.ts'
import { FLOW_KEY_WORDS, kindOf } from '../../../dataplane/hash/flow-key.ts'
import { hashByName } from '../../../dataplane/hash/index.ts'
import { sharedPages } from '../../../dataplane/memory/pages.ts'

export function table(name: string, limits: FlowLimits): { memory: Uint8Array; flows: FlowTable } {
  const flow = flowByName(name)
  const memory = sharedPages(flow.bytes(limits))
  return { memory, flows: flow.create(memory, limits) }
}

const hasher = hashByName('murmur3').seeded([0x1234_5678, 0x9abc_def0])

/** One key a number: numbers of one parity are IPv4, of the other IPv6; A and B depend on it. */
export function keysOf(numbers: ArrayLike<number>): FlowKeys {
  const n = numbers.length
  const words = new Uint32Array(n * FLOW_KEY_WORDS)
  for (let i = 0; i < n; i++) {
    const number = numbers[i]!
    const key = i * FLOW_KEY_WORDS
    const six = (number & 1) === 1
    words[key] = six ? 0xfd00_0000 : 0
    words[key + 2] = six ? number : 0
    words[key + 3] = 0x0a00_0000 | (number >>> 4)
    words[key + 4] = six ? 0xfe00_0000 : 0
    words[key + 7] = 0xc0a8_0001
    words[key + 8] = ((number & 15) << 16) | 443
    words[key + 9] = kindOf(six ? 6 : 4, 6, number & 1)
  }
  const hashes = new Uint32Array(n)
  hasher.flows(words, n, hashes)
  const directions = Uint8Array.from({ length: n }, (_, i) => (numbers[i]! >>> 2) & 1)
  return { words, hashes, directions }
}

/** The same, all with one hash: they all lie in the same few places. */
export function collidingKeys(numbers: ArrayLike<number>, hash: number): FlowKeys {
  const keys = keysOf(numbers)
  keys.hashes.fill(hash)
  return keys
}

export function turned(keys: FlowKeys): FlowKeys {
  return { ...keys, directions: keys.directions.map(direction => 1 - direction) }
}

/** What was decided for key `number`: an action that no other key has, in either direction. */
export const forwardOf = (number: number) => (number * 2 + 1) >>> 0
export const reverseOf = (number: number) => (number * 2 + 0x8000_0000) >>> 0

export function decisionsOf(numbers: ArrayLike<number>, port = 0, timeoutClass = 0): FlowDecisions {
  const n = numbers.length
  return {
    forward: Uint32Array.from({ length: n }, (_, i) => forwardOf(numbers[i]!)),
    reverse: Uint32Array.from({ length: n }, (_, i) => reverseOf(numbers[i]!)),
    ports: new Uint16Array(n).fill(port),
    classes: new Uint8Array(n).fill(timeoutClass),
    labels: Uint32Array.from({ length: 2 * n }, (_, i) => numbers[i >> 1]! * 2 + (i & 1)),
  }
}

export function answersFor(n: number): FlowAnswers {
  return {
    slots: new Int32Array(n),
    actions: new Uint32Array(n),
    found: new Uint8Array(n),
  }
}

export const range = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => from + i)

/** Inserts all; returns what was found, by key. */
export function insertAll(
  flows: FlowTable,
  numbers: readonly number[],
  { generation = 1, tick = 0, port = 0, timeoutClass = 0 } = {},
): number[] {
  const answers = answersFor(numbers.length)
  const decisions = decisionsOf(numbers, port, timeoutClass)
  flows.insert(keysOf(numbers), numbers.length, decisions, generation, tick, answers)
  return [...answers.found]
}

export function probeAll(flows: FlowTable, numbers: readonly number[], generation = 1) {
  const answers = answersFor(numbers.length)
  flows.probe(keysOf(numbers), numbers.length, generation, answers)
  return answers
}
