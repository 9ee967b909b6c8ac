/**
 * The native twin of `planb6` (planb6.ts): the same tables, made by the same writer; a batch is one
 * call into native/addon/lookup/planb6.cc, where 64 addresses go down the trees together and a node's
 * 16 keys are compared at once (AVX-512, AVX2), or by halves without a branch.
 */
import { native } from '../../../native/native.ts'
import { nativeReader } from '../dir24_8/dir24_8_native.ts'
import type { Fib } from '../fib.ts'
import { planb6 } from './planb6.ts'

export const planb6_native: Fib = {
  name: 'planb6_native',
  family: 6,
  bytes: planb6.bytes,
  writer(memory, limits) {
    native.adviseHugePages(memory)
    return planb6.writer(memory, limits)
  },
  reader: memory => nativeReader(memory, native.lookupPlanb6),
}
