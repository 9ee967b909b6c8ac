/** Calling a plugin as a runtime does, one container at a time or many at once. */
import { randomBytes } from 'node:crypto'
import { command, type Namespace } from '../harness/namespaces.ts'
import type { Plugin, PluginName } from './plugins.ts'

/** A container that exists: its id, and the namespace that it was attached in. */
export interface Container {
  id: string
  namespace: Namespace
}

export function containerIn(namespace: Namespace): Container {
  return { id: randomBytes(32).toString('hex'), namespace }
}

export interface Called {
  /** Wall time until the last one was done, ns. */
  ns: number
  /** Wall time of each executable, ns. */
  each: readonly number[]
}

/** Calls the plugin for all containers at once. Throws when one of them fails. */
export async function call(
  { spawner }: Plugin,
  verb: 'ADD' | 'DEL',
  containers: readonly Container[],
): Promise<Called> {
  const words = containers.map(({ id, namespace }) => `${id} ${namespace.path}`)
  const done = await spawner.ask(['ns', 'status'], `${verb} ${words.join(' ')}`)
  const { ns, status, each, output } = done as typeof done & { each: number[]; output: string }
  if (status !== 0) throw new Error(`${spawner.name} ${verb} ended with ${status}: ${output}`)
  return { ns, each }
}

interface Link {
  ifname: string
  addr_info: { family: string }[]
}

/** Throws unless the container has eth0 with one address and a default route, or, `after` DEL, no eth0. */
export function prove(name: PluginName, { namespace }: Container, after: 'ADD' | 'DEL'): void {
  const json = (...args: string[]): unknown =>
    JSON.parse(command('ip', '-n', namespace.name, '-json', '-4', ...args) || '[]')
  const links = JSON.parse(
    command('ip', '-n', namespace.name, '-json', 'address', 'show'),
  ) as Link[]
  const eth0 = links.find(link => link.ifname === 'eth0')
  if (after === 'DEL') {
    if (eth0 !== undefined) throw new Error(`${name} DEL left eth0 behind`)
    return
  }
  const addresses = eth0?.addr_info.filter(address => address.family === 'inet').length ?? 0
  const routes = json('route', 'show', 'default') as unknown[]
  if (addresses !== 1 || routes.length < 1) {
    throw new Error(
      `${name} ADD left ${addresses} addresses on eth0, ${routes.length} default routes`,
    )
  }
}
