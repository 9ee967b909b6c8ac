/**
 * npm run bench -- [suite...] [--json] [--rounds N] [--seconds S] [--only a,b] [--generator G]
 *
 * Tables on stdout, or with --json exactly one JSON document; progress on stderr. Ends with 1 when a
 * suite failed or could not run here.
 */
import { Command, InvalidArgumentError } from 'commander'
import { type Machine, machine } from './harness/machine.ts'
import { type Options, progress, type Report, Skipped, type Suite } from './harness/suite.ts'
import { format, type Table } from './harness/table.ts'
import { undoAtExit } from './harness/undo.ts'

/** Each is loaded only when it runs: a suite never needs what another one measures. */
const SUITES: Record<string, { about: string; load: () => Promise<Suite> }> = {
  path: {
    about: 'pod veth to VXLAN: hawser, bare C++ AF_XDP, kernel bridge + vxlan (root)',
    load: async () => (await import('./path/suite.ts')).path,
  },
  cni: {
    about: 'ADD and DEL: hawser, the reference plugins bridge + host-local (root)',
    load: async () => (await import('./cni/suite.ts')).cni,
  },
  fib: {
    about: 'route lookups: every algorithm of dataplane/fib, the linear oracle',
    load: async () => (await import('./fib/suite.ts')).fib,
  },
  checksum: {
    about: 'Internet checksum: native AVX2 and scalar, TypeScript',
    load: async () => (await import('./checksum/suite.ts')).checksum,
  },
}

interface Outcome {
  machine: Machine
  samples: Record<string, unknown>
  ratios: Record<string, number>
  /** Suites without a result, and why. */
  failed?: Record<string, string>
}

interface Flags extends Options {
  json?: boolean
}

async function main(names: readonly string[], flags: Flags): Promise<void> {
  undoAtExit()
  const unknown = names.filter(name => !(name in SUITES))
  if (unknown.length > 0) {
    throw new Error(`suite ${unknown.join(', ')}: unknown (${Object.keys(SUITES).join(', ')})`)
  }
  const wanted = names.length > 0 ? names : Object.keys(SUITES)
  if (names.length === 0) {
    for (const [name, { about }] of Object.entries(SUITES)) progress(`${name.padEnd(10)} ${about}`)
    progress('')
  }
  const outcome: Outcome = { machine: machine(), samples: {}, ratios: {} }
  const reports: Report[] = []
  const failed: Record<string, string> = {}
  for (const name of wanted) {
    try {
      const report = await (await SUITES[name]!.load()).run(flags)
      reports.push(report)
      outcome.samples[name] = report.samples
      Object.assign(outcome.ratios, report.ratios)
    } catch (error) {
      failed[name] = error instanceof Error ? error.message : String(error)
      progress(`${name}: ${error instanceof Skipped ? 'skipped' : 'failed'}: ${failed[name]}`)
    }
  }
  if (Object.keys(failed).length > 0) {
    outcome.failed = failed
    process.exitCode = 1
  }
  process.stdout.write(flags.json ? `${JSON.stringify(outcome)}\n` : text(outcome, reports))
}

function text(outcome: Outcome, reports: readonly Report[]): string {
  const { cpu, cores, kernel, node } = outcome.machine
  const blocks = [`${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}\n`]
  for (const { tables, notes } of reports) {
    blocks.push(...tables.map(format))
    if (notes.length > 0) blocks.push(`${notes.map(note => `* ${note}`).join('\n')}\n`)
  }
  const rows = Object.entries(outcome.ratios).map(([name, value]) => [name, String(value)])
  const ratios: Table = { title: 'ratios', head: ['name', 'value'], rows }
  if (rows.length > 0) blocks.push(format(ratios))
  return `${blocks.join('\n')}`
}

function positive(value: string): number {
  const number = Number(value)
  if (!(number > 0) || number > 3600) throw new InvalidArgumentError('not between 0 and 3600.')
  return number
}

function count(value: string): number {
  if (!Number.isInteger(positive(value))) throw new InvalidArgumentError('not a whole number.')
  return Number(value)
}

const program = new Command('bench')
  .description('measures hawser beside its peers, in one run')
  .argument('[suite...]', Object.keys(SUITES).join(', '))
  .option('--json', 'print one JSON document')
  .option('--rounds <n>', 'rounds of a suite, at least its own minimum', count)
  .option('--seconds <s>', 'seconds that one measurement counts', positive)
  .option('--only <names>', 'contenders, separated by commas', (text: string) => text.split(','))
  .option('--generator <name>', 'path: live (XDP frames) or afxdp (socket buffers)')
  .action(main)

try {
  await program.parseAsync()
} catch (error) {
  progress(`bench: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}
