/** The order of test files: the longest first, so that no core is left with one when the others are done. */
import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { secondsOf } from './seconds.ts'

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const seconds = secondsOf()
    const of = (file: TestSpecification): number =>
      seconds[relative(this.ctx.config.root, file.moduleId)] ?? 0
    // Stable: files that nobody has measured keep their order.
    return [...files].sort((a, b) => of(b) - of(a))
  }
}
