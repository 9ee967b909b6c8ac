/** What every flow table promises (dataplane/flow/flow.ts) in one thread, held against a Map. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ENTRY, ENTRY_WORDS, FOUND, MAX_FLOWS, MAX_TIMEOUT } from '../../../dataplane/flow/flow.ts'
import { flowByName, flowNames } from '../../../dataplane/flow/index.ts'
import { MapOracle } from '../../../dataplane/flow/map-oracle.ts'
import { FLOW_KEY_WORDS } from '../../../dataplane/hash/flow-key.ts'
import { sharedPages } from '../../../dataplane/memory/pages.ts'
import {
  answersFor,
  collidingKeys,
  decisionsOf,
  forwardOf,
  insertAll,
  keysOf,
  probeAll,
  range,
  reverseOf,
  table,
  turned,
} from './tables.ts'

const LIMITS = { flows: 1000, ports: 4 }
const PAGE = 4096

const ended = (n: number) => new Uint32Array(n * ENTRY_WORDS)

describe.each(flowNames())('%s', name => {
  test('an empty table misses, and takes a batch of nothing', () => {
    const { flows } = table(name, LIMITS)
    const { slots, found } = probeAll(flows, range(0, 300))
    expect(new Set(slots)).toEqual(new Set([-1]))
    expect(new Set(found)).toEqual(new Set([FOUND.MISS]))
    flows.probe(keysOf([]), 0, 1, answersFor(0))
    expect([...flows.flows()]).toEqual([])
    expect(flows.counters().live).toBe(0)
  })

  test('both directions find the same entry, each with its action', () => {
    const { flows } = table(name, LIMITS)
    const numbers = range(0, 600)
    expect(new Set(insertAll(flows, numbers))).toEqual(new Set([FOUND.INSERTED]))
    const there = probeAll(flows, numbers)
    expect([...there.actions]).toEqual(numbers.map(forwardOf))
    const back = answersFor(600)
    flows.probe(turned(keysOf(numbers)), 600, 1, back)
    expect([...back.actions]).toEqual(numbers.map(reverseOf))
    expect(back.slots).toEqual(there.slots)
    expect(new Set(there.slots).size).toBe(600)
  })

  test('the bytes of an entry', () => {
    const { memory, flows } = table(name, LIMITS)
    const keys = keysOf([77])
    const answers = answersFor(1)
    flows.insert(keys, 1, decisionsOf([77], 3, 5), 0xfedc_ba98, 0x1_2345, answers)
    const slot = answers.slots[0]!
    const entries = memory.subarray(memory.length - flows.slots * 64)
    expect((entries.byteOffset - memory.byteOffset) % PAGE).toBe(0)
    const view = new DataView(entries.buffer, entries.byteOffset + slot * 64, 64)
    expect(view.getUint32(0, true) & 3).toBe(2)
    expect(view.getUint32(4, true)).toBe(keys.hashes[0])
    for (let w = 0; w < FLOW_KEY_WORDS; w++) {
      expect(view.getUint32(8 + 4 * w, true)).toBe(keys.words[w])
    }
    expect([view.getUint8(44), view.getUint8(45), view.getUint16(46, true)]).toEqual([6, 6, 1])
    expect(view.getUint32(48, true)).toBe(0xfedc_ba98)
    const direction = keys.directions[0]!
    expect(view.getUint32(52 + 4 * direction, true)).toBe(forwardOf(77))
    expect(view.getUint32(56 - 4 * direction, true)).toBe(reverseOf(77))
    expect(view.getUint16(60, true)).toBe(0x2345)
    expect(view.getUint16(62, true)).toBe(3 | (5 << 12) | (direction << 15))
    expect([...flows.flows()]).toEqual([
      Uint32Array.of(
        ...new Uint32Array(entries.slice(slot * 64, slot * 64 + 64).buffer),
        ...[0, 0x1_2345 << 8, 0, 0, 154, 155],
      ),
    ])
  })

  test('an entry of another generation is found as stale, with its old action, and refreshed', () => {
    const { flows } = table(name, LIMITS)
    insertAll(flows, range(0, 10), { generation: 0xffff_ffff, port: 2 })
    const stale = probeAll(flows, range(0, 10), 0)
    expect([...stale.found]).toEqual(new Array(10).fill(FOUND.STALE))
    expect([...stale.actions]).toEqual(range(0, 10).map(forwardOf))
    const answers = answersFor(10)
    const again = decisionsOf(range(100, 110), 1)
    flows.insert(keysOf(range(0, 10)), 10, again, 0, 5, answers)
    expect([...answers.found]).toEqual(new Array(10).fill(FOUND.REFRESHED))
    expect(answers.slots).toEqual(stale.slots)
    const now = probeAll(flows, range(0, 10), 0)
    expect([...now.found]).toEqual(new Array(10).fill(FOUND.CURRENT))
    expect([...now.actions]).toEqual(range(100, 110).map(forwardOf))
    // It stays the first port's.
    expect([flows.owned(2), flows.owned(1)]).toEqual([10, 0])
    // A third one comes too late: the decision that is there stands.
    flows.insert(keysOf(range(0, 10)), 10, decisionsOf(range(200, 210)), 0, 5, answers)
    expect([...answers.found]).toEqual(new Array(10).fill(FOUND.CURRENT))
    expect([...answers.actions]).toEqual(range(100, 110).map(forwardOf))
  })

  test('those that are gone by a question about their entries, and no others', () => {
    const { flows } = table(name, LIMITS)
    insertAll(flows, range(0, 900), { port: 1 })
    const wanted = new Set(
      range(0, 900)
        .filter(n => n % 3 === 0)
        .map(n => forwardOf(n) | 0),
    )
    let asked = 0
    const gone = (words: Int32Array, at: number): boolean => {
      asked++
      const actions = [words[at + ENTRY.ACTION]!, words[at + ENTRY.ACTION + 1]!]
      return actions.some(action => wanted.has(action))
    }
    expect(flows.removeWhere(gone)).toBe(300)
    expect(asked).toBe(1200)
    expect([flows.counters().live, flows.counters().removed, flows.owned(1)]).toEqual([
      600, 300, 600,
    ])
    const { found } = probeAll(flows, range(0, 900))
    expect([...found].every((each, n) => each === (n % 3 === 0 ? FOUND.MISS : FOUND.CURRENT))).toBe(
      true,
    )
    expect(flows.removeWhere(() => true)).toBe(600)
    expect(flows.removeWhere(() => true)).toBe(0)
  })

  test('an account counts packets and bytes, goes where its flow goes, and has the labels of who decided last', () => {
    const { flows } = table(name, LIMITS)
    const numbers = range(0, 900)
    const accountOf = (number: number) => {
      const key = keysOf([number]).words.join()
      const entry = [...flows.flows()].find(
        each => each.slice(ENTRY.KEY, ENTRY.KEY + FLOW_KEY_WORDS).join() === key,
      )!
      const [packets, begun, low, high, ...labels] = entry.slice(ENTRY_WORDS)
      return { packets, begun: begun! >>> 8, bytes: high! * 2 ** 32 + low!, labels }
    }
    insertAll(flows, numbers.slice(0, 10), { tick: 5 })
    const { slots } = probeAll(flows, [3, 4])
    const bytes = Uint32Array.of(1000, 0xffff_ffff)
    for (let k = 0; k < 3; k++) flows.count(slots, 2, bytes)
    flows.count(Int32Array.of(-1), 1, bytes)
    // Many more: flows move about.
    for (const number of numbers.slice(10)) insertAll(flows, [number], { tick: 6 })
    expect(accountOf(3)).toEqual({ packets: 3, begun: 5, bytes: 3000, labels: [6, 7] })
    expect(accountOf(4)).toEqual({ packets: 3, begun: 5, bytes: 3 * 0xffff_ffff, labels: [8, 9] })
    expect(accountOf(800)).toEqual({ packets: 0, begun: 6, bytes: 0, labels: [1600, 1601] })
    flows.insert(keysOf([3]), 1, decisionsOf([77]), 2, 9, answersFor(1))
    expect(accountOf(3)).toEqual({ packets: 3, begun: 5, bytes: 3000, labels: [154, 155] })
  })

  test('another action for one direction of a flow that is still what this generation decided', () => {
    const { flows } = table(name, LIMITS)
    const numbers = range(0, 10)
    insertAll(flows, numbers, { generation: 7 })
    flows.redirect(keysOf([0, 1, 99]), 3, Uint32Array.of(0xffff_fff1, 2, 3), 7)
    flows.redirect(turned(keysOf([2])), 1, Uint32Array.of(4), 7)
    flows.redirect(keysOf([3]), 1, Uint32Array.of(5), 8)
    const there = probeAll(flows, numbers, 7)
    expect(new Set(there.found)).toEqual(new Set([FOUND.CURRENT]))
    expect([...there.actions]).toEqual([0xffff_fff1, 2, ...numbers.slice(2).map(forwardOf)])
    const back = answersFor(10)
    flows.probe(turned(keysOf(numbers)), 10, 7, back)
    expect([...back.actions]).toEqual(numbers.map(each => (each === 2 ? 4 : reverseOf(each))))
    expect(flows.counters().live).toBe(10)
  })

  test('keys that differ in one bit are different flows', () => {
    const { flows } = table(name, LIMITS)
    const base = keysOf([1235])
    const n = 32 * FLOW_KEY_WORDS + 1
    const words = new Uint32Array(n * FLOW_KEY_WORDS)
    for (let i = 0; i < n; i++) {
      words.set(base.words, i * FLOW_KEY_WORDS)
      if (i > 0) words[i * FLOW_KEY_WORDS + ((i - 1) >> 5)]! ^= 1 << ((i - 1) & 31)
    }
    // One hash for all: only the keys tell them apart.
    const keys = {
      words,
      hashes: new Uint32Array(n).fill(base.hashes[0]!),
      directions: new Uint8Array(n),
    }
    flows.insert(base, 1, decisionsOf([9]), 1, 0, answersFor(1))
    const answers = answersFor(n)
    flows.probe(keys, n, 1, answers)
    // The family's bits are the caller's promise: an IPv6 key is compared as one by its family.
    const wrong = range(1, n).filter(i => answers.found[i] !== FOUND.MISS)
    expect(wrong.filter(i => Math.floor((i - 1) / 8) !== 37)).toEqual([])
    expect(answers.found[0]).toBe(FOUND.CURRENT)
  })

  test('any changes, any order', () => {
    const number = fc.integer({ min: 0, max: 400 })
    const some = fc.array(number, { minLength: 1, maxLength: 300, size: 'max' })
    const step = fc.record({
      what: fc.constantFrom('insert', 'insert', 'remove', 'touch', 'sweep'),
      numbers: some,
      generation: fc.integer({ min: 1, max: 2 }),
      pass: fc.integer({ min: 0, max: 30 }),
      timeoutClass: fc.integer({ min: 0, max: 7 }),
    })
    const timeouts = [5, 10, 20, 40, 80, 160, 320, 640]
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 25 }),
        fc.integer({ min: 0, max: 0xffff }),
        (steps, start) => {
          const { flows } = table(name, { flows: 500, ports: 4 })
          for (const [timeoutClass, ticks] of timeouts.entries())
            flows.setTimeout(timeoutClass, ticks)
          const oracle = new MapOracle()
          let tick = start
          for (const { what, numbers, generation, pass, timeoutClass } of steps) {
            tick = (tick + pass) & 0xffff
            const n = numbers.length
            const keys = keysOf(numbers)
            const [mine, right] = [answersFor(n), answersFor(n)]
            if (what === 'insert') {
              const decisions = decisionsOf(
                numbers.map(each => each + generation),
                1,
                timeoutClass,
              )
              flows.insert(keys, n, decisions, generation, tick, mine)
              oracle.insert(keys, n, decisions, generation, tick, right)
              expect(mine.found).toEqual(right.found)
              expect(mine.actions).toEqual(right.actions)
            } else if (what === 'remove') {
              expect(flows.remove(keys, n, ended(n))).toBe(oracle.remove(keys, n))
            } else if (what === 'touch') {
              flows.probe(keys, n, generation, mine)
              flows.touch(mine.slots, n, tick)
              for (let i = 0; i < n; i++) oracle.touch(keys, i, tick)
            } else {
              let aged = 0
              const room = ended(flows.slots)
              for (let left = flows.slots; left > 0; left -= 100) {
                aged += flows.sweep(Math.min(left, 100), tick, room)
              }
              expect(aged).toBe(oracle.age(tick, timeouts))
            }
            const every = keysOf(range(0, 401))
            const [all, truth] = [answersFor(401), answersFor(401)]
            flows.probe(every, 401, 1, all)
            oracle.probe(every, 401, 1, truth)
            expect(all.found).toEqual(truth.found)
            expect(all.actions).toEqual(truth.actions)
            expect(flows.counters().live).toBe(oracle.flows.size)
            expect(flows.owned(1)).toBe(oracle.flows.size)
            expect([...flows.flows()].length).toBe(oracle.flows.size)
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  test('the flows that it promises fit; when it is full, inserts are refused and counted, flows live on', () => {
    const { flows } = table(name, { flows: 3500, ports: 4 })
    const promised = range(0, 3500)
    expect(insertAll(flows, promised).every(found => found === FOUND.INSERTED)).toBe(true)
    flows.setQuota(0, MAX_FLOWS)
    const more = insertAll(flows, range(3500, 30_000))
    const refused = more.filter(found => found === FOUND.REFUSED_FULL).length
    const inserted = more.filter(found => found === FOUND.INSERTED).length
    expect(refused + inserted).toBe(more.length)
    expect(refused).toBeGreaterThan(0)
    expect(flows.counters()).toMatchObject({ live: 3500 + inserted, refusedFull: refused })
    expect(flows.owned(0)).toBe(3500 + inserted)
    const { found, actions } = probeAll(flows, promised)
    expect(found.every(each => each === FOUND.CURRENT)).toBe(true)
    expect([...actions]).toEqual(promised.map(forwardOf))
    // And the others are what their inserts said.
    const others = probeAll(flows, range(3500, 30_000))
    for (const [i, each] of more.entries()) {
      expect(others.found[i]).toBe(each === FOUND.INSERTED ? FOUND.CURRENT : FOUND.MISS)
    }
  })

  test('keys of one hash fill exactly the places that a key may have', () => {
    const { flows } = table(name, LIMITS)
    const { places } = flowByName(name)
    const n = places + 5
    const keys = collidingKeys(range(0, n), 0xabcd_1234)
    const answers = answersFor(n)
    expect(flows.insert(keys, n, decisionsOf(range(0, n)), 1, 0, answers)).toBe(places)
    expect([...answers.found.subarray(places)]).toEqual(new Array(5).fill(FOUND.REFUSED_FULL))
    flows.probe(keys, n, 1, answers)
    expect([...answers.actions.subarray(0, places)]).toEqual(range(0, places).map(forwardOf))
    expect([...answers.found.subarray(places)]).toEqual(new Array(5).fill(FOUND.MISS))
    expect(flows.remove(keys, n, ended(n))).toBe(places)
  })

  test('a port has its share and no more; others have theirs', () => {
    const { flows } = table(name, LIMITS)
    flows.setQuota(1, 100)
    const mine = insertAll(flows, range(0, 150), { port: 1 })
    expect(mine.filter(found => found === FOUND.INSERTED).length).toBe(100)
    expect(mine.filter(found => found === FOUND.REFUSED_QUOTA).length).toBe(50)
    expect(insertAll(flows, range(200, 300), { port: 2 })).toEqual(
      new Array(100).fill(FOUND.INSERTED),
    )
    expect([0, 1, 2, 3].map(port => flows.owned(port))).toEqual([0, 100, 100, 0])
    expect(flows.counters().refusedQuota).toBe(50)
    // Its own flows are still refreshed, and an end gives the share back.
    expect(insertAll(flows, [5], { port: 1, generation: 2 })).toEqual([FOUND.REFRESHED])
    expect(flows.remove(keysOf([5, 6]), 2, ended(2))).toBe(2)
    expect(insertAll(flows, [120, 121, 122], { port: 1 })).toEqual([
      FOUND.INSERTED,
      FOUND.INSERTED,
      FOUND.REFUSED_QUOTA,
    ])
    // A port that is none has no share.
    expect(insertAll(flows, [700], { port: 4 })).toEqual([FOUND.REFUSED_QUOTA])
    flows.setQuota(1, 0)
    expect(insertAll(flows, [800], { port: 1 })).toEqual([FOUND.REFUSED_QUOTA])
    expect(flows.owned(1)).toBe(100)
  })

  test('of pending flows a port has a share of its own, whichever way they end or change', () => {
    const { flows } = table(name, LIMITS)
    flows.setPendingQuota(1, 3)
    flows.setTimeout(0, 10)
    const pending = { port: 1 }
    expect(insertAll(flows, [1, 2, 3], pending)).toEqual(Array(3).fill(FOUND.INSERTED))
    expect(insertAll(flows, [4], pending)).toEqual([FOUND.REFUSED_PENDING])
    expect([flows.owned(1), flows.pending(1)]).toEqual([3, 3])
    // Others, and other kinds of its own, come in.
    expect(insertAll(flows, [5], { port: 2 })).toEqual([FOUND.INSERTED])
    expect(insertAll(flows, [6], { port: 1, timeoutClass: 1 })).toEqual([FOUND.INSERTED])
    const slot = probeAll(flows, [1]).slots[0]!
    expect(flows.classAt(slot)).toBe(0)
    flows.classify(slot, 5)
    expect(flows.pending(1)).toBe(3)
    flows.classify(slot, 1)
    flows.classify(slot, 2)
    expect([flows.classAt(slot), flows.pending(1)]).toEqual([2, 2])
    expect(insertAll(flows, [4], pending)).toEqual([FOUND.INSERTED])
    // One that becomes pending again is counted.
    flows.classify(slot, 0)
    expect(flows.pending(1)).toBe(4)
    flows.remove(keysOf([2]), 1, ended(1))
    expect(flows.pending(1)).toBe(3)
    for (let at = 0; at < flows.slots; at += 64) flows.sweep(64, 20, ended(64))
    expect([1, 2].map(port => [flows.owned(port), flows.pending(port)])).toEqual([
      [1, 0],
      [0, 0],
    ])
    expect(flows.counters()).toMatchObject({ refusedPending: 1 })
  })

  test('the wheel takes out what is old, a bounded slice a call, and says what it was', () => {
    const { flows } = table(name, LIMITS)
    flows.setTimeout(0, 10)
    flows.setTimeout(1, 100)
    const tick = 0xfffa
    insertAll(flows, range(0, 50), { tick })
    insertAll(flows, range(50, 100), { tick, timeoutClass: 1, port: 2 })
    const answers = probeAll(flows, range(0, 10))
    flows.touch(answers.slots, 10, tick + 5)
    // One moves to the class of the long timeout.
    flows.classify(probeAll(flows, [20]).slots[0]!, 1)
    const round = (now: number) => {
      const gone: Uint32Array[] = []
      for (let at = 0; at < flows.slots; at += 64) {
        const copies = ended(64)
        const count = flows.sweep(64, now, copies)
        for (let i = 0; i < count; i++) {
          gone.push(copies.slice(i * ENTRY_WORDS, (i + 1) * ENTRY_WORDS))
        }
      }
      return gone
    }
    expect(round(tick + 9)).toEqual([])
    // A clock that is behind a little takes nothing.
    expect(round(tick - 1)).toEqual([])
    const first = round(tick + 10)
    expect(first.length).toBe(39)
    const actions = first.map(entry => [entry[ENTRY.ACTION]!, entry[ENTRY.ACTION + 1]!])
    const expected = range(10, 50).filter(number => number !== 20)
    const sorted = actions.map(pair => pair.find(action => action < 0x8000_0000)!)
    expect(sorted.sort((a, b) => a - b)).toEqual(expected.map(forwardOf))
    expect(round(tick + 15).length).toBe(10)
    expect(flows.owned(0)).toBe(1)
    expect(round(tick + 100).length).toBe(51)
    expect(flows.counters()).toMatchObject({ live: 0, aged: 100, removed: 0 })
    expect([flows.owned(0), flows.owned(2)]).toEqual([0, 0])
  })

  test('a sweep goes no further than it has room for copies', () => {
    const { flows } = table(name, LIMITS)
    flows.setTimeout(0, 1)
    insertAll(flows, range(0, 1000))
    let aged = 0
    for (let at = 0; at < flows.slots; at += 3) aged += flows.sweep(1000, 1, ended(3))
    expect(aged).toBe(1000)
  })

  test('arguments out of range', () => {
    const flow = flowByName(name)
    for (const flows of [0, 1.5, MAX_FLOWS + 1]) {
      expect(() => flow.bytes({ flows, ports: 1 })).toThrow(`flows: ${flows} is not in 1..`)
    }
    expect(() => flow.bytes({ flows: 1, ports: 4097 })).toThrow('MAX_FLOW_PORTS')
    expect(flow.bytes({ flows: MAX_FLOWS, ports: 4096 })).toBeGreaterThan(2 ** 30)
    const { flows } = table(name, LIMITS)
    expect(() => flows.setTimeout(8, 1)).toThrow('timeout class 8')
    expect(() => flows.setTimeout(0, MAX_TIMEOUT + 1)).toThrow('MAX_TIMEOUT')
    expect(() => flows.setQuota(4, 1)).toThrow('flow port 4 is not in 0..3')
    expect(() => flows.setQuota(0, -1)).toThrow('quota of port 0')
    expect(() => flows.owned(-1)).toThrow(RangeError)
    expect(() => flow.create(sharedPages(PAGE), LIMITS)).toThrow('flow table: 4096 bytes, it takes')
  })
})

test('names', () => {
  expect(flowNames()).toEqual(['cuckoo', 'cuckoo_native', 'linear'])
  expect(() => flowByName('map')).toThrow('flow table "map": there is none')
})
