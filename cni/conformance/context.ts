/**
 * What a case works with: the plugin called as libcni and containerd call it (environment and stdin
 * of specification 1.1.0, "Execution Protocol"), fresh pods, and a look at what is in the kernel.
 */

import { randomBytes } from 'node:crypto'
import { type Answer, readAnswer, succeeded, type Verb } from './answer.ts'
import { Failed } from './failed.ts'
import { type Interface, interfaces, inventory, type Namespaces } from './namespaces.ts'
import type { NodeDaemon } from './node-daemon.ts'
import { SYSTEM_PATH, start } from './process.ts'
import { type Result, readResult } from './result.ts'
import type { Config, Subject } from './subject.ts'
import { atLeast, type SpecVersion } from './versions.ts'

/** What a runtime knows an attachment by. */
export interface Pod {
  containerId: string
  netns: string
  ifname: string
}

/** A pod whose ADD succeeded. */
export interface Attached {
  pod: Pod
  /** As it was answered; what CHECK and DEL get as `prevResult`. */
  document: Record<string, unknown>
  result: Result
  /** Milliseconds that the ADD took. */
  ms: number
}

/** Another executable than the plugin, and its configuration: a link of a chain. */
export interface Companion {
  file: string
  config: Config
}

export interface CallOptions {
  version?: SpecVersion
  /** Keys put over those of the configuration; `undefined` takes one away. */
  config?: Config
  /** What stdin gives instead of the configuration; `null` is /dev/null. */
  stdin?: string | Buffer | null
  /** Variables put over those of the runtime; `undefined` takes one away. */
  env?: Record<string, string | undefined>
  /** Only the variables of `env`. */
  bare?: boolean
  companion?: Companion
  stderrUnread?: boolean
  /** It is killed so many milliseconds after it was started. */
  killAfterMs?: number
}

export interface Context {
  readonly version: SpecVersion
  readonly subject: Subject
  /** Path of the node's namespace. */
  readonly node: string
  readonly daemon: NodeDaemon | undefined
  /** A folder of the runner's own. */
  readonly folder: string
  /** What one case leaves for a later one, by key. */
  readonly memo: Map<string, unknown>
  readonly timeoutMs: number
  /** A container in a namespace of its own, not attached. */
  pod(): Promise<Pod>
  /** Removes the pod's namespace, as a runtime does that was told to stop in a hurry. */
  lose(pod: Pod): Promise<void>
  /** Calls the plugin; never throws for what it answers. */
  call(verb: Verb | (string & {}), pod?: Pod, options?: CallOptions): Promise<Answer>
  /** ADD that must succeed. */
  add(pod?: Pod, options?: CallOptions): Promise<Attached>
  /** CHECK with the attachment's result as `prevResult`. */
  check(attached: Attached, options?: CallOptions): Promise<Answer>
  /** DEL that must succeed, with `prevResult` as libcni gives it. */
  del(attached: Attached | Pod, options?: CallOptions): Promise<void>
  inventory(): Promise<Set<string>>
  /** Throws when the pod still has its interface, or the node something that it did not have `before`. */
  clean(before: ReadonlySet<string>, pods: readonly Pod[]): Promise<void>
  /** The pod's interface; throws `Failed` when there is none. */
  interfaceOf(pod: Pod): Promise<Interface>
}

export interface ContextParts {
  version: SpecVersion
  subject: Subject
  namespaces: Namespaces
  daemon: NodeDaemon | undefined
  folder: string
  memo: Map<string, unknown>
  timeoutMs: number
}

