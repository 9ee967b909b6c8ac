/**
 * The CNI variables of a request (specification 1.1.0, "Parameters"): one table says which verb
 * needs which and what a value may be. Runtimes send all of them with every verb, also empty, so
 * what a verb doesn't need is not looked at.
 */

import { clean } from '../base/document.ts'
import { CniError, CODE } from './errors.ts'
import { ifnameProblem, nameProblem } from './names.ts'
import type { CniRequest, Variable } from './request.ts'
import { VERBS, type Verb } from './versions.ts'

function netnsProblem(value: string): string | undefined {
  if (value.length > 4095) return 'longer than a path may be'
  return value.startsWith('/') ? undefined : 'not an absolute path'
}

interface Rule {
  name: Variable
  needed: readonly Verb[]
  problem: (value: string) => string | undefined
}

const RULES: readonly Rule[] = [
  { name: 'CNI_CONTAINERID', needed: ['ADD', 'DEL', 'CHECK'], problem: nameProblem },
  { name: 'CNI_IFNAME', needed: ['ADD', 'DEL', 'CHECK'], problem: ifnameProblem },
  { name: 'CNI_NETNS', needed: ['ADD', 'CHECK'], problem: netnsProblem },
  { name: 'CNI_ARGS', needed: [], problem: () => undefined },
  { name: 'CNI_PATH', needed: [], problem: () => undefined },
]

export interface CniArgs {
  verb: Verb
  containerId: string
  ifname: string
  /** As sent; only ADD and CHECK have looked at it. */
  netns: string
  /** Namespace and name of the pod, `-` for what the runtime didn't say; empty without both. For people. */
  pod: string
  /** The pod's namespace as the runtime said it (K8S_POD_NAMESPACE); empty when it didn't. */
  namespace: string
}

/** Checks the variables of a request; throws CniError (code 4) with every one that is wrong. */
export function parseArgs(env: CniRequest['env']): CniArgs {
  const verb = VERBS.find(known => known === env.CNI_COMMAND)
  if (verb === undefined) {
    throw new CniError(
      CODE.environment,
      `CNI_COMMAND ${clean(env.CNI_COMMAND)}: not one of ${VERBS.join(', ')}`,
    )
  }
  const problems = RULES.filter(rule => rule.needed.includes(verb)).flatMap(({ name, problem }) => {
    const value = env[name]
    const cause = value === '' ? `missing, ${verb} needs it` : problem(value)
    return cause === undefined ? [] : [`${name}${value === '' ? '' : ` ${clean(value)}`}: ${cause}`]
  })
  if (problems.length > 0) throw new CniError(CODE.environment, problems.join('; '))
  const pairs = pairsOf(env.CNI_ARGS)
  return {
    verb,
    containerId: env.CNI_CONTAINERID,
    ifname: env.CNI_IFNAME,
    netns: env.CNI_NETNS,
    pod: podOf(pairs),
    namespace: pairs.get('K8S_POD_NAMESPACE') ?? '',
  }
}

/** CNI_ARGS (`KEY=VALUE;KEY=VALUE`). What is unknown or malformed there is passed over, whatever IgnoreUnknown says. */
function pairsOf(args: string): ReadonlyMap<string, string> {
  return new Map(
    args.split(';').map(pair => {
      const at = pair.indexOf('=')
      return [pair.slice(0, Math.max(at, 0)), pair.slice(at + 1)] as const
    }),
  )
}

function podOf(pairs: ReadonlyMap<string, string>): string {
  const namespace = pairs.get('K8S_POD_NAMESPACE')
  const name = pairs.get('K8S_POD_NAME')
  if (namespace === undefined && name === undefined) return ''
  return clean(`${namespace ?? '-'}/${name ?? '-'}`, 320)
}
