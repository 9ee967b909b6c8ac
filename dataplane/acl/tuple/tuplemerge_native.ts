/**
 * The native twins of TupleMerge: same memory, same writer, one call a batch. A batch goes through
 * the tables together, with AVX-512 where the CPU has it (native/addon/lookup/tuplemerge.cc).
 */
import { native } from '../../../native/native.ts'
import type { Acl } from '../acl.ts'
import { tuplemerge4, tuplemerge6 } from './tuplemerge.ts'

function twin(of: Acl, classify: typeof native.classifyTuples4): Acl {
  return {
    ...of,
    name: `${of.name}_native`,
    reader(memory) {
      const table = native.openTable(memory)
      return { classify: (headers, n, rules) => classify(table, headers, n, rules) }
    },
  }
}

export const tuplemerge4_native = twin(tuplemerge4, native.classifyTuples4)
export const tuplemerge6_native = twin(tuplemerge6, native.classifyTuples6)
