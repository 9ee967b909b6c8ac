/**
 * The path that every contender has to itself:
 *
 *    pod namespace          node namespace                      sink namespace
 *   +--------------+   +--------------------------------+   +------------------------+
 *   |  generator   |   |                                |   |  counts in XDP, drops  |
 *   |     eth0 ====|===|==== pod0   contender   und0 ===|===|=== und1                |
 *   |  10.1.1.2    |   |  10.1.1.1           192.0.2.1  |   |  192.0.2.2             |
 *   +--------------+   +--------------------------------+   +------------------------+
 *          64-byte UDP to 10.1.2.2 -->         VXLAN, 114 bytes, VNI 1, port 4789 -->
 *
 * `==` is a veth pair. All addresses are static: nothing asks by ARP, nothing leaves the namespaces.
 */
import { compile } from '../harness/compile.ts'
import { Namespace } from '../harness/namespaces.ts'

/** Who has which address; the same in every topology. */
export const plan = {
  pod: { device: 'eth0', mac: '02:00:00:00:01:02', address: '10.1.1.2' },
  gateway: { device: 'pod0', mac: '02:00:00:00:01:01', address: '10.1.1.1' },
  node: { device: 'und0', mac: '02:00:00:00:02:01', address: '192.0.2.1' },
  peer: { device: 'und1', mac: '02:00:00:00:02:02', address: '192.0.2.2' },
  vtep: { device: 'vxlan0', mac: '02:00:00:00:03:01' },
  remote: { mac: '02:00:00:00:03:02', address: '10.1.2.2', cidr: '10.1.2.0/24', vtep: '10.1.2.0' },
  vni: 1,
  port: 4789,
} as const

/** What the node does to a frame: `bridged` leaves it as it is, `routed` writes MACs and the TTL. */
export type Layer = 'bridged' | 'routed'

export interface Topology {
  pod: Namespace
  node: Namespace
  sink: Namespace
}

/** Two veth pairs over three namespaces; the node forwards nothing yet. */
export function bareTopology(): Topology {
  const [pod, node, sink] = [new Namespace('pod'), new Namespace('node'), new Namespace('sink')]
  const { gateway, peer } = plan
  pod.ip(
    `link add ${plan.pod.device} address ${plan.pod.mac} type veth peer name ${gateway.device} address ${gateway.mac} netns ${node.name}`,
  )
  node.ip(
    `link add ${plan.node.device} address ${plan.node.mac} type veth peer name ${peer.device} address ${peer.mac} netns ${sink.name}`,
  )
  node.ip(`address add ${plan.node.address}/24 dev ${plan.node.device}`)
  sink.ip(`address add ${peer.address}/24 dev ${peer.device}`)
  node.ip(`neighbour add ${peer.address} lladdr ${peer.mac} dev ${plan.node.device} nud permanent`)
  for (const [namespace, device] of [
    [pod, plan.pod.device],
    [node, gateway.device],
    [node, plan.node.device],
    [sink, peer.device],
  ] as const) {
    namespace.ip(`link set ${device} up`)
  }
  return { pod, node, sink }
}

/**
 * Flannel's layout: the pod's veth is a port of a bridge that has the gateway's address; the node
 * routes from there into a vxlan device, whose neighbours and forwarding entries are static.
 */
export function kernelTopology(polled: boolean): Topology {
  const topology = bareTopology()
  const { node } = topology
  bridge(node, polled)
  node.ip(`address add ${plan.gateway.address}/24 dev bridge0`)
  const { pod, vtep, remote, peer } = plan
  node.ip(`neighbour add ${pod.address} lladdr ${pod.mac} dev bridge0 nud permanent`)
  vxlan(node)
  node.ip(`route add ${remote.cidr} via ${remote.vtep} dev ${vtep.device} onlink`)
  node.ip(`neighbour add ${remote.vtep} lladdr ${remote.mac} dev ${vtep.device} nud permanent`)
  node.fdb(`add ${remote.mac} dev ${vtep.device} dst ${peer.address} self permanent`)
  node.sysctl('net.ipv4.ip_forward', '1')
  return topology
}

/** Layer 2 only: the pod's veth and the vxlan device are ports of one bridge; no routing. */
export function kernelBridgeTopology(polled: boolean): Topology {
  const topology = bareTopology()
  const { node } = topology
  bridge(node, polled)
  vxlan(node)
  const { vtep, gateway, peer } = plan
  node.ip(`link set ${vtep.device} master bridge0`)
  node.ip(`link set bridge0 address ${vtep.mac}`)
  node.fdb(`add ${gateway.mac} dev ${vtep.device} master static`)
  node.fdb(`add ${gateway.mac} dev ${vtep.device} dst ${peer.address} self permanent`)
  return topology
}

/** The gateway's MAC moves from the pod's veth to the bridge. */
function bridge(node: Namespace, polled: boolean): void {
  const { gateway } = plan
  node.ip(`link set ${gateway.device} address 02:00:00:00:01:09`)
  node.ip(`link add bridge0 address ${gateway.mac} type bridge`)
  node.ip(`link set ${gateway.device} master bridge0`)
  node.ip('link set bridge0 up')
  if (polled) node.run(compile('bench/path/native/gro.cc'), '--device', gateway.device)
}

/** No outer UDP checksum, like the other contenders (RFC 7348 section 4.1.1). */
function vxlan(node: Namespace): void {
  const { vtep } = plan
  node.ip(
    `link add ${vtep.device} address ${vtep.mac} type vxlan id ${plan.vni} dstport ${plan.port} local ${plan.node.address} dev ${plan.node.device} nolearning noudpcsum`,
  )
  node.ip(`link set ${vtep.device} up`)
}
