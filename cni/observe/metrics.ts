/**
 * Metrics for Prometheus (text format 0.0.4) over HTTP, on the address that the configuration names.
 *
 * The engine counts in shared memory and the state file knows addresses: both are read when somebody
 * asks, so metrics cost nothing in between. Only CNI requests are counted as they come. Names follow
 * the conventions of Prometheus; cni/OPERATING.md has the list.
 */

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import type { ListenAddress } from '../base/listen.ts'
import type { Logger } from '../base/logger.ts'
import { rangeReports } from '../ipam/usage.ts'
import type { Node } from '../pods/node.ts'

/** Connections at once, and milliseconds that a request may take to come. */
const MAX_CONNECTIONS = 16
const REQUEST_MS = 5_000
/** Seconds of an ADD: most take some milliseconds, the longest are given up after 45 s. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 45]

type Labels = Record<string, string | number>
type Put = (value: number, labels?: Labels) => void

export interface Metrics {
  registry: Registry
  /** Counts an answered request: `outcome` is `ok` or the error's code. */
  observe(verb: string, outcome: string, seconds: number): void
}

/** The metrics of a node. `inSync`: whether the engine works by the cluster file as it is now. */
export function createMetrics(node: Node, inSync: () => boolean): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const requests = new Counter({
    name: 'hawser_cni_requests_total',
    help: 'CNI requests that were answered, by verb and outcome (ok, or the code of the error)',
    labelNames: ['verb', 'outcome'],
    registers: [registry],
  })
  const seconds = new Histogram({
    name: 'hawser_cni_request_duration_seconds',
    help: 'Time from reading a CNI request to its answer, waiting for its turn included',
    labelNames: ['verb'],
    buckets: BUCKETS,
    registers: [registry],
  })
  const status = atOnce(() => node.plane.status())
  nodeMetrics(registry, node, status, inSync)
  addressMetrics(registry, node)
  packetMetrics(registry, node, status)
  return {
    registry,
    observe(verb, outcome, duration) {
      requests.inc({ verb, outcome })
      seconds.observe({ verb }, duration)
    },
  }
}

/** A metric that somebody else keeps: `read` tells where it stands whenever it is asked for. */
function told(
  registry: Registry,
  Kind: typeof Gauge | typeof Counter,
  [name, help]: readonly [string, string],
  labelNames: string[],
  read: (put: Put) => void,
): void {
  const made: Gauge | Counter = new Kind({
    ...{ name, help, labelNames, registers: [registry] },
    collect: () => {
      made.reset()
      read((value, labels = {}) => made.inc(labels, value))
    },
  })
}

/** What `read` gives, read once for all that ask in the same turn of the event loop. */
function atOnce<T>(read: () => T): () => T {
  let known: { value: T } | undefined
  return () => {
    if (known === undefined) {
      known = { value: read() }
      setImmediate(() => {
        known = undefined
      })
    }
    return known.value
  }
}

function namesMetrics(registry: Registry, plane: Node['plane']): void {
  const names = atOnce(() => plane.namesStatus())
  const live = 'Addresses that pods have learned for domain names'
  told(registry, Gauge, ['hawser_dns_addresses', live], [], put => {
    const status = names()
    if (status !== undefined) put(status.addresses)
  })
  const learned = 'Addresses that were learned, or learned again, from DNS answers to pods'
  told(registry, Counter, ['hawser_dns_learned_total', learned], [], put => {
    const status = names()
    if (status !== undefined) put(status.learned)
  })
  const refused = 'What of DNS answers to the pods that are there was not learned, by the limit'
  told(registry, Gauge, ['hawser_dns_refused', refused], ['limit'], put => {
    for (const [limit, count] of Object.entries(names()?.refused ?? {})) put(count, { limit })
  })
  const unread = 'DNS messages that nothing was learned of, though a resolver may have sent them'
  told(registry, Counter, ['hawser_dns_unread_total', unread], ['why'], put => {
    const { unasked, malformed, unfollowed, busy } = names() ?? {}
    for (const [why, count] of Object.entries({ unasked, malformed, unfollowed, busy })) {
      if (count !== undefined) put(count, { why })
    }
  })
}

function nodeMetrics(
  registry: Registry,
  { plane, pods, policy }: Node,
  status: () => DataplaneStatus,
  inSync: () => boolean,
): void {
  const ready = 'Whether the node serves pods'
  told(registry, Gauge, ['hawser_ready', ready], [], put => put(status().ready ? 1 : 0))
  const following =
    'Whether the engine works by the cluster file as it is now, not by an earlier one'
  told(registry, Gauge, ['hawser_cluster_in_sync', following], [], put => put(inSync() ? 1 : 0))
  if (policy !== undefined) {
    const policing = 'Whether the policy in force is what its files say now'
    const mending = 'What the engine had otherwise than it was given, and was written again'
    told(registry, Counter, ['hawser_policy_mended_total', mending], [], put => put(policy.mended))
    told(registry, Gauge, ['hawser_policy_in_sync', policing], [], put =>
      put(policy.inSync ? 1 : 0),
    )
  }
  if (plane.namesStatus() !== undefined) namesMetrics(registry, plane)
  told(registry, Gauge, ['hawser_pods', 'Interfaces of pods that are served'], [], put =>
    put(plane.pods().length),
  )
  const standing = 'What is wrong with the node now; one that blocks keeps it from being ready'
  told(registry, Gauge, ['hawser_troubles', standing], ['blocking'], put => {
    for (const blocking of [true, false]) {
      const count = status().troubles.filter(each => each.blocking === blocking).length
      put(count, { blocking: String(blocking) })
    }
  })
  const mended = 'Times that something which others had changed was put right again'
  told(registry, Counter, ['hawser_mended_total', mended], ['what'], put => {
    for (const { what, count } of status().mended) put(count, { what })
  })
  const troubles = 'Attachments of an earlier daemon that could not be restored'
  told(registry, Gauge, ['hawser_troubled_attachments', troubles], [], put =>
    put(pods.troubles.size),
  )
  told(registry, Gauge, ['hawser_routes', 'Routes in the FIB'], ['family', 'fib'], put => {
    for (const { family, name, routes } of status().fibs) {
      put(routes, { family: `ipv${family}`, fib: name })
    }
  })
  told(registry, Counter, ['hawser_table_changes_total', 'Changes of the tables'], [], put =>
    put(status().generation),
  )
}

