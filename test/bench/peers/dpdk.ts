/** Where DPDK isn't installed, its peers say so and there is nothing to test; else a run must have it all. */
import { describe } from 'vitest'
import { DPDK_MISSING, haveDpdk } from '../../../bench/peers/driver.ts'
import { lacking } from '../../harness/skip.ts'

/** `describe`, or a printed reason. */
export function describeDpdk(name: string, tests: () => void): void {
  if (haveDpdk()) {
    describe(name, tests)
    return
  }
  lacking(`${name}: ${DPDK_MISSING}`)
  describe.skip(name, tests)
}
