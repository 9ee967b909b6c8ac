/**
 * A daemon as `hawser daemon` runs it, but for one thing: it looks for lost pods when it is told to,
 * a line on stdin for each look, beside what its clock says. `--config FILE`.
 */
import { createInterface } from 'node:readline'
import { createLogger } from '../../cni/base/logger.ts'
import { loadConfig } from '../../cni/daemon/config.ts'
import { runDaemon } from '../../cni/daemon/daemon.ts'

const config = loadConfig({ config: process.argv.at(-1)! })
const log = createLogger(config.logLevel, config.node)
const stop = new AbortController()
process.on('SIGTERM', () => stop.abort(new Error('stopped')))
const { collect, closed } = await runDaemon(config, { log, signal: stop.signal })
const lines = createInterface({ input: process.stdin })
lines.on('line', () => void collect().then(() => process.stdout.write('collected\n')))
await closed
lines.close()
