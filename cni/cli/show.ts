/** What `hawser status`, `pods`, `routes` and `drops` print for people. */
import type {
  DataplaneStatus,
  DropCount,
  FibStatus,
  NamesStatus,
  NetworkStatus,
  RouteEntry,
} from '../../dataplane/control.ts'
import { printable, table } from '../base/table.ts'
import type { PolicyStatus } from '../enforce/keeper.ts'
import type { PodFacts } from '../secondary/verbs.ts'
import type { Readiness } from '../verbs/status.ts'

/** What the daemon says of its engine and of what it enforces. */
export interface NodeStatus extends DataplaneStatus {
  /** Absent: no policy. */
  policy?: PolicyStatus
}

export function showStatus(status: NodeStatus): string {
  const { underlay } = status
  const via = underlay.xdp === undefined ? underlay.mode : `${underlay.mode} (${underlay.xdp})`
  const facts: [name: string, value: string][] = [
    ['node', status.node],
    ['ready', status.ready ? 'yes' : 'no'],
    ['underlay', `${underlay.device} ${underlay.address}, ${via}: ${underlay.why}`],
    ['overlay', `VNI ${status.vni}, UDP port ${status.vxlanPort}, pod MTU ${status.mtu}`],
    ...status.networks.map((each): [string, string] => ['network', networkText(each)]),
    ['pods', `${status.pods}`],
    ['routes', `${status.routes.ipv4} IPv4, ${status.routes.ipv6} IPv6`],
    ...status.fibs.map((fib): [string, string] => [`FIB IPv${fib.family}`, fibText(fib)]),
    ['tables', `generation ${status.generation}`],
    ...(status.policy === undefined
      ? []
      : [['policy', policyText(status.policy)] satisfies [string, string]]),
    ...mendedFact(status),
  ]
  const workers = table(
    [
      'WORKER',
      'STATE',
      'PACKETS',
      'BATCHES',
      'SLEEPS',
      'CPU S',
      'ENCAP',
      'DECAP',
      'FREE',
      'HELD',
      'LEAKED',
    ],
    status.workers.map(each => [
      each.worker,
      each.running ? (each.asleep ? 'asleep' : 'busy') : 'stopped',
      each.packets,
      each.batches,
      each.sleeps,
      Math.round(each.cpuNs / 1e8) / 10,
      each.encapsulated,
      each.decapsulated,
      each.smallFree,
      each.smallHeld,
      each.leaked,
    ]),
  )
  const ports = table(
    [
      'PORT',
      'KIND',
      'ROLE',
      'NAME',
      'RX PACKETS',
      'RX BYTES',
      'RX DROPS',
      'TX PACKETS',
      'TX BYTES',
      'TX DROPS',
      'DEVICE',
    ],
    status.ports.map(each => [
      each.port,
      each.kind,
      each.role,
      each.name,
      each.rxPackets,
      each.rxBytes,
      each.rxDrops,
      each.txPackets,
      each.txBytes,
      each.txDrops,
      each.device,
    ]),
  )
  const lines = facts.map(([name, value]) => `${name.padEnd(10)}${printable(value)}`)
  const troubles = status.troubles.map(({ what, since, blocking }) => {
    const name = (blocking ? 'not ready' : 'trouble').padEnd(10)
    return `${name}${printable(`${what} (since ${since})`)}`
  })
  const notes = status.notes.map(note => `${'note'.padEnd(10)}${printable(note)}`)
  return [...lines, ...troubles, ...notes, '', workers, '', ports].join('\n')
}

/** A line, or one for each cause. */
export function showReadiness({ ready, causes }: Readiness): string {
  return ready ? 'ready' : causes.map(cause => printable(`not ready: ${cause}`)).join('\n')
}

/** How often what others had changed was put right again. */
function mendedFact({ mended }: DataplaneStatus): [name: string, value: string][] {
  if (mended.length === 0) return []
  return [['mended', mended.map(({ what, count }) => `${what} ${count}`).join(', ')]]
}

