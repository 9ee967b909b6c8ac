/** The Container Runtime Interface as a client: gRPC on the runtime's unix socket, with cri.proto. */
import { fileURLToPath } from 'node:url'
import { Client, credentials, type ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** Milliseconds that one call may take: kubelet's runtimeRequestTimeout. */
const CALL_MS = 120_000

const definition = loadSync(fileURLToPath(new URL('cri.proto', import.meta.url)), {
  longs: Number,
  enums: String,
  defaults: true,
})['runtime.v1.RuntimeService'] as ServiceDefinition

/** PodSandboxConfig of a pod, as a kubelet makes it. */
export interface SandboxConfig {
  metadata: { name: string; uid: string; namespace: string; attempt: number }
  hostname: string
  logDirectory: string
  portMappings: { containerPort: number; hostPort: number }[]
  annotations: Record<string, string>
  linux: { cgroupParent: string }
}

export interface SandboxItem {
  id: string
  metadata: SandboxConfig['metadata']
  state: 'SANDBOX_READY' | 'SANDBOX_NOTREADY'
}

export interface SandboxStatus {
  status: SandboxItem & { network: { ip: string; additionalIps: { ip: string }[] } | null }
  /** With `verbose`: JSON under `info`. */
  info: Record<string, string>
}

/** Requests and answers of the calls in use (cri.proto). */
interface Calls {
  Status: [
    { verbose?: boolean },
    {
      status: { conditions: { type: string; status: boolean; reason: string }[] }
      /** With `verbose`: JSON under `config`, `cniconfig` and others. */
      info: Record<string, string>
    },
  ]
  RunPodSandbox: [{ config: SandboxConfig; runtimeHandler: string }, { podSandboxId: string }]
  StopPodSandbox: [{ podSandboxId: string }, object]
  RemovePodSandbox: [{ podSandboxId: string }, object]
  PodSandboxStatus: [{ podSandboxId: string; verbose: boolean }, SandboxStatus]
  ListPodSandbox: [object, { items: SandboxItem[] }]
  CreateContainer: [
    {
      podSandboxId: string
      config: {
        metadata: { name: string; attempt: number }
        image: { image: string }
        command: string[]
        logPath: string
      }
      sandboxConfig: SandboxConfig
    },
    { containerId: string },
  ]
  StartContainer: [{ containerId: string }, object]
}

export class Cri {
  private readonly client: Client

  /** A client of the runtime at `socket`; it connects at the first call. */
  constructor(socket: string) {
    this.client = new Client(`unix://${socket}`, credentials.createInsecure())
  }

  /** One call; rejects with gRPC's error, whose `details` are the runtime's own words. */
  call<M extends keyof Calls>(method: M, request: Calls[M][0]): Promise<Calls[M][1]> {
    const { path, requestSerialize, responseDeserialize } = definition[method]!
    const deadline = Date.now() + CALL_MS
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        { deadline },
        (error, answer) => (error ? reject(error) : resolve(answer as Calls[M][1])),
      )
    })
  }

  /** Which of the runtime's conditions (RuntimeReady, NetworkReady) hold. */
  async conditions(): Promise<Record<string, boolean>> {
    const { status } = await this.call('Status', {})
    return Object.fromEntries(status.conditions.map(({ type, status }) => [type, status]))
  }

  async sandboxes(): Promise<SandboxItem[]> {
    return (await this.call('ListPodSandbox', {})).items
  }

  close(): void {
    this.client.close()
  }
}
