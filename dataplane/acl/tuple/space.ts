/** An ACL on a tuple space, of whatever policy. */
import type { Acl, AclReader } from '../acl.ts'
import { type FlatRule, ruleBook } from '../rule.ts'
import { open, placesOf } from './memory.ts'
import { tupleReader } from './reader.ts'
import { type TupleTables, tupleTables } from './tables.ts'

/** Puts a rule into one of the tables; it may move others. */
export type Policy = (tables: TupleTables, rule: FlatRule) => void

export function tupleSpace(name: string, family: 4 | 6, put: Policy): Acl {
  return {
    name,
    family,
    incremental: true,
    bytes: limits => placesOf(family, limits).end * 4,

    writer(memory, limits) {
      const book = ruleBook(family, limits)
      const tables = tupleTables(open(memory, placesOf(family, limits)))
      return {
        get size() {
          return book.size
        },
        insert(rule) {
          const { flat, replaced } = book.insert(rule)
          put(tables, flat)
          if (replaced !== undefined) tables.remove(replaced)
        },
        remove(id) {
          const gone = book.remove(id)
          if (gone !== undefined) tables.remove(gone)
          return gone !== undefined
        },
        rules: book.rules,
        async commit() {},
        quiesced() {},
      }
    },

    reader: (memory, limits): AclReader => tupleReader(open(memory, placesOf(family, limits))),
  }
}
