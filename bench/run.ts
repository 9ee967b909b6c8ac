/**
 * npm run bench                                       what there is
 * npm run bench -- SUITE... | all [FILE.ts]           measures; tables on stdout
 * npm run bench -- compare A.json B.json              what changed beyond noise
 * npm run bench -- report [FILE.json...] --out R.html one page with charts
 *
 * Progress goes to stderr. A run ends with 1 when a suite failed or could not run here; `compare`
 * with 1 when something got worse, and with 2 when the documents can't be compared.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { MARGIN } from './compare/compare.ts'
import { barText, holds } from './harness/bars.ts'
import { type Document, emptyDocument, readDocument, record } from './harness/document.ts'
import { significant } from './harness/statistics.ts'
import { type Options, progress, type Report, Skipped, type Suite } from './harness/suite.ts'
import { format, grouped, type Table } from './harness/table.ts'
import { later, undoAtExit } from './harness/undo.ts'
import { type Disturbance, takeDisturbances } from './harness/watch.ts'

interface Entry {
  about: string
  /** Runs in this process on memory alone: no root, no devices. */
  micro: boolean
  /** Loaded only when it runs: a suite never needs what another one measures. */
  load: () => Promise<Suite>
}

const SUITES: Record<string, Entry> = {
  fib: {
    about: 'route lookups, building, updates, memory: every FIB, a file of yours, DPDK',
    micro: true,
    load: async () => (await import('./fib/suite.ts')).fib,
  },
  acl: {
    about: 'packet classification: every algorithm of dataplane/acl, DPDK',
    micro: true,
    load: async () => (await import('./acl/suite.ts')).acl,
  },
  flow: {
    about: 'flow tables: every algorithm of dataplane/flow, DPDK',
    micro: true,
    load: async () => (await import('./flow/suite.ts')).flow,
  },
  checksum: {
    about: 'Internet checksum: native AVX2 and scalar, TypeScript',
    micro: true,
    load: async () => (await import('./checksum/suite.ts')).checksum,
  },
  ring: {
    about: 'rings of AF_XDP sockets, pools of frames: operations a second',
    micro: true,
    load: async () => (await import('./ring/suite.ts')).ring,
  },
  wire: {
    about: 'ns a packet: parse, VXLAN encap and decap, the whole pipeline',
    micro: true,
    load: async () => (await import('./wire/suite.ts')).wire,
  },
  policy: {
    about: 'policy in the path: flows, rules, changes; beside nftables (root)',
    micro: false,
    load: async () => (await import('./policy/suite.ts')).policy,
  },
  lb: {
    about: 'load balancing: every algorithm of dataplane/lb',
    micro: true,
    load: async () => (await import('./lb/suite.ts')).lb,
  },
  path: {
    about: 'pod veth to VXLAN: hawser, bare C++ AF_XDP, kernel bridge + vxlan (root)',
    micro: false,
    load: async () => (await import('./path/suite.ts')).path,
  },
  bulk: {
    about: 'bulk TCP between pods of two nodes: tap, tun, AF_XDP; kernel bridge + vxlan (root)',
    micro: false,
    load: async () => (await import('./bulk/suite.ts')).bulk,
  },
  cni: {
    about: 'ADD and DEL: hawser, the reference plugins bridge + host-local (root)',
    micro: false,
    load: async () => (await import('./cni/suite.ts')).cni,
  },
}

const MICRO = Object.keys(SUITES).filter(name => SUITES[name]!.micro)

interface Flags extends Options {
  json?: boolean
  out?: string
}

async function runSuites(names: readonly string[], flags: Flags): Promise<[Document, Report[]]> {
  undoAtExit()
  const document = emptyDocument(flags)
  const reports: Report[] = []
  const failed: Record<string, string> = {}
  for (const name of names) {
    try {
      takeDisturbances()
      const report = await (await SUITES[name]!.load()).run(flags)
      const disturbances = takeDisturbances()
      reports.push({ ...report, tables: [...report.tables, ...disturbed(name, disturbances)] })
      record(document, name, report, disturbances)
    } catch (error) {
      failed[name] = error instanceof Error ? error.message : String(error)
      progress(`${name}: ${error instanceof Skipped ? 'skipped' : 'failed'}: ${failed[name]}`)
    }
  }
  if (Object.keys(failed).length > 0) {
    document.failed = failed
    process.exitCode = 1
  }
  return [document, reports]
}

/** What disturbed a suite's measurements; no table for one that measured nothing by callsPerSecond. */
function disturbed(suite: string, seen: Record<string, Disturbance>): Table[] {
  const all = Object.entries(seen)
  if (all.length === 0) return []
  const rows = all
    .filter(([, { deopts, gcs }]) => deopts > 0 || gcs > 0)
    .map(([name, { deopts, gcs, gcMs, functions }]) => [
      name,
      grouped(deopts),
      grouped(gcs),
      grouped(gcMs, 1),
      functions.join('; '),
    ])
  const sum = (pick: (of: Disturbance) => number) =>
    grouped(all.reduce((total, [, of]) => total + pick(of), 0))
  const totals = `${sum(of => of.deopts)} deoptimisations, ${sum(of => of.gcs)} collections`
  const title = `${suite}: ${totals} in ${all.length} measurements after warm-up`
  return [{ title, head: ['measurement', 'deopts', 'GCs', 'GC ms', 'deoptimised'], rows }]
}

