/**
 * Two nodes, a veth between them, and a pod on either side, for each contender:
 *
 *   pod from ── node a ── und0 ──── und0 ── node b ── pod to
 *
 * `kernel` is Flannel's layout: a bridge, routing, and a vxlan device that learns nothing. The others are two
 * daemons of hawser, one worker each, and their pods are attached through the CNI executable.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { query } from '../../cni/rpc/client.ts'
import type { AttachKind, DataplaneStatus } from '../../dataplane/control.ts'
import { folder, hawserPlugin } from '../cni/plugins.ts'
import { root } from '../harness/compile.ts'
import { command, Namespace } from '../harness/namespaces.ts'
import { during, Program } from '../harness/program.ts'

export const CONTENDERS = ['kernel', 'tap', 'tun-udp', 'tun-vxlan', 'xdp'] as const
export type Name = (typeof CONTENDERS)[number]

/** How pods are attached, and what the underlay is. */
const HAWSER: Readonly<Record<Exclude<Name, 'kernel'>, readonly [AttachKind, string]>> = {
  tap: ['tap', 'vxlan'],
  'tun-udp': ['tun', 'udp'],
  'tun-vxlan': ['tun', 'vxlan'],
  xdp: ['xdp', 'xdp'],
}

const UNDERLAY = 'und0'
const VTEPS = ['192.0.2.1', '192.0.2.2'] as const
const PODS = ['10.1.0', '10.1.1'] as const
const MTU = 1450
const VXLAN_PORT = 8472
const MACS = ['02:62:75:6c:6b:00', '02:62:75:6c:6b:01'] as const
/** Milliseconds between two looks, and how many there are, until the nodes know each other. */
const LOOK_MS = 100
const LOOKS = 100

export interface Pair {
  from: Namespace
  to: Namespace
  /** Of `to`. */
  address: string
  /** Throws when a frame has lost its owner. */
  check(): Promise<void>
  stop(): Promise<void>
}

export function makePair(name: Name): Promise<Pair> {
  return name === 'kernel' ? Promise.resolve(kernelPair()) : hawserPair(name)
}

function underlay(): [Namespace, Namespace] {
  const nodes: [Namespace, Namespace] = [new Namespace('a'), new Namespace('b')]
  const [a, b] = nodes
  a.ip(`link add ${UNDERLAY} type veth peer name ${UNDERLAY} netns ${b.name}`)
  for (const [k, node] of nodes.entries()) {
    node.ip(`address add ${VTEPS[k]}/24 dev ${UNDERLAY}`)
    node.ip(`link set ${UNDERLAY} up`)
  }
  return nodes
}

function kernelPair(): Pair {
  const nodes = underlay()
  const pods = [new Namespace('pod'), new Namespace('pod')] as const
  for (const [k, node] of nodes.entries()) {
    const pod = pods[k]!
    const other = 1 - k
    node.sysctl('net.ipv4.ip_forward', '1')
    node.ip(`link add cni0 mtu ${MTU} type bridge`)
    node.ip(`address add ${PODS[k]}.1/24 dev cni0`)
    node.ip('link set cni0 up')
    node.ip(`link add veth0 mtu ${MTU} type veth peer name eth0 mtu ${MTU} netns ${pod.name}`)
    node.ip('link set veth0 master cni0 up')
    pod.ip(`address add ${PODS[k]}.2/24 dev eth0`)
    pod.ip('link set eth0 up')
    pod.ip(`route add default via ${PODS[k]}.1`)
    node.ip(
      `link add flannel.1 address ${MACS[k]} mtu ${MTU} type vxlan id 1 dev ${UNDERLAY} local ${VTEPS[k]} dstport ${VXLAN_PORT} nolearning`,
    )
    node.ip(`address add ${PODS[k]}.0/32 dev flannel.1`)
    node.ip('link set flannel.1 up')
    const to = `${PODS[other]}.0`
    node.ip(`neigh add ${to} lladdr ${MACS[other]} dev flannel.1 nud permanent`)
    node.fdb(`append ${MACS[other]} dev flannel.1 dst ${VTEPS[other]}`)
    node.ip(`route add ${to}/24 via ${to} dev flannel.1 onlink`)
  }
  return {
    ...{ from: pods[0], to: pods[1], address: `${PODS[1]}.2` },
    check: async () => {},
    stop: async () => {
      for (const each of [...pods, ...nodes]) each.remove()
    },
  }
}

