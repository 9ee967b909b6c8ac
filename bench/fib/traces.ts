/** The addresses that are looked up, and what must be answered. */
import { type MapOracle, mapOracle } from '../../dataplane/fib/map-oracle.ts'
import { Intake, isComment, lines } from '../data/files.ts'
import { parseAddress, prefixOf, type RouteTable, wordsOf } from '../data/routes.ts'
import { addressesAnywhere, addressesIn, addressesZipf, bruteForce } from './workload.ts'

/**
 * 'anywhere': any address. 'in table': in a route, each as likely. 'zipf': the same, but a few
 * routes get most (exponent 1). 'dependent': as 'in table', one at a time, none known before the
 * answer to the one before: latency. 'file': the user's.
 */
export const KINDS = ['anywhere', 'in table', 'zipf', 'dependent', 'file'] as const
export type Kind = (typeof KINDS)[number]

export interface Trace {
  kind: Kind
  /** `n` addresses behind each other. */
  addresses: Uint32Array
  n: number
  /** By the oracle. */
  answers: Uint16Array
}

/** Addresses for which the oracle itself is compared with the reading of the whole table. */
const DOUBLE_CHECKED = 16

/** All traces of a table, `n` addresses each; `own` are the user's. */
export function traces(table: RouteTable, n: number, own?: Uint32Array): Trace[] {
  const oracle = oracleOf(table)
  const inTable = trace('in table', table, oracle, addressesIn(table, n))
  return [
    trace('anywhere', table, oracle, addressesAnywhere(table.family, n)),
    inTable,
    trace('zipf', table, oracle, addressesZipf(table, n)),
    { ...inTable, kind: 'dependent' },
    ...(own === undefined || own.length === 0 ? [] : [trace('file', table, oracle, own)]),
  ]
}

export function oracleOf(table: RouteTable): MapOracle {
  const oracle = mapOracle(wordsOf(table.family))
  for (let i = 0; i < table.count; i++) {
    oracle.insert(prefixOf(table, i), table.lengths[i]!, table.nextHops[i]!)
  }
  return oracle
}

function trace(kind: Kind, table: RouteTable, oracle: MapOracle, addresses: Uint32Array): Trace {
  const words = wordsOf(table.family)
  const n = addresses.length / words
  const answers = new Uint16Array(n)
  for (let i = 0; i < n; i++) answers[i] = oracle.lookup(addresses, i * words)
  for (let i = 0; i < Math.min(n, DOUBLE_CHECKED); i++) {
    const right = bruteForce(table, addresses.subarray(i * words, (i + 1) * words))
    if (answers[i] !== right) throw new Error(`the oracles differ: ${answers[i]} and ${right}`)
  }
  return { kind, addresses, n, answers }
}

/** The user's addresses of both families. */
export interface AddressFile {
  addresses: Record<4 | 6, Uint32Array>
  intake: Intake
}

/**
 * Reads a file of addresses, one a line; or of headers in the form of ClassBench, `SOURCE
 * DESTINATION SOURCE-PORT DESTINATION-PORT PROTOCOL ...` in decimal, of which the destination is
 * taken. Other lines are refused.
 */
export function readAddresses(path: string): AddressFile {
  const intake = new Intake(path)
  const found: Record<4 | 6, number[]> = { 4: [], 6: [] }
  for (const [i, line] of lines(path).entries()) {
    if (isComment(line)) continue
    const address = addressOf(line.trim().split(/\s+/))
    if (address === undefined) intake.refuse(i + 1, line, 'neither an address nor a header')
    else {
      for (const word of address) found[address.length === 1 ? 4 : 6].push(word)
      intake.taken++
    }
  }
  return { addresses: { 4: Uint32Array.from(found[4]), 6: Uint32Array.from(found[6]) }, intake }
}

/** Columns of a ClassBench header up to the protocol. */
const HEADER_COLUMNS = 5

function addressOf(columns: readonly string[]): number[] | undefined {
  if (columns.length === 1) return parseAddress(columns[0]!)
  if (columns.length < HEADER_COLUMNS || !columns.every(column => /^\d+$/.test(column))) {
    return undefined
  }
  const destination = Number(columns[1])
  return destination < 2 ** 32 ? [destination] : undefined
}