function addressMetrics(registry: Registry, node: Node): void {
  const help = 'Addresses of a range by what they are: free, taken, cooling (freed a moment ago)'
  const labels = ['overlay', 'network', 'range', 'state']
  told(registry, Gauge, ['hawser_addresses', help], labels, put => {
    for (const each of rangeReports(node)) {
      const { overlay = '', network = '', range, free, taken, cooling } = each
      const counts = { free: Number(free), taken, cooling }
      for (const [state, count] of Object.entries(counts)) {
        put(count, { overlay, network, range, state })
      }
    }
  })
}

function packetMetrics(registry: Registry, { plane }: Node, status: () => DataplaneStatus): void {
  const dropped = 'Packets that were dropped, by reason (`hawser drops` explains them)'
  told(registry, Counter, ['hawser_dropped_packets_total', dropped], ['reason'], put => {
    for (const { reason, count } of plane.drops()) put(count, { reason })
  })
  const ofPorts = {
    receive_packets: ['rxPackets', 'Packets that came in by a port'],
    receive_bytes: ['rxBytes', 'Bytes that came in by a port'],
    receive_drops: ['rxDrops', 'Packets from a port that were dropped'],
    transmit_packets: ['txPackets', 'Packets that left by a port'],
    transmit_bytes: ['txBytes', 'Bytes that left by a port'],
    transmit_drops: ['txDrops', 'Packets that a port did not take'],
  } as const
  for (const [name, [key, help]] of Object.entries(ofPorts)) {
    told(registry, Counter, [`hawser_port_${name}_total`, help], ['role', 'kind', 'name'], put => {
      for (const port of status().ports) {
        put(port[key], { role: port.role, kind: port.kind, name: port.name })
      }
    })
  }
  const ofWorkers = {
    packets_total: ['packets', 1, 'Packets that a worker has taken'],
    batches_total: ['batches', 1, 'Batches that a worker has taken'],
    sleeps_total: ['sleeps', 1, 'Times that a worker slept'],
    cpu_seconds_total: ['cpuNs', 1e-9, 'CPU time of a worker'],
    encapsulated_packets_total: ['encapsulated', 1, 'Packets put into the overlay'],
    decapsulated_packets_total: ['decapsulated', 1, 'Packets taken out of the overlay'],
    icmp_errors_total: ['icmpErrors', 1, 'ICMP errors that were sent'],
  } as const
  for (const [name, [key, factor, help]] of Object.entries(ofWorkers)) {
    told(registry, Counter, [`hawser_worker_${name}`, help], ['worker'], put => {
      for (const each of status().workers) {
        put(each[key] * factor, { worker: each.worker })
      }
    })
  }
  const frames = 'Frames of a worker; one that leaked has no owner, which is a bug'
  told(registry, Gauge, ['hawser_worker_frames', frames], ['worker', 'size', 'state'], put => {
    for (const { worker, smallFree, smallHeld, largeFree, leaked } of status().workers) {
      put(smallFree, { worker, size: 'small', state: 'free' })
      put(smallHeld, { worker, size: 'small', state: 'held' })
      put(leaked, { worker, size: 'any', state: 'leaked' })
      put(largeFree, { worker, size: 'large', state: 'free' })
    }
  })
}

/** Serves `GET /metrics` until `close`. Rejects when the address can't be had, and names it. */
export async function serveMetrics(
  { host, port }: ListenAddress,
  registry: Registry,
  log: Logger,
): Promise<{ close(): Promise<void> }> {
  const server = createServer((request, response) => void answer(registry, request, response, log))
  server.maxConnections = MAX_CONNECTIONS
  server.requestTimeout = REQUEST_MS
  server.headersTimeout = REQUEST_MS
  server.keepAliveTimeout = REQUEST_MS
  const where = (at: number): string => `${host.includes(':') ? `[${host}]` : host}:${at}`
  server.listen({ host, port })
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new Error(`metrics.listen ${where(port)}: ${(error as Error).message}`, { cause: error })
  }
  server.on('error', error => log.error({ err: error }, 'metrics: the server failed'))
  const url = `http://${where((server.address() as AddressInfo).port)}/metrics`
  log.info({ url }, 'metrics are served')
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(
  registry: Registry,
  { method, url = '' }: IncomingMessage,
  response: ServerResponse,
  log: Logger,
): Promise<void> {
  const end = (status: number, text: string, headers = {}): void => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers })
    response.end(text)
  }
  if (url.split('?', 1)[0] !== '/metrics') return end(404, 'the metrics are at /metrics\n')
  if (method !== 'GET' && method !== 'HEAD') return end(405, 'GET\n', { allow: 'GET, HEAD' })
  try {
    end(200, await registry.metrics(), { 'content-type': registry.contentType })
  } catch (error) {
    log.error({ err: error }, 'metrics could not be read')
    end(500, 'the metrics could not be read; the log says why\n')
  }
}
