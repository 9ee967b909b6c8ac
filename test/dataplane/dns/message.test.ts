import { describe, expect, test } from 'vitest'
import { DnsMessage, MAX_CNAMES, MAX_RECORDS, READ } from '../../../dataplane/dns/message.ts'
import { nameText } from '../../../dataplane/dns/names.ts'
import { Dice } from '../../cni/policy/worlds.ts'
import {
  A,
  AAAA,
  answer,
  CNAME,
  type DnsRecord,
  message,
  nameBytes,
  pointer,
  question,
} from '../../harness/dns.ts'
import { concat } from '../../harness/packets.ts'

const reader = new DnsMessage()
/** Bytes that nobody may read lie around each message. */
const AROUND = 64

function read(bytes: Uint8Array, what: 'readQuestion' | 'readAnswer' = 'readAnswer') {
  const all = new Uint8Array(bytes.length + 2 * AROUND).fill(0xc0)
  all.set(bytes, AROUND)
  const result = reader[what](new DataView(all.buffer), AROUND, bytes.length)
  const four = Array.from({ length: reader.count }, (_, k) => [
    ...reader.addresses.subarray(k * 4, k * 4 + 4),
  ])
  return {
    result,
    name: nameText(reader.name.slice(0, reader.nameBytes)),
    addresses: four.map(words => words.map(w => w.toString(16)).join(':')),
    ttls: [...reader.ttls.subarray(0, reader.count)],
  }
}

const refused = (bytes: Uint8Array) => read(bytes).result
const chain = (length: number): DnsRecord[] =>
  Array.from({ length }, (_, k) => ({ name: `n${k}.org`, type: CNAME, data: `n${k + 1}.org` }))

describe('questions', () => {
  test('a name in any case is read as it was sent, and folded', () => {
    const bytes = question({ name: 'Www.ExAmPlE.org', id: 0x1234 })
    expect(read(bytes, 'readQuestion')).toMatchObject({ result: READ.OK, name: 'www.example.org' })
    expect(reader).toMatchObject({ id: 0x1234, type: A, questionBytes: 17 + 4 })
    expect(reader.questionAt).toBe(AROUND + 12)
  })

  test('what asks for no address, or is no question, is none', () => {
    const other = [
      question({ type: 16 }),
      question({ class: 3 }),
      question({ name: '' }),
      question({ flags: 0x8180 }),
      question({ flags: 0x2800 }),
      question({ questions: 2 }),
      question({ questions: 0 }),
    ]
    for (const bytes of other) expect(read(bytes, 'readQuestion').result).toBe(READ.OTHER)
    expect(read(question({ name: pointer(12) }), 'readQuestion').result).toBe(READ.MALFORMED)
    expect(read(question({ name: 'a'.repeat(64) }), 'readQuestion').result).toBe(READ.MALFORMED)
  })
})

