/**
 * The command line: `hawser daemon` and what an operator asks a running daemon. Results go to
 * stdout, an error is one line on stderr and exit code 1.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Argument, Command, CommanderError, Option } from 'commander'
import type { DropCount, FibStatus, RouteEntry } from '../../dataplane/control.ts'
import { armFaultPoint, FAULT_VARIABLE } from '../base/fault-points.ts'
import { createLogger, LOG_LEVELS } from '../base/logger.ts'
import { printable } from '../base/table.ts'
import { ClusterFile } from '../cluster/file.ts'
import { addConformance } from '../conformance/command.ts'
import {
  type DaemonConfig,
  type DaemonFlags,
  DEFAULT_SOCKET,
  fibPath,
  loadConfig,
} from '../daemon/config.ts'
import { runDaemon } from '../daemon/daemon.ts'
import { UNDERLAY_MODES } from '../daemon/engine-config.ts'
import { query, SWAP_MS } from '../rpc/client.ts'
import type { PodFacts } from '../secondary/verbs.ts'
import { addFlows } from './flows.ts'
import { addInstall } from './install.ts'
import { addIpam } from './ipam.ts'
import { addPing } from './ping.ts'
import { addPolicy, checkFolder } from './policy.ts'
import { showDrops, showPods, showReadiness, showRoutes, showStatus, showSwap } from './show.ts'

const VERSION = '0.1.0'

interface QueryFlags {
  socket: string
  json?: boolean
}

const program = new Command('hawser')
  .description('Kubernetes pod networking in userspace')
  .version(VERSION)
  .exitOverride()
  .configureOutput({ outputError: () => {} })

program
  .command('daemon')
  .description('run the node daemon in the foreground')
  .option('--config <file>', 'configuration file (YAML or JSON)')
  .option('--node <name>', "this node's name in the cluster file (default: the host name)")
  .option('--cluster <file>', 'cluster file (YAML or JSON)')
  .option('--socket <path>', `unix socket of the CNI plugin (default: ${DEFAULT_SOCKET})`)
  .option('--state <path>', 'state file')
  .option('--workers <n>', 'worker threads')
  .option('--underlay-device <name>', 'device that carries the overlay')
  .addOption(new Option('--underlay-mode <mode>', 'how it is driven').choices(UNDERLAY_MODES))
  .option('--vni <n>', 'VXLAN network identifier')
  .option('--vxlan-port <n>', 'UDP port of VXLAN')
  .addOption(new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS))
  .option('--check', 'check the configuration, the cluster file and policies, then exit')
  .action(daemon)

program
  .command('status')
  .description('state of the daemon, its workers and ports')
  .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
  .option('--json', 'print the answer as JSON')
  .option('--ready', 'only whether it serves pods: exits with 1, and says why, when not')
  .action(async ({ ready = false, ...flags }: QueryFlags & { ready?: boolean }) => {
    if (!ready) return void (await answer('status', flags, showStatus))
    const readiness = await answer('ready', flags, showReadiness)
    if (!readiness.ready) process.exitCode = 1
  })
ask('pods', 'attached pods', (pods: PodFacts[]) => showPods(pods))
ask('routes', 'routes of the node', (routes: RouteEntry[]) => showRoutes(routes))
ask('drops', 'dropped packets by reason', (drops: DropCount[]) => showDrops(drops))

addFlows(program)
addInstall(program)
addIpam(program)
addPing(program)
addPolicy(program)

program
  .command('swap')
  .description('put another algorithm in the place of one in use, while packets flow')
  .addArgument(new Argument('<kind>', 'what is swapped').choices(['fib']))
  .argument('<algorithm>', 'a built-in name, or a TypeScript file')
  .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
  .option('--json', 'print the answer as JSON')
  .action(async (_kind: string, algorithm: string, flags: QueryFlags) => {
    const question = `swap fib ${fibPath(algorithm, process.cwd())}`
    const answer = (await query(flags.socket, question, SWAP_MS)) as FibStatus
    process.stdout.write(`${flags.json ? JSON.stringify(answer, null, 2) : showSwap(answer)}\n`)
  })

program
  .command('bench')
  .description('measure: hawser bench fib ./mine.ts (no arguments: what there is)')
  .argument('[arguments...]', "the bench's own; see hawser bench --help")
  .helpOption(false)
  .allowUnknownOption()
  .action((args: string[]) => {
    const bench = fileURLToPath(new URL('../../bench/run.ts', import.meta.url))
    if (!existsSync(bench)) throw new Error(`${bench}: the bench is not installed`)
    const { status } = spawnSync(process.execPath, [bench, ...args], { stdio: 'inherit' })
    process.exitCode = status ?? 1
  })

addConformance(program)

/** A command that puts one question to the daemon. */
function ask<T>(name: string, description: string, show: (answer: T) => string): void {
  program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
    .option('--json', 'print the answer as JSON')
    .action(async (flags: QueryFlags) => void (await answer(name, flags, show)))
}

/** Asks, prints what is answered, and gives it. */
async function answer<T>(name: string, flags: QueryFlags, show: (answer: T) => string): Promise<T> {
  const found = (await query(flags.socket, name)) as T
  process.stdout.write(`${flags.json ? JSON.stringify(found, null, 2) : show(found)}\n`)
  return found
}

/** What there is to say about the policies that the daemon would enforce. Throws DocumentError. */
function checkPolicy({ policy, dataplane }: DaemonConfig): string[] {
  if (policy === undefined) return []
  if (!existsSync(policy.folder)) return [`${policy.folder}: not there: nothing is denied`]
  const { resolvers = [] } = dataplane.policy ?? {}
  return checkFolder(policy.folder, { resolvers: resolvers.length > 0 })
}

async function daemon(flags: DaemonFlags & { check?: boolean }): Promise<void> {
  const config = loadConfig(flags)
  if (flags.check) {
    const { self, peers } = ClusterFile.read(config.cluster, config.node, config.dataplane.vni)
    const facts = `${self.name} ${self.vtep}, ${self.podCidrs.join(', ')}; ${peers.length} peers`
    const lines = [`${config.cluster}: good: ${facts}`, ...checkPolicy(config)]
    process.stdout.write(lines.map(line => `${printable(line)}\n`).join(''))
    return
  }
  const log = createLogger(config.logLevel, config.node)
  const armed = armFaultPoint(process.env[FAULT_VARIABLE])
  if (armed !== undefined) log.warn({ [FAULT_VARIABLE]: armed }, 'a fault point is armed')
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) return
      log.info({ signal }, 'stopping')
      stop.abort(new Error(`stopped by ${signal}`))
    })
  }
  try {
    const running = await runDaemon(config, { log, signal: stop.signal })
    await running.closed
  } catch (error) {
    if (!stop.signal.aborted) throw error
  }
}

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError && error.exitCode === 0) process.exit(0)
  process.stderr.write(`hawser: ${reason(error)}\n`)
  process.exitCode = 1
}

/** An error as one line that a terminal may be sent. */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return printable(message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' '))
}
