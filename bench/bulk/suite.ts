/**
 * Bulk TCP between pods of two nodes, by iperf3: hawser's kinds of pods and underlays beside the kernel's
 * bridge and vxlan as Flannel lays them out. All are up at once; one at a time has traffic.
 */
import { readFileSync } from 'node:fs'
import { requireRoot } from '../harness/namespaces.ts'
import { Program } from '../harness/program.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import {
  type Options,
  progress,
  type Report,
  Skipped,
  type Suite,
  selected,
} from '../harness/suite.ts'
import { grouped } from '../harness/table.ts'
import { CONTENDERS, iperfVersion, makePair, type Name, type Pair } from './nodes.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 5
const STREAMS = [1, 4] as const
const QUICK = { rounds: 1, seconds: 1 }
/** Clock ticks a second of proc(5): USER_HZ. */
const USER_HZ = 100

export const bulk: Suite = {
  name: 'bulk',
  about: 'bulk TCP between pods of two nodes: hawser by tap, tun and AF_XDP, kernel bridge + vxlan',
  run,
}

interface Sample {
  /** Received, bits a second. */
  rate: number
  /** A gigabyte. */
  retransmits: number
  /** CPU seconds of the whole machine a gigabyte. */
  cpu: number
}

interface Running extends Pair {
  server: Program
}

async function run(options: Options): Promise<Report> {
  requireRoot()
  let version: string
  try {
    version = iperfVersion()
  } catch {
    throw new Skipped('iperf3 is missing (apt install iperf3)')
  }
  const names = selected(CONTENDERS, options)
  const rounds = options.quick ? QUICK.rounds : Math.max(LEAST_ROUNDS, options.rounds ?? ROUNDS)
  const seconds = options.quick ? QUICK.seconds : (options.seconds ?? SECONDS)
  const pairs = new Map<Name, Running>()
  const samples = {} as Record<Name, Record<number, Sample[]>>
  try {
    for (const name of names) {
      progress(`bulk ${name}: two nodes`)
      pairs.set(name, await start(name))
      samples[name] = {}
    }
    for (const streams of STREAMS) {
      const taken = await alternate(names, rounds, async (name, round) => {
        progress(`bulk ${name}: ${streams} streams, round ${round + 1} of ${rounds}`)
        const pair = pairs.get(name)!
        const sample = measure(pair, streams, seconds)
        await pair.check()
        return sample
      })
      for (const name of names) samples[name][streams] = taken[name]
    }
  } finally {
    for (const pair of pairs.values()) {
      await pair.server.stop()
      await pair.stop()
    }
  }
  return report(names, samples, rounds, seconds, version)
}

async function start(name: Name): Promise<Running> {
  const pair = await makePair(name)
  const server = new Program('iperf3', 'iperf3', ['-s', '--forceflush'], pair.to)
  while (!/listening/.test(await server.line())) {
    // It says more than that.
  }
  return { ...pair, server }
}

interface IperfEnd {
  end: {
    sum_sent: { retransmits: number; bytes: number }
    sum_received: { bits_per_second: number; bytes: number }
  }
}

function measure({ from, address }: Pair, streams: number, seconds: number): Sample {
  const before = busySeconds()
  const words = ['-c', address, '-t', String(seconds), '-P', String(streams), '-J']
  const { end } = JSON.parse(from.run('iperf3', ...words)) as IperfEnd
  const gigabytes = end.sum_received.bytes / 1e9
  return {
    rate: end.sum_received.bits_per_second,
    retransmits: end.sum_sent.retransmits / gigabytes,
    cpu: (busySeconds() - before) / gigabytes,
  }
}

/** Seconds that the CPUs of this machine have worked: /proc/stat without idle and iowait. */
function busySeconds(): number {
  const [first] = readFileSync('/proc/stat', 'utf8').split('\n')
  const ticks = first!.trim().split(/\s+/).slice(1).map(Number)
  const [user, nice, system, , , irq, softirq, steal] = ticks as [
    ...[number, number, number, number],
    ...[number, number, number, number],
  ]
  return (user + nice + system + irq + softirq + steal) / USER_HZ
}

const rates = (samples: readonly Sample[]) => samples.map(({ rate }) => rate)

function report(
  names: readonly Name[],
  samples: Record<Name, Record<number, Sample[]>>,
  rounds: number,
  seconds: number,
  version: string,
): Report {
  return {
    samples,
    quantities: quantitiesOf(names, samples),
    ratios: names.includes('kernel') ? ratiosOf(names, samples) : {},
    tables: [
      {
        title: `bulk: TCP between pods of two nodes, ${rounds} rounds of ${seconds} s, medians`,
        head: [
          'contender',
          ...STREAMS.flatMap(n => [`Gbit/s ${n}`, `retr/GB ${n}`, `CPU s/GB ${n}`]),
        ],
        rows: names.map(name => [
          name,
          ...STREAMS.flatMap(streams => {
            const of = samples[name][streams]!
            return [
              grouped(median(rates(of)) / 1e9, 2),
              grouped(median(of.map(({ retransmits }) => retransmits)), 1),
              grouped(median(of.map(({ cpu }) => cpu)), 2),
            ]
          }),
        ]),
      },
    ],
    notes: [
      `${version}; one worker a node; CPU is the whole machine's, iperf3 included`,
      'xdp_retransmits_vs_kernel counts the kernel with one a gigabyte at the least',
    ],
  }
}

function quantitiesOf(
  names: readonly Name[],
  samples: Record<Name, Record<number, Sample[]>>,
): NonNullable<Report['quantities']> {
  const found: NonNullable<Report['quantities']> = {}
  for (const name of names) {
    for (const streams of STREAMS) {
      const of = samples[name][streams]!
      const workload = `${streams} streams`
      const put = (what: string, unit: string, better: 'higher' | 'lower', all: number[]) => {
        found[`${name} ${workload} ${what}`] = {
          ...{ unit, better, samples: all },
          ...{ contender: name, workload: `${workload} ${what}` },
        }
      }
      put('rate', 'bit/s', 'higher', rates(of))
      put(
        'retransmits',
        '/GB',
        'lower',
        of.map(({ retransmits }) => retransmits),
      )
      put(
        'cpu',
        's/GB',
        'lower',
        of.map(({ cpu }) => cpu),
      )
    }
  }
  return found
}

function ratiosOf(
  names: readonly Name[],
  samples: Record<Name, Record<number, Sample[]>>,
): Record<string, number> {
  const ratios: Record<string, number> = {}
  const against = (name: Name, streams: number) =>
    pairedRatio(rates(samples[name][streams]!), rates(samples.kernel[streams]!))
  for (const streams of STREAMS) {
    if (names.includes('tap')) {
      ratios[`tap_tcp${streams}_vs_kernel`] = significant(against('tap', streams))
    }
    const tun = (['tun-udp', 'tun-vxlan'] as const).filter(name => names.includes(name))
    if (tun.length > 0) {
      const best = Math.max(...tun.map(name => against(name, streams)))
      ratios[`tun_tcp${streams}_vs_kernel`] = significant(best)
    }
  }
  if (names.includes('xdp')) {
    const of = (name: Name) =>
      median(STREAMS.flatMap(n => samples[name][n]!.map(({ retransmits }) => retransmits)))
    ratios['xdp_retransmits_vs_kernel'] = significant(of('xdp') / Math.max(of('kernel'), 1))
  }
  return ratios
}
