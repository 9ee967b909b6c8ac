/** How ACLs that are built anew become visible (dataplane/acl/rebuild/rebuild.ts), on a structure that counts. */
import { describe, expect, test } from 'vitest'
import type { AclReader } from '../../../dataplane/acl/acl.ts'
import { columnsOf } from '../../../dataplane/acl/rebuild/columns.ts'
import { prefixesOf } from '../../../dataplane/acl/rebuild/prefixes.ts'
import { rebuilt, type Structure } from '../../../dataplane/acl/rebuild/rebuild.ts'
import { flatten } from '../../../dataplane/acl/rule.ts'
import { FAMILIES, rulesOf, SHAPES, table } from './rebuild-sets.ts'

/** Steps of each build. */
const STEPS = 10
/** Turns of the event loop after which something that waits is taken to wait. */
const TURNS = 50

/** A half is its number of rules, which is every answer. */
function counting() {
  const log = { builds: 0, steps: 0, most: 10, halves: [] as number[] }
  /** Called at each step of a build. */
  const on = { step: () => {} }
  const structure: Structure = {
    name: 'counting',
    family: 4,
    halfBytes: () => 4,
    *build({ rules }, half) {
      log.builds++
      log.halves.push(half.byteOffset)
      for (let i = 0; i < STEPS; i++) {
        log.steps++
        half[i % 4] = 0xee
        on.step()
        yield
      }
      if (rules.length > log.most) throw new RangeError(`${rules.length} rules don't fit`)
      half.fill(rules.length)
    },
    reader: half => ({
      classify(_, n, rules) {
        for (let i = 0; i < n; i++) rules[i] = half[i % 4]!
      },
    }),
  }
  const { writer, reader, memory } = table(rebuilt(structure, 0), 100)
  let id = 1
  const insert = () => writer.insert({ id: id++, priority: 0 })
  return { log, on, writer, reader, memory, insert }
}

