/**
 * TupleMerge: J. Daly, V. Bruschi, L. Linguaglossa, S. Pontarelli, D. Rossi, J. Tollet, E. Torng,
 * A. Yourtchenko, "TupleMerge: Fast Software Packet Processing for Online Packet Classification"
 * (IEEE/ACM Transactions on Networking 27(4), 2019).
 *
 * Tuple space search (tss.ts) has a table for each combination of lengths. Here a table takes every
 * rule whose lengths are at least its own: shorter keys, so that more rules meet under one key, but
 * a dozen tables instead of hundreds.
 *
 *   A rule goes into the longest table that takes it and has less than CROWD rules under its key.
 *   When no table takes it, a new one begins with relaxed lengths (`relaxed`).
 *   When those that take it are crowded, the longest of them is split: its rules that have the
 *   lengths that the crowd has in common move to a new table of these lengths. When they have
 *   nothing more in common than that table already asks for, the new table has the rule's own
 *   lengths. Only rules of the same lengths and key stay together however many they are.
 *
 * As an order of insertion, the best rules first serve a search best: later tables then have later
 * rules, and most searches end before them.
 *
 * Memory and concurrent readers: tuple-memory.ts and tuple-tables.ts. Nothing waits for `quiesced`.
 */
import type { FlatRule } from '../rule.ts'
import { type Tuple, tupleOf } from './memory.ts'
import { type Policy, tupleSpace } from './space.ts'
import type { Table, TupleTables } from './tables.ts'

/** Rules under one key, before a table is split. Of 4 .. 16 the fewest loads a search on ClassBench. */
export const CROWD = 8
/** New tables have address lengths that are multiples of this, shorter than the rule's. */
const RELAX = 8
/** With as many bits of addresses, a new table's key has no ports. */
const ADDRESS_BITS = 16

const FIELDS = ['source', 'destination', 'sourcePort', 'destinationPort', 'protocol'] as const

const put: Policy = (tables, rule) => {
  const own = tupleOf(rule)
  const open = tables.tables.filter(table => takes(table.tuple, own))
  open.sort((a, b) => length(b.tuple) - length(a.tuple))
  const home = open.find(table => tables.meeting(rule, table, CROWD).length < CROWD)
  if (home !== undefined) tables.insert(rule, home)
  else if (open.length === 0) tables.insert(rule, tables.of(relaxed(own)))
  else tables.insert(rule, split(tables, rule, own, open[0]!))
}

/** Whether a table of the tuple takes rules of these lengths. */
function takes(tuple: Tuple, lengths: Tuple): boolean {
  return FIELDS.every(field => tuple[field] <= lengths[field])
}

function length(tuple: Tuple): number {
  return FIELDS.reduce((sum, field) => sum + tuple[field], 0)
}

function relaxed({ source, destination, sourcePort, destinationPort }: Tuple): Tuple {
  const address = (bits: number) => Math.max(0, Math.floor((bits - 1) / RELAX) * RELAX)
  const bits = address(source) + address(destination)
  const port = (shared: number) => (bits < ADDRESS_BITS && shared === 16 ? 16 : 0)
  return {
    source: address(source),
    destination: address(destination),
    sourcePort: port(sourcePort),
    destinationPort: port(destinationPort),
    protocol: 0,
  }
}

/** Moves rules out of a crowded table; gives the one that the rule shall go to. */
function split(tables: TupleTables, rule: FlatRule, own: Tuple, crowded: Table): Table {
  const lengths = (node: number) => tupleOf(tables.ruleIn(node))
  let common = { ...own }
  for (const node of tables.meeting(rule, crowded, CROWD)) {
    const each = lengths(node)
    for (const field of FIELDS) common[field] = Math.min(common[field], each[field])
  }
  if (length(common) === length(crowded.tuple)) common = own
  const to = tables.of(common)
  if (to === crowded) return crowded
  const moving = [...crowded.members].filter(node => takes(common, lengths(node)))
  if (moving.length > 0) tables.move(moving, crowded, to)
  return to
}

export const tuplemerge4 = tupleSpace('tuplemerge4', 4, put)
export const tuplemerge6 = tupleSpace('tuplemerge6', 6, put)
