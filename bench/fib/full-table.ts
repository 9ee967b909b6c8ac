/** A full Internet table from `routes/full-table.txt.gz` in the folder of outside data (HAWSER_DATA, default ../shared/data); it is no part of the project. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { root } from '../harness/compile.ts'

/** Routes in flat columns. */
export interface RouteTable {
  family: 4 | 6
  count: number
  /** One word a route (IPv4) or four. */
  addresses: Uint32Array
  lengths: Uint8Array
  nextHops: Uint16Array
}

export const fullTablePath = join(
  process.env['HAWSER_DATA'] ?? join(root, '../shared/data'),
  'routes/full-table.txt.gz',
)

/** Next hops that the routes are spread over. */
export const NEXT_HOPS = 64

/** The table of a family, undefined when the file is not there. A line is `ADDRESS/LENGTH`. Throws for a line that is none. */
export function fullTable(family: 4 | 6): RouteTable | undefined {
  if (!existsSync(fullTablePath)) return undefined
  const text = gunzipSync(readFileSync(fullTablePath)).toString('latin1')
  const lines = text
    .split(/\r?\n/)
    .filter(line => line !== '' && line.includes(':') === (family === 6))
  const words = family === 4 ? 1 : 4
  const table: RouteTable = {
    family,
    count: lines.length,
    addresses: new Uint32Array(lines.length * words),
    lengths: new Uint8Array(lines.length),
    nextHops: new Uint16Array(lines.length),
  }
  for (const [i, line] of lines.entries()) {
    const [address, length] = line.split('/')
    const parsed = family === 4 ? words4(address!) : words6(address!)
    const prefix = Number(length)
    if (parsed.some(Number.isNaN) || !(prefix >= 0 && prefix <= 32 * words)) {
      throw new Error(`${fullTablePath}: ${JSON.stringify(line)} is no prefix`)
    }
    table.addresses.set(parsed, i * words)
    table.lengths[i] = prefix
    table.nextHops[i] = nextHopOf(i)
  }
  return table
}

/** Next hop of route number `i`: 1 .. NEXT_HOPS, the same in every run. */
export function nextHopOf(i: number): number {
  return 1 + ((Math.imul(i + 1, 0x9e37_79b1) >>> 16) % NEXT_HOPS)
}

function words4(text: string): number[] {
  const [a, b, c, d] = text.split('.').map(Number)
  return [(a! * 2 ** 24 + b! * 2 ** 16 + c! * 256 + d!) >>> 0]
}

/** RFC 4291 section 2.2, forms 1 and 2; that is all the file has. */
function words6(text: string): number[] {
  const [head, tail] = text.split('::').map(part => (part === '' ? [] : part.split(':')))
  const missing = tail === undefined ? 0 : 8 - head!.length - tail.length
  const groups = [...head!, ...new Array<string>(missing).fill('0'), ...(tail ?? [])]
  const values = groups.map(group => Number.parseInt(group, 16))
  return [0, 2, 4, 6].map(i => values[i]! * 0x1_0000 + values[i + 1]!)
}
