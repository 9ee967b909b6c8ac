/** Who takes part in the path suite, and what each of them runs. */
import { join } from 'node:path'
import { compile, root } from '../harness/compile.ts'
import { Program } from '../harness/program.ts'
import { answered, forgetAll, makeRoom, tracked } from './conntrack.ts'
import { denied, enforce } from './nftables.ts'
import { FIRST_PORT } from './rules.ts'
import {
  bareTopology,
  kernelBridgeTopology,
  kernelTopology,
  type Layer,
  plan,
  type Topology,
} from './topology.ts'

export const CONTENDERS = [
  'hawser',
  'hawser-policy',
  'bare',
  'kernel',
  'kernel-nft',
  'kernel-bridge',
  'generator',
] as const
export type Name = (typeof CONTENDERS)[number]

/** `live`: XDP frames straight from a page pool. `afxdp`: an AF_XDP socket in copy mode. */
export const GENERATORS = { live: 'inject', afxdp: 'generate' } as const
export type Generator = keyof typeof GENERATORS

/** What the generator sends. */
export interface Traffic {
  /** Different flows, a power of two; they come one after the other, packet by packet. */
  flows: number
  /** Every packet begins one: the run ends before they begin again. */
  fresh: boolean
}

export const STEADY: Traffic = { flows: 16, fresh: false }

/** Rules of those that enforce policy, and flows that they have room for. */
export interface PolicySize {
  rules: number
  room: number
}

const SMALL: PolicySize = { rules: 10, room: 131_072 }

/** What one that enforces policy says of itself. */
export interface PolicyFacts {
  /** Packets that it has denied. */
  denied: number
  /** Flows that it keeps, and those that it had no room for. */
  live: number
  refused: number
}

/** Policy that is in the kernel. */
export interface KernelPolicy {
  facts(): PolicyFacts
  /** Flows that have been answered. */
  answered(): number
  /** Forgets all flows. */
  forget(): void
}

export interface Contender {
  layer: Layer
  topology: Topology
  /** Denies what no rule allows: to be proven before anything is counted. */
  policed?: true
  kernelPolicy?: KernelPolicy
  /** The process that forwards; absent where the kernel does it. */
  forwarder?: { file: string; args: readonly string[] }
}

export interface Cpus {
  generator: number
  forwarder: number
}

/** Builds the contender's own namespaces. */
export function prepare(
  name: Name,
  generator: Generator,
  cpus: Cpus,
  size: PolicySize = SMALL,
): Contender {
  const polled = generator === 'live'
  switch (name) {
    case 'kernel':
      return { layer: 'routed', topology: kernelTopology(polled) }
    case 'kernel-nft':
      return policedKernel(kernelTopology(polled), size)
    case 'kernel-bridge':
      return { layer: 'bridged', topology: kernelBridgeTopology(polled) }
    case 'generator':
      return { layer: 'bridged', topology: bareTopology() }
    case 'bare':
      return {
        layer: 'bridged',
        topology: bareTopology(),
        forwarder: { file: compile('bench/path/native/forward.cc'), args: bareArguments(cpus) },
      }
    case 'hawser':
      return hawser(cpus)
    case 'hawser-policy':
      return { ...hawser(cpus, flags({ rules: size.rules, flows: size.room })), policed: true }
  }
}

function hawser(cpus: Cpus, more: readonly string[] = []): Contender {
  return {
    layer: 'routed',
    topology: bareTopology(),
    forwarder: {
      file: join(root, 'node_modules/.bin/node'),
      args: [join(root, 'bench/path/hawser-forwarder.ts'), ...hawserArguments(cpus), ...more],
    },
  }
}

function policedKernel(topology: Topology, { rules, room }: PolicySize): Contender {
  const { node } = topology
  makeRoom(room)
  enforce(node, rules)
  return {
    layer: 'routed',
    topology,
    policed: true,
    kernelPolicy: {
      facts: () => ({ denied: denied(node), ...tracked(node) }),
      answered: () => answered(node),
      forget: () => forgetAll(node),
    },
  }
}

function common(cpus: Cpus): string[] {
  return flags({
    'pod-device': plan.gateway.device,
    'underlay-device': plan.node.device,
    'node-address': plan.node.address,
    'peer-address': plan.peer.address,
    'peer-mac': plan.peer.mac,
    cpu: cpus.forwarder,
  })
}

function bareArguments(cpus: Cpus): string[] {
  return [...common(cpus), ...flags({ 'node-mac': plan.node.mac })]
}

function hawserArguments(cpus: Cpus): string[] {
  return [
    ...common(cpus),
    ...flags({
      'pod-address': plan.pod.address,
      'pod-mac': plan.pod.mac,
      'remote-cidr': plan.remote.cidr,
    }),
  ]
}

function podFlags(): string[] {
  return flags({
    'source-mac': plan.pod.mac,
    'gateway-mac': plan.gateway.mac,
    source: plan.pod.address,
    destination: plan.remote.address,
  })
}

export function startForwarder(name: Name, contender: Contender): Program | undefined {
  const { forwarder, topology } = contender
  return forwarder && new Program(name, forwarder.file, forwarder.args, topology.node)
}

/** Destination ports begin with `port`. */
export function startGenerator(
  generator: Generator,
  contender: Contender,
  cpus: Cpus,
  { flows }: Traffic,
  port: number = FIRST_PORT,
): Program {
  const { device } = plan.pod
  const own = flags({ device, cpu: cpus.generator, flows, 'pod-port': port })
  const args = [...own, ...podFlags()]
  const program = compile(`bench/path/native/${GENERATORS[generator]}.cc`)
  return new Program('generator', program, args, contender.topology.pod)
}

/**
 * At the underlay's far end, or (`near`) where the node would receive from the pod. It compares the first `verify`
 * packets, and answers each of the first `replies` flows once.
 */
export function startSink(
  contender: Contender,
  near: boolean,
  { verify, replies, flows }: { verify: number; replies: number; flows: number },
  cpus: Cpus,
): Program {
  const { layer, topology } = contender
  const args = [
    ...flags({
      device: near ? plan.gateway.device : plan.peer.device,
      cpu: cpus.generator,
      verify,
      replies,
      flows,
      layer,
      'node-mac': plan.node.mac,
      'peer-mac': plan.peer.mac,
      'node-address': plan.node.address,
      'peer-address': plan.peer.address,
    }),
    ...podFlags(),
  ]
  const program = compile('bench/path/native/sink.cc')
  return new Program('sink', program, args, near ? topology.node : topology.sink)
}

function flags(values: Record<string, string | number>): string[] {
  return Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)])
}
