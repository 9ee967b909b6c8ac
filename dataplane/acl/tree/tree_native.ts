/** The native twins of the tree ACLs (tree.ts): same memory, same writer, one call a batch. */
import { native } from '../../../native/native.ts'
import type { Acl, AclReader } from '../acl.ts'
import { tree4, tree6 } from './tree.ts'

function reader(memory: Uint8Array, classify: typeof native.classifyTree4): AclReader {
  const table = native.openTable(memory)
  return { classify: (headers, n, rules) => classify(table, headers, n, rules) }
}

export const tree4_native: Acl = {
  ...tree4,
  name: 'tree4_native',
  reader: memory => reader(memory, native.classifyTree4),
}

export const tree6_native: Acl = {
  ...tree6,
  name: 'tree6_native',
  reader: memory => reader(memory, native.classifyTree6),
}
