/**
 * The symmetric key of a flow: both directions of a connection have the same key, and a direction
 * bit says which way a packet goes. Ten 32-bit words:
 *
 *     0-3   address A, host order, the most significant word first; IPv4: word 3, the others zero
 *     4-7   address B, the same
 *     8     A's port << 16 | B's port; 0 where a protocol has none
 *     9     protocol (bits 0-7), family 4 or 6 (8-15), zone (16-31)
 *
 * A is the end of the smaller address; of the smaller port, when the addresses are the same. A packet
 * of direction 0 goes from A to B, one of direction 1 from B to A. (An end that talks to itself over
 * one port has one direction.) Zones let networks with the same addresses share a table.
 *
 * On a little-endian machine the words are the bytes +8 .. +47 of an entry of the flow table.
 */

export const FLOW_KEY_WORDS = 10

/** Places of the words in a key. */
export const KEY = { A: 0, B: 4, PORTS: 8, KIND: 9 } as const

/** Word 9 of a key. */
export function kindOf(family: 4 | 6, protocol: number, zone: number): number {
  return (protocol | (family << 8) | (zone << 16)) >>> 0
}

/** What flow keys are made from: one column a fact, one row a packet. */
export interface FlowTuples {
  /** Host order; one word a packet (IPv4) or four (IPv6). */
  readonly source: Uint32Array
  readonly destination: Uint32Array
  /** Source port << 16 | destination port. */
  readonly ports: Uint32Array
  /** As `kindOf` makes it. */
  readonly kinds: Uint32Array
}

/** Writes the keys and directions of packets 0 .. n, all IPv4, to rows `at .. at + n`. */
export function flowKeys4(
  tuples: FlowTuples,
  n: number,
  keys: Uint32Array,
  directions: Uint8Array,
  at = 0,
): void {
  const { source, destination, ports, kinds } = tuples
  for (let i = 0; i < n; i++) {
    const from = source[i]!
    const to = destination[i]!
    const pair = ports[i]!
    const turned = ((pair << 16) | (pair >>> 16)) >>> 0
    // Of equal addresses the ports decide: source port first is the smaller number.
    const direction = from > to || (from === to && pair > turned) ? 1 : 0
    const key = (at + i) * FLOW_KEY_WORDS
    keys[key] = 0
    keys[key + 1] = 0
    keys[key + 2] = 0
    keys[key + 3] = direction === 0 ? from : to
    keys[key + 4] = 0
    keys[key + 5] = 0
    keys[key + 6] = 0
    keys[key + 7] = direction === 0 ? to : from
    keys[key + 8] = direction === 0 ? pair : turned
    keys[key + 9] = kinds[i]!
    directions[at + i] = direction
  }
}

/** The same for IPv6. */
export function flowKeys6(
  tuples: FlowTuples,
  n: number,
  keys: Uint32Array,
  directions: Uint8Array,
  at = 0,
): void {
  const { source, destination, ports, kinds } = tuples
  for (let i = 0; i < n; i++) {
    const pair = ports[i]!
    const turned = ((pair << 16) | (pair >>> 16)) >>> 0
    let word = 4 * i
    const end = word + 3
    while (word < end && source[word] === destination[word]) word++
    const from = source[word]!
    const to = destination[word]!
    const direction = from > to || (from === to && pair > turned) ? 1 : 0
    const a = direction === 0 ? source : destination
    const b = direction === 0 ? destination : source
    const key = (at + i) * FLOW_KEY_WORDS
    for (let w = 0; w < 4; w++) {
      keys[key + w] = a[4 * i + w]!
      keys[key + 4 + w] = b[4 * i + w]!
    }
    keys[key + 8] = direction === 0 ? pair : turned
    keys[key + 9] = kinds[i]!
    directions[at + i] = direction
  }
}
