/** Who takes part in the path suite, and what each of them runs. */
import { join } from 'node:path'
import { compile, root } from '../harness/compile.ts'
import { Program } from '../harness/program.ts'
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
  'kernel-bridge',
  'generator',
] as const
export type Name = (typeof CONTENDERS)[number]

/** `live`: XDP frames straight from a page pool. `afxdp`: an AF_XDP socket in copy mode. */
export const GENERATORS = { live: 'inject', afxdp: 'generate' } as const
export type Generator = keyof typeof GENERATORS

export interface Contender {
  layer: Layer
  topology: Topology
  /** The process that forwards; absent where the kernel does it. */
  forwarder?: { file: string; args: readonly string[] }
}

export interface Cpus {
  generator: number
  forwarder: number
}

/** Builds the contender's own namespaces. */
export function prepare(name: Name, generator: Generator, cpus: Cpus): Contender {
  const polled = generator === 'live'
  switch (name) {
    case 'kernel':
      return { layer: 'routed', topology: kernelTopology(polled) }
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
    case 'hawser-policy':
      return {
        layer: 'routed',
        topology: bareTopology(),
        forwarder: {
          file: join(root, 'node_modules/.bin/node'),
          args: [
            join(root, 'bench/path/hawser-forwarder.ts'),
            ...hawserArguments(cpus),
            ...(name === 'hawser' ? [] : ['--policy']),
          ],
        },
      }
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

export function startGenerator(generator: Generator, contender: Contender, cpus: Cpus): Program {
  const args = [...flags({ device: plan.pod.device, cpu: cpus.generator }), ...podFlags()]
  const program = compile(`bench/path/native/${GENERATORS[generator]}.cc`)
  return new Program('generator', program, args, contender.topology.pod)
}

/** At the underlay's far end, or (`near`) where the node would receive from the pod. */
export function startSink(
  contender: Contender,
  near: boolean,
  verify: number,
  cpus: Cpus,
): Program {
  const { layer, topology } = contender
  const args = [
    ...flags({
      device: near ? plan.gateway.device : plan.peer.device,
      cpu: cpus.generator,
      verify,
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
