/**
 * The control interface of the packet engine: everything that the daemon (or any program that uses
 * `dataplane/` as a library) asks of it. `createDataplane` in dataplane.ts is the real one; tests
 * of what lies above may put a fake in its place.
 *
 * All calls are made from the main thread. Errors are `Error`s whose message names the object, the
 * cause and what helps; a call that fails leaves nothing behind.
 */
import { createHash } from 'node:crypto'
import type { Program } from './policy-program.ts'

/** How a pod is attached. */
export type AttachKind = 'tun' | 'xdp' | 'tap'

export interface NodeSpec {
  name: string
  /** VTEP address, IPv4 or IPv6, without prefix. The underlay's family is this one's. */
  vtep: string
  /** MAC of the node's inner VXLAN interface; `vtepMac(name)` when absent (a kernel vxlan peer has its own). */
  vtepMac?: string
  /** Pod CIDRs, at most one IPv4 and one IPv6. */
  podCidrs: readonly string[]
  /** The same in other networks of the cluster, by name; it is in those alone. */
  networks?: Readonly<Record<string, readonly string[]>>
}

/** A network of its own beside the cluster's: no packet crosses from one into another. */
export interface NetworkSpec {
  name: string
  /** 1 .. 2^24 - 1, unlike all others. */
  vni: number
  /** Where its pods' interfaces lead; all nodes' CIDRs in it when absent. */
  cidrs?: readonly string[]
}

export interface DataplaneOptions {
  /** Worker threads, 1 .. MAX_WORKERS. Default: the cores that this process may use, at most 4. */
  workers?: number
  /** CPU of each worker, by its number; a worker that has none runs where the scheduler puts it. */
  cpus?: readonly number[]
  /** Microseconds for which a worker goes on polling behind its last packet before it sleeps, 0 .. 1,000,000. Default 0: some hundred rounds. */
  busyPoll?: number
  /** VXLAN network identifier of the cluster's own network, 1 .. 2^24 - 1. Default 1. */
  vni?: number
  /** UDP port of VXLAN. Default 4789 (RFC 7348); Linux and Flannel use 8472. */
  vxlanPort?: number
  underlay?: {
    /** Device that has the VTEP address; found by the address when absent. */
    device?: string
    /** `auto`: UDP sockets where a trial shows that segments work, else AF_XDP where the device can. `vxlan`: the kernel's vxlan device. Default `auto`. */
    mode?: 'auto' | 'xdp' | 'udp' | 'vxlan'
  }
  /** Name of the TUN device that is this node's own port. Default `hawser0`. */
  hostDevice?: string
  /** Largest packet of a pod; default and upper bound: underlay MTU less the VXLAN overhead. */
  mtu?: number
  /** Masquerade what pods send out of the cluster (needs nft). Default false. */
  masquerade?: boolean
  /** Frames of a worker; defaults in limits.ts. */
  smallFrames?: number
  largeFrames?: number
  /** AF_XDP sockets of a worker, 0 .. MAX_PORTS: each pod by AF_XDP takes one, and the underlay one a queue. Default DEFAULT_XDP_SOCKETS. */
  xdpSockets?: number
  /** Most peers, 1 .. MAX_PEERS. Default DEFAULT_PEERS. */
  peers?: number
  /** Routes of one family. Default DEFAULT_ROUTES. */
  routes?: number
  /**
   * FIBs to use, at most one a family: names of built-in ones, or absolute paths of files (fib/load.ts).
   * The default of a family that none is for: the first of fib/index.ts.
   */
  fibs?: readonly string[]
  /** Policy is enforced (`setPolicy`), with room for this. Absent: none is, and no flow is kept. */
  policy?: PolicyLimits
  /** Called when the engine can't go on, as when a worker has ended; once for each cause. */
  onFailure?: (error: Error) => void
  /** What the engine has to say. */
  log?: (level: 'debug' | 'info' | 'warn' | 'error', message: string, facts?: object) => void
}

