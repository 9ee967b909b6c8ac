/** Compares a header with the rules of a tree's blocks, one after the other. */
import { blockShape, LANES, type TreeMemory } from './layout.ts'

/** The word of the answer of the first rule that matches, from block `from` to before `to`; or -1. */
export type BlockFinder = (headers: Uint32Array, header: number, from: number, to: number) => number

export function blockFinder(family: 4 | 6, memory: TreeMemory): BlockFinder {
  return family === 4 ? finder4(memory) : finder6(memory)
}

function finder4({ words, shorts, bytes, blocksAt }: TreeMemory): BlockFinder {
  const shape = blockShape(4)
  return (headers, header, from, to) => {
    const source = headers[header]!
    const destination = headers[header + 1]!
    const ports = headers[header + 2]!
    const protocol = headers[header + 3]!
    for (let block = from, at = blocksAt + from * shape.bytes; block < to; block++) {
      for (let lane = 0; lane < LANES; lane++) {
        const length = at + shape.lengths + lane
        const word = (at >>> 2) + lane
        if (differ(words[word]! ^ source, bytes[length]!)) continue
        if (differ(words[word + LANES]! ^ destination, bytes[length + LANES]!)) continue
        const kind = at + shape.protocols + lane
        if (((bytes[kind]! ^ protocol) & bytes[kind + LANES]!) !== 0) continue
        if (portsMatch(shorts, ((at + shape.first) >>> 1) + lane, ports)) {
          return ((at + shape.answers) >>> 2) + lane
        }
      }
      at += shape.bytes
    }
    return -1
  }
}

function finder6({ words, shorts, bytes, blocksAt }: TreeMemory): BlockFinder {
  const shape = blockShape(6)
  return (headers, header, from, to) => {
    const ports = headers[header + 8]!
    const protocol = headers[header + 9]!
    for (let block = from, at = blocksAt + from * shape.bytes; block < to; block++) {
      for (let lane = 0; lane < LANES; lane++) {
        const length = at + shape.lengths + lane
        const word = (at >>> 2) + lane
        if (differ6(words, word, headers, header, bytes[length]!)) continue
        if (differ6(words, word + 4 * LANES, headers, header + 4, bytes[length + LANES]!)) continue
        const kind = at + shape.protocols + lane
        if (((bytes[kind]! ^ protocol) & bytes[kind + LANES]!) !== 0) continue
        if (portsMatch(shorts, ((at + shape.first) >>> 1) + lane, ports)) {
          return ((at + shape.answers) >>> 2) + lane
        }
      }
      at += shape.bytes
    }
    return -1
  }
}

/** Whether the first `length` (0 .. 32) bits of `bits` are not all zero. */
function differ(bits: number, length: number): boolean {
  return length !== 0 && bits >>> (32 - length) !== 0
}

/** Whether a header's address leaves the prefix whose words lie LANES apart. */
function differ6(
  words: Uint32Array,
  word: number,
  headers: Uint32Array,
  at: number,
  length: number,
): boolean {
  for (let left = length; left > 0; left -= 32, word += LANES, at++) {
    if (differ(words[word]! ^ headers[at]!, Math.min(32, left))) return true
  }
  return false
}

/** `at`: the rule's first source port; the first destination port and both spans lie behind. */
function portsMatch(shorts: Uint16Array, at: number, ports: number): boolean {
  return (
    ((ports >>> 16) - shorts[at]!) >>> 0 <= shorts[at + 2 * LANES]! &&
    ((ports & 0xffff) - shorts[at + LANES]!) >>> 0 <= shorts[at + 3 * LANES]!
  )
}
