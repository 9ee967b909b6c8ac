/** How long a runtime waits for ADD and DEL: hawser beside the reference plugins bridge + host-local. */
import { randomBytes } from 'node:crypto'
import { command, Namespace, requireRoot } from '../harness/namespaces.ts'
import { alternate } from '../harness/rounds.ts'
import { median, quantile, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { PLUGINS, type Plugin, type PluginName, start } from './plugins.ts'

const ROUNDS = 40
const LEAST_ROUNDS = 20

export const cni: Suite = {
  name: 'cni',
  about: 'ADD and DEL through the CNI executables: hawser, bridge + host-local',
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
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? ROUNDS)
  const plugins = new Map<PluginName, Plugin>()
  const containers: Namespace[] = []
  try {
    for (const name of names) plugins.set(name, await start(name))
    progress(`cni making ${(rounds + 1) * names.length} namespaces`)
    const fresh = Array.from({ length: (rounds + 1) * names.length }, () => new Namespace('pod'))
    containers.push(...fresh)
    // Not counted: it makes the bridge, fills caches, and proves that the plugins do their work.
    for (const name of names) await call(plugins.get(name)!, name, fresh.pop()!, true)
    const samples = await alternate(names, rounds, name =>
      call(plugins.get(name)!, name, fresh.pop()!, false),
    )
    return report(names, samples, rounds)
  } finally {
    for (const plugin of plugins.values()) await plugin.stop()
    for (const container of containers) container.remove()
  }
}

/** One container's life. With `prove` the interface is looked at after ADD and after DEL. */
async function call(
  { spawner }: Plugin,
  name: PluginName,
  container: Namespace,
  prove: boolean,
): Promise<Sample> {
  const id = randomBytes(32).toString('hex')
  const once = async (verb: string) => {
    const { ns, status, output } = await spawner.ask(
      ['ns', 'status'],
      `${verb} ${id} ${container.path}`,
    )
    if (status !== 0) throw new Error(`${name} ${verb} ended with ${status}: ${output}`)
    return ns
  }
  const add = await once('ADD')
  if (prove) {
    const { addresses, routes } = attached(container)
    if (addresses !== 1 || routes < 1) {
      throw new Error(`${name} ADD left ${addresses} addresses on eth0, ${routes} default routes`)
    }
  }
  const del = await once('DEL')
  if (prove && attached(container).present) throw new Error(`${name} DEL left eth0 behind`)
  return { add, del }
}

interface Link {
  ifname: string
  addr_info: { family: string; scope: string }[]
}

function attached(container: Namespace): { present: boolean; addresses: number; routes: number } {
  const json = (...args: string[]): unknown =>
    JSON.parse(command('ip', '-n', container.name, '-json', '-4', ...args) || '[]')
  const links = JSON.parse(
    command('ip', '-n', container.name, '-json', 'address', 'show'),
  ) as Link[]
  const eth0 = links.find(link => link.ifname === 'eth0')
  const routes = json('route', 'show', 'default') as unknown[]
  return {
    present: eth0 !== undefined,
    addresses: eth0?.addr_info.filter(address => address.family === 'inet').length ?? 0,
    routes: routes.length,
  }
}

function report(
  names: readonly PluginName[],
  samples: Record<PluginName, Sample[]>,
  rounds: number,
): Report {
  const both = (name: PluginName) => samples[name].map(({ add, del }) => add + del)
  const ms = (ns: number) => grouped(ns / 1e6, 2)
  const table: Table = {
    title: `cni: wall time of the executable, ms, ${rounds} fresh containers each`,
    head: ['plugin', 'ADD', 'DEL', 'ADD+DEL', 'ADD p99', 'DEL p99'],
    rows: names.map(name => {
      const add = samples[name].map(sample => sample.add)
      const del = samples[name].map(sample => sample.del)
      return [
        name,
        ms(median(add)),
        ms(median(del)),
        ms(median(both(name))),
        ms(quantile(add, 0.99)),
        ms(quantile(del, 0.99)),
      ]
    }),
  }
  const ratios: Record<string, number> = {}
  if (samples.hawser && samples.bridge) {
    ratios['add_del_vs_bridge'] = significant(median(both('hawser')) / median(both('bridge')))
  }
  return {
    samples,
    ratios,
    tables: [table],
    notes: [
      'medians and p99 of posix_spawn to exit; the daemon runs, its state is durable; less is better',
    ],
  }
}