export interface PolicyLimits {
  /** Matches of all programs of this node's pods, as addresses of peers cut them. Default DEFAULT_POLICY_MATCHES. */
  matches?: number
  /** Addresses of pods in the cluster, of each family. Default DEFAULT_POLICY_ADDRESSES. */
  addresses?: number
  /** Flows that are known at once. Default DEFAULT_FLOWS. */
  flows?: number
  /**
   * Addresses, or CIDRs, of the DNS servers whose answers to pods say which addresses a name has (`Match.domain`). Absent or
   * empty: none, so rules about names match nothing.
   */
  resolvers?: readonly string[]
  /** Of them: those that one pod has begun. Default FLOWS_OF_POD. */
  flowsOfPod?: number
  /** Of them: those that other nodes and the host have begun with one pod. Default FLOWS_WITH_POD. */
  flowsWithPod?: number
  /** Seconds from the start in which connections of before are taken on. Default RESUME_SECONDS; 0: not at all. */
  resumeSeconds?: number
  /** Of either: TCP connections that are half open. Beyond that a pod begins, and gets, no new ones. Default HALF_OPEN_OF_POD. */
  halfOpenOfPod?: number
}

/** What policy makes of one pod of this node (policy-program.ts). */
export interface PodPolicy {
  /** What the programs of others know it as. */
  identity: number
  ingress: Program
  egress: Program
}

/** All that policy says on this node. */
export interface PolicyState {
  /** Pods anywhere in the cluster's own network, by address; any other address is of IDENTITY.WORLD. */
  identities: readonly PodIdentity[]
  /** This node's pods by PodSpec.id. One that is not named keeps what it has. */
  pods: ReadonlyMap<string, PodPolicy>
  /** What the node itself receives from pods, of this node and of others; absent or without tiers: everything. What the node has begun is always answered. */
  node?: Program
}

export interface PodIdentity {
  /** Canonical text. */
  address: string
  identity: number
  /** VTEP of its node: only what came from there is taken for this pod's. Absent: from any node. */
  vtep?: string
}

/** An address that a pod has learned for a name that it has asked for. */
export interface LearnedName {
  /** PodSpec.id. */
  pod: string
  /** Lower case, without a dot at the end; bytes that are no plain ones as RFC 1035 section 5.1 writes them. */
  name: string
  address: string
  /** How long new flows may go there; 0: only those that do already. */
  seconds: number
}

/** Names in numbers; all but the first since the start. */
export interface NamesStatus {
  /** Addresses that pods have learned. */
  addresses: number
  /** How often one was learned, or learned again. */
  learned: number
  /** What limits have left out, by the limit; mostly of the pods that are there. */
  refused: Readonly<Record<string, number>>
  /** Answers that belong to no question, messages that are none or too long, those over TCP that were not followed, and what locks have held up. */
  unasked: number
  malformed: number
  unfollowed: number
  busy: number
}

/** A flow that policy has allowed. Addresses are text, ports 0 where a protocol has none (ICMP echo: its identifier, both; other ICMP: type << 8 | code). */
export interface FlowEntry {
  source: string
  destination: string
  sourcePort: number
  destinationPort: number
  protocol: number
  /** Absent: the cluster's own. */
  network?: string
  /** Seconds since its last packet, as coarse as FLOW_TICK_MS. */
  idle: number
  state: 'opening' | 'answered' | 'established' | 'closing' | 'refused' | 'datagram' | 'icmp'
  /** Seconds since it was let through, as coarse. */
  age: number
  /** Both ways, IP packets and their bytes; a superframe is one. Errors that quote the flow are its own, too. */
  packets: number
  bytes: number
  /** `origin` of the rule or tier (policy-program.ts) by which the first end's policy lets it begin, and the other one's; absent where that is no pod of this node, or not isolated. */
  egress?: number
  ingress?: number
}

