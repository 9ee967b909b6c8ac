import { expect, test } from 'vitest'
import { domainBytes, domainMatches, domainText } from '../../../dataplane/dns/names.ts'
import { PatternReader, PatternWriter, patternMemory } from '../../../dataplane/dns/patterns.ts'
import { MAX_PATTERNS } from '../../../dataplane/limits.ts'
import { Dice } from '../../cni/policy/worlds.ts'

const made = (most = 32) => {
  const memory = patternMemory()
  return { writer: new PatternWriter(memory), reader: new PatternReader(memory, most) }
}
const found = (reader: PatternReader, name: string): number[] => {
  const { bytes } = domainBytes(name)
  reader.clear()
  // Beside other bytes, as it lies in a region.
  const all = new Uint8Array(bytes.length + 20).fill(97)
  all.set(bytes, 10)
  reader.match(all, 10, bytes.length)
  return [...reader.found.subarray(0, reader.count)].sort((a, b) => a - b)
}

test('`*.` stands for one or more labels; names are the same in any case, with and without a dot', () => {
  const cases: [pattern: string, name: string, is: boolean][] = [
    ['kubernetes.io', 'kubernetes.io', true],
    ['Kubernetes.IO.', 'kubernetes.io', true],
    ['kubernetes.io', 'www.kubernetes.io', false],
    ['kubernetes.io', 'my-kubernetes.io', false],
    ['*.kubernetes.io', 'www.kubernetes.io', true],
    ['*.KUBERNETES.io.', 'latest.blog.kubernetes.io', true],
    ['*.kubernetes.io', 'kubernetes.io', false],
    ['*.kubernetes.io', 'xkubernetes.io', false],
    ['*.kubernetes.io', 'wikipedia.org', false],
  ]
  for (const [pattern, name, is] of cases) {
    expect(domainMatches(pattern, name), `${pattern} ${name}`).toBe(is)
    const { writer, reader } = made()
    const number = writer.take(pattern)
    expect(found(reader, name), `${pattern} ${name}`).toEqual(is ? [number] : [])
  }
})

test('a dot inside of a label ends no label', () => {
  expect(domainMatches('*.example.org', 'evil\\.example.org')).toBe(false)
  const { writer, reader } = made()
  writer.take('*.example.org')
  reader.clear()
  const bytes = Uint8Array.from([12, ...Buffer.from('evil.example'), 3, ...Buffer.from('org')])
  reader.match(bytes, 0, bytes.length)
  expect(reader.count).toBe(0)
})

test('random patterns that come and go are found as they match', () => {
  const dice = new Dice(11)
  const { writer, reader } = made(64)
  const label = () => dice.one(['a', 'b', 'cc', 'a-b', 'A'])
  const name = (most: number) => dice.some(most, label, 1).join('.')
  const pattern = () => (dice.chance(0.5) ? `*.${name(3)}` : name(4))
  const live: { pattern: string; number: number }[] = []
  for (let round = 0; round < 300; round++) {
    for (let k = dice.below(4); k > 0; k--) {
      const text = pattern()
      live.push({ pattern: text, number: writer.take(text) })
    }
    if (live.length > 25) {
      for (const { number } of live.splice(0, 10)) writer.release(number)
      if (dice.chance(0.5)) writer.quiesced()
    }
    for (let k = 0; k < 20; k++) {
      const asked = name(5)
      const wanted = live.filter(each => domainMatches(each.pattern, domainText(asked)))
      const numbers = [...new Set(wanted.map(({ number }) => number))].sort((a, b) => a - b)
      expect(found(reader, domainText(asked)), asked).toEqual(numbers)
    }
  }
})

test('a number is used again when nobody can be looking at it, and not before', () => {
  const { writer } = made()
  const first = writer.take('a.org')
  expect(writer.take('A.org.')).toBe(first)
  writer.release(first)
  writer.release(first)
  expect(() => writer.release(first)).toThrow(/it is not there/)
  expect(writer.take('b.org')).not.toBe(first)
  writer.quiesced()
  expect(writer.take('c.org')).toBe(first)
})

test('limits have names: patterns in all, patterns of one name', () => {
  const { writer, reader } = made(2)
  for (let k = 0; k < MAX_PATTERNS; k++) writer.take(`n${k}.org`)
  expect(() => writer.take('one.more')).toThrow(/MAX_PATTERNS/)
  const { writer: few } = { writer: new PatternWriter(patternMemory()) }
  expect(() => few.take('not a name')).toThrow(/not a domain name/)
  expect(() => few.take(`${'a.'.repeat(130)}org`)).toThrow(/at most/)
  const other = made(2)
  for (const text of ['a.b.c', '*.b.c', '*.c']) other.writer.take(text)
  expect(found(other.reader, 'a.b.c')).toHaveLength(2)
  expect(other.reader.beyond).toBe(1)
  expect(found(reader, 'n7.org')).toHaveLength(1)
})
