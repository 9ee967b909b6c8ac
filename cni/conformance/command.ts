/** `hawser conformance`: its options, and the report that it prints. */
import { writeFileSync } from 'node:fs'
import { type Command, InvalidArgumentError } from 'commander'
import { jsonReport, junitReport, showReport } from './report.ts'
import { choose, conformance, DEFAULT_TIMEOUT_S, listedVersions, type Options } from './runner.ts'
import { SPEC_VERSIONS } from './versions.ts'

interface Flags {
  plugin?: string
  conflist?: string
  json?: boolean
  junit?: string
  only?: string
  skip?: string
  list?: boolean
  timeout: number
  cniPath?: string[]
  daemonPid?: number
  daemon?: string
  daemonReadySocket?: string
}

/** Longest `--timeout`, in seconds. */
const MAX_TIMEOUT_S = 3_600

/** Adds the command to `program`; its exit code is 0 only when no case failed. */
export function addConformance(program: Command): void {
  program
    .command('conformance')
    .description('try any CNI plugin as a runtime would, in network namespaces of its own')
    .option('--plugin <path>', 'the executable')
    .option('--conflist <file>', 'a network configuration that has it')
    .option('--json', 'print the report as JSON')
    .option('--junit <file>', 'write the report as JUnit XML, too')
    .option('--only <pattern>', 'cases to run: parts of id@version, with * for anything')
    .option('--skip <pattern>', 'cases not to run')
    .option('--list', 'print the cases, and run none')
    .option('--timeout <s>', 'seconds that a call may take', secondsOf, DEFAULT_TIMEOUT_S)
    .option('--cni-path <dir>', 'where chained and IPAM plugins are (may be repeated)', gather)
    .option('--daemon <command>', "the plugin's daemon; started in the node's namespace")
    .option('--daemon-ready-socket <path>', 'the unix socket that it opens when it is ready')
    .option('--daemon-pid <pid>', "a daemon that runs; its namespace is the node's", pidOf)
    .action(run)
}

function gather(folder: string, earlier: string[] = []): string[] {
  return [...earlier, folder]
}

function secondsOf(text: string): number {
  const value = Number(text)
  if (value > 0 && value <= MAX_TIMEOUT_S) return value
  throw new InvalidArgumentError(`not 1 .. ${MAX_TIMEOUT_S}`)
}

function pidOf(text: string): number {
  if (/^[1-9][0-9]{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('not a process id')
}

async function run(flags: Flags): Promise<void> {
  if (flags.list) return list(flags)
  const { plugin, conflist } = flags
  if (plugin === undefined || conflist === undefined) {
    throw new Error('--plugin and --conflist are needed')
  }
  const stop = new AbortController()
  const signals = ['SIGINT', 'SIGTERM'] as const
  const abort = () => stop.abort()
  for (const signal of signals) process.on(signal, abort)
  try {
    const report = await conformance({
      ...{ plugin, conflist, signal: stop.signal, timeoutS: flags.timeout },
      ...chosen(flags),
      ...daemonOf(flags),
      ...(flags.cniPath === undefined ? {} : { cniPath: flags.cniPath }),
      ...(process.stderr.isTTY ? { progress } : {}),
    })
    if (flags.junit !== undefined) writeFileSync(flags.junit, junitReport(report))
    const text = flags.json ? JSON.stringify(jsonReport(report), null, 2) : showReport(report)
    process.stdout.write(`${text}\n`)
    process.exitCode = report.failed === 0 ? 0 : 1
  } finally {
    for (const signal of signals) process.off(signal, abort)
  }
}

const progress: NonNullable<Options['progress']> = (done, total, { case: { id }, version }) => {
  process.stderr.write(`\r\x1b[K${done + 1 < total ? `${done + 1}/${total} ${id} ${version}` : ''}`)
}

async function list(flags: Flags): Promise<void> {
  const { plugin } = flags
  const versions = plugin === undefined ? SPEC_VERSIONS : await listedVersions(plugin)
  for (const { case: each, version } of choose(chosen(flags), versions)) {
    process.stdout.write(`${each.id}@${version}  ${each.name}\n`)
  }
}

function chosen({ only, skip }: Flags): Pick<Options, 'only' | 'skip'> {
  return { ...(only === undefined ? {} : { only }), ...(skip === undefined ? {} : { skip }) }
}

function daemonOf({ daemon, daemonPid, daemonReadySocket }: Flags): Pick<Options, 'daemon'> {
  if (daemon !== undefined && daemonPid !== undefined) {
    throw new Error('--daemon or --daemon-pid, not both')
  }
  if (daemonPid !== undefined) return { daemon: { pid: daemonPid } }
  if (daemon === undefined) return {}
  if (daemonReadySocket === undefined) throw new Error('--daemon needs --daemon-ready-socket')
  return { daemon: { command: daemon, readySocket: daemonReadySocket } }
}