export interface PodSpec {
  /** Key of the attachment, unique on the node: any string of 1 .. 512 characters. */
  id: string
  kind: AttachKind
  /** Path of the pod's network namespace. */
  netns: string
  /** Name of the interface inside it. */
  ifname: string
  /** Addresses without prefix; at least one. */
  ip4?: string
  ip6?: string
  /** Smaller than the node's MTU if given. */
  mtu?: number
  /** What it may receive and send. */
  bandwidth?: Bandwidth
  /** MAC of its interface, in lower case; chosen by the engine when absent. Not for TUN. */
  mac?: string
  /**
   * What its interface, and the node's end of a veth, say of themselves (IFLA_IFALIAS), 1 .. 255
   * bytes; nothing when absent. A pod that may change its interface may change its end's.
   */
  label?: string
  /**
   * It is not the pod's first interface, which keeps the default route: by this one leaves what is sent
   * from its addresses, and to these CIDRs.
   */
  further?: readonly string[]
  /**
   * Name of the network that it is in; absent: the cluster's own. In another one it is a further interface
   * (`further`) that leads to the network's CIDRs and nowhere else.
   */
  network?: string
  /** What it has learned of names when an earlier engine served it, in force before its first packet. What there is no room for is left out. */
  names?: readonly Pick<LearnedName, 'name' | 'address' | 'seconds'>[]
  /** What policy makes of it, in force before its first packet; absent: all is allowed, unless `setPolicy` has named it. */
  policy?: PodPolicy
}

/** Rates in bits a second, 0 or absent: no limit; bursts in bits, 0 or absent: chosen (tables/rates.ts). */
export interface Bandwidth {
  /** What the pod receives. */
  ingressRate?: number
  ingressBurst?: number
  /** What it sends. */
  egressRate?: number
  egressBurst?: number
}

/** A port of the node that leads to a pod. */
export interface PortMapping {
  protocol: 'tcp' | 'udp' | 'sctp'
  hostPort: number
  containerPort: number
  /** The node's address that it is on; `0.0.0.0` or `::`: all of that family; absent: all. */
  hostIP?: string
}

export interface PodPorts {
  ip4?: string
  ip6?: string
  mappings: readonly PortMapping[]
}

export interface PodAttachment {
  id: string
  kind: AttachKind
  netns: string
  ifname: string
  ip4?: string
  ip6?: string
  /** As in its spec. */
  network?: string
  mtu: number
  /** Index in the port table, as in counters. */
  port: number
  /** MAC of the pod's interface; absent for TUN, which has none. */
  mac?: string
  /** The node's end of a veth pair; absent for TUN. */
  hostDevice?: string
  hostMac?: string
  /** Routes of the pod: destination CIDR and gateway (absent on TUN: straight out of the device). */
  routes: readonly { dst: string; gw?: string }[]
}

export interface RouteEntry {
  prefix: string
  /** 'pod', 'host', 'vxlan' or 'reject'. */
  kind: 'pod' | 'host' | 'vxlan' | 'reject'
  /** Pod id, device name, or the remote node's name and VTEP. */
  via: string
  mtu: number
  /** Absent: the cluster's own. */
  network?: string
}

export interface DropCount {
  reason: string
  /** What an operator should read. */
  text: string
  count: number
  /** By worker. */
  workers: readonly number[]
}

export interface PortStatus {
  port: number
  /** 'tun', 'xdp', 'tap', 'udp' or 'vxlan'. */
  kind: string
  /** 'pod', 'underlay', 'host', or 'trunk': the TAP itself, by which others go. */
  role: string
  /** Device name, or the pod's id. */
  name: string
  rxPackets: number
  rxBytes: number
  txPackets: number
  txBytes: number
  rxDrops: number
  txDrops: number
  /** What the port last met: `down`, nothing can be sent by it; `gone`, it has been left, and holds nothing. */
  device: 'up' | 'down' | 'gone'
}

export interface WorkerStatus {
  worker: number
  running: boolean
  asleep: boolean
  generation: number
  packets: number
  batches: number
  sleeps: number
  cpuNs: number
  smallFree: number
  smallHeld: number
  largeFree: number
  /** Frames without an owner; anything but 0 is a bug. */
  leaked: number
  encapsulated: number
  decapsulated: number
  icmpErrors: number
  icmpLimited: number
}