function networkText({ name, vni, podCidrs, pods }: NetworkStatus): string {
  const where = vni === 0 ? 'over' : `VNI ${vni}, ${podCidrs.join(', ')}`
  return `${name}, ${where}, ${pods} pods`
}

function fibText({ name, file, bytes }: FibStatus): string {
  const mib = Math.round(bytes / 2 ** 20)
  return `${name}${file === undefined ? '' : ` (${file})`}, ${mib < 1 ? `${bytes} B` : `${mib} MiB`}`
}

function policyText({
  folder,
  policies,
  programs,
  addresses,
  since,
  names,
  mended,
  problem,
}: PolicyStatus): string {
  const learned = names === undefined ? '' : `, ${namesText(names)}`
  const counted = `${policies} policies, ${programs} programs, ${addresses} addresses of pods${learned}`
  const inForce =
    since === undefined ? 'none is in force, pods are closed' : `${counted}, since ${since}`
  const audited = mended === 0 ? '' : `; ${mended} times otherwise in the engine, and mended`
  return `${folder}: ${inForce}${audited}${problem === undefined ? '' : `; not as it is now: ${problem.what}`}`
}

/** Names, and what of them was left out. */
function namesText({ addresses, refused }: NamesStatus): string {
  const left = Object.entries(refused).filter(([, count]) => count > 0)
  const out = left.map(([limit, count]) => `, ${count} beyond ${limit}`).join('')
  return `${addresses} learned addresses of names${out}`
}

/** What `hawser swap fib` says when it is done. */
export function showSwap(fib: FibStatus): string {
  return printable(`IPv${fib.family} by ${fibText(fib)}, ${fib.routes} routes`)
}

/** The pods, then the labels that they have brought along, and the further interfaces that they have. */
export function showPods(pods: readonly PodFacts[]): string {
  if (pods.length === 0) return 'no pods are attached'
  const own = table(
    [
      ...['POD', 'ATTACHMENT', 'KIND', 'IPV4', 'IPV6', 'OVERLAY', 'MTU'],
      ...['PORT', 'INTERFACE', 'MAC', 'HOST DEVICE', 'NETNS'],
    ],
    pods.map(each => [
      each.pod,
      each.id,
      each.kind,
      each.ip4,
      each.ip6,
      each.network,
      each.mtu,
      each.port,
      each.ifname,
      each.mac,
      each.hostDevice,
      each.netns,
    ]),
  )
  const further = pods.flatMap(({ id, pod = id, secondaries = [] }) =>
    secondaries.map(({ network, ifname, plugins, ips }) => [
      ...[pod, ifname, network, plugins.join(' ')],
      ips.length === 0 ? undefined : ips.join(' '),
    ]),
  )
  const labelled = pods.flatMap(({ id, pod = id, labels = {} }) => {
    const texts = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
    return texts.length === 0 ? [] : [[pod, texts.join(' ')]]
  })
  const heading = ['POD', 'FURTHER INTERFACE', 'NETWORK', 'PLUGINS', 'ADDRESSES']
  const tables = [own]
  if (labelled.length > 0) tables.push(table(['POD', 'LABELS BY ANNOTATION'], labelled))
  if (further.length > 0) tables.push(table(heading, further))
  return tables.join('\n\n')
}

export function showRoutes(routes: readonly RouteEntry[]): string {
  if (routes.length === 0) return 'there are no routes'
  return table(
    ['PREFIX', 'KIND', 'VIA', 'MTU', 'OVERLAY'],
    routes.map(each => [each.prefix, each.kind, each.via, each.mtu, each.network]),
  )
}

/** Only reasons that have happened, the most frequent first. */
export function showDrops(drops: readonly DropCount[]): string {
  const seen = drops.filter(each => each.count > 0).sort((a, b) => b.count - a.count)
  if (seen.length === 0) return 'nothing was dropped'
  return table(
    ['COUNT', 'REASON', 'BY WORKER', 'MEANING'],
    seen.map(each => [each.count, each.reason, each.workers.join(' '), each.text]),
  )
}
