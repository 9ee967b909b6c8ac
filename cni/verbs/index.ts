/** One CNI request: variables and configuration checked, the verb called, the answer rendered and logged. */

import { clean } from '../base/document.ts'
import { withStderr } from '../invoke/stderr.ts'
import type { Node } from '../pods/node.ts'
import { parseArgs } from '../spec/args.ts'
import { CniError, CODE, errorReply } from '../spec/errors.ts'
import { parseJson, versionIn } from '../spec/netconf.ts'
import type { CniReply, CniRequest } from '../spec/request.ts'
import { isStateFailure } from '../state/state.ts'
import { add } from './add.ts'
import { check } from './check.ts'
import { del, letGoQueued } from './del.ts'
import { gc } from './gc.ts'
import { status } from './status.ts'
import { version } from './version.ts'

/** Answers one request; never rejects. `queuedAt` (milliseconds since 1970) is a queued DEL's. */
export function answer(node: Node, request: CniRequest, queuedAt?: number): Promise<CniReply> {
  return withStderr(() => reply(node, request, queuedAt))
}

/** The same for a queued DEL, as far as it needs no other plugin; undefined when there is more to it. */
export async function answerWithoutPlugins(
  node: Node,
  request: CniRequest,
  queuedAt: number,
): Promise<CniReply | undefined> {
  try {
    const args = parseArgs(request.env)
    if (await letGoQueued(node, args, parseJson(request.config), queuedAt)) return undefined
  } catch {
    // The answer says what is wrong.
  }
  return answer(node, request, queuedAt)
}

async function reply(node: Node, request: CniRequest, queuedAt?: number): Promise<CniReply> {
  const began = performance.now()
  let cniVersion: string | undefined
  let known = 'unknown'
  let facts: object = { verb: clean(request.env.CNI_COMMAND) }
  const log = (
    level: 'debug' | 'info' | 'warn' | 'error',
    outcome: string | number,
    more: object,
  ): void => {
    const ms = performance.now() - began
    node.log[level]({ ...facts, outcome, ...more, ms: Math.round(ms) }, 'cni')
    node.observe?.(known, `${outcome}`, ms / 1000)
  }
  try {
    const args = parseArgs(request.env)
    const { verb, containerId, ifname, pod } = args
    known = verb
    facts = { verb, container: clean(containerId.slice(0, 12)), ifname: clean(ifname), pod }
    const empty = verb === 'VERSION' && request.config.trim() === ''
    const document = empty ? {} : parseJson(request.config)
    cniVersion = versionIn(document)
    facts = { ...facts, network: clean((document as { name?: unknown } | null)?.name ?? '') }
    const result = await {
      ADD: () => add(node, args, document, request),
      DEL: () => del(node, args, document, request, queuedAt),
      CHECK: () => check(node, args, document, request),
      STATUS: () => status(node, document, request),
      GC: () => gc(node, document, request),
      VERSION: () => version(cniVersion),
    }[verb]()
    // Runtimes ask for it every few seconds.
    log(verb === 'STATUS' ? 'debug' : 'info', 'ok', addressesIn(result))
    return { exit: 0, stdout: result === undefined ? '' : JSON.stringify(result) }
  } catch (thrown) {
    const error = explain(node, thrown)
    const { code, message } = error
    if (code === CODE.internal) log('error', code, { cause: message, err: thrown })
    else log('warn', code, { cause: message })
    return errorReply(cniVersion, error)
  }
}

/** What was thrown, with its code: the state file's trouble is I/O, anything unforeseen is a bug. */
function explain(node: Node, thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown
  if (isStateFailure(thrown)) {
    const what = `${node.state.path}: ${thrown.message}`
    return new CniError(CODE.io, what, 'is the disk full or broken?')
  }
  return new CniError(CODE.internal, (thrown as Error).message ?? String(thrown))
}

/** For the log. */
function addressesIn(result: object | undefined): object {
  const ips = (result as { ips?: { address: string }[] } | undefined)?.ips
  return ips === undefined ? {} : { ips: ips.map(ip => ip.address) }
}
