/**
 * A kubelet of its own on a test's node: standalone, without an API server, its pods are the manifests
 * in a folder. It runs in the node's network namespace; beside the runtime's, its folder holds
 *
 *     FOLDER/manifests       one file a pod
 *     FOLDER/kubelet         its root
 *     FOLDER/logs            logs of containers
 *     FOLDER/elsewhere       what it writes to fixed places, by mounts that only it sees
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AttachKind } from '../../dataplane/control.ts'
import { AGENT_IMAGE } from '../containerd/images.ts'
import { fetchFrom, lookAt, PORT, type RuntimePod } from '../containerd/pods.ts'
import type { Runtime } from '../containerd/runtime.ts'
import { Running } from '../harness/processes.ts'
import { until } from '../harness/until.ts'

/** The kubelet's port for questions, in the node's namespace, on loopback. */
const READ_ONLY_PORT = 10_255
/** Seconds that pods may take to become what they shall be: kubelets wait up to 15 s before they try again. */
const PATIENCE = 120

/** Where a kubelet writes whatever its configuration says: sockets of device plugins, links to logs. */
const FIXED_PLACES = ['/var/lib/kubelet', '/var/log/containers']
/** Mounts $1 .. $4 in pairs, then becomes the rest. */
const BIND = 'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'

/** What a kubelet says of a pod. */
export interface PodState {
  uid: string
  ready: boolean
  restarts: number
}

interface PodDocument {
  metadata: { name: string; uid: string }
  status: {
    conditions?: { type: string; status: string }[]
    containerStatuses?: { restartCount: number }[]
  }
}

export interface Probes {
  /** Restart the container when /health fails. */
  liveness?: boolean
}

