/**
 * The native twin of `cuckoo` (cuckoo.ts): the same table, the same writers; a probe is one call into
 * native/addon/lookup/flow.cc for the whole batch.
 */
import { native } from '../../native/native.ts'
import { cuckooWith } from './cuckoo.ts'
import { layoutOf } from './region.ts'

export const cuckoo_native = cuckooWith('cuckoo_native', ({ limits, slots }, memory) => {
  const { locks, tags, entries, accounts } = layoutOf(limits, slots)
  const table = native.openFlowTable(memory, locks, tags, entries, slots, accounts)
  return (keys, n, generation, answers) =>
    native.probeFlows(
      table,
      keys.words,
      keys.hashes,
      keys.directions,
      n,
      generation,
      answers.slots,
      answers.actions,
      answers.found,
    )
})
