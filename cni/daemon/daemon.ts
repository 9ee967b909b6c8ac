/**
 * The node daemon: it puts the cluster file, the packet engine, the durable state and the CNI
 * service together, in this order, and takes them apart in reverse.
 *
 *     preconditions → lock → cluster file → engine → cluster into engine → state (if it is new: rebuilt)
 *       → policy → restore pods → queued DELs → socket → watch the cluster file → install → "ready"
 *
 * The socket opens only when all that an earlier daemon left is in force again: a runtime that
 * finds no socket tries again, one that finds a half-restored daemon would get wrong answers.
 * When a step fails, those before it are undone and nothing is left but devices: the pods' and the
 * node's own port.
 */

import {
  type ControlPlane,
  cidrsIn,
  type DataplaneOptions,
  joinedBy,
  type NodeSpec,
} from '../../dataplane/control.ts'
import { faultPoint } from '../base/fault-points.ts'
import { engineLog, type Logger } from '../base/logger.ts'
import { ClusterFile } from '../cluster/file.ts'
import { ClusterFollower } from '../cluster/follow.ts'
import { LastGood } from '../cluster/last-good.ts'
import type { ClusterView } from '../cluster/view.ts'
import { openPolicy } from '../enforce/open.ts'
import { refuseForeignFile, refuseForeignLinks } from '../fs/links.ts'
import { takeLock } from '../fs/lock.ts'
import { Installation } from '../install/keep.ts'
import { createMetrics, serveMetrics } from '../observe/metrics.ts'
import type { Node } from '../pods/node.ts'
import { Pods } from '../pods/pods.ts'
import { rebuildState } from '../pods/rebuild.ts'
import { Turns } from '../pods/turns.ts'
import { serve } from '../rpc/server.ts'
import { openState } from '../state/damage.ts'
import type { Attachment } from '../state/rows.ts'
import { answer } from '../verbs/index.ts'
import { cannotServe } from '../verbs/status.ts'
import type { DaemonConfig } from './config.ts'
import { every, Parts, within } from './parts.ts'
import { checkHost, type HostFacts, probeHost } from './preconditions.ts'
import { questions } from './questions.ts'
import { Queue } from './queue.ts'

/** Milliseconds between collections of what went without a DEL, and of DELs that failed. */
export const COLLECT_MS = 120_000
/** Milliseconds that a stopping daemon gives to plugins before it ends them. */
export const GRACE_MS = 3_000
/** Milliseconds that queued DELs may keep the socket shut; what is left goes on behind it. */
export const DRAIN_MS = 10_000

export interface DaemonParts {
  log: Logger
  /** Stops the daemon when it is aborted, also while it starts. */
  signal: AbortSignal
  /** What is known of the host; looked up when absent. */
  host?: HostFacts
  /** Makes the packet engine; the real one when absent. */
  createPlane?: (self: NodeSpec, options: DataplaneOptions) => Promise<ControlPlane>
}

export interface RunningDaemon {
  plane: ControlPlane
  /** Looks for what went without a DEL, as the daemon does by itself every COLLECT_MS. */
  collect(): Promise<void>
  /**
   * Resolves when the daemon has stopped. Rejects when it could not be taken apart whole, and with the
   * reason when it has ended by itself, since it can't go on: a supervisor starts the next one.
   */
  closed: Promise<void>
}

/**
 * Starts the daemon; resolves when it serves. Throws with file or object, cause and remedy when a
 * step fails, and the reason of `signal` when that is aborted before.
 */
export async function runDaemon(config: DaemonConfig, parts: DaemonParts): Promise<RunningDaemon> {
  const { log } = parts
  const running = new Parts(log)
  const failure = new AbortController()
  const signal = AbortSignal.any([parts.signal, failure.signal])
  const fail = (error: Error): void => {
    log.error({ cause: error.message }, 'the daemon ends')
    failure.abort(error)
  }
  try {
    const { plane, collect } = await start(config, { ...parts, signal }, running, fail)
    const closed = new Promise<unknown[]>(resolve => {
      const stop = (): void => void running.stop().then(resolve)
      if (signal.aborted) stop()
      else signal.addEventListener('abort', stop, { once: true })
    }).then(failures => {
      if (failure.signal.aborted) throw failure.signal.reason
      if (failures.length > 0) throw failures[0]
      log.info('stopped')
    })
    // Whoever awaits it hears of it; nobody has to.
    closed.catch(() => {})
    return { plane, collect, closed }
  } catch (error) {
    await running.stop()
    throw error
  }
}

