/** What CHECK, STATUS, GC and an operator ask of further interfaces (secondaries.ts), as libcni does. */

import type { PodAttachment } from '../../dataplane/control.ts'
import { resultIn } from '../invoke/answer.ts'
import { callDelegate, type DelegateCall } from '../invoke/exec.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { CniRequest } from '../spec/request.ts'
import { hasVerb } from '../spec/versions.ts'
import { type AttachmentKey, attachmentId, type State } from '../state/state.ts'
import { type ConfiguredNetwork, OWN_TYPE } from './config.ts'
import {
  known,
  knownSecondaries,
  named,
  type OwnCall,
  pluginCall,
  pluginConfig,
  requestOf,
  resultOf,
  type SecondaryParts,
} from './interfaces.ts'

/**
 * Asks the plugins of an attachment's further interfaces, in order, each with the kept result. Those of
 * a version without CHECK, or with `disableCheck`, are passed over. Throws CniError that names the
 * network: what its plugin says, or code 104 for an interface that was never finished.
 */
export async function checkSecondaries(
  { state, log }: SecondaryParts,
  key: AttachmentKey,
  own: OwnCall,
  late: AbortSignal,
): Promise<void> {
  for (const each of knownSecondaries(state, key)) {
    const { row, network } = each
    const { cniVersion, disableCheck, plugins } = network
    if (disableCheck === true || !hasVerb(cniVersion, 'CHECK')) continue
    try {
      const result = resultOf(row)
      if (result === undefined) throw new CniError(CODE.differs, 'it was not made whole')
      for (const plugin of plugins) {
        const call = pluginCall(key, each, 'CHECK', plugin, result)
        await (plugin.type === OWN_TYPE
          ? own(requestOf(call), late)
          : callDelegate(call, log, late))
      }
    } catch (error) {
      throw named(network, error)
    }
  }
}

/**
 * Asks the plugins of those networks that every pod gets, in order; gives a sentence for each network of which one
 * refuses. Throws CniError (code 7) for a configuration that is wrong.
 */
export async function statusOfSecondaries(
  { log, stopping }: SecondaryParts,
  networks: readonly ConfiguredNetwork[],
  request: CniRequest,
  own: (request: CniRequest) => Promise<unknown>,
): Promise<string[]> {
  const ask = async (network: ConfiguredNetwork): Promise<string[]> => {
    if (network.asked || !hasVerb(network.cniVersion, 'STATUS')) return []
    for (const plugin of network.plugins) {
      const { type } = plugin
      const { env } = request
      const call: DelegateCall = {
        ...{ type, env, role: 'plugin' },
        config: pluginConfig(network, plugin, {}),
      }
      try {
        await (type === OWN_TYPE ? own(requestOf(call)) : callDelegate(call, log, stopping))
      } catch (error) {
        return remarkOf(named(network, error))
      }
    }
    return []
  }
  return (await Promise.all(networks.map(ask))).flat()
}

/** What a plugin said against its STATUS, as a sentence. Throws what is no plugin's, and CniError of code 7. */
export function remarkOf(error: unknown): string[] {
  if (!(error instanceof CniError) || error.code === CODE.config) throw error
  return [error.message]
}

/**
 * Tells each network which further interfaces there are, of all attachments that we have. The daemon
 * itself needs no telling. One that fails doesn't keep the others; throws CniError (code 5) then.
 */
export async function collectSecondaries(
  { state, log, stopping }: SecondaryParts,
  networks: readonly ConfiguredNetwork[],
  { env }: CniRequest,
): Promise<void> {
  const there = state
    .allSecondaries()
    .map(({ key, secondary }) => ({ containerID: key.containerId, ...known(secondary).network }))
  const causes: string[] = []
  for (const network of networks) {
    if (!hasVerb(network.cniVersion, 'GC')) continue
    const valid = there
      .filter(({ name }) => name === network.name)
      .map(({ containerID, ifname }) => ({ containerID, ifname }))
    for (const plugin of network.plugins) {
      if (plugin.type === OWN_TYPE) continue
      const config = pluginConfig(network, plugin, { 'cni.dev/valid-attachments': valid })
      const call: DelegateCall = { type: plugin.type, env, config, role: 'plugin' }
      await callDelegate(call, log, stopping).catch((error: unknown) => {
        causes.push(named(network, error).message)
      })
    }
  }
  if (causes.length > 0) throw new CniError(CODE.io, causes.slice(0, 5).join('; '))
}

/** A further interface, for people. */
export interface SecondaryFacts {
  network: string
  ifname: string
  plugins: string[]
  /** With prefix lengths; empty while it is made. */
  ips: string[]
}

/** `pod`: its namespace and name, as far as the runtime said them. `labels`: as its annotations told them. */
export type PodFacts = PodAttachment & {
  pod?: string
  labels?: Readonly<Record<string, string>>
  secondaries?: SecondaryFacts[]
}

/** The pods of the engine with their further interfaces. */
export function podFacts(pods: readonly PodAttachment[], state: State): PodFacts[] {
  const found = new Map<string, SecondaryFacts[]>()
  for (const { key, secondary } of state.allSecondaries()) {
    const { name, ifname, cniVersion, plugins } = known(secondary).network
    const result = resultOf(secondary)
    const ips = result === undefined ? [] : resultIn('plugin', cniVersion, result).ips
    const facts: SecondaryFacts = {
      ...{ network: name, ifname },
      plugins: plugins.map(each => each.type),
      ips: ips.map(each => each.address),
    }
    const id = attachmentId(key)
    found.set(id, [...(found.get(id) ?? []), facts])
  }
  const rows = new Map(state.list().map(row => [attachmentId(row), row]))
  return pods.map(each => {
    const secondaries = found.get(each.id)
    const { pod = '', runtime } = rows.get(each.id) ?? {}
    return {
      ...each,
      ...(pod === '' ? {} : { pod }),
      ...(runtime?.labels === undefined ? {} : { labels: runtime.labels }),
      ...(secondaries === undefined ? {} : { secondaries }),
    }
  })
}

/** A sentence for each further interface whose attachment is gone and that isn't undone yet. */
export function secondaryNotes(state: State): string[] {
  return state.allSecondaries().flatMap(({ key, secondary }) => {
    if (state.get(key) !== undefined) return []
    const { name, ifname } = known(secondary).network
    return [`${attachmentId(key)} is gone, its ${ifname} of network ${name} is not undone yet`]
  })
}
