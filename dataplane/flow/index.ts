/** The flow tables by name. To add one: a file beside this one, and a line in FLOWS. */
import { cuckoo } from './cuckoo.ts'
import { cuckoo_native } from './cuckoo_native.ts'
import type { Flow } from './flow.ts'
import { linear } from './linear.ts'

/** The first one is what an engine takes when nobody says otherwise. */
const FLOWS: readonly Flow[] = [cuckoo, cuckoo_native, linear]

/** Names of the flow tables; the default one is the first. */
export function flowNames(): string[] {
  return FLOWS.map(flow => flow.name)
}

/** The flow table of that name; throws RangeError, with the names that there are, for another one. */
export function flowByName(name: string): Flow {
  const flow = FLOWS.find(each => each.name === name)
  if (flow === undefined) {
    throw new RangeError(
      `flow table ${JSON.stringify(name)}: there is none (${flowNames().join(', ')})`,
    )
  }
  return flow
}
