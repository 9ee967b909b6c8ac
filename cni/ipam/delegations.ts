/**
 * Addresses from IPAM plugins, from the call to the day when they are given back.
 *
 * Theory of operation. What a plugin is called with is on disk before it is called (state.ts), and
 * stays there until its DEL has succeeded: whatever dies in between, a daemon finds whom to call. All
 * of it runs in the turn of the attachment, so a call that is kept for an attachment without a row
 * means, in its turn, that the addresses belong to nobody.
 */

import { faultPoint } from '../base/fault-points.ts'
import type { Logger } from '../base/logger.ts'
import { callDelegate, type DelegateCall, findDelegate, missing } from '../invoke/exec.ts'
import { callDel, chooseCall, type DelEnd, delegationOf, either } from '../invoke/kept.ts'
import { inSpans } from '../netip/spans.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { CniVersion } from '../spec/versions.ts'
import {
  type Attachment,
  type AttachmentKey,
  attachmentId,
  isStateFailure,
  type State,
} from '../state/state.ts'
import { record, type Wanted } from './allocator.ts'
import { type Lease, leaseOf } from './lease.ts'
import { type Pool, poolsOf } from './ranges.ts'

/** Addresses from an IPAM plugin, whose answer is of this version. */
export interface Delegated {
  call: DelegateCall
  cniVersion: CniVersion
}

export interface DelegationParts {
  state: State
  /** One at a time for an attachment (pods/turns.ts). */
  turns: { unasked<T>(key: string, work: (late: AbortSignal) => Promise<T>): Promise<T> }
  /** This node's, as they are now, and its overlay networks beside the cluster's own (verbs/index.ts). */
  podCidrs: (overlay?: string) => readonly string[]
  overlays?: () => readonly string[]
  log: Logger
  /** Ends the calls of IPAM plugins that are under way. */
  stopping?: AbortSignal
}

/** An attachment that has its addresses, and what came with them. */
export type Reserved = Omit<Lease, 'addresses'> & { reserved: Attachment }

/** Asks an IPAM plugin for the addresses of `wanted`, and adds to `undo` what gives them back. Throws CniError. */
export async function askDelegate(
  parts: DelegationParts,
  { call, cniVersion }: Delegated,
  wanted: Wanted,
  late: AbortSignal,
  undo: (() => void | Promise<void>)[],
): Promise<Reserved> {
  const { state, log, podCidrs, overlays, stopping } = parts
  if (findDelegate(call.type, call.env.CNI_PATH) === undefined) throw missing(call)
  state.keepDelegation(wanted, delegationOf(call))
  undo.push(async () => void (await giveBack(parts, wanted)))
  faultPoint('add.asking')
  const signal = stopping === undefined ? late : AbortSignal.any([late, stopping])
  const answer = await callDelegate(call, log, signal)
  faultPoint('add.leased')
  const { overlay } = wanted
  const cidrs = podCidrs(overlay)
  const { addresses, ...given } = leaseOf(call.type, cniVersion, answer, cidrs, overlay)
  const pools = poolsOf(cidrs)
  for (const { family, text, value } of addresses) {
    const inside = (pool: Pool): boolean => pool.family === family && inSpans(pool.ranges, value)
    if (pools.some(inside)) continue
    const other = overlays?.().find(name => poolsOf(podCidrs(name)).some(inside))
    if (overlay !== undefined || other !== undefined) {
      const where =
        overlay === undefined ? `it is of network ${other}` : `not of network ${overlay}`
      throw new CniError(CODE.config, `IPAM plugin ${call.type}: ${text}: ${where} on this node`)
    }
    const facts = { attachment: attachmentId(wanted), ipam: call.type, address: text }
    log.warn(facts, "outside of the node's pod CIDRs: only pods of this node reach it")
  }
  return { reserved: record(state, addresses, wanted), ...given }
}

/**
 * Lets an IPAM plugin have its addresses back, if it gave any: `asked` is the runtime's DEL when it
 * names one. No DEL shall fail for a plugin that can't take them: one that doesn't speak the configuration's
 * version (code 1) never can, one whose executable is missing can when that is back, so the call stays
 * kept. Nor for a plugin that was never asked for any. Throws what the plugin's DEL does otherwise; then
 * the call stays kept, too. Gives why it does, undefined when it doesn't. `late` ends the call.
 */
export async function giveBack(
  parts: DelegationParts,
  key: AttachmentKey,
  asked?: DelegateCall,
  late?: AbortSignal,
): Promise<Error | undefined> {
  const { state, log, stopping } = parts
  const kept = state.delegation(key)
  const call = chooseCall(key, 'DEL', kept, asked)
  if (call === undefined) return undefined
  const facts = { attachment: attachmentId(key), ipam: call.type }
  const end = await callDel(log, call, either(late, stopping)).catch((why: CniError): DelEnd => {
    if (kept !== undefined) throw why
    // Another configuration than the ADD's names it: as far as we know it has given nothing.
    return { how: 'refused', why }
  })
  if (end.how === 'done') log.debug(facts, 'addresses are given back')
  else {
    const stays = end.how === 'missing' && kept !== undefined
    const then = stays ? 'tried again later' : 'it never can take them'
    log.warn({ ...facts, cause: end.why.message }, `addresses are not given back: ${then}`)
    if (stays) return end.why
  }
  faultPoint('del.returned')
  try {
    state.forgetDelegation(key)
    return undefined
  } catch (error) {
    // The plugin has them; a second DEL does no harm, and one that can't be ended would.
    if (!isStateFailure(error)) throw error
    log.error(
      { ...facts, cause: error.message },
      'that addresses are given back is not written down',
    )
    return error
  }
}

/**
 * Gives back what IPAM plugins gave to attachments that are gone, or never came to be: an earlier
 * daemon died in between, or the plugin's DEL failed. Never rejects.
 */
export async function giveBackOrphans(parts: DelegationParts): Promise<void> {
  const work = rows(parts).map(key => giveBackOrphan(parts, key))
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'fulfilled') continue
    const cause = (result.reason as Error).message
    parts.log.error({ cause }, 'addresses are not given back; tried again later')
  }
}

function rows({ state, log }: DelegationParts): AttachmentKey[] {
  try {
    return state.delegations()
  } catch (error) {
    log.error({ cause: (error as Error).message }, 'what is to be given back can not be read')
    return []
  }
}

/** In its turn; does nothing for an attachment that is there. Rejects with why the call stays kept. */
export async function giveBackOrphan(parts: DelegationParts, key: AttachmentKey): Promise<void> {
  const { state, turns } = parts
  await turns.unasked(attachmentId(key), async late => {
    if (state.get(key) !== undefined) return
    const why = await giveBack(parts, key, undefined, late)
    if (why !== undefined) throw why
  })
}
