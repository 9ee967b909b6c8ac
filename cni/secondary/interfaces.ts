/**
 * Further interfaces of a pod: networks of other CNI plugins (secondary-config.ts), called as a runtime
 * calls a network list (specification 1.1.0, "Lifecycle & Ordering"), from the first call to the day
 * when all of it is undone.
 *
 * Theory of operation. They are made when the pod's own interface serves, one network after the other,
 * and undone in reverse, before the own interface goes. A network has its row (state.ts, `secondaries`)
 * before its first plugin is called, and keeps it until the DEL of all its plugins has succeeded; DEL
 * and CHECK go by the row, whatever the configuration says by then. A network whose ADD failed is
 * undone whole, the plugin that failed included, and so is one without a result that a dead daemon
 * left. All of it runs in the turn of the attachment, so rows of an attachment that has none itself
 * mean, in its turn, that their interfaces belong to nobody.
 *
 * A plugin `hawser` is this daemon. Its executable would ask for a turn while ours is held, so it is not
 * run: its ADD, DEL and CHECK are done at once, as a part of the turn, and make an attachment with a row
 * of its own. That one is owned: it is never collected by itself, its owner's DEL takes it along.
 */

import { hasInterface } from '../../dataplane/netns.ts'
import { clean } from '../base/document.ts'
import { faultPoint } from '../base/fault-points.ts'
import type { Logger } from '../base/logger.ts'
import { resultIn } from '../invoke/answer.ts'
import { callDelegate, type DelegateCall, findDelegate, missing } from '../invoke/exec.ts'
import { callDel, callOf, either } from '../invoke/kept.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { CniRequest } from '../spec/request.ts'
import { hasVerb } from '../spec/versions.ts'
import {
  type AttachmentKey,
  attachmentId,
  isStateFailure,
  type Secondary,
  type State,
} from '../state/state.ts'
import { OWN_TYPE, type PluginConfig, type SecondaryNetwork } from './config.ts'

/** What CNI_ARGS ask for the pod's first interface, by convention; nobody else may have it too. */
const FIRST_ONLY = /^(?:IP|MAC|GATEWAY)=/

export interface SecondaryParts {
  state: State
  log: Logger
  /** Ends the calls of plugins that are under way. */
  stopping?: AbortSignal
}

/** A verb of this daemon, in the turn whose signal is `held`. */
export type OwnCall = (request: CniRequest, held: AbortSignal) => Promise<unknown>
/** The same for DEL. */
export type OwnDel = (key: AttachmentKey, held?: AbortSignal) => Promise<void>

/** The further interfaces that an ADD asks for. */
export interface WantedSecondaries {
  networks: readonly SecondaryNetwork[]
  /** The runtime's. */
  request: CniRequest
  own: OwnCall
}

/** One that was made, or at least begun. */
export interface KnownSecondary {
  row: Secondary
  network: SecondaryNetwork
}

/**
 * Makes the further interfaces of attachment `key`, in order. Throws CniError that names the
 * network: what its plugin says, 103 for an interface that is there already, or 4 for a plugin that
 * isn't; `removeSecondaries` undoes what is made by then. Gives up when `late` is aborted.
 */
export async function addSecondaries(
  parts: SecondaryParts,
  key: AttachmentKey,
  { networks, request, own }: WantedSecondaries,
  late: AbortSignal,
): Promise<void> {
  const { CNI_NETNS: netns, CNI_PATH: path } = request.env
  for (const network of networks) requirePlugins(network, request.env)
  const signal = either(late, parts.stopping)
  const args = argsOfAll(request.env.CNI_ARGS)
  for (const [position, network] of networks.entries()) {
    const { ifname } = network
    try {
      signal.throwIfAborted()
      if (hasInterface(netns, ifname)) {
        const what = `${ifname} in ${netns}`
        throw new CniError(CODE.exists, `${what}: the interface is there already`)
      }
      const config = JSON.stringify(network)
      const row: Secondary = { position, netns, args, path, config, created: Date.now() }
      parts.state.keepSecondary(key, row)
      faultPoint('further.asking')
      const result = await callAll(parts, key, { row, network }, own, signal)
      faultPoint('further.made')
      parts.state.keepSecondary(key, { ...row, result: JSON.stringify(result) })
    } catch (error) {
      throw named(network, error)
    }
  }
}

/** Before anything is made: that all plugins are there. */
function requirePlugins(network: SecondaryNetwork, env: CniRequest['env']): void {
  for (const { type } of network.plugins) {
    if (type === OWN_TYPE) continue
    if (findDelegate(type, env.CNI_PATH, 'plugin') !== undefined) continue
    throw named(network, missing({ type, env, config: '', role: 'plugin' }))
  }
}

/** ADD of all plugins of a network; the last one's answer. */
async function callAll(
  { log }: SecondaryParts,
  key: AttachmentKey,
  known: KnownSecondary,
  own: OwnCall,
  signal: AbortSignal,
): Promise<object | undefined> {
  const { cniVersion, plugins } = known.network
  let result: object | undefined
  for (const plugin of plugins) {
    const call = pluginCall(key, known, 'ADD', plugin, result)
    const answer = await (plugin.type === OWN_TYPE
      ? own(requestOf(call), signal)
      : callDelegate(call, log, signal))
    resultIn(`plugin ${plugin.type}`, cniVersion, answer)
    result = { cniVersion, ...(answer as object) }
  }
  return result
}

