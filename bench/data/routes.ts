/**
 * Route tables: in flat columns, from files of prefixes, and the full Internet table from
 * `routes/full-table.txt.gz` in the folder of outside data (see `dataPath`).
 */
import { existsSync } from 'node:fs'
import { MAX_NEXT_HOP_ID } from '../../dataplane/fib/fib.ts'
import { MAX_ROUTES, wordMask } from '../../dataplane/fib/route.ts'
import { dataPath, Intake, isComment, lines } from './files.ts'

/** Routes in flat columns. */
export interface RouteTable {
  family: 4 | 6
  count: number
  /** One word a route (IPv4) or four. */
  addresses: Uint32Array
  lengths: Uint8Array
  nextHops: Uint16Array
}

export const fullTablePath = dataPath('routes/full-table.txt.gz')

/** Next hops that routes without one of their own are spread over. */
export const NEXT_HOPS = 64

/** Next hop of route number `i`: 1 .. NEXT_HOPS, the same in every run. */
export function nextHopOf(i: number): number {
  return 1 + ((Math.imul(i + 1, 0x9e37_79b1) >>> 16) % NEXT_HOPS)
}

/** Words of an address of the family. */
export function wordsOf(family: 4 | 6): 1 | 4 {
  return family === 4 ? 1 : 4
}

/** The words of route `i`'s prefix. */
export function prefixOf(table: RouteTable, i: number): Uint32Array {
  const words = wordsOf(table.family)
  return table.addresses.subarray(i * words, (i + 1) * words)
}

let full: RouteFile | undefined

/** The full table of a family, undefined when the file is not there. Throws for a file that is not whole. */
export function fullTable(family: 4 | 6): RouteTable | undefined {
  if (!existsSync(fullTablePath)) return undefined
  full ??= readRoutes(fullTablePath)
  if (full.intake.refused > 0) throw new Error(full.intake.describe().join('\n'))
  return full.tables[family]
}

/** What a file of routes holds. */
export interface RouteFile {
  tables: Record<4 | 6, RouteTable>
  intake: Intake
}

/**
 * Reads a file of routes, both families mixed: `ADDRESS/LENGTH [NEXT HOP]` a line, the next hop a
 * number 1 .. MAX_NEXT_HOP_ID; blank lines and comments (`#`) count as neither taken nor refused.
 * Refused: what is no prefix, has bits behind its length, is there already, or is one too many.
 */
export function readRoutes(path: string): RouteFile {
  const intake = new Intake(path)
  const columns = { 4: new Columns(4), 6: new Columns(6) }
  for (const [i, line] of lines(path).entries()) {
    if (isComment(line)) continue
    const refused = take(line, columns)
    if (refused === undefined) intake.taken++
    else intake.refuse(i + 1, line, refused)
  }
  return { tables: { 4: columns[4].table(), 6: columns[6].table() }, intake }
}

class Columns {
  readonly family: 4 | 6
  readonly addresses: number[] = []
  readonly lengths: number[] = []
  readonly nextHops: number[] = []
  readonly seen = new Set<number | string>()

  constructor(family: 4 | 6) {
    this.family = family
  }

  table(): RouteTable {
    return {
      family: this.family,
      count: this.lengths.length,
      addresses: Uint32Array.from(this.addresses),
      lengths: Uint8Array.from(this.lengths),
      nextHops: Uint16Array.from(this.nextHops),
    }
  }
}

/** Appends the route of a line; returns why not. */
function take(line: string, columns: Record<4 | 6, Columns>): string | undefined {
  const [prefix, hop, ...rest] = line.trim().split(/[\s,]+/)
  if (rest.length > 0) return 'more than a prefix and a next hop'
  const slash = prefix!.indexOf('/')
  const address = slash < 0 ? undefined : parseAddress(prefix!.slice(0, slash))
  const length = /^\d{1,3}$/.test(prefix!.slice(slash + 1)) ? Number(prefix!.slice(slash + 1)) : -1
  if (address === undefined || length < 0 || length > 32 * address.length) return 'no prefix'
  if (address.some((word, w) => (word & ~wordMask(length, w)) !== 0)) {
    return 'bits behind the prefix are set'
  }
  const { addresses, lengths, nextHops, seen } = columns[address.length === 1 ? 4 : 6]
  const key = address.length === 1 ? address[0]! * 64 + length : `${address}/${length}`
  if (seen.has(key)) return 'the prefix is there already'
  if (lengths.length === MAX_ROUTES) return `more than ${MAX_ROUTES} routes (MAX_ROUTES)`
  const nextHop = hop === undefined ? nextHopOf(lengths.length) : Number(hop)
  if (!Number.isInteger(nextHop) || nextHop < 1 || nextHop > MAX_NEXT_HOP_ID) {
    return `the next hop is not in 1..${MAX_NEXT_HOP_ID} (MAX_NEXT_HOP_ID)`
  }
  seen.add(key)
  for (const word of address) addresses.push(word)
  lengths.push(length)
  nextHops.push(nextHop)
  return undefined
}

/** One word (IPv4) or four; undefined for what is no address. Faster than `ipWords`: a full table has a million. */
export function parseAddress(text: string): number[] | undefined {
  return text.includes(':') ? words6(text) : words4(text)
}

function words4(text: string): number[] | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  let word = 0
  for (let i = 1; i <= 4; i++) {
    const octet = Number(match[i])
    if (octet > 255) return undefined
    word = word * 256 + octet
  }
  return [word]
}

/** RFC 4291 section 2.2, all three forms. */
function words6(text: string): number[] | undefined {
  const dotted = text.lastIndexOf(':') + 1
  if (text.includes('.', dotted)) {
    const tail = words4(text.slice(dotted))
    if (tail === undefined) return undefined
    const groups = `${(tail[0]! >>> 16).toString(16)}:${(tail[0]! & 0xffff).toString(16)}`
    return words6(text.slice(0, dotted) + groups)
  }
  const parts = text.split('::')
  if (parts.length > 2) return undefined
  const [head, tail] = parts.map(part => (part === '' ? [] : part.split(':')))
  const missing = 8 - head!.length - (tail?.length ?? 0)
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined
  const groups = tail === undefined ? head! : [...head!, ...Array(missing).fill('0'), ...tail]
  if (!groups.every(group => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined
  const value = (i: number) => Number.parseInt(groups[i], 16)
  return [0, 2, 4, 6].map(i => value(i) * 0x1_0000 + value(i + 1))
}
