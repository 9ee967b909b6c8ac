/**
 * How long a runtime waits for ADD and DEL: hawser beside the reference plugins bridge, ptp and macvlan
 * with host-local. One container at a time, a burst at once, and a node that fills up.
 */
import { readFileSync } from 'node:fs'
import { Namespace, requireRoot } from '../harness/namespaces.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, quantile, significant } from '../harness/statistics.ts'
import {
  type Figure,
  type Options,
  progress,
  type Report,
  type Suite,
  selected,
} from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { call, containerIn, prove } from './calls.ts'
import { type ClusterFigures, clusterFigures } from './cluster.ts'
import { PLUGINS, type Plugin, type PluginName, start } from './plugins.ts'

const ROUNDS = 40
const LEAST_ROUNDS = 20
/** Containers of a burst, and bursts of each plugin. */
const BURST = 32
const BURST_ROUNDS = 7
/** Pods of the full node, and how many count as its first. */
const PODS = 250
const FIRST_PODS = 10

const QUICK = { rounds: 3, bursts: 1, pods: 20 }

export const cni: Suite = {
  name: 'cni',
  about:
    'ADD and DEL through the CNI executables: hawser, and bridge, ptp, macvlan with host-local',
  run,
}

interface Sample {
  /** Wall time of the executable, ns. */
  add: number
  del: number
}

async function run(options: Options): Promise<Report> {
  requireRoot()
  const names = selected(PLUGINS, options)
  const rounds = options.quick ? QUICK.rounds : Math.max(LEAST_ROUNDS, options.rounds ?? ROUNDS)
  const bursts = options.quick ? QUICK.bursts : BURST_ROUNDS
  const pods = options.quick ? QUICK.pods : PODS
  const plugins = new Map<PluginName, Plugin>()
  const places: Namespace[] = []
  try {
    for (const name of names) plugins.set(name, await start(name))
    progress(`cni making ${Math.max(BURST, pods)} namespaces`)
    places.push(...Array.from({ length: Math.max(BURST, pods) }, () => new Namespace('pod')))
    // Not counted: it makes the bridge, fills caches, and proves that the plugins do their work.
    for (const name of names) await life(plugins.get(name)!, name, places.slice(0, 1), true)
    const one = await alternate(names, rounds, async (name, round) => {
      const { add, del } = await life(plugins.get(name)!, name, [places[round % places.length]!])
      return { add: add.each[0]!, del: del.each[0]! }
    })
    const burst = await alternate(names, bursts, async name => {
      progress(`cni ${name}: ${BURST} at once`)
      const { add, del } = await life(plugins.get(name)!, name, places.slice(0, BURST))
      return { add: add.ns, del: del.ns }
    })
    const full = plugins.has('hawser')
      ? await fill(plugins.get('hawser')!, places.slice(0, pods))
      : undefined
    const cluster = plugins.has('hawser') ? await clusterFigures(options.quick === true) : undefined
    return report(names, one, burst, full, cluster)
  } finally {
    for (const plugin of plugins.values()) await plugin.stop()
    for (const place of places) place.remove()
  }
}

/** ADD and DEL of one new container in each namespace, all at once. */
async function life(plugin: Plugin, name: PluginName, places: readonly Namespace[], proof = false) {
  const containers = places.map(containerIn)
  const add = await call(plugin, 'ADD', containers)
  if (proof) for (const container of containers) prove(name, container, 'ADD')
  const del = await call(plugin, 'DEL', containers)
  if (proof) for (const container of containers) prove(name, container, 'DEL')
  return { add, del }
}

interface Full {
  /** Wall time of each ADD, in order, and of each DEL, ns. */
  add: number[]
  del: number[]
  /** Resident memory of the daemon, empty and full. */
  emptyBytes: number
  fullBytes: number
}