async function hawserPair(name: Exclude<Name, 'kernel'>): Promise<Pair> {
  const nodes = underlay()
  const pods: Pod[] = []
  const daemons: Program[] = []
  const stop = async (): Promise<void> => {
    for (const daemon of daemons) await daemon.stop()
    for (const each of [...pods.map(({ namespace }) => namespace), ...nodes]) each.remove()
  }
  try {
    const check = await startNodes(name, nodes, pods, daemons)
    const [from, to] = pods as [Pod, Pod]
    return { from: from.namespace, to: to.namespace, address: to.address, check, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Starts the daemons and attaches a pod to each; returns `Pair.check`. */
async function startNodes(
  name: Exclude<Name, 'kernel'>,
  nodes: readonly Namespace[],
  pods: Pod[],
  daemons: Program[],
): Promise<Pair['check']> {
  const [attach, mode] = HAWSER[name]
  const base = folder(join(root, 'build/bench'))
  const cluster = join(base, 'cluster.json')
  const specs = VTEPS.map((vtep, k) => ({ name: `n${k}`, vtep, podCIDRs: [`${PODS[k]}.0/24`] }))
  writeFileSync(cluster, JSON.stringify({ nodes: specs }))
  const sockets = nodes.map(() => join(folder(tmpdir()), 'run/cni.sock'))
  for (const [k, node] of nodes.entries()) {
    const config = join(base, `n${k}.json`)
    const own = {
      ...{ node: `n${k}`, cluster, socket: sockets[k], state: join(base, `n${k}/state.db`) },
      ...{ workers: 1, vxlanPort: VXLAN_PORT, underlay: { mode }, log: { level: 'info' } },
    }
    writeFileSync(config, JSON.stringify(own))
    // As cni/bin/hawser.mjs starts it.
    const words = ['--max-semi-space-size=2', join(root, 'cni/cli/main.ts'), 'daemon']
    const daemon = new Program(
      `daemon ${name}`,
      process.execPath,
      [...words, '--config', config],
      node,
    )
    daemons.push(daemon)
    await daemon.logged('"msg":"ready"')
  }
  const status = (k: number) => query(sockets[k]!, 'status') as Promise<DataplaneStatus>
  for (const k of nodes.keys()) {
    for (let look = 0; (await status(k)).notes.some(note => /is not resolved/.test(note)); look++) {
      if (look === LOOKS) throw new Error(`${name}: the nodes don't know each other`)
      await during(LOOK_MS)
    }
  }
  for (const [k, node] of nodes.entries()) pods.push(addPod(node, sockets[k]!, attach))
  return async () => {
    for (const k of nodes.keys()) {
      const leaked = (await status(k)).workers.reduce((sum, worker) => sum + worker.leaked, 0)
      if (leaked !== 0) throw new Error(`${name}: ${leaked} frames of node ${k} have no owner`)
    }
  }
}

interface Pod {
  namespace: Namespace
  address: string
}

/** Attaches a new namespace, as a runtime does. */
function addPod(node: Namespace, socket: string, attach: AttachKind): Pod {
  const namespace = new Namespace('pod')
  const plugin = hawserPlugin()
  const env = {
    ...{ CNI_COMMAND: 'ADD', CNI_CONTAINERID: randomBytes(32).toString('hex') },
    ...{ CNI_NETNS: namespace.path, CNI_IFNAME: 'eth0', CNI_PATH: dirname(plugin) },
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  }
  const netconf = { cniVersion: '1.0.0', name: 'hawser', type: 'hawser', attach, socket }
  const output = execFileSync('ip', ['netns', 'exec', node.name, plugin], {
    ...{ env, input: JSON.stringify(netconf), encoding: 'utf8' },
  })
  const { ips } = JSON.parse(output) as { ips: { address: string }[] }
  return { namespace, address: ips[0]!.address.split('/')[0]! }
}

/** Throws when iperf3 is missing. */
export function iperfVersion(): string {
  return command('iperf3', '--version').split('\n')[0]!
}
