/**
 * The naive ACL of both families: a list of rules, and every classification reads all of it. It is
 * slow, and plain enough to be right: the oracle of the tests, the reference of the benches.
 *
 * Memory, 32-bit words; W is 1 (IPv4) or 4 (IPv6), a rule has 4 + 2 W of them:
 *
 *   0 version, odd while the list is being changed   1 rules in the list
 *   4 + i * (4 + 2 W):
 *     0 rank   1 source length << 24 | destination length << 16 | protocol (ANY: 0xffff)
 *     2 source ports, first << 16 | last   3 destination ports, likewise
 *     4 source address   4 + W destination address
 *
 * A change rewrites several words of the list, so a reader looks again when it met one (a seqlock):
 * it waits as long as the writer is inside, which no other ACL lets it. Nothing waits for
 * `quiesced`.
 */
import { advance, unmoved, versionOf } from '../fib/version.ts'
import { type Acl, type AclReader, type AclWriter, HEADER_WORDS } from './acl.ts'
import { checkLimits, type FlatRule, idOf, NO_RANK, ruleBook, wordsOf } from './rule.ts'

const COUNT = 1
const RULES = 4
const LENGTHS = 1
const SOURCE_PORTS = 2
const DESTINATION_PORTS = 3
const ADDRESSES = 4

function linear(family: 4 | 6): Acl {
  const words = wordsOf(family)
  return {
    name: `linear${family}`,
    family,
    incremental: true,
    bytes(limits) {
      checkLimits(limits)
      return (RULES + limits.rules * strideOf(words)) * 4
    },
    writer: (memory, limits) => writer(memory, ruleBook(family, limits), words),
    reader: memory => reader(memory, family),
  }
}

const strideOf = (words: 1 | 4) => ADDRESSES + 2 * words

function open(memory: Uint8Array): { header: Int32Array; table: Uint32Array } {
  const { buffer, byteOffset, byteLength } = memory
  return {
    header: new Int32Array(buffer, byteOffset, RULES),
    table: new Uint32Array(buffer, byteOffset, byteLength >>> 2),
  }
}

function writer(memory: Uint8Array, book: ReturnType<typeof ruleBook>, words: 1 | 4): AclWriter {
  const { header, table } = open(memory)
  const stride = strideOf(words)
  const end = () => RULES + table[COUNT]! * stride

  /** Where the rule of this rank is in the list. */
  function find(rank: number): number {
    let at = RULES
    while (table[at] !== rank) at += stride
    return at
  }

  function put(at: number, rule: FlatRule): void {
    table[at] = rule.rank
    table[at + LENGTHS] =
      (rule.sourceLength << 24) | (rule.destinationLength << 16) | (rule.protocol & 0xffff)
    table[at + SOURCE_PORTS] = (rule.sourceFirst << 16) | rule.sourceLast
    table[at + DESTINATION_PORTS] = (rule.destinationFirst << 16) | rule.destinationLast
    table.set(rule.source, at + ADDRESSES)
    table.set(rule.destination, at + ADDRESSES + words)
  }

  function change(write: () => void): void {
    advance(header)
    write()
    advance(header)
  }

  return {
    get size() {
      return book.size
    },

    insert(rule) {
      const { flat, replaced } = book.insert(rule)
      const at = replaced === undefined ? end() : find(replaced.rank)
      change(() => {
        put(at, flat)
        if (replaced === undefined) table[COUNT]!++
      })
    },

    remove(id) {
      const gone = book.remove(id)
      if (gone === undefined) return false
      const at = find(gone.rank)
      change(() => {
        table.copyWithin(at, end() - stride, end())
        table[COUNT]!--
      })
      return true
    },

    rules: book.rules,
    async commit() {},
    quiesced() {},
  }
}

function reader(memory: Uint8Array, family: 4 | 6): AclReader {
  const { header, table } = open(memory)
  const words = wordsOf(family)
  const stride = strideOf(words)

  /** The smallest rank of the rules that match the header at `from`. */
  function scan(headers: Uint32Array, from: number): number {
    const end = Math.min(RULES + table[COUNT]! * stride, table.length)
    const ports = headers[from + 2 * words]!
    const protocol = headers[from + 2 * words + 1]! & 255
    let best = NO_RANK
    for (let at = RULES; at < end; at += stride) {
      if (table[at]! >= best || !within(ports >>> 16, table[at + SOURCE_PORTS]!)) continue
      if (!within(ports & 0xffff, table[at + DESTINATION_PORTS]!)) continue
      const lengths = table[at + LENGTHS]!
      const wanted = lengths & 0xffff
      if (wanted !== protocol && wanted !== 0xffff) continue
      if (!covers(at + ADDRESSES, lengths >>> 24, headers, from)) continue
      if (!covers(at + ADDRESSES + words, (lengths >>> 16) & 255, headers, from + words)) continue
      best = table[at]!
    }
    return best
  }

  function covers(at: number, prefix: number, headers: Uint32Array, from: number): boolean {
    let w = 0
    for (let bits = prefix; bits > 0; bits -= 32, w++) {
      const differ = table[at + w]! ^ headers[from + w]!
      if (bits >= 32 ? differ !== 0 : differ >>> (32 - bits) !== 0) return false
    }
    return true
  }

  return {
    classify(headers, n, rules) {
      for (let i = 0; i < n; i++) {
        let version: number
        do {
          version = versionOf(header)
          rules[i] = idOf(scan(headers, i * HEADER_WORDS[family]))
        } while ((version & 1) !== 0 || !unmoved(header, version))
      }
    },
  }
}

const within = (port: number, range: number) => port >= range >>> 16 && port <= (range & 0xffff)

export const linear4 = linear(4)
export const linear6 = linear(6)
