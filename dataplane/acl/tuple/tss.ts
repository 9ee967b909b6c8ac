/**
 * Tuple space search: V. Srinivasan, S. Suri, G. Varghese, "Packet Classification using Tuple Space
 * Search" (SIGCOMM 1999), with the order of tables that Open vSwitch added: by the best rule in
 * each, so that a search ends early (B. Pfaff et al., "The Design and Implementation of Open
 * vSwitch", NSDI 2015, section 5).
 *
 * One table for each pair of prefix lengths that rules have. Ports and protocol are compared where
 * the addresses are found: with them in the tuple there are two or three times as many tables, and
 * on the ClassBench sets a search takes two times as long. The price is that rules of the same two
 * prefixes are read one after the other.
 *
 * A search may have to ask hundreds of tables; tuplemerge.ts makes them a dozen.
 *
 * Memory and concurrent readers: tuple-memory.ts and tuple-tables.ts. Nothing waits for `quiesced`.
 */
import { type Policy, tupleSpace } from './space.ts'

const put: Policy = (tables, rule) => {
  const { sourceLength, destinationLength } = rule
  const tuple = {
    source: sourceLength,
    destination: destinationLength,
    sourcePort: 0,
    destinationPort: 0,
    protocol: 0,
  }
  tables.insert(rule, tables.of(tuple))
}

export const tss4 = tupleSpace('tss4', 4, put)
export const tss6 = tupleSpace('tss6', 6, put)
