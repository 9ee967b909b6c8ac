/** Pods of a container runtime, made through the CRI as a kubelet makes them. */
import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { AttachKind } from '../../dataplane/control.ts'
import type { TestNode } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { until } from '../harness/until.ts'
import type { SandboxConfig } from './cri.ts'
import { AGENT, AGENT_IMAGE } from './images.ts'
import type { Runtime } from './runtime.ts'

/** The agent's port. */
export const PORT = 8080

/** A pod in which an agent serves, whatever runs it. */
export interface ServingPod {
  runtime: { node: TestNode }
  name: string
  /** Path of its network namespace. */
  netns: string
  ip4: string
  ip6: string
}

export interface RuntimePod extends ServingPod {
  runtime: Runtime
  attach: AttachKind
  sandboxId: string
}

export interface PodOptions {
  hostPort?: number
  annotations?: Record<string, string>
}

/** Where a sandbox's network namespace is, and its addresses. */
export async function lookAt(
  runtime: Runtime,
  sandboxId: string,
): Promise<{ netns: string; ip4: string; ip6: string }> {
  const { status, info } = await runtime.cri.call('PodSandboxStatus', {
    podSandboxId: sandboxId,
    verbose: true,
  })
  const { runtimeSpec } = JSON.parse(info['info'] ?? '{}') as {
    runtimeSpec: { linux: { namespaces: { type: string; path?: string }[] } }
  }
  const netns = runtimeSpec.linux.namespaces.find(({ type }) => type === 'network')?.path ?? ''
  const { network } = status
  const addresses = [network?.ip ?? '', ...(network?.additionalIps ?? []).map(({ ip }) => ip)]
  return {
    netns,
    ip4: addresses.find(each => each.includes('.')) ?? '',
    ip6: addresses.find(each => each.includes(':')) ?? '',
  }
}

/** Runs a sandbox without a container in it. */
export async function runSandbox(
  runtime: Runtime,
  name: string,
  attach: AttachKind,
  { hostPort, annotations = {} }: PodOptions = {},
): Promise<{ pod: RuntimePod; config: SandboxConfig }> {
  const uid = randomUUID()
  const config: SandboxConfig = {
    metadata: { name, uid, namespace: 'test', attempt: 0 },
    hostname: name,
    logDirectory: join(runtime.folder, 'logs', `test_${name}_${uid}`),
    portMappings: hostPort === undefined ? [] : [{ containerPort: PORT, hostPort }],
    annotations,
    linux: { cgroupParent: `/${runtime.cgroup}` },
  }
  mkdirSync(config.logDirectory, { recursive: true })
  const runtimeHandler = attach === 'xdp' ? 'xdp' : ''
  const { podSandboxId } = await runtime.cri.call('RunPodSandbox', { config, runtimeHandler })
  const place = await lookAt(runtime, podSandboxId)
  return { pod: { runtime, name, attach, sandboxId: podSandboxId, ...place }, config }
}

/** Runs a pod whose container answers on PORT with the pod's name; resolves when it does. */
export async function runPod(
  runtime: Runtime,
  name: string,
  attach: AttachKind,
  options: PodOptions = {},
): Promise<RuntimePod> {
  const { pod, config } = await runSandbox(runtime, name, attach, options)
  const { containerId } = await runtime.cri.call('CreateContainer', {
    podSandboxId: pod.sandboxId,
    config: {
      metadata: { name: 'agent', attempt: 0 },
      image: { image: AGENT_IMAGE },
      command: ['/agent', 'serve', String(PORT), name],
      logPath: 'agent.log',
    },
    sandboxConfig: config,
  })
  await runtime.cri.call('StartContainer', { containerId })
  await until(`${name} answers`, () => fetchFrom(pod.netns, '127.0.0.1'))
  return pod
}

/** GET of an agent, asked from a network namespace; throws with the cause. */
export async function fetchFrom(
  netns: string,
  address: string,
  path = '/',
  port = PORT,
): Promise<string> {
  const { code, stdout, stderr } = await run(AGENT, ['fetch', address, String(port), path], {
    netns,
  })
  if (code !== 0) throw new Error(`GET ${address} ${path}: ${stderr}`)
  return stdout
}

/** What an agent answers a datagram, asked from a network namespace; throws with the cause. */
export async function askFrom(netns: string, address: string, port = PORT): Promise<string> {
  const { code, stdout, stderr } = await run(AGENT, ['ask', address, String(port)], { netns })
  if (code !== 0) throw new Error(`${address} ${port}/udp: ${stderr}`)
  return stdout
}

/** The pod's kernel refuses a connection: nothing listens in a sandbox without a container, so it was reached. */
export async function expectReached(netns: string, address: string): Promise<void> {
  const answer = await fetchFrom(netns, address).catch((error: Error) => error.message)
  expect(answer).toContain('Connection refused')
}

/** Has the container of `from` ask the container of `to`, in both families; the order comes from the node of `from`. */
export async function expectHttp(from: ServingPod, to: ServingPod): Promise<void> {
  for (const [at, address] of [
    [from.ip4, to.ip4],
    [from.ip6, to.ip6],
  ] as const) {
    const answer = await fetchFrom(from.runtime.node.netns, at, `/fetch/${address}/${PORT}`)
    expect({ from: from.name, to: to.name, answer }).toEqual({
      from: from.name,
      to: to.name,
      answer: to.name,
    })
  }
}

export async function stopPod({ runtime, sandboxId }: RuntimePod): Promise<void> {
  await runtime.cri.call('StopPodSandbox', { podSandboxId: sandboxId })
}

/** Stops and removes. */
export async function removePod(pod: RuntimePod): Promise<void> {
  await stopPod(pod)
  await pod.runtime.cri.call('RemovePodSandbox', { podSandboxId: pod.sandboxId })
}

/** Removes all sandboxes that a runtime still has. */
export async function removeAllPods(runtime: Runtime): Promise<void> {
  const ids = (await runtime.cri.sandboxes()).map(({ id }) => id)
  await Promise.all(
    ids.map(async podSandboxId => {
      await runtime.cri.call('StopPodSandbox', { podSandboxId })
      await runtime.cri.call('RemovePodSandbox', { podSandboxId })
    }),
  )
}
