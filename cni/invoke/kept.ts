/** Calls of other plugins that are kept until their DEL has succeeded: what is kept, and the call made of it. */

import { existsSync } from 'node:fs'
import type { Logger } from '../base/logger.ts'
import type { AttachmentKey, Delegation } from '../spec/attachment.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { callDelegate, type DelegateCall, findDelegate, missing } from './exec.ts'

/** What is kept of a call. */
export function delegationOf({ type, env, config }: DelegateCall): Delegation {
  const { CNI_NETNS: netns, CNI_ARGS: args, CNI_PATH: path } = env
  return { type, netns, args, path, config, created: Date.now() }
}

/** A call with what was kept. A namespace that is gone is not named. */
export function callOf(key: AttachmentKey, verb: string, kept: Delegation): DelegateCall {
  const { type, netns, args, path, config } = kept
  return {
    type,
    env: {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: key.containerId,
      CNI_NETNS: existsSync(netns) ? netns : '',
      CNI_IFNAME: key.ifname,
      CNI_ARGS: args,
      CNI_PATH: path,
    },
    config,
  }
}

/**
 * The call of a plugin for an attachment: the runtime's request when it names the plugin that gave
 * the addresses, and what was kept otherwise. `kept`: of this attachment; `asked`: by the request.
 */
export function chooseCall(
  key: AttachmentKey,
  verb: string,
  kept: Delegation | undefined,
  asked: DelegateCall | undefined,
): DelegateCall | undefined {
  if (kept === undefined) return asked
  if (asked?.type !== kept.type) return callOf(key, verb, kept)
  // A DEL may come without the path.
  if (asked.env.CNI_PATH !== '') return asked
  return { ...asked, env: { ...asked.env, CNI_PATH: kept.path } }
}

/** How a DEL ended: `refused` never can be done; `missing` when the executable is there again. */
export type DelEnd = { how: 'done' } | { how: 'refused' | 'missing'; why: CniError }

/** Calls a DEL. Throws what may pass. */
export async function callDel(
  log: Logger,
  call: DelegateCall,
  signal: AbortSignal | undefined,
): Promise<DelEnd> {
  if (findDelegate(call.type, call.env.CNI_PATH, call.role) === undefined) {
    return { how: 'missing', why: missing(call) }
  }
  try {
    await callDelegate(call, log, signal)
    return { how: 'done' }
  } catch (error) {
    if (!(error instanceof CniError && error.code === CODE.version)) throw error
    return { how: 'refused', why: error }
  }
}

/** Aborted as soon as one of them is. */
export function either(a: AbortSignal | undefined, b: AbortSignal | undefined): AbortSignal {
  return AbortSignal.any([a, b].filter(each => each !== undefined))
}
