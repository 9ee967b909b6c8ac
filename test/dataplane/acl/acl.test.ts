/** What every ACL promises (dataplane/acl/acl.ts), held against the linear one; that one against a Map and `matches`. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type AclRule,
  HEADER_WORDS,
  MAX_PRIORITY,
  MAX_RULE_ID,
} from '../../../dataplane/acl/acl.ts'
import {
  ALL,
  anyRule,
  classify,
  commit,
  dice,
  edgeHeaders,
  headerOf,
  mapOracle,
  SEEDS,
  table,
} from './tables.ts'

interface Oracle {
  insert(rule: AclRule): void
  remove(id: number): boolean
  classify(headers: Uint32Array): Uint16Array
}

function oracleFor(name: string, family: 4 | 6, rules: number): Oracle {
  if (name === `linear${family}`) return mapOracle(family)
  const { writer, reader } = table(`linear${family}`, family, rules)
  return { ...writer, classify: headers => classify(reader, headers, family) }
}

const byId = (rules: Iterable<AclRule>) =>
  [...rules]
    .map(rule => ({
      ...rule,
      ...(rule.source && {
        source: { ...rule.source, address: [...Array.from(rule.source.address)] },
      }),
      ...(rule.destination && {
        destination: { ...rule.destination, address: [...Array.from(rule.destination.address)] },
      }),
    }))
    .sort((a, b) => a.id - b.id)

/** Changes of a run, and headers that are asked after each look. */
const CHANGES = 48
const HEADERS = 192
const IDS = 40
/** Runs a seed; rebuilding takes longer. */
const RUNS = { incremental: 40, rebuilding: 12, linear: 8 }

