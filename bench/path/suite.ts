/** 64-byte frames from a pod into VXLAN: hawser, a bare C++ AF_XDP forwarder, and the kernel. */
import { allowedCpus } from '../harness/machine.ts'
import { requireRoot } from '../harness/namespaces.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import {
  CONTENDERS,
  type Contender,
  type Cpus,
  GENERATORS,
  type Generator,
  type Name,
  prepare,
} from './contenders.ts'
import { measure, type Sample } from './measure.ts'

const ROUNDS = 5
const SECONDS = 3
const DEFAULT: readonly Name[] = ['hawser', 'bare', 'kernel', 'generator']

export const path: Suite = {
  name: 'path',
  about: 'pod veth to VXLAN on the underlay veth: hawser, bare C++ AF_XDP, kernel bridge + vxlan',
  run,
}

async function run(options: Options): Promise<Report> {
  requireRoot()
  const names = selected(CONTENDERS, { ...options, only: options.only ?? DEFAULT })
  const generator = checkGenerator(options.generator ?? 'live')
  const rounds = Math.max(ROUNDS, options.rounds ?? ROUNDS)
  const seconds = options.seconds ?? SECONDS
  const allowed = allowedCpus()
  const cpus: Cpus = { generator: allowed[0]!, forwarder: allowed[1] ?? allowed[0]! }
  const contenders = new Map<Name, Contender>()
  for (const name of names) contenders.set(name, prepare(name, generator, cpus))
  try {
    const samples = await alternate(names, rounds, async (name, round) => {
      const sample = await measure(name, contenders.get(name)!, generator, cpus, seconds)
      progress(`path ${round + 1}/${rounds} ${name.padEnd(13)} ${grouped(sample.rate)} packets/s`)
      return sample
    })
    return {
      samples: { source: generator, ...samples },
      ratios: ratios(samples),
      tables: [table(names, samples, generator, rounds, seconds)],
      notes: notes(generator, cpus),
    }
  } finally {
    for (const { topology } of contenders.values()) {
      for (const namespace of [topology.pod, topology.node, topology.sink]) namespace.remove()
    }
  }
}

type Samples = Partial<Record<Name, Sample[]>>

function checkGenerator(name: string): Generator {
  if (name === 'live' || name === 'afxdp') return name
  throw new Error(`generator ${name}: unknown (there are ${Object.keys(GENERATORS).join(', ')})`)
}

function ratios(samples: Samples): Record<string, number> {
  const found: Record<string, number> = {}
  const compare = (key: string, one: Name, other: Name) => {
    const [a, b] = [samples[one], samples[other]]
    if (!a || !b) return
    const rates = (of: Sample[]) => of.map(sample => sample.rate)
    found[key] = significant(pairedRatio(rates(a), rates(b)))
  }
  compare('hawser_vs_bare_afxdp', 'hawser', 'bare')
  compare('hawser_policy_vs_bare_afxdp', 'hawser-policy', 'bare')
  compare('hawser_policy_vs_hawser', 'hawser-policy', 'hawser')
  compare('hawser_vs_kernel_vxlan', 'hawser', 'kernel')
  compare('hawser_vs_kernel_bridged_vxlan', 'hawser', 'kernel-bridge')
  compare('bare_afxdp_vs_kernel_vxlan', 'bare', 'kernel')
  return found
}

function table(
  names: readonly Name[],
  samples: Samples,
  generator: Generator,
  rounds: number,
  seconds: number,
): Table {
  const alone = samples.generator && median(samples.generator.map(one => one.allNs))
  const rows = names.map(name => {
    const of = (pick: (sample: Sample) => number) => (samples[name] ?? []).map(pick)
    const rates = of(one => one.rate)
    const own = of(one => one.forwarderNs)
    const without = alone && of(one => one.allNs - (alone * one.sent) / one.rate)
    return [
      name,
      grouped(median(rates)),
      `${grouped(Math.min(...rates))} - ${grouped(Math.max(...rates))}`,
      grouped(median(of(one => one.sent))),
      own.some(ns => ns > 0) ? grouped(median(own)) : '-',
      name !== 'generator' && without ? grouped(median(without)) : '-',
      grouped(median(of(one => one.allNs))),
    ]
  })
  return {
    title: `path: 64-byte UDP into VXLAN, generator ${generator}, ${rounds} rounds of ${seconds} s, medians`,
    head: [
      'contender',
      'packets/s at the sink',
      'min - max',
      'sent/s',
      'forwarder ns',
      'path ns',
      'all ns',
    ],
    rows,
  }
}

function notes(generator: Generator, cpus: Cpus): string[] {
  const list = [
    'ns are CPU time a packet at the sink: forwarder = its process without empty polls; all = with generator and softirq; path = all less what the generator alone takes for what it sent',
    `${generator} generator on CPU ${cpus.generator}, forwarder on CPU ${cpus.forwarder}; the kernel forwards on the generator's CPU, in softirq`,
  ]
  if (cpus.generator === cpus.forwarder) {
    list.push(
      'one CPU only: generator and forwarder share it, rates are not comparable with others',
    )
  }
  return list
}
