/** A ControlPlane without packets, for tests of what lies above the engine. It records every call. */

import { ipWords } from '../../dataplane/addresses.ts'
import type {
  ControlPlane,
  DataplaneOptions,
  DataplaneStatus,
  Denial,
  DenialsRead,
  DropCount,
  FibStatus,
  FlowEntry,
  LearnedName,
  NamesStatus,
  NetworkSpec,
  NodeSpec,
  PodAttachment,
  PodPorts,
  PodSpec,
  PolicyAnswer,
  PolicyQuestion,
  PolicyState,
  RouteEntry,
} from '../../dataplane/control.ts'
import { hasInterface } from '../../dataplane/netns.ts'
import { evaluate } from '../../dataplane/policy/evaluate.ts'
import { IDENTITY, VERDICT } from '../../dataplane/policy-program.ts'

export const STATUS: DataplaneStatus = {
  ready: true,
  notes: ['offload was switched off'],
  troubles: [],
  mended: [],
  node: 'node-a',
  mtu: 1450,
  vni: 7,
  vxlanPort: 4789,
  underlay: {
    ...{ mode: 'xdp', device: 'eth0', address: '192.0.2.11', xdp: 'native' },
    why: 'as configured',
  },
  networks: [],
  generation: 3,
  pods: 1,
  routes: { ipv4: 2, ipv6: 1 },
  fibs: [
    { family: 4, name: 'dir24_8', routes: 2, bytes: 50_331_648 },
    { family: 6, name: 'mine', file: '/opt/fibs/mine.ts', routes: 1, bytes: 8192 },
  ],
  workers: [
    {
      worker: 0,
      running: true,
      asleep: true,
      generation: 3,
      packets: 12345,
      batches: 100,
      sleeps: 5,
      cpuNs: 2_500_000_000,
      smallFree: 8000,
      smallHeld: 192,
      largeFree: 128,
      leaked: 0,
      encapsulated: 10,
      decapsulated: 11,
      icmpErrors: 0,
      icmpLimited: 0,
    },
  ],
  ports: [
    {
      port: 1,
      kind: 'tun',
      role: 'pod',
      name: 'net/abc/eth0',
      rxPackets: 10,
      rxBytes: 1000,
      txPackets: 20,
      txBytes: 2000,
      rxDrops: 0,
      txDrops: 1,
      device: 'up',
    },
  ],
}

export const POD: PodAttachment = {
  id: 'net/abc/eth0',
  kind: 'tun',
  netns: '/run/netns/abc',
  ifname: 'eth0',
  ip4: '10.244.0.2',
  mtu: 1450,
  port: 1,
  routes: [{ dst: '0.0.0.0/0' }],
}

export class FakePlane implements ControlPlane {
  readonly mtu = 1450
  /** Every call, in order. */
  readonly calls: string[] = []
  readonly options: DataplaneOptions
  self: NodeSpec
  peers: readonly NodeSpec[] = []
  networks: readonly NetworkSpec[] = []
  ready = true
  stopped = false
  /** Set to make attach wait for it. */
  gate: Promise<void> | undefined
  /** Set to make every attach, or every detach, fail after its call is recorded. */
  refuseAttach: Error | undefined
  refuseDetach: Error | undefined
  /** Port mappings in force; set `refusePorts` to make every change of them fail. */
  ports: readonly PodPorts[] = []
  refusePorts: Error | undefined
  /** What `verifyPortMappings` finds lost; the next change puts it in force again. */
  lostPorts: readonly string[] = []
  /** Every spec that was attached. */
  readonly specs: PodSpec[] = []
  /** What `verify` finds wrong with every pod that is attached. */
  problems: readonly string[] = []
  /** Policy in force; set `refusePolicy` to make every change of it fail. */
  policy: PolicyState | undefined
  refusePolicy: Error | undefined
  entries: readonly FlowEntry[] = []
  /** Set to make the next setCluster fail. */
  refuseCluster: Error | undefined
  /** Called after every setCluster that succeeded. */
  onCluster: (() => void) | undefined
  readonly #pods = new Map<string, PodAttachment>()

  constructor(self: NodeSpec, options: DataplaneOptions) {
    this.self = self
    this.options = options
  }

  async swapFib(fib: string): Promise<FibStatus> {
    this.calls.push(`swapFib ${fib}`)
    if (fib === 'wrong')
      throw new Error('wrong: filled: 192.0.2.1 has next hop 2, the oracle says 1')
    return { family: 4, name: fib, routes: 2, bytes: 4096 }
  }

  async setPolicy(policy: PolicyState): Promise<void> {
    this.calls.push(`setPolicy ${policy.pods.size}`)
    if (this.refusePolicy !== undefined) throw this.refusePolicy
    this.policy = policy
  }

  flows(most: number): readonly FlowEntry[] {
    return this.entries.slice(0, most)
  }