describe.each(ALL)('$name', ({ name, family }) => {
  const words = HEADER_WORDS[family]
  const host = family === 4 ? [0x0a00_0001] : [0xfd00_0000, 0, 0, 1]
  const zero = host.map(() => 0)
  const bits = 32 * host.length
  const icmp = family === 4 ? 1 : 58
  const fresh = (rules: number) => table(name, family, rules)
  const one = (reader: ReturnType<typeof fresh>['reader'], header: readonly number[]) =>
    classify(reader, Uint32Array.from(header), family)[0]

  test('an empty one matches nothing', async () => {
    const { writer, reader } = fresh(4)
    const header = headerOf(host, host, [1, 2], 6)
    expect([writer.size, ...writer.rules()]).toEqual([0])
    expect(one(reader, header)).toBe(0)
    await commit(writer)
    expect(one(reader, header)).toBe(0)
    expect(writer.remove(1)).toBe(false)
    reader.classify(new Uint32Array(0), 0, new Uint16Array(0))
  })

  test('the smallest priority decides, then the smallest id', async () => {
    const { writer, reader } = fresh(8)
    const header = headerOf(host, zero, [4000, 80], 6)
    writer.insert({ id: MAX_RULE_ID, priority: MAX_PRIORITY })
    await commit(writer)
    expect(one(reader, header)).toBe(MAX_RULE_ID)
    const destinationPorts = { first: 80, last: 80 }
    writer.insert({ id: 7, priority: MAX_PRIORITY, protocol: 6, destinationPorts })
    writer.insert({ id: 9, priority: 0x8000, source: { address: host, prefix: bits } })
    writer.insert({ id: 3, priority: 0x8000, source: { address: host, prefix: bits } })
    writer.insert({ id: 5, priority: 0x8000 })
    writer.insert({ id: 0x8001, priority: 0x7fff })
    await commit(writer)
    const order = [0x8001, 3, 5, 9, 7, MAX_RULE_ID]
    for (const id of order) {
      expect(one(reader, header)).toBe(id)
      expect(writer.remove(id)).toBe(true)
      writer.quiesced()
      await commit(writer)
    }
    expect(one(reader, header)).toBe(0)
    expect(writer.size).toBe(0)
  })

  test('ranges, types and protocols at their ends', async () => {
    const { writer, reader } = fresh(8)
    const ends = { first: 1024, last: 2047 }
    writer.insert({ id: 1, priority: 1, protocol: 17, sourcePorts: ends })
    writer.insert({
      id: 2,
      priority: 2,
      protocol: 17,
      destinationPorts: { first: 0x7fff, last: 0x8000 },
    })
    writer.insert({ id: 3, priority: 3, protocol: icmp, icmpType: 8, icmpCode: 0 })
    writer.insert({ id: 4, priority: 4, protocol: icmp, icmpType: 8 })
    writer.insert({ id: 5, priority: 5, protocol: 0 })
    await commit(writer)
    const ask = (a: number, b: number, protocol: number) =>
      one(reader, headerOf(host, zero, [a, b], protocol))
    expect([1023, 1024, 2047, 2048].map(port => ask(port, 9, 17))).toEqual([0, 1, 1, 0])
    expect([0x7ffe, 0x7fff, 0x8000, 0x8001].map(port => ask(9, port, 17))).toEqual([0, 2, 2, 0])
    expect([ask(1024, 0x8000, 17), ask(1024, 0x8000, 6)]).toEqual([1, 0])
    expect([ask(8, 0, icmp), ask(8, 1, icmp), ask(0, 0, icmp), ask(8, 0, 6)]).toEqual([3, 4, 0, 0])
    expect([ask(0, 0, 0), ask(0, 0, 255)]).toEqual([5, 0])
  })

  test.each(SEEDS)('any changes, any order, down to empty (seed %i)', async seed => {
    // One table for all runs: each run must leave it empty, and a leak would fill it.
    const { acl, writer, reader } = fresh(IDS)
    const oracle = oracleFor(name, family, IDS)
    const change = fc.oneof(
      { weight: 7, arbitrary: anyRule(family, IDS) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: IDS }) },
    )
    const property = fc.asyncProperty(
      fc.array(change, { minLength: 1, maxLength: CHANGES, size: 'max' }),
      fc.nat(),
      async (changes, number) => {
        const roll = dice(number)
        const known = new Map<number, AclRule>()
        const inserted = changes.filter(each => typeof each === 'object')
        const headers = edgeHeaders(inserted, family, HEADERS, roll)
        const compare = async () => {
          await commit(writer)
          expect(classify(reader, headers, family)).toEqual(oracle.classify(headers))
          // Who rebuilds waits for it with the next commit.
          if (!acl.incremental || roll(3) === 0) writer.quiesced()
        }
        for (const each of changes) {
          if (typeof each === 'number') {
            expect(writer.remove(each)).toBe(known.delete(each))
            oracle.remove(each)
          } else {
            writer.insert(each)
            oracle.insert(each)
            known.set(each.id, each)
          }
          expect(writer.size).toBe(known.size)
          if (acl.incremental || roll(4) === 0) await compare()
        }
        await compare()
        expect(byId(writer.rules())).toEqual(byId(known.values()))
        for (const id of known.keys()) {
          expect(writer.remove(id)).toBe(true)
          oracle.remove(id)
          if (acl.incremental || roll(8) === 0) await compare()
        }
        await compare()
        expect(writer.size).toBe(0)
        writer.quiesced()
      },
    )
    const runs = name.startsWith('linear')
      ? 'linear'
      : acl.incremental
        ? 'incremental'
        : 'rebuilding'
    await fc.assert(property, { seed, numRuns: RUNS[runs] })
    expect([...writer.rules()]).toEqual([])
  })

  test('a full one refuses one more rule and changes nothing; replacing needs no room', async () => {
    const { writer, reader } = fresh(3)
    const header = headerOf(host, host, [1, 1], 6)
    for (const id of [10, 11, 12]) writer.insert({ id, priority: id })
    const insert = () => writer.insert({ id: 13, priority: 0 })
    expect(insert).toThrow(RangeError)
    expect(insert).toThrow(/^rule 13: no room, the ACL has its 3 rules$/)
    expect(writer.size).toBe(3)
    await commit(writer)
    expect(one(reader, header)).toBe(10)
    for (let round = 0; round < 8; round++) {
      writer.insert({ id: 12, priority: round % 2 === 0 ? 1 : 20 })
      await commit(writer)
      expect(one(reader, header)).toBe(round % 2 === 0 ? 12 : 10)
    }
    writer.remove(11)
    insert()
    await commit(writer)
    expect(one(reader, header)).toBe(13)
  })

  test('a bad rule leaves the table unchanged', async () => {
    const { writer, reader } = fresh(4)
    const header = headerOf(host, host, [1, 1], 6)
    writer.insert({ id: 1, priority: 5, protocol: 6 })
    await commit(writer)
    const bad: AclRule[] = [
      { id: 0, priority: 0 },
      { id: 1, priority: -1 },
      { id: 1, priority: 0, source: { address: host, prefix: bits - 1 } },
      { id: 1, priority: 0, sourcePorts: { first: 1, last: 2 } },
      { id: 1, priority: 0, protocol: 6, icmpType: 1 },
    ]
    for (const rule of bad) expect(() => writer.insert(rule)).toThrow(RangeError)
    await commit(writer)
    expect([...writer.rules()]).toEqual([{ id: 1, priority: 5, protocol: 6 }])
    expect(one(reader, header)).toBe(1)
  })

  test('rules are copies', async () => {
    const { writer, reader } = fresh(2)
    const address = [...host]
    const range = { first: 1, last: 2 }
    writer.insert({
      id: 1,
      priority: 1,
      protocol: 6,
      source: { address, prefix: bits },
      sourcePorts: range,
    })
    address[0] = 0
    range.last = 0xffff
    const [rule] = [...writer.rules()]
    ;(rule!.source!.address as number[])[0] = 1
    await commit(writer)
    expect(one(reader, headerOf(host, zero, [2, 9], 6))).toBe(1)
    expect(one(reader, headerOf(host, zero, [3, 9], 6))).toBe(0)
    expect([...writer.rules()][0]!.sourcePorts).toEqual({ first: 1, last: 2 })
    expect(Array.from([...writer.rules()][0]!.source!.address)).toEqual(host)
  })

  test('limits out of range', () => {
    const { acl } = fresh(1)
    for (const rules of [0, -1, 1.5, Number.NaN, MAX_RULE_ID + 1]) {
      expect(() => acl.bytes({ rules }), String(rules)).toThrow(/MAX_RULE_ID/)
    }
    expect(acl.bytes({ rules: 1 })).toBeLessThanOrEqual(acl.bytes({ rules: 2 }))
  })

  test('headers that are no packets are answered too', async () => {
    const { writer, reader } = fresh(16)
    const roll = dice(5)
    const rules = fc.sample(anyRule(family, 16), { numRuns: 16, seed: 11 })
    for (const rule of rules) writer.insert(rule)
    await commit(writer)
    const wild = Uint32Array.from({ length: 256 * words }, () => roll(2 ** 32))
    const found = classify(reader, wild, family)
    expect(found.every(id => id <= 16)).toBe(true)
    // An array that is too short for n answers for what it has, or for nothing; it never throws.
    reader.classify(wild.subarray(0, words), 1, new Uint16Array(1))
  })

  test('stays inside its memory', async () => {
    const limits = { rules: 6 }
    const { acl } = fresh(1)
    const bytes = acl.bytes(limits)
    const whole = new Uint8Array(new SharedArrayBuffer(bytes + 2 * 4096))
    whole.fill(0xa5, 0, 4096)
    whole.fill(0xa5, 4096 + bytes)
    const writer = acl.writer(whole.subarray(4096, 4096 + bytes), limits)
    const rules = fc.sample(anyRule(family, 6), { numRuns: 60, seed: 3 })
    for (const [i, rule] of rules.entries()) {
      writer.insert(rule)
      if (i % 10 === 9) await commit(writer)
      if (i % 20 === 19) for (let id = 1; id <= 6; id++) writer.remove(id)
      writer.quiesced()
    }
    await commit(writer)
    for (const part of [whole.subarray(0, 4096), whole.subarray(4096 + bytes)]) {
      expect(part.every(byte => byte === 0xa5)).toBe(true)
    }
  })
})