/** A FIB in use. */
export interface FibStatus {
  family: 4 | 6
  name: string
  /** Path of its file; absent for a built-in one. */
  file?: string
  routes: number
  /** Bytes of shared memory. */
  bytes: number
}

/** A network beside the cluster's own that this node is in, or that pods of it still are in. */
export interface NetworkStatus {
  name: string
  /** 0: this node is not in it any more. */
  vni: number
  /** This node's. */
  podCidrs: readonly string[]
  pods: number
}

/** Something that is wrong now (weather/conditions.ts). */
export interface Trouble {
  /** A sentence. */
  what: string
  /** ISO 8601, UTC. */
  since: string
  /** The node is not ready while it stands. */
  blocking: boolean
}

/** How often something that others had changed has been put right again. */
export interface Mended {
  /** `underlay`, `host device`, `nft`, … */
  what: string
  count: number
}

export interface DataplaneStatus {
  /** False also while a blocking trouble stands. */
  ready: boolean
  /** Why it is not ready, or what works less well than it could; troubles are beside it. */
  notes: readonly string[]
  /** What is wrong now, those that block first. */
  troubles: readonly Trouble[]
  mended: readonly Mended[]
  node: string
  mtu: number
  vni: number
  vxlanPort: number
  underlay: {
    mode: 'xdp' | 'udp' | 'vxlan'
    device: string
    address: string
    xdp?: 'native' | 'generic'
    /** Why that mode: what was asked for, or what a trial has shown. */
    why: string
  }
  networks: readonly NetworkStatus[]
  generation: number
  pods: number
  routes: { ipv4: number; ipv6: number }
  /** IPv4 first. */
  fibs: readonly FibStatus[]
  workers: readonly WorkerStatus[]
  ports: readonly PortStatus[]
}

/** A packet that policy has denied, or that it is to tell of. Addresses are text; ports as in FlowEntry. */
export interface Denial {
  /** ISO 8601, UTC. */
  time: string
  /** PodSpec.id of the pod whose policy says no; absent when it has gone. */
  pod?: string
  /** The rules of the node itself (PolicyState.node) say no. */
  node?: true
  direction: 'egress' | 'ingress'
  /** `denied`; `allowed` by a rule that is logged; `staged`: what is only tried would have it otherwise. */
  verdict: 'denied' | 'allowed' | 'staged'
  source: string
  destination: string
  sourcePort: number
  destinationPort: number
  protocol: number
  /** `origin` of the rule or tier (policy-program.ts). */
  origin: number
}

/** A new flow as one end on this node is asked about it. */
export interface PolicyQuestion {
  /** PodSpec.id; absent: the node itself, for what it receives. */
  pod?: string
  direction: 'egress' | 'ingress'
  /** Address of the other end. */
  peer: string
  protocol: number
  /** Of the flow's destination; of ICMP type << 16 | code. */
  port: number
}

export interface PolicyAnswer {
  allowed: boolean
  /** `origin` of the rule or tier; -1: nobody's word. */
  origin: number
  /** What the tables know the peer as. */
  identity: number
}

/** How far a reader of denials is; opaque. */
export type DenialsRead = readonly number[]

