import { describe, expect, test } from 'vitest'
import {
  FLOW_KEY_WORDS,
  type FlowTuples,
  flowKeys4,
  flowKeys6,
  kindOf,
} from '../../../dataplane/hash/flow-key.ts'
import { hashByName, hashNames } from '../../../dataplane/hash/index.ts'
import { random } from './random.ts'

function keysOf(tuples: FlowTuples, family: 4 | 6) {
  const n = tuples.ports.length
  const keys = new Uint32Array(n * FLOW_KEY_WORDS).fill(0xdead)
  const directions = new Uint8Array(n)
  ;(family === 4 ? flowKeys4 : flowKeys6)(tuples, n, keys, directions)
  const of = (i: number) => [...keys.subarray(i * FLOW_KEY_WORDS, (i + 1) * FLOW_KEY_WORDS)]
  return { keys, directions, of }
}

const turned = (word: number) => ((word << 16) | (word >>> 16)) >>> 0

/** The same packets the other way. */
function reply({ source, destination, ports, kinds }: FlowTuples): FlowTuples {
  return { source: destination, destination: source, ports: ports.map(turned), kinds }
}

test('the words of an IPv4 key', () => {
  const tuples = {
    source: Uint32Array.of(0xc0a8_0001),
    destination: Uint32Array.of(0x0a00_0001),
    ports: Uint32Array.of((1234 << 16) | 80),
    kinds: Uint32Array.of(kindOf(4, 6, 0xfffe)),
  }
  const { of, directions } = keysOf(tuples, 4)
  expect(of(0)).toEqual([
    ...[0, 0, 0, 0x0a00_0001],
    ...[0, 0, 0, 0xc0a8_0001],
    (80 << 16) | 1234,
    0xfffe_0406,
  ])
  expect(directions[0]).toBe(1)
})

test('the words of an IPv6 key', () => {
  const tuples = {
    source: Uint32Array.of(0xfd00_0000, 0, 0, 1),
    destination: Uint32Array.of(0xfd00_0000, 0, 0, 0xffff_ffff),
    ports: Uint32Array.of((0xffff << 16) | 53),
    kinds: Uint32Array.of(kindOf(6, 17, 3)),
  }
  const { of, directions } = keysOf(tuples, 6)
  const ends = [...tuples.source, ...tuples.destination]
  expect(of(0)).toEqual([...ends, ((0xffff << 16) | 53) >>> 0, 0x0003_0611])
  expect(directions[0]).toBe(0)
})

describe.each([4, 6] as const)('IPv%i', family => {
  const n = 4000
  const words = family === 4 ? 1 : 4
  const draw = random(family)
  // Few values: equal addresses, equal ports and both are among them.
  const few = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
  const any = () => few[draw() % few.length]!
  const port = () => [0, 1, 80, 0x8000, 0xffff][draw() % 5]!
  const tuples: FlowTuples = {
    source: Uint32Array.from({ length: n * words }, any),
    destination: Uint32Array.from({ length: n * words }, any),
    ports: Uint32Array.from({ length: n }, () => (port() << 16) | port()),
    kinds: Uint32Array.from({ length: n }, () => kindOf(family, 6, draw() & 1)),
  }
  const there = keysOf(tuples, family)
  const back = keysOf(reply(tuples), family)

  test('both directions have one key and different direction bits', () => {
    expect(there.keys).toEqual(back.keys)
    for (let i = 0; i < n; i++) {
      const [a, b] = [tuples.source, tuples.destination].map(column =>
        column.subarray(i * words, (i + 1) * words).join(),
      )
      const alone = a === b && tuples.ports[i] === turned(tuples.ports[i]!)
      expect(there.directions[i]! + back.directions[i]!).toBe(alone ? 0 : 1)
    }
  })

  test('A is the smaller end, and the key keeps everything', () => {
    const seen = new Map<string, string>()
    const text = (from: ArrayLike<number>, at: number) =>
      Array.from({ length: 4 }, (_, w) => from[at + w]!.toString(16).padStart(8, '0')).join('')
    for (let i = 0; i < n; i++) {
      const key = there.of(i)
      const a = text(key, 0) + (key[8]! >>> 16).toString(16).padStart(4, '0')
      const b = text(key, 4) + (key[8]! & 0xffff).toString(16).padStart(4, '0')
      expect(a <= b).toBe(true)
      expect(key[9]).toBe(tuples.kinds[i])
      const end = (column: Uint32Array, port: number) => {
        const words4 = [0, 0, 0, 0]
        for (let w = 0; w < words; w++) words4[4 - words + w] = column[i * words + w]!
        return text(words4, 0) + port.toString(16).padStart(4, '0')
      }
      const from = end(tuples.source, tuples.ports[i]! >>> 16)
      const to = end(tuples.destination, tuples.ports[i]! & 0xffff)
      expect([a, b]).toEqual(there.directions[i] === 0 ? [from, to] : [to, from])
      // Another connection never has this key.
      const ends = [from, to].sort().join() + tuples.kinds[i]
      expect(seen.get(key.join()) ?? ends).toBe(ends)
      seen.set(key.join(), ends)
    }
  })

  test.each(hashNames())('%s: one hash for both directions; IPv4 hashes four words', name => {
    const hasher = hashByName(name).seeded([3, 4])
    const hashes = new Uint32Array(n)
    hasher.flows(there.keys, n, hashes)
    const again = new Uint32Array(n)
    hasher.flows(back.keys, n, again)
    expect(again).toEqual(hashes)
    const one = new Uint32Array(1)
    for (let i = 0; i < n; i += 37) {
      const key = there.of(i)
      const hashed = family === 4 ? [key[3]!, key[7]!, key[8]!, key[9]!] : key
      hasher.words(Uint32Array.from(hashed), hashed.length, 1, one)
      expect(hashes[i]).toBe(one[0])
    }
  })
})