/** A pod in every namespace, one after the other; then all go. */
async function fill(plugin: Plugin, places: readonly Namespace[]): Promise<Full> {
  progress(`cni filling the node with ${places.length} pods`)
  const containers = places.map(containerIn)
  const full: Full = { add: [], del: [], emptyBytes: residentBytes(plugin.daemon!), fullBytes: 0 }
  for (const container of containers) {
    full.add.push((await call(plugin, 'ADD', [container])).each[0]!)
  }
  full.fullBytes = residentBytes(plugin.daemon!)
  for (const container of containers) {
    full.del.push((await call(plugin, 'DEL', [container])).each[0]!)
  }
  return full
}

/** VmRSS of proc(5). */
function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024
}

const ms = (ns: number) => grouped(ns / 1e6, 2)

function report(
  names: readonly PluginName[],
  one: Record<PluginName, Sample[]>,
  burst: Record<PluginName, Sample[]>,
  full: Full | undefined,
  cluster: ClusterFigures | undefined,
): Report {
  const both = (samples: readonly Sample[]) => samples.map(({ add, del }) => add + del)
  const rounds = one[names[0]!]!.length
  const tables: Table[] = [
    {
      title: `cni: wall time of the executable, ms, ${rounds} containers one at a time`,
      head: ['plugin', 'ADD', 'DEL', 'ADD+DEL', 'ADD p99', 'DEL p99', 'ADD+DEL p99'],
      rows: names.map(name => {
        const add = one[name].map(sample => sample.add)
        const del = one[name].map(sample => sample.del)
        const middle = [add, del, both(one[name])]
        return [
          name,
          ...middle.map(samples => ms(median(samples))),
          ...middle.map(samples => ms(quantile(samples, 0.99))),
        ]
      }),
    },
    {
      title: `cni: wall time of ${BURST} containers at once, ms, ${burst[names[0]!]!.length} bursts`,
      head: ['plugin', 'ADD', 'DEL', 'ADD+DEL'],
      rows: names.map(name => [
        name,
        ms(median(burst[name].map(sample => sample.add))),
        ms(median(burst[name].map(sample => sample.del))),
        ms(median(both(burst[name]))),
      ]),
    },
  ]
  const ratios: Record<string, number> = {}
  for (const peer of PLUGINS.slice(1)) {
    if (!(names.includes('hawser') && names.includes(peer))) continue
    const [ours, theirs] = [both(one.hawser), both(one[peer])]
    ratios[`add_del_vs_${peer}`] = significant(median(ours) / median(theirs))
    ratios[`add_del_p99_vs_${peer}`] = significant(quantile(ours, 0.99) / quantile(theirs, 0.99))
    ratios[`parallel_vs_${peer}`] = significant(pairedRatio(both(burst.hawser), both(burst[peer])))
  }
  const figures: Record<string, Figure> = {}
  if (full !== undefined) {
    const first = full.add.slice(0, FIRST_PODS)
    const podBytes = (full.fullBytes - full.emptyBytes) / full.add.length
    ratios['add_p99_full_vs_first'] = significant(quantile(full.add, 0.99) / quantile(first, 0.99))
    figures['cni_memory_per_pod'] = { value: significant(podBytes / 1024), unit: 'KiB' }
    tables.push({
      title: `cni: hawser filling a node with ${full.add.length} TUN pods, ms`,
      head: ['', 'ADD', 'ADD p99', 'DEL', 'DEL p99', 'KiB a pod'],
      rows: [
        [
          'all',
          ms(median(full.add)),
          ms(quantile(full.add, 0.99)),
          ms(median(full.del)),
          ms(quantile(full.del, 0.99)),
          grouped(podBytes / 1024, 1),
        ],
        [`first ${FIRST_PODS}`, ms(median(first)), ms(quantile(first, 0.99)), '', '', ''],
      ],
    })
  }
  Object.assign(figures, cluster)
  return {
    samples: { one, burst, ...(full === undefined ? {} : { full }) },
    ratios,
    figures,
    tables,
    notes: [
      'posix_spawn to exit; the daemon runs, its state is durable; less is better',
      'a burst counts from the first start to the last end',
    ],
  }
}
