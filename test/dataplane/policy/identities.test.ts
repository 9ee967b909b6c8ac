import { expect, test } from 'vitest'
import { ipWords } from '../../../dataplane/addresses.ts'
import { IdentityReader, IdentityWriter } from '../../../dataplane/policy/identities.ts'
import { policyMemory } from '../../../dataplane/policy/memory.ts'

const ROOM = { matches: 16, addresses: 4, flows: 64 }
const made = () => {
  const memory = policyMemory(ROOM)
  const writer = new IdentityWriter(memory)
  const reader = new IdentityReader(memory)
  const who = (address: string): number => {
    const family = address.includes(':') ? 6 : 4
    const index = reader.find(family, ipWords(address), 0)
    return index === 0 ? 0 : reader.identity(index)
  }
  return { writer, reader, who }
}
const named = (addresses: readonly string[], identity = 7) =>
  addresses.map(address => ({ address, identity }))
const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4']
const OTHERS = ['10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.1.4']

test('all of a full table may be others at once', () => {
  const { writer, who } = made()
  expect(writer.follow(named(ADDRESSES)).moved).toEqual(ADDRESSES)
  for (let round = 0; round < 20; round++) {
    const [gone, there] = round % 2 === 0 ? [ADDRESSES, OTHERS] : [OTHERS, ADDRESSES]
    const { moved, changed } = writer.follow(named(there, round + 1))
    expect([moved, changed]).toEqual([[...gone, ...there], false])
    expect(there.map(who)).toEqual(there.map(() => round + 1))
    expect(gone.map(who)).toEqual([0, 0, 0, 0])
    writer.quiesced()
  }
})

test('one more than there is room for is refused by name, and nothing has changed', () => {
  const { writer, who } = made()
  writer.follow(named(ADDRESSES))
  expect(() => writer.follow(named([...OTHERS, '10.0.1.5'], 8))).toThrow('policy addresses')
  expect([...ADDRESSES, ...OTHERS].map(who)).toEqual([7, 7, 7, 7, 0, 0, 0, 0])
  // The families don't share it.
  writer.follow(named([...ADDRESSES, 'fd00::1', 'fd00::2']))
  expect(who('fd00::2')).toBe(7)
})

test('a number of another identity is used again only when nobody can be asking by it', () => {
  const { writer, reader } = made()
  writer.follow(named(['10.0.0.1'], 1))
  const before = reader.find(4, ipWords('10.0.0.1'), 0)
  const { changed } = writer.follow(named(['10.0.0.1'], 2))
  expect(changed).toBe(true)
  writer.follow([...named(['10.0.0.1'], 2), ...named(['10.0.0.2'], 3)])
  expect(reader.identity(before)).toBe(1)
  writer.quiesced()
  writer.follow([...named(['10.0.0.1'], 2), ...named(['10.0.0.2'], 3), ...named(['10.0.0.3'], 4)])
  expect(reader.identity(before)).toBe(4)
})

test('an address belongs to a node: its packets come from there', () => {
  const { writer, reader } = made()
  writer.follow([
    { address: '10.0.0.1', identity: 1, vtep: '192.0.2.1' },
    { address: '10.0.0.2', identity: 1, vtep: 'fd77::1' },
    { address: '10.0.0.3', identity: 1 },
  ])
  const from = (address: string, vtep: string): boolean => {
    const words = ipWords(vtep)
    const [a, b, c, d] = words.length === 4 ? words : [0, 0, 0xffff, words[0]!]
    return reader.comesFrom(reader.find(4, ipWords(address), 0), a!, b!, c!, d!)
  }
  expect(from('10.0.0.1', '192.0.2.1')).toBe(true)
  expect(from('10.0.0.1', '192.0.2.2')).toBe(false)
  expect(from('10.0.0.1', 'fd77::1')).toBe(false)
  expect(from('10.0.0.2', 'fd77::1')).toBe(true)
  expect(from('10.0.0.3', '192.0.2.9')).toBe(true)
})
