/**
 * A daemon's state in the network namespace of a node: `rebuild-process.ts STATE FOLDER CIDR…` opens
 * it, fills it from what it finds, and prints `{rows, records}`. FOLDER: of namespaces, besides those
 * that runtimes use; pods of an overlay named `blue` have addresses out of 10.9.0.0/24.
 */
import { createLogger } from '../../../cni/base/logger.ts'
import { rebuildState } from '../../../cni/pods/rebuild.ts'
import { openState } from '../../../cni/state/damage.ts'

const [path, folder, ...podCidrs] = process.argv.slice(2)
const records: unknown[] = []
const write = (line: string): void => void records.push(JSON.parse(line))
const log = createLogger('debug', 'node-a', { write })
const state = openState(path!, log)
rebuildState({
  ...{ state, log, folders: [folder!] },
  cidrs: overlay =>
    overlay === undefined ? podCidrs : overlay === 'blue' ? ['10.9.0.0/24'] : undefined,
})
process.stdout.write(JSON.stringify({ rows: state.list(), records }))
state.close()
