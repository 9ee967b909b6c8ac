/** DNS messages for tests, built byte by byte and independently of the code under test (RFC 1035 section 4). */
import { bytesOf, concat, ip4Bytes, ip6Bytes } from './packets.ts'

export const A = 1
export const CNAME = 5
export const AAAA = 28

const word = (value: number): Uint8Array => Uint8Array.from([value >> 8, value & 255])

/** Labels and the root, case as given. */
export function nameBytes(name: string): Uint8Array {
  const labels = name === '' ? [] : name.split('.')
  return concat(
    ...labels.map(label => concat(Uint8Array.from([label.length]), Buffer.from(label, 'latin1'))),
    Uint8Array.from([0]),
  )
}

/** A pointer to byte `to` of the message. */
export const pointer = (to: number): Uint8Array => word(0xc000 | to)

export interface DnsRecord {
  /** Text, or bytes as they stand. */
  name: string | Uint8Array
  type: number
  class?: number
  ttl?: number
  /** An address, a name, or bytes as they stand. */
  data: string | Uint8Array
  /** What RDLENGTH says, where that is not so. */
  length?: number
}

export interface DnsFields {
  id?: number
  flags?: number
  name?: string | Uint8Array
  type?: number
  class?: number
  /** What the header says, where that is not so. */
  questions?: number
  count?: number
  answers?: readonly DnsRecord[]
  /** Behind the answers. */
  more?: Uint8Array
}

const nameOf = (name: string | Uint8Array): Uint8Array =>
  typeof name === 'string' ? nameBytes(name) : name

function dataOf({ type, data }: DnsRecord): Uint8Array {
  if (typeof data !== 'string') return data
  if (type === A) return ip4Bytes(data)
  return type === AAAA ? ip6Bytes(data) : nameBytes(data)
}

export function message(fields: DnsFields): Uint8Array {
  const { id = 7, flags = 0, name = 'example.org', type = A, answers = [] } = fields
  const header = concat(
    ...[word(id), word(flags), word(fields.questions ?? 1)],
    ...[word(fields.count ?? answers.length), word(0), word(0)],
  )
  const records = answers.map(record => {
    const data = dataOf(record)
    return concat(
      ...[nameOf(record.name), word(record.type), word(record.class ?? 1)],
      ...[
        bytesOf((record.ttl ?? 60).toString(16).padStart(8, '0')),
        word(record.length ?? data.length),
      ],
      data,
    )
  })
  const question = concat(nameOf(name), word(type), word(fields.class ?? 1))
  return concat(header, question, ...records, fields.more ?? new Uint8Array(0))
}

/** A question for the addresses of a name. */
export function question(fields: Omit<DnsFields, 'answers'>): Uint8Array {
  return message({ flags: 0x0100, ...fields })
}

/** What a resolver answers: to each of these addresses, or records. */
export function answer(
  fields: Omit<DnsFields, 'answers'> & { ttl?: number; to: readonly (string | DnsRecord)[] },
): Uint8Array {
  const { name = 'example.org', type = A, ttl = 60 } = fields
  const answers = fields.to.map(each =>
    typeof each === 'string' ? { name, type, ttl, data: each } : each,
  )
  return message({ flags: 0x8180, ...fields, answers })
}