/**
 * Undoes all further interfaces of an attachment, in reverse. What fails doesn't keep the others: its
 * row stays, and the first failure is thrown at the end. A plugin that doesn't speak the version is passed
 * over for good. One whose executable is missing fails nothing, but its row stays, to be tried again.
 * `late` ends a plugin that takes too long.
 */
export async function removeSecondaries(
  parts: SecondaryParts,
  key: AttachmentKey,
  own: OwnDel,
  late?: AbortSignal,
): Promise<void> {
  const failures: Error[] = []
  for (const known of knownSecondaries(parts.state, key).reverse()) {
    const facts = { attachment: attachmentId(key), ifname: known.network.ifname }
    try {
      if (await removeSecondary(parts, key, known, own, late)) continue
      faultPoint('further.undone')
      parts.state.forgetSecondary(key, known.row.position)
    } catch (error) {
      const failure = named(known.network, error)
      parts.log.warn({ ...facts, cause: failure.message }, 'a further interface is not undone')
      // That it is gone only can't be written down: a second DEL does no harm.
      if (!isStateFailure(error)) failures.push(failure)
    }
  }
  if (failures[0] !== undefined) throw failures[0]
}

/** Tells whether a plugin was missing, and there is something left to be done. */
async function removeSecondary(
  { log, stopping }: SecondaryParts,
  key: AttachmentKey,
  known: KnownSecondary,
  own: OwnDel,
  late: AbortSignal | undefined,
): Promise<boolean> {
  let left = false
  const { row, network } = known
  const signal = either(late, stopping)
  const result = hasVerb(network.cniVersion, 'CHECK') ? resultOf(row) : undefined
  for (const plugin of network.plugins.toReversed()) {
    if (plugin.type === OWN_TYPE) {
      await own(ownKey(key, network), late)
      continue
    }
    const call = pluginCall(key, known, 'DEL', plugin, result)
    const end = await callDel(log, call, signal)
    if (end.how === 'done') continue
    const facts = { attachment: attachmentId(key), ifname: network.ifname, plugin: plugin.type }
    const missing = end.how === 'missing'
    const then = missing ? 'tried again later' : 'it is passed over'
    log.warn({ ...facts, cause: end.why.message }, `a plugin can not undo its part: ${then}`)
    left ||= missing
  }
  return left
}

/** The further interfaces of an attachment, in order. */
export function knownSecondaries(state: State, key: AttachmentKey): KnownSecondary[] {
  return state.secondaries(key).map(known)
}

export function known(row: Secondary): KnownSecondary {
  return { row, network: JSON.parse(row.config) as SecondaryNetwork }
}

/** What the last plugin answered; undefined while it hasn't. */
export function resultOf({ result }: Secondary): object | undefined {
  return result === undefined ? undefined : (JSON.parse(result) as object)
}

/** The call of a plugin of a further interface of attachment `key`. */
export function pluginCall(
  key: AttachmentKey,
  { row, network }: KnownSecondary,
  verb: string,
  plugin: PluginConfig,
  prevResult: object | undefined,
): DelegateCall {
  const { type } = plugin
  const config = pluginConfig(network, plugin, prevResult === undefined ? {} : { prevResult })
  const kept = { ...row, type, config }
  return { ...callOf({ ...key, ifname: network.ifname }, verb, kept), role: 'plugin' }
}

/** What a verb of this daemon gets of a call. */
export function requestOf({ env, config }: DelegateCall): CniRequest {
  return { env, config }
}

/** What a plugin gets on stdin. */
export function pluginConfig(
  { name, cniVersion }: SecondaryNetwork,
  plugin: PluginConfig,
  more: object,
): string {
  return JSON.stringify({ ...plugin, name, cniVersion, ...more })
}

/** Attachments that are further interfaces of others: whose they are, by their ids. */
export function ownersOf(state: State): Map<string, AttachmentKey> {
  const owners = new Map<string, AttachmentKey>()
  for (const { key, secondary } of state.allSecondaries()) {
    const { network } = known(secondary)
    if (!network.plugins.some(each => each.type === OWN_TYPE)) continue
    owners.set(attachmentId(ownKey(key, network)), key)
  }
  return owners
}

/** The turn in which an attachment is worked on unasked: a further interface's is its owner's. */
export function turnOf(state: State, key: AttachmentKey): string {
  const id = attachmentId(key)
  const owner = ownersOf(state).get(id)
  return owner === undefined ? id : attachmentId(owner)
}

function ownKey(
  { containerId }: AttachmentKey,
  { name, ifname }: Pick<SecondaryNetwork, 'name' | 'ifname'>,
): AttachmentKey {
  return { network: name, containerId, ifname }
}

/** CNI_ARGS without what is asked for the first interface. */
function argsOfAll(args: string): string {
  return args
    .split(';')
    .filter(pair => !FIRST_ONLY.test(pair))
    .join(';')
}

/** A failure with the network that it is about; a bug of ours is left as it is. */
export function named({ name }: Pick<SecondaryNetwork, 'name'>, error: unknown): Error {
  if (!(error instanceof CniError)) return error as Error
  const { code, message, details } = error
  return new CniError(code, `network ${clean(name)}: ${message}`, details, { cause: error })
}