  denied: readonly Denial[] = []

  denials(read?: DenialsRead): { denials: readonly Denial[]; missed: number; read: DenialsRead } {
    const denials = read === undefined ? [] : this.denied.slice(read[0])
    return { denials, missed: 0, read: [this.denied.length] }
  }

  names: readonly LearnedName[] = []

  learnedNames(): readonly LearnedName[] {
    return this.names
  }

  learned: NamesStatus | undefined

  namesStatus(): NamesStatus | undefined {
    return this.learned
  }

  /** What the next audit finds. */
  wrong: readonly string[] = []
  audits = 0

  auditPolicy(): Promise<readonly string[]> {
    this.audits++
    return Promise.resolve(this.wrong)
  }

  /** Asks the programs that were set rule by rule, as the engine's tables would. */
  askPolicy({ pod, direction, peer, protocol, port }: PolicyQuestion): PolicyAnswer | undefined {
    const program = pod === undefined ? this.policy?.node : this.policy?.pods.get(pod)?.[direction]
    if (program === undefined) return undefined
    const known = this.policy!.identities.find(({ address }) => address === peer)
    const identity = known?.identity ?? IDENTITY.WORLD
    const { verdict, origin } = evaluate(program, {
      ...{ identity, address: ipWords(peer), protocol, port },
    })
    return { allowed: verdict === VERDICT.ALLOW, origin, identity }
  }

  policyHits(origins: readonly number[]): readonly number[] {
    return origins.map(() => 0)
  }

  setCluster(
    self: NodeSpec,
    peers: readonly NodeSpec[],
    networks: readonly NetworkSpec[] = [],
  ): Promise<void> {
    this.calls.push(`setCluster ${self.name} +${peers.length}`)
    const refused = this.refuseCluster
    this.refuseCluster = undefined
    if (refused) return Promise.reject(refused)
    this.self = self
    this.peers = peers
    this.networks = networks
    this.onCluster?.()
    return Promise.resolve()
  }

  async attach(pod: PodSpec, options: { adopt?: boolean } = {}): Promise<PodAttachment> {
    this.calls.push(`attach ${pod.id}${options.adopt ? ' adopt' : ''}`)
    await this.gate
    if (this.refuseAttach) throw this.refuseAttach
    const taken = !options.adopt && hasInterface(pod.netns, pod.ifname)
    if (taken || this.#pods.has(pod.id))
      throw Object.assign(new Error('there already'), { code: 'EEXIST' })
    const { kind, netns, ifname, ip4, ip6, network, mtu = this.mtu } = pod
    const attachment: PodAttachment = {
      id: pod.id,
      kind,
      netns,
      ifname,
      ...(ip4 === undefined ? {} : { ip4 }),
      ...(ip6 === undefined ? {} : { ip6 }),
      ...(network === undefined ? {} : { network }),
      mtu,
      port: this.#pods.size + 1,
      routes: [
        ...(ip4 === undefined ? [] : [{ dst: '0.0.0.0/0' }]),
        ...(ip6 === undefined ? [] : [{ dst: '::/0' }]),
      ],
    }
    this.#pods.set(pod.id, attachment)
    this.specs.push(pod)
    return attachment
  }

  detach(id: string): Promise<void> {
    this.calls.push(`detach ${id}`)
    if (this.refuseDetach) return Promise.reject(this.refuseDetach)
    this.#pods.delete(id)
    return Promise.resolve()
  }

  verify(id: string): readonly string[] {
    return this.#pods.has(id) ? this.problems : [`pod ${id}: not attached`]
  }

  setPortMappings(pods: readonly PodPorts[]): Promise<void> {
    if (this.refusePorts) return Promise.reject(this.refusePorts)
    this.ports = pods
    this.lostPorts = []
    return Promise.resolve()
  }

  verifyPortMappings(pods: readonly PodPorts[]): Promise<readonly string[]> {
    return Promise.resolve(pods.length === 0 ? [] : this.lostPorts)
  }

  pods(): readonly PodAttachment[] {
    return [...this.#pods.values()]
  }

  routes(): readonly RouteEntry[] {
    return this.peers.flatMap(peer =>
      peer.podCidrs.map(prefix => ({
        prefix,
        kind: 'vxlan' as const,
        via: `${peer.name} ${peer.vtep}`,
        mtu: this.mtu,
      })),
    )
  }

  drops(): readonly DropCount[] {
    return [{ reason: 'ttl', text: 'the TTL or hop limit ran out', count: 3, workers: [1, 2] }]
  }

  status(): DataplaneStatus {
    return { ...STATUS, ready: this.ready, node: this.self.name, pods: this.#pods.size }
  }

  stop(): Promise<void> {
    this.calls.push('stop')
    this.stopped = true
    return Promise.resolve()
  }
}