function seen(reader: AclReader): number {
  const rules = new Uint16Array(4)
  reader.classify(new Uint32Array(16), 4, rules)
  expect(new Set(rules).size).toBe(1)
  return rules[0]!
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

/** Goes round the event loop so long, and tells whether the promise has settled meanwhile. */
async function settles(promise: Promise<unknown>, turns = TURNS): Promise<boolean> {
  let settled = false
  const done = () => {
    settled = true
  }
  promise.then(done, done)
  for (let i = 0; i < turns && !settled; i++) await turn()
  return settled
}

describe('publication', () => {
  test('changes are seen when the commit resolves, by every reader, and not before', async () => {
    const { writer, reader, insert, on, memory } = counting()
    insert()
    insert()
    expect([writer.size, seen(reader)]).toEqual([2, 0])
    const during: number[] = []
    on.step = () => during.push(seen(reader))
    await writer.commit()
    expect(seen(reader)).toBe(2)
    writer.quiesced()
    insert()
    await writer.commit()
    expect(seen(reader)).toBe(3)
    expect(during).toEqual([...new Array(STEPS).fill(0), ...new Array(STEPS).fill(2)])
    expect(new Int32Array(memory.buffer, 0, 1)[0]).toBe(2)
  })

  test('builds go to the two halves by turns', async () => {
    const { writer, insert, log } = counting()
    for (let i = 0; i < 5; i++) {
      insert()
      await writer.commit()
      writer.quiesced()
    }
    const [first, second] = log.halves
    expect(first).not.toBe(second)
    expect(log.halves).toEqual([first, second, first, second, first])
  })

  test('each step lets the event loop go round when its slice is over', async () => {
    const { writer, insert, log } = counting()
    insert()
    let turns = 0
    let done = false
    const count = () => {
      turns++
      if (!done) setImmediate(count)
    }
    setImmediate(count)
    await writer.commit()
    done = true
    expect(log.steps).toBe(STEPS)
    expect(turns).toBeGreaterThanOrEqual(STEPS)
  })

  test('without changes there is nothing to build', async () => {
    const { writer, insert, log } = counting()
    await writer.commit()
    expect(log.builds).toBe(0)
    insert()
    await writer.commit()
    await writer.commit()
    expect(writer.remove(99)).toBe(false)
    await writer.commit()
    expect(log.builds).toBe(1)
  })
})

describe('several commits', () => {
  test('of one turn are one build', async () => {
    const { writer, reader, insert, log } = counting()
    const commits = [1, 2, 3].map(() => {
      insert()
      return writer.commit()
    })
    await Promise.all(commits)
    expect([log.builds, seen(reader)]).toEqual([1, 3])
  })

  test('beside a build: what it has seen resolves with it, what came later with one more', async () => {
    const { writer, reader, insert, log, on } = counting()
    const order: string[] = []
    const commit = (name: string) =>
      writer.commit().then(() => order.push(`${name}${seen(reader)}`))
    insert()
    const all = [commit('a')]
    on.step = () => {
      if (log.steps === 2) all.push(commit('b'))
      if (log.steps === 4 || log.steps === 6) {
        insert()
        all.push(commit('c'))
      }
    }
    await all[0]
    expect(order.slice(0, 2)).toEqual(['a1', 'b1'])
    await Promise.all(all)
    expect(order).toEqual(['a1', 'b1', 'c3', 'c3'])
    expect(log.builds).toBe(2)
  })

  test('a change back and forth is still built', async () => {
    const { writer, reader, insert } = counting()
    insert()
    await writer.commit()
    writer.remove(1)
    await writer.commit()
    expect([writer.size, seen(reader)]).toEqual([0, 0])
  })
})

describe('quiesced', () => {
  test('a half that readers may still be in is left alone: the commit waits for the call', async () => {
    const { writer, reader, insert, log } = counting()
    // Nobody has read the second half yet, so that the second commit needs no leave.
    for (const rules of [1, 2]) {
      insert()
      await writer.commit()
      expect(seen(reader)).toBe(rules)
    }
    insert()
    const third = writer.commit()
    expect(await settles(third)).toBe(false)
    expect([log.builds, seen(reader)]).toEqual([2, 2])
    // Changes and commits go on meanwhile, and are served together.
    insert()
    const fourth = writer.commit()
    expect(await settles(fourth)).toBe(false)
    writer.quiesced()
    await Promise.all([third, fourth])
    expect([log.builds, seen(reader)]).toEqual([3, 4])
  })

  test('called during a build gives no leave for the half that this build retires', async () => {
    const { writer, insert, on, log } = counting()
    on.step = () => writer.quiesced()
    for (let i = 0; i < 2; i++) {
      insert()
      await writer.commit()
    }
    insert()
    const third = writer.commit()
    expect(await settles(third)).toBe(false)
    expect(log.builds).toBe(2)
    writer.quiesced()
    await third
  })
})

describe('what does not fit', () => {
  test('readers keep what they have, the changes stay asked for', async () => {
    const { writer, reader, insert, log } = counting()
    log.most = 1
    insert()
    await writer.commit()
    writer.quiesced()
    insert()
    const commit = writer.commit()
    await expect(commit).rejects.toThrow(RangeError)
    await expect(writer.commit()).rejects.toThrow("2 rules don't fit")
    expect([seen(reader), writer.size, [...writer.rules()].length]).toEqual([1, 2, 2])
    // The half that failed was nobody's: no leave is needed to try again.
    log.most = 2
    await writer.commit()
    expect(seen(reader)).toBe(2)
    expect(new Set(log.halves.slice(1)).size).toBe(1)
  })

  test('a commit behind the one that fails is a build of its own', async () => {
    const { writer, reader, insert, log, on } = counting()
    log.most = 1
    insert()
    insert()
    let second: Promise<void> | undefined
    on.step = () => {
      if (log.steps !== 3) return
      writer.remove(1)
      second = writer.commit()
    }
    await expect(writer.commit()).rejects.toThrow(RangeError)
    await second
    expect([seen(reader), log.builds]).toEqual([1, 2])
  })

  test('a refused rule changes nothing', async () => {
    const { writer, log } = counting()
    expect(() => writer.insert({ id: 0, priority: 0 })).toThrow(RangeError)
    await writer.commit()
    expect([writer.size, log.builds]).toEqual([0, 0])
  })
})

describe.each(FAMILIES)('rules in columns, IPv%i', family => {
  const rules = rulesOf(SHAPES['nested prefixes']!, family, 300, 7)
  const flat = rules.map(rule => flatten(family, rule))
  const columns = last(columnsOf(family, flat))

  test('are sorted by rank', () => {
    const ranks = columns.rules.map(({ rank }) => rank)
    expect(ranks).toEqual(flat.map(({ rank }) => rank).sort((a, b) => a - b))
  })

  test('prefixes stand right before those inside them', () => {
    for (const side of ['source', 'destination'] as const) {
      const field = side === 'source' ? 0 : flat[0]!.source.length
      const { of, rule, inside } = last(prefixesOf(columns, field))
      const name = (r: number) => `${columns.rules[r]![side]}/${columns.rules[r]![`${side}Length`]}`
      expect(rule.length).toBe(new Set(Array.from(flat.keys(), name)).size)
      for (const [r, prefix] of of.entries()) expect(name(rule[prefix]!)).toBe(name(r))
      for (let prefix = 0; prefix < rule.length; prefix++) {
        const outer = rule[prefix]!
        const within = (other: number) =>
          columns.rules[rule[other]!]![`${side}Length`] > columns.rules[outer]![`${side}Length`] &&
          columns.rules[outer]![side].every((_, w) => {
            const first = columns.first[field + w]!
            return (
              first[rule[other]!]! >= first[outer]! &&
              first[rule[other]!]! <= columns.last[field + w]![outer]!
            )
          })
        const found = [...rule.keys()].filter(within)
        const next = Array.from({ length: inside[prefix]! }, (_, i) => prefix + 1 + i)
        expect(found).toEqual(next)
      }
    }
  })
})

/** What a build returns when all its steps are done. */
function last<T>(steps: Generator<void, T, undefined>): T {
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
  }
}