export interface ControlPlane {
  /** Largest packet of a pod. */
  readonly mtu: number
  /**
   * This node, its peers and the networks beside the cluster's own, whole; what is gone is removed, what
   * stays is untouched. Rejects, and what was in force still is, when a limit, the kernel or nft refuses
   * any of it. Pods of a network that this node is in no more keep their interfaces and reach
   * each other on this node.
   */
  setCluster(
    self: NodeSpec,
    peers: readonly NodeSpec[],
    networks?: readonly NetworkSpec[],
  ): Promise<void>
  /**
   * Makes the pod's interface, addresses and routes, and opens its way; when it resolves, packets
   * flow. With `adopt` the interface that an earlier daemon left is taken over if it is there.
   * Undoes everything on failure. An interface of that name that is already there is an error
   * (code EEXIST) and is not touched.
   */
  attach(pod: PodSpec, options?: { adopt?: boolean }): Promise<PodAttachment>
  /** Closes the pod's way and removes its interface, if they are there. Never fails for what is gone. */
  detach(id: string): Promise<void>
  /** What is wrong with a pod's attachment; empty when all is as attached. */
  verify(id: string): readonly string[]
  /**
   * The ports of the node that lead to pods, all of them; what is gone is removed. Flows of UDP that
   * other rules have let through are forgotten. Needs nft; rejects, and nothing has changed, without.
   */
  setPortMappings(pods: readonly PodPorts[]): Promise<void>
  /** What of these mappings, in force once, the kernel has no more: sentences. Rejects without nft. */
  verifyPortMappings(pods: readonly PodPorts[]): Promise<readonly string[]>
  /**
   * Policy, whole. When it resolves every packet is judged by it, those of flows that were allowed before too.
   * Rejects, and what was in force still is, when a limit refuses it (RangeError with its name), or without
   * `DataplaneOptions.policy`.
   */
  setPolicy(policy: PolicyState): Promise<void>
  /** Flows that policy has allowed, at most `most`. */
  flows(most: number): readonly FlowEntry[]
  /**
   * What policy has denied since `read` (from the call before; absent: nothing yet, which only says where to begin),
   * at most some hundreds a second, and how many are missing.
   */
  denials(read?: DenialsRead): { denials: readonly Denial[]; missed: number; read: DenialsRead }
  /** What pods have learned of names. */
  learnedNames(): readonly LearnedName[]
  /** Undefined where no resolver is named. */
  namesStatus(): NamesStatus | undefined
  /** How often rules with these numbers (`origin`) have decided a new flow, or a packet that was denied. */
  policyHits(origins: readonly number[]): readonly number[]
  /**
   * Compares what policy is enforced by with what was set last, mends what differs, and says so in sentences: programs, who has
   * which address, what ports have. Of long programs a part at a time.
   */
  auditPolicy(): Promise<readonly string[]>
  /** What the tables that are in force say; undefined where no policy is asked: the pod is not there, or has none. */
  askPolicy(question: PolicyQuestion): PolicyAnswer | undefined
  pods(): readonly PodAttachment[]
  routes(): readonly RouteEntry[]
  drops(): readonly DropCount[]
  status(): DataplaneStatus
  /**
   * Puts another FIB in the place of the one of its family, while packets flow and without losing
   * one: looks at it first (fib/vet.ts), builds it beside, publishes it, and frees the old one when no
   * worker is in it. `fib`: a built-in name, or the absolute path of a file. Rejects with the cause
   * (for a wrong answer with the address), and nothing has changed, when it is refused.
   */
  swapFib(fib: string): Promise<FibStatus>
  /** Stops the workers and closes every descriptor. TUN and veth devices of pods stay. */
  stop(): Promise<void>
}

/** A node's CIDRs in a network; without a name in the cluster's own. */
export function cidrsIn({ podCidrs, networks = {} }: NodeSpec, name?: string): readonly string[] {
  if (name === undefined) return podCidrs
  return Object.hasOwn(networks, name) ? networks[name]! : []
}

/** Of `networks` those that a node is in. */
export function joinedBy(node: NodeSpec, networks: readonly NetworkSpec[]): NetworkSpec[] {
  return networks.filter(({ name }) => cidrsIn(node, name).length > 0)
}

/** Whether a text that names a FIB means a file: it has a slash or ends as a script does. */
export function isFibFile(text: string): boolean {
  return text.includes('/') || /\.[cm]?[jt]s$/.test(text)
}

/** MAC of a node's inner VXLAN interface: locally administered, from the node's name. */
export function vtepMac(node: string): string {
  const digest = createHash('sha256').update(`hawser vtep ${node}`).digest()
  return [
    '02',
    ...Array.from(digest.subarray(0, 5), byte => byte.toString(16).padStart(2, '0')),
  ].join(':')
}
