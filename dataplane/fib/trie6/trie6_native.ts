/**
 * The native twin of `trie6` (trie6.ts): the same tables, made by the same writer; a batch is one
 * call into native/addon/lookup/trie6.cc, where 64 addresses go down the trie together.
 */
import { native } from '../../../native/native.ts'
import { nativeReader } from '../dir24_8/dir24_8_native.ts'
import type { Fib } from '../fib.ts'
import { trie6 } from './trie6.ts'

export const trie6_native: Fib = {
  name: 'trie6_native',
  family: 6,
  bytes: trie6.bytes,
  writer(memory, limits) {
    native.adviseHugePages(memory)
    return trie6.writer(memory, limits)
  },
  reader: memory => nativeReader(memory, native.lookupTrie6),
}
