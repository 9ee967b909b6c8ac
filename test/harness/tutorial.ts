/** The code of the tutorial in dataplane/fib/README.md, as its reader would save it. */
import { readFileSync } from 'node:fs'

export const TUTORIAL = new URL('../../dataplane/fib/README.md', import.meta.url)

/** Throws when the page has no code of a FIB, or more than one. */
export function tutorialFib(): string {
  const blocks = [...readFileSync(TUTORIAL, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)]
  if (blocks.length !== 1) throw new Error(`${TUTORIAL.pathname}: ${blocks.length} blocks of code`)
  return blocks[0]![1]!
}