async function start(
  config: DaemonConfig,
  { log, signal, host, createPlane = realPlane }: DaemonParts,
  running: Parts,
  fail: (error: Error) => void,
): Promise<Omit<RunningDaemon, 'closed'>> {
  const began = performance.now()
  signal.throwIfAborted()
  checkPreconditions(config, host ?? probeHost(), log)
  for (const path of [config.socket, config.state, config.cluster]) refuseForeignLinks(path)
  refuseForeignFile(config.state)
  for (const path of [config.socket, config.state]) {
    running.started(`the lock of ${path}`, takeLock(path))
  }

  const { vni } = config.dataplane
  const lastGood = new LastGood(`${config.state}.cluster`, log)
  refuseForeignFile(lastGood.path)
  const view = clusterAtStart(config, lastGood, log)
  const options = { ...config.dataplane, log: engineLog(log), onFailure: fail }
  const plane = await createPlane(view.self, options)
  running.started('the packet engine', () => plane.stop())
  signal.throwIfAborted()
  await plane.setCluster(view.self, view.peers, view.networks)
  lastGood.keep(view)
  signal.throwIfAborted()

  const state = openState(config.state, log)
  running.started('the state', () => state.close())
  state.restAnew()
  if (state.forgotten > 0) {
    log.info({ attachments: state.forgotten }, 'attachments of an earlier boot are forgotten')
  }
  const cidrs = (overlay?: string) => {
    const found = cidrsIn(view.self, overlay)
    return found.length === 0 ? undefined : found
  }
  rebuildState({ state, log, folders: config.namespaces ?? [], cidrs })
  const stopping = new AbortController()
  running.started('calls of plugins', () => stopping.abort(new Error('the daemon stops')))
  let follower: ClusterFollower | undefined
  const cluster = (): ClusterView => follower?.view ?? view
  const attachments = (): Attachment[] => state.list()
  const policy =
    config.policy &&
    (await openPolicy(config.policy.folder, config.state, { plane, attachments, cluster, log }))
  if (policy !== undefined) running.started('policy', () => policy.close(), true)
  const turns = new Turns()
  running.started('work on attachments', () => turns.idle(), true)
  const podCidrs = (overlay?: string): readonly string[] => cidrsIn(cluster().self, overlay)
  const overlays = (): readonly string[] => {
    const { self, networks } = cluster()
    return joinedBy(self, networks).map(({ name }) => name)
  }
  const { exclude = [] } = config
  const parts = { plane, state, turns, podCidrs, overlays, log, stopping: stopping.signal }
  const pods = new Pods({ ...parts, ...(policy === undefined ? {} : { policies: policy }) })
  faultPoint('start.opened')
  await pods.restoreAll()
  faultPoint('start.restored')
  signal.throwIfAborted()

  const node: Node = { ...parts, pods, exclude, ranges: new Map(), remarks: new Map() }
  if (policy !== undefined) node.policy = policy
  const queue = new Queue(node, config.socket)
  running.started('queued DELs', () => queue.idle(), true)
  await within(queue.withoutPlugins(), DRAIN_MS)
  faultPoint('start.drained')
  signal.throwIfAborted()

  if (config.metrics !== undefined) {
    const metrics = createMetrics(node, () => follower?.inSync ?? true)
    node.observe = metrics.observe
    const scraped = await serveMetrics(config.metrics, metrics.registry, log)
    running.started('metrics', () => scraped.close())
  }
  const query = questions(node, () => follower)
  const server = await serve(config.socket, { cni: request => answer(node, request), query }, log)
  running.started('the socket', () => server.close())
  faultPoint('start.listening')
  // A DEL may have been queued between the first look and the socket (del-queue.ts).
  await within(queue.withoutPlugins(), DRAIN_MS)
  // Not waited for: a plugin may take its time, and nothing depends on it.
  void queue.drain().then(() => pods.giveBackOrphans())

  follower = new ClusterFollower(
    plane,
    new ClusterFile(config.cluster, config.node, vni),
    view,
    log,
    fail,
    next => {
      lastGood.keep(next)
      // Nodes have come, with VTEPs of pods that are known.
      policy?.changed()
    },
  )
  const following = follower
  running.started('the cluster file', () => following.close(), true)
  const collect = async (): Promise<void> => {
    await pods.collect()
    await queue.drain()
  }
  const failed = (error: Error): void => log.error({ cause: error.message }, 'collecting failed')
  running.started('collections', every(COLLECT_MS, collect, failed), true)
  if (config.install !== undefined) {
    const { socket, install } = config
    const causes = (): string[] => cannotServe(node)
    const installation = new Installation({ ...install, socket, log, causes })
    node.installation = () => installation
    running.started('the installation', () => installation.close())
  }
  // Stopped first: what waits for a plugin is waited for, but not long.
  running.started('the time of plugins', () => {
    setTimeout(() => stopping.abort(new Error('the daemon stops')), GRACE_MS).unref()
  })
  signal.throwIfAborted()
  const ms = Math.round(performance.now() - began)
  const { mtu } = plane
  log.info({ socket: config.socket, pods: plane.pods().length, mtu, ms }, 'ready')
  return { plane, collect }
}

/** The cluster as its file says it, or, beside a file that can't be used, as it was said last. Throws DocumentError. */
function clusterAtStart(config: DaemonConfig, lastGood: LastGood, log: Logger): ClusterView {
  const { cluster, node } = config
  const { vni } = config.dataplane
  try {
    return ClusterFile.read(cluster, node, vni)
  } catch (error) {
    const view = lastGood.read(node, vni)
    if (view === undefined) throw error
    const cause = (error as Error).message
    log.error(
      { cause, file: lastGood.path },
      'the cluster file can not be used; the last good one is taken',
    )
    return view
  }
}

function checkPreconditions(config: DaemonConfig, facts: HostFacts, log: Logger): void {
  const findings = checkHost(config, facts)
  for (const { level, message } of findings) if (level === 'warning') log.warn(message)
  const errors = findings.filter(finding => finding.level === 'error')
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '))
}

/** Loaded only here: whoever brings an engine of their own needs no addon. */
async function realPlane(self: NodeSpec, options: DataplaneOptions): Promise<ControlPlane> {
  const { createDataplane } = await import('../../dataplane/dataplane.ts')
  return createDataplane(self, options)
}