/** A context for one case, and what removes all that the case left. */
export function createContext(parts: ContextParts): {
  context: Context
  close: () => Promise<void>
} {
  const { version, subject, namespaces, daemon, timeoutMs } = parts
  const made = new Set<string>()
  const dirty = new Map<string, Pod>()
  const keyOf = ({ containerId, ifname }: Pod): string => `${containerId}/${ifname}`

  const call: Context['call'] = async (verb, pod, options = {}) => {
    const { companion, env, bare = false, stdin, killAfterMs, stderrUnread } = options
    const variables = { ...(bare ? {} : variablesOf(verb, pod, subject)), ...env }
    const config = {
      ...(companion?.config ?? subject.config),
      cniVersion: options.version ?? version,
      name: subject.network,
      ...options.config,
    }
    if (pod !== undefined && verb === 'ADD' && companion === undefined) dirty.set(keyOf(pod), pod)
    const started = start(companion?.file ?? subject.plugin, [], {
      netns: namespaces.node,
      env: defined(variables),
      stdin: stdin === undefined ? JSON.stringify(config) : stdin,
      timeoutMs,
      ...(stderrUnread === undefined ? {} : { stderrUnread }),
    })
    if (killAfterMs !== undefined) setTimeout(() => started.child.kill('SIGKILL'), killAfterMs)
    const answer = readAnswer(verb, await started.ended)
    if (pod !== undefined && verb === 'DEL' && answer.code === 0) dirty.delete(keyOf(pod))
    return answer
  }
  const pod: Context['pod'] = async () => {
    const netns = await namespaces.pod()
    made.add(netns)
    return { containerId: randomBytes(32).toString('hex'), netns, ifname: 'eth0' }
  }
  const del: Context['del'] = async (target, options = {}) => {
    const { pod, document } = 'pod' in target ? target : { pod: target, document: undefined }
    const asked = options.version ?? version
    const prevResult = atLeast(asked, '0.4.0') ? document : undefined
    succeeded(await call('DEL', pod, { ...options, config: { prevResult, ...options.config } }))
  }
  const context: Context = {
    ...parts,
    node: namespaces.node,
    pod,
    call,
    del,
    async lose({ netns }) {
      made.delete(netns)
      await namespaces.remove(netns)
    },
    async add(given, options) {
      const target = given ?? (await pod())
      const answer = await call('ADD', target, options)
      succeeded(answer)
      const { document, ms } = answer
      if (document === undefined) throw new Failed('ADD succeeded without a result on stdout')
      const result = readResult(options?.version ?? version, document)
      return { pod: target, document, result, ms }
    },
    check: ({ pod: target, document }, options = {}) =>
      call('CHECK', target, {
        ...options,
        config: { prevResult: document, ...options.config },
      }),
    inventory: () => inventory(namespaces.node),
    async clean(before, pods) {
      const left = [...(await inventory(namespaces.node))].filter(line => !before.has(line))
      for (const { netns, ifname } of pods) {
        const there = await interfaces(netns)
        if (there.some(each => each.name === ifname)) left.push(`${ifname} in the pod`)
      }
      if (left.length > 0) throw new Failed(`left behind: ${left.slice(0, 5).join(', ')}`)
    },
    async interfaceOf({ netns, ifname }) {
      const found = (await interfaces(netns)).find(each => each.name === ifname)
      if (found === undefined) throw new Failed(`the pod has no interface ${ifname}`)
      return found
    },
  }
  const close = async (): Promise<void> => {
    daemon?.thaw()
    if (daemon !== undefined && !daemon.running) await daemon.start()
    for (const each of dirty.values()) await call('DEL', each).catch(() => {})
    for (const netns of made) await namespaces.remove(netns)
  }
  return { context, close }
}

/** The variables that containerd gives; GC, STATUS and VERSION get those of a pod present but empty. */
function variablesOf(verb: string, pod: Pod | undefined, subject: Subject): Record<string, string> {
  const id = pod?.containerId ?? ''
  return {
    PATH: SYSTEM_PATH,
    CNI_COMMAND: verb,
    CNI_CONTAINERID: id,
    CNI_NETNS: pod?.netns ?? '',
    CNI_IFNAME: pod?.ifname ?? '',
    CNI_ARGS:
      pod === undefined
        ? ''
        : `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-${id.slice(0, 8)};K8S_POD_INFRA_CONTAINER_ID=${id};K8S_POD_UID=${id.slice(0, 32)}`,
    CNI_PATH: subject.cniPath.join(':'),
  }
}

function defined(variables: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}