async function run(words: readonly string[], flags: Flags): Promise<void> {
  if (words.length === 0) {
    process.stdout.write(overview())
    return
  }
  if (flags.json) {
    await printDocument(flags)
    return
  }
  const files = words.filter(word => /\/|\.[cm]?[jt]s$/.test(word))
  if (files.length > 1) throw new Error(`more than one file: ${files.join(', ')}`)
  const named = words.filter(word => !files.includes(word))
  const unknown = named.filter(name => name !== 'all' && !(name in SUITES))
  if (unknown.length > 0) {
    throw new Error(`suite ${unknown.join(', ')}: unknown (${Object.keys(SUITES).join(', ')}, all)`)
  }
  const names = named.includes('all') ? Object.keys(SUITES) : [...new Set(named)]
  if (names.length === 0) throw new Error(`${files[0]}: which suite measures it? fib ${files[0]}`)
  const options = files[0] === undefined ? flags : { ...flags, file: files[0] }
  const [document, reports] = await runSuites(names, options)
  if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(document)}\n`)
  process.stdout.write(text(document, reports))
}

/** Runs in a process whose stdout nobody reads: V8 writes there too (harness/watch.ts). */
async function printDocument(flags: Flags): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-bench-'))
  later(() => rmSync(folder, { recursive: true, force: true }))
  const out = flags.out ?? join(folder, 'document.json')
  const words = process.argv.slice(1).filter(word => word !== '--json')
  const child = spawn(process.execPath, [...words, '--out', out], {
    stdio: ['inherit', 'ignore', 'inherit'],
  })
  later(() => child.kill())
  undoAtExit()
  const [code] = await once(child, 'exit')
  process.exitCode = code ?? 1
  if (existsSync(out)) process.stdout.write(readFileSync(out))
}

function overview(): string {
  const rows = Object.entries(SUITES).map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  return [
    'suites:',
    ...rows,
    '',
    'npm run bench -- fib acl          some; "all" for all; micro-benches want an idle machine',
    'npm run bench -- fib ./mine.ts    a FIB of yours beside the built-in ones',
    'npm run bench -- fib --out A.json the numbers, for compare and report',
    'npm run bench -- compare A.json B.json',
    'npm run bench -- report [FILE.json...] --out report.html',
    'npm run bench -- --help           all options',
    '',
  ].join('\n')
}

function text(document: Document, reports: readonly Report[]): string {
  const { cpu, cores, kernel, node } = document.machine
  const hash = document.commit?.hash.slice(0, 12) ?? 'no commit'
  const dirty = document.commit?.dirty ? ', dirty' : ''
  const blocks = [`${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}, ${hash}${dirty}\n`]
  if (document.quick) blocks.push('A quick run: figures mean nothing.\n')
  for (const { tables, notes } of reports) {
    blocks.push(
      ...tables.map(table => (table.rows.length > 0 ? format(table) : `${table.title}\n`)),
    )
    if (notes.length > 0) blocks.push(`${notes.map(note => `* ${note}`).join('\n')}\n`)
  }
  const bar = (name: string, value: number) => {
    const held = document.bars[name]
    if (held === undefined) return ['', '']
    return [barText(held), holds(held, value) ? 'holds' : 'MISSED']
  }
  const rows = [
    ...Object.entries(document.ratios).map(([name, value]) => [
      name,
      String(value),
      ...bar(name, value),
    ]),
    ...Object.entries(document.figures).map(([name, { value, unit }]) => [
      name,
      `${significant(value).toLocaleString('en-US')} ${unit}`,
      ...bar(name, value),
    ]),
  ]
  const ratios: Table = {
    title: 'ratios and figures',
    head: ['name', 'value', 'bar', ''],
    rows,
  }
  if (rows.length > 0) blocks.push(format(ratios))
  return `${blocks.join('\n')}`
}

async function report(files: readonly string[], flags: Flags): Promise<void> {
  const { page } = await import('./report/page.ts')
  const documents = files.map(file => readDocument(file))
  if (files.length === 0) documents.push((await runSuites(MICRO, flags))[0])
  const out = flags.out ?? 'report.html'
  writeFileSync(out, page(documents))
  progress(`bench: wrote ${out}`)
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

function measuring(command: Command): Command {
  return command
    .option('--quick', 'a smoke run of seconds: its figures mean nothing')
    .option('--rounds <n>', 'rounds of a suite, at least its own minimum', count)
    .option('--seconds <s>', 'seconds that one measurement counts', positive)
    .option('--only <names>', 'contenders, separated by commas', (text: string) => text.split(','))
    .option('--routes <file>', 'fib: routes, "PREFIX [NEXT HOP]" a line; plain or .gz')
    .option('--rules <file>', 'acl: rules in the form of ClassBench; plain or .gz')
    .option('--trace <file>', 'fib: addresses; acl: headers; one a line; plain or .gz')
    .option('--generator <name>', 'path: live (XDP frames) or afxdp (socket buffers)')
}

const program = measuring(new Command('bench'))
  .description('measures hawser beside its peers, in one run')
  .argument('[words...]', `${Object.keys(SUITES).join(', ')}, or all; a TypeScript file of yours`)
  .option('--json', 'print one JSON document instead of tables')
  .option('--out <file>', 'write the JSON document into a file')
  .enablePositionalOptions()
  .action(run)

program
  .command('compare')
  .description('says what changed beyond noise; ends with 1 when something got worse')
  .argument('<before>', 'JSON document of a run')
  .argument('<after>', 'JSON document of a later run of the same suites on the same machine')
  .option('--margin <share>', 'smallest difference of medians that counts', positive, MARGIN)
  .action(async (before: string, after: string, { margin }: { margin: number }) => {
    const { compareFiles } = await import('./compare/command.ts')
    process.exitCode = compareFiles(before, after, margin)
  })

measuring(program.command('report'))
  .description('one HTML page; runs the micro-benches itself when no document is given')
  .argument('[files...]', 'JSON documents of runs')
  .option('--out <file>', 'where the page goes', 'report.html')
  .action(report)

try {
  await program.parseAsync()
} catch (error) {
  progress(`bench: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}