describe('answers', () => {
  test('addresses of the name, of the type that was asked', () => {
    const to = [
      { name: 'example.org', type: A, ttl: 30, data: '192.0.2.1' },
      { name: pointer(12), type: A, ttl: 20, data: '192.0.2.2' },
      { name: 'EXAMPLE.org', type: A, ttl: 0xffff_ffff, data: '192.0.2.3' },
      { name: 'example.org', type: AAAA, data: '2001:db8::1' },
      { name: 'example.org', type: A, class: 3, data: '192.0.2.4' },
      { name: 'other.org', type: A, data: '192.0.2.5' },
      { name: 'example.org', type: 16, data: nameBytes('x') },
    ]
    expect(read(answer({ to }))).toEqual({
      result: READ.OK,
      name: 'example.org',
      addresses: ['0:0:0:c0000201', '0:0:0:c0000202', '0:0:0:c0000203'],
      ttls: [30, 20, 0],
    })
    expect(read(answer({ type: AAAA, to: ['2001:db8::7'] }))).toMatchObject({
      addresses: ['20010db8:0:0:7'],
    })
  })

  test('CNAMEs are followed in any order, and none that the name does not lead to', () => {
    const to: DnsRecord[] = [
      { name: 'c.net', type: A, ttl: 50, data: '192.0.2.9' },
      { name: 'b.net', type: CNAME, ttl: 9, data: 'c.net' },
      {
        name: 'example.org',
        type: CNAME,
        ttl: 40,
        data: concat(nameBytes('b').slice(0, 2), nameBytes('net')),
      },
      { name: 'example.org', type: A, data: '192.0.2.1' },
      { name: 'evil.org', type: CNAME, data: 'bank.org' },
      { name: 'bank.org', type: A, data: '192.0.2.66' },
    ]
    expect(read(answer({ to }))).toMatchObject({ addresses: ['0:0:0:c0000209'], ttls: [9] })
  })

  test('a chain has an end: its length, and a circle, are bounded', () => {
    const end = (k: number): DnsRecord => ({ name: `n${k}.org`, type: A, data: '192.0.2.1' })
    const long = (k: number) => answer({ name: 'n0.org', to: [...chain(k), end(k)] })
    expect(refused(long(MAX_CNAMES))).toBe(READ.OK)
    expect(refused(long(MAX_CNAMES + 1))).toBe(READ.MANY)
    const circle = [{ name: 'example.org', type: CNAME, data: 'example.org' }]
    expect(refused(answer({ to: circle }))).toBe(READ.MANY)
  })

  test('no more records than are read', () => {
    const to = (n: number) => Array.from({ length: n }, (_, k) => `192.0.2.${k}`)
    expect(read(answer({ to: to(MAX_RECORDS) })).addresses).toHaveLength(MAX_RECORDS)
    expect(refused(answer({ to: to(MAX_RECORDS + 1) }))).toBe(READ.MANY)
  })

  test('what says nothing of addresses is none', () => {
    const to = ['192.0.2.1']
    for (const flags of [0x8183, 0x8182, 0x0180, 0xa180]) {
      expect(refused(answer({ flags, to }))).toBe(READ.OTHER)
    }
    expect(refused(answer({ to: [] }))).toBe(READ.OTHER)
    expect(refused(answer({ to: chain(1) }))).toBe(READ.OTHER)
  })

  test('a truncated one has what it has', () => {
    expect(refused(answer({ flags: 0x8380, to: ['192.0.2.1'] }))).toBe(READ.OK)
  })

  test('a label with a dot in it is one label', () => {
    const label = 'evil.example'
    const name = concat(Uint8Array.from([label.length]), Buffer.from(label), nameBytes('org'))
    const bytes = answer({ name, to: [{ name: pointer(12), type: A, data: '192.0.2.1' }] })
    expect(read(bytes)).toMatchObject({ result: READ.OK, name: 'evil\\.example.org' })
  })

  test('names that lead on, around or out are refused', () => {
    const at = (name: Uint8Array) => answer({ to: [{ name, type: A, data: '192.0.2.1' }] })
    // The record's name begins behind the question: 12 + 13 + 4.
    const own = 29
    for (const name of [
      pointer(own),
      pointer(own + 2),
      pointer(0),
      pointer(5),
      pointer(0x3fff),
      concat(Uint8Array.from([1, 0x61]), pointer(own)),
      Uint8Array.from([0x40, 0]),
      Uint8Array.from([0x80, 0]),
      Uint8Array.from([63]),
      Uint8Array.from([0xc0]),
      concat(
        ...Array.from({ length: 8 }, () =>
          concat(Uint8Array.from([31]), new Uint8Array(31).fill(97)),
        ),
        Uint8Array.from([0]),
      ),
    ]) {
      expect(refused(at(name))).toBe(READ.MALFORMED)
    }
  })

  test('a pointer to a pointer is followed as long as it leads back', () => {
    const to = [
      { name: pointer(12), type: A, data: '192.0.2.1' },
      { name: pointer(29), type: A, data: '192.0.2.2' },
    ]
    expect(read(answer({ to })).addresses).toHaveLength(2)
  })

  test('records that lie about their lengths are refused', () => {
    const lies: DnsRecord[] = [
      { name: 'example.org', type: A, data: '192.0.2.1', length: 5 },
      { name: 'example.org', type: A, data: new Uint8Array(3) },
      { name: 'example.org', type: AAAA, data: new Uint8Array(4) },
      { name: 'example.org', type: CNAME, data: concat(nameBytes('b.org'), new Uint8Array(1)) },
      { name: 'example.org', type: CNAME, data: new Uint8Array(0) },
      { name: 'example.org', type: 16, data: 'x', length: 0xffff },
    ]
    for (const lie of lies) expect(refused(answer({ to: [lie] }))).toBe(READ.MALFORMED)
    expect(refused(message({ flags: 0x8180, count: 1 }))).toBe(READ.MALFORMED)
  })

  test('cut off anywhere, it is refused', () => {
    const whole = answer({
      to: [...chain(2), '192.0.2.1', { name: pointer(12), type: AAAA, data: '2001:db8::1' }],
    })
    for (let length = 0; length < whole.length; length++) {
      expect(refused(whole.subarray(0, length))).toBe(READ.MALFORMED)
    }
  })
})

test('mutations: nothing is read outside, nothing throws, and what is read is in the message', () => {
  const dice = new Dice(53)
  const corpus = [
    question({ name: 'a.b.c.d.example.org' }),
    answer({ to: ['192.0.2.1', '192.0.2.2'] }),
    answer({ name: 'n0.org', to: [...chain(8), { name: 'n8.org', type: A, data: '192.0.2.1' }] }),
    answer({ type: AAAA, to: [{ name: pointer(12), type: AAAA, data: '2001:db8::1' }] }),
    answer({
      to: Array.from({ length: 40 }, () => ({ name: pointer(12), type: A, data: '192.0.2.1' })),
    }),
  ]
  let whole = 0
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from(dice.one(corpus))
    for (let n = dice.below(4); n >= 0; n--) {
      const at = dice.below(bytes.length)
      bytes[at] = dice.chance(0.3) ? 0xc0 | dice.below(4) : dice.below(256)
    }
    const cut = dice.chance(0.3) ? bytes.subarray(0, dice.below(bytes.length)) : bytes
    for (const what of ['readQuestion', 'readAnswer'] as const) {
      const { result, addresses, name } = read(cut, what)
      if (result !== READ.OK) continue
      whole++
      const inside = reader.questionAt + reader.questionBytes <= AROUND + cut.length
      if (name !== '' && inside && (what === 'readQuestion' || addresses.length > 0)) continue
      expect.fail(`round ${round}: ${Buffer.from(cut).toString('hex')}`)
    }
  }
  expect(whole).toBeGreaterThan(1000)
})