function configuration(runtime: Runtime): object {
  const { folder, cgroup, socket } = runtime
  const none = '0%'
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    staticPodPath: join(folder, 'manifests'),
    fileCheckFrequency: '1s',
    containerRuntimeEndpoint: `unix://${socket}`,
    address: '127.0.0.1',
    readOnlyPort: READ_ONLY_PORT,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${cgroup}`,
    failCgroupV1: false,
    enforceNodeAllocatable: [],
    evictionHard: {
      'memory.available': none,
      'nodefs.available': none,
      'nodefs.inodesFree': none,
      'imagefs.available': none,
      'imagefs.inodesFree': none,
    },
    imageGCHighThresholdPercent: 100,
    localStorageCapacityIsolation: false,
    failSwapOn: false,
    makeIPTablesUtilChains: false,
    podLogsDir: join(folder, 'logs'),
    volumePluginDir: join(folder, 'kubelet/volume-plugins'),
    resolvConf: '',
  }
}

export class Kubelet {
  readonly runtime: Runtime
  private readonly binary: string
  private daemon: Running | undefined

  constructor(runtime: Runtime, binary: string) {
    this.runtime = runtime
    this.binary = binary
    const { folder } = runtime
    for (const name of ['manifests', 'kubelet']) mkdirSync(join(folder, name), { recursive: true })
    writeFileSync(join(folder, 'kubelet.json'), JSON.stringify(configuration(runtime)))
  }

  get log(): readonly string[] {
    return this.daemon?.lines ?? []
  }

  /** Starts the kubelet; resolves when it answers. */
  async start(): Promise<void> {
    const { folder, node } = this.runtime
    const root = join(folder, 'kubelet')
    const args = ['--config', join(folder, 'kubelet.json'), '--root-dir', root]
    args.push('--cert-dir', join(root, 'pki'), '--hostname-override', node.name)
    const binds = FIXED_PLACES.flatMap((place, k) => {
      const instead = join(folder, 'elsewhere', String(k))
      for (const each of [place, instead]) mkdirSync(each, { recursive: true })
      return [instead, place]
    })
    const inMounts = ['--mount', 'sh', '-c', BIND, 'sh', ...binds, this.binary, ...args]
    const daemon = new Running('unshare', inMounts, { netns: node.netns })
    this.daemon = daemon
    const ended = daemon.ended.then(code => {
      throw new Error(`the kubelet ended with ${code}: ${daemon.stderr.slice(-2000)}`)
    })
    // Later ends are the test's own.
    ended.catch(() => {})
    await Promise.race([until('the kubelet answers', () => this.documents(), PATIENCE), ended])
  }

  /** Ends the kubelet only: pods run on. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.daemon?.stop(signal)
    this.daemon = undefined
  }

  private async documents(): Promise<PodDocument[]> {
    const { netns } = this.runtime.node
    const text = await fetchFrom(netns, '127.0.0.1', '/pods', READ_ONLY_PORT)
    return (JSON.parse(text) as { items: PodDocument[] | null }).items ?? []
  }

  /** Lays down a manifest: a pod whose agent answers with its name, and is asked for /ready from the node. */
  addManifest(name: string, { liveness = false }: Probes = {}): void {
    const probe = (path: string) => ({
      httpGet: { path, port: PORT },
      periodSeconds: 1,
      timeoutSeconds: 5,
      failureThreshold: 3,
    })
    const agent = {
      name: 'agent',
      image: AGENT_IMAGE,
      imagePullPolicy: 'Never',
      command: ['/agent', 'serve', String(PORT), name],
      readinessProbe: probe('/ready'),
      ...(liveness ? { livenessProbe: probe('/health') } : {}),
    }
    const manifest = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'test' },
      spec: {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        dnsPolicy: 'Default',
        terminationGracePeriodSeconds: 1,
        containers: [agent],
      },
    }
    // A name with a dot in front is none of the kubelet's business.
    const fresh = join(this.runtime.folder, 'manifests', `.${name}.new`)
    writeFileSync(fresh, JSON.stringify(manifest))
    renameSync(fresh, this.manifest(name))
  }

  removeManifest(name: string): void {
    rmSync(this.manifest(name))
  }

  private manifest(name: string): string {
    return join(this.runtime.folder, 'manifests', `${name}.json`)
  }

  /** What the kubelet says of a pod; undefined when it knows none of that name. */
  async state(name: string): Promise<PodState | undefined> {
    const full = `${name}-${this.runtime.node.name}`
    const document = (await this.documents()).find(({ metadata }) => metadata.name === full)
    if (document === undefined) return undefined
    const { conditions = [], containerStatuses = [] } = document.status
    return {
      uid: document.metadata.uid,
      ready: conditions.some(({ type, status }) => type === 'Ready' && status === 'True'),
      restarts: containerStatuses[0]?.restartCount ?? 0,
    }
  }

  /** Resolves when a pod's state is as wanted. */
  async becomes(name: string, wanted: Partial<PodState>): Promise<void> {
    await until(
      `${name} becomes ${JSON.stringify(wanted)}`,
      async () => {
        const state: Partial<Record<string, unknown>> = { ...(await this.state(name)) }
        return Object.entries(wanted).every(([key, value]) => state[key] === value)
      },
      PATIENCE,
    )
  }

  /** The sandbox in which a pod runs; undefined when there is none. */
  async sandbox(name: string): Promise<string | undefined> {
    const full = `${name}-${this.runtime.node.name}`
    return (await this.runtime.cri.sandboxes()).find(
      ({ metadata, state }) => metadata.name === full && state === 'SANDBOX_READY',
    )?.id
  }

  /** Resolves with a pod when it is ready. */
  async running(name: string, attach: AttachKind): Promise<RuntimePod> {
    await this.becomes(name, { ready: true })
    const sandboxId = (await this.sandbox(name))!
    return {
      runtime: this.runtime,
      name,
      attach,
      sandboxId,
      ...(await lookAt(this.runtime, sandboxId)),
    }
  }

  /** Resolves when nothing runs of a pod whose manifest was removed. */
  async gone(name: string): Promise<void> {
    await until(
      `${name} is gone`,
      async () =>
        (await this.sandbox(name)) === undefined && (await this.state(name)) === undefined,
      PATIENCE,
    )
  }
}
