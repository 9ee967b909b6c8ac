/**
 * Two nodes whose underlay the test wires itself, a pod on each, and what the tests of this folder ask:
 * whether they reach each other, and what the node says of itself meanwhile.
 */
import type { DataplaneStatus, Trouble } from '../../../dataplane/control.ts'
import { Namespaces } from '../../harness/netns.ts'
import { addPod, CLI, type ClusterNode, TestNode, type TestPod } from '../../harness/node.ts'
import { must, run } from '../../harness/processes.ts'
import { NODE_A, NODE_B } from '../../harness/topology.ts'
import { ping } from '../../harness/traffic.ts'
import { until } from '../../harness/until.ts'

export interface World {
  namespaces: Namespaces
  a: TestNode
  b: TestNode
  podA: TestPod
  podB: TestPod
  close(): Promise<void>
}

export interface Wiring {
  namespaces: Namespaces
  /** Namespaces of the nodes. */
  a: string
  b: string
}

export interface WorldOptions {
  mode: 'xdp' | 'udp'
  /** Where the VTEPs are; those of the harness by default. */
  vteps?: readonly [string, string]
  /** Makes devices, addresses and routes. */
  wire: (wiring: Wiring) => Promise<void>
}

/** Wires and starts both nodes, and attaches a TUN pod on each. */
export async function world(label: string, options: WorldOptions): Promise<World> {
  const namespaces = new Namespaces(label)
  const nodes: TestNode[] = []
  const close = async () => {
    const ends = await Promise.allSettled(nodes.map(node => node.remove()))
    await namespaces.removeAll()
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }
  try {
    const [left, right] = [await namespaces.add('a'), await namespaces.add('b')]
    await options.wire({ namespaces, a: left, b: right })
    const { vteps = [NODE_A.vtep, NODE_B.vtep], mode: underlayMode } = options
    const cluster: ClusterNode[] = [
      { ...NODE_A, vtep: vteps[0] },
      { ...NODE_B, vtep: vteps[1] },
    ]
    const [a, b] = [
      new TestNode('node-a', left, { cluster, underlayMode }),
      new TestNode('node-b', right, { cluster, underlayMode }),
    ]
    nodes.push(a, b)
    await Promise.all([a.start(), b.start()])
    await Promise.all([a.acquainted(), b.acquainted()])
    const podA = await addPod(namespaces, a, 'pod-a', 'tun')
    const podB = await addPod(namespaces, b, 'pod-b', 'tun')
    return { namespaces, a, b, podA, podB, close }
  } catch (error) {
    const logs = nodes.flatMap(node => node.log.slice(-5))
    await close().catch(() => {})
    throw new Error(['the world was not made', ...logs].join('\n'), { cause: error })
  }
}

export function status(node: TestNode): Promise<DataplaneStatus> {
  return node.ask<DataplaneStatus>('status')
}

/** Resolves when the pods reach each other in both families. */
export async function reached({ podA, podB }: World): Promise<void> {
  for (const address of [podB.ip4, podB.ip6]) {
    await until(`${podA.name} reaches ${address}`, async () => {
      const { received } = await ping(podA.netns, address, { count: 1, timeout: 1 })
      return received === 1
    })
  }
}

/** Resolves with the first blocking trouble of a node that is not ready because of it. */
export function blocked(node: TestNode): Promise<Trouble> {
  return until(`${node.name} is not ready`, async () => {
    const { ready, troubles } = await status(node)
    return !ready && troubles.find(({ blocking }) => blocking)
  })
}

/** Resolves when the node is ready, with its status. */
export function ready(node: TestNode): Promise<DataplaneStatus> {
  return until(`${node.name} is ready`, async () => {
    const now = await status(node)
    return now.ready && now
  })
}

/** Exit code of `hawser status --ready`. */
export async function readyCode(node: TestNode): Promise<number | null> {
  const args = [CLI, 'status', '--ready', '--socket', node.socket]
  return (await run(process.execPath, args, { netns: node.netns })).code
}

export function mended({ mended }: DataplaneStatus, what: string): number {
  return mended.find(each => each.what === what)?.count ?? 0
}

export function sysctl(netns: string, ...settings: string[]): Promise<string> {
  return must('ip', [
    ...['netns', 'exec', netns.slice('/run/netns/'.length)],
    ...['sysctl', '-qw', ...settings],
  ])
}
