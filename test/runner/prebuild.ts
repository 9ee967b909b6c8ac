/** Builds, before the first test, what takes minutes: no test's time has a build in it. */
import { compilePeers } from '../../bench/peers/driver.ts'
import { helm, validator } from '../deploy/go.ts'
import { goCause } from '../harness/prebuilt.ts'
import { kubelet } from '../kubernetes/build.ts'

/** Builds what is missing; returns how many could not be built, which is told. */
export async function prebuild(): Promise<number> {
  const steps: [string, () => unknown][] = [['DPDK peers', compilePeers]]
  // Without Go its tests are skipped, and say so.
  if (goCause() === undefined)
    steps.push(['Helm', helm], ['validator', validator], ['kubelet', kubelet])
  let failed = 0
  // One after the other: each build uses all cores.
  for (const [name, build] of steps) {
    try {
      await build()
    } catch (error) {
      failed++
      process.stderr.write(`hawser: ${name}: ${(error as Error).message}\n`)
    }
  }
  return failed
}
