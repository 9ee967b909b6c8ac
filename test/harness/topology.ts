/**
 * Two nodes with a veth between them as the underlay:
 *
 *     node a  192.168.77.1 ──── veth ──── 192.168.77.2  node b
 *             fd77::1                     fd77::2
 *     pods    10.244.1.0/24               10.244.2.0/24
 *             fd44:0:0:1::/64             fd44:0:0:2::/64
 */
import { connect, ip, Namespaces } from './netns.ts'
import { type ClusterNode, type NodeOptions, TestNode } from './node.ts'

export const NODE_A: ClusterNode = {
  name: 'node-a',
  vtep: '192.168.77.1',
  podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'],
}
export const NODE_B: ClusterNode = {
  name: 'node-b',
  vtep: '192.168.77.2',
  podCIDRs: ['10.244.2.0/24', 'fd44:0:0:2::/64'],
}

export interface OneNode {
  namespaces: Namespaces
  node: TestNode
  /** Ends the daemon and removes every namespace. */
  close(): Promise<void>
}

/** Node a alone, with an underlay device that leads nowhere; its daemon is not started. */
export async function oneNode(label: string, options: Partial<NodeOptions> = {}): Promise<OneNode> {
  const namespaces = new Namespaces(label)
  try {
    const netns = await namespaces.add('a')
    await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
    await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
    for (const device of ['under0', 'under1']) await ip(netns, 'link', 'set', device, 'up')
    const node = new TestNode('node-a', netns, { cluster: [NODE_A], ...options })
    const close = async () => {
      try {
        await node.remove()
      } finally {
        await namespaces.removeAll()
      }
    }
    return { namespaces, node, close }
  } catch (error) {
    await namespaces.removeAll()
    throw error
  }
}

export interface TwoNodes {
  namespaces: Namespaces
  a: TestNode
  b: TestNode
  /** Ends the daemons and removes every namespace. */
  close(): Promise<void>
}

export interface TwoNodesOptions extends Omit<NodeOptions, 'cluster'> {
  /** VTEP addresses: IPv4 (default) or IPv6. */
  underlay?: 4 | 6
  /** MTU of the underlay; 1500 by default. */
  underlayMtu?: number
  /** What node b has otherwise. */
  ofB?: Partial<NodeOptions>
  /** Queues of the underlay device; 1 by default. AF_XDP wants one for each worker. */
  underlayQueues?: number
  /** CIDRs of node a and of node b by network. */
  inNetworks?: readonly [Record<string, string[]>, Record<string, string[]>]
}

/** Makes both nodes; their daemons are started and know the way to each other. Throws with the ends of their logs. */
export async function twoNodes(label: string, options: TwoNodesOptions = {}): Promise<TwoNodes> {
  const namespaces = new Namespaces(label)
  const nodes: TestNode[] = []
  const close = async () => {
    const ends = await Promise.allSettled(nodes.map(node => node.remove()))
    await namespaces.removeAll()
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }
  try {
    const { underlay, underlayMtu = 1500, underlayQueues = 1, inNetworks, ofB, ...rest } = options
    const six = underlay === 6
    const cluster = [
      six ? { ...NODE_A, vtep: 'fd77::1' } : NODE_A,
      six ? { ...NODE_B, vtep: 'fd77::2' } : NODE_B,
    ].map((node, k) => (inNetworks === undefined ? node : { ...node, networks: inNetworks[k]! }))
    const left = await namespaces.add('a')
    const right = await namespaces.add('b')
    await connect(
      { netns: left, device: 'under0', addresses: ['192.168.77.1/24', 'fd77::1/64'] },
      { netns: right, device: 'under0', addresses: ['192.168.77.2/24', 'fd77::2/64'] },
      underlayMtu,
      underlayQueues,
    )
    const a = new TestNode('node-a', left, { ...rest, cluster })
    nodes.push(a)
    const b = new TestNode('node-b', right, { ...rest, ...ofB, cluster })
    nodes.push(b)
    await Promise.all([a.start(), b.start()])
    await Promise.all([a.acquainted(), b.acquainted()])
    return { namespaces, a, b, close }
  } catch (error) {
    const logs = nodes.flatMap(node => node.log.slice(-5))
    await close().catch(() => {})
    throw new Error(['the nodes did not start', ...logs].join('\n'), { cause: error })
  }
}
