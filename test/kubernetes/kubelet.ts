/**
 * A kubelet of its own on a test's node: standalone, without an API server, its pods are the manifests
 * in a folder. It runs in the node's network namespace; beside the runtime's, its folder holds
 *
 *     FOLDER/manifests       one file a pod
 *     FOLDER/kubelet         its root
 *     FOLDER/logs            logs of containers
 *     FOLDER/elsewhere       what it writes to fixed places, by mounts that only it sees
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AttachKind } from '../../dataplane/control.ts'
import { hasCgroup } from '../containerd/cgroups.ts'
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

export interface PodWishes {
  /** Restart the container when /health fails. */
  liveness?: boolean
  /** The node's port, TCP and UDP, that leads to the agent. */
  hostPort?: number
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
  /** Of each name the pod that ran last. */
  private readonly uids = new Map<string, string>()

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
  addManifest(name: string, { liveness = false, hostPort }: PodWishes = {}): void {
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
      ports: (hostPort === undefined ? [] : ['TCP', 'UDP']).map(protocol => ({
        ...{ containerPort: PORT, hostPort, protocol },
      })),
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

  /** What the kubelet says of its pods, by the names of their manifests. */
  async states(): Promise<Map<string, PodState>> {
    const behind = `-${this.runtime.node.name}`
    return new Map(
      (await this.documents()).map(({ metadata: { name, uid }, status }) => {
        const { conditions = [], containerStatuses = [] } = status
        const ready = conditions.some(each => each.type === 'Ready' && each.status === 'True')
        const restarts = containerStatuses[0]?.restartCount ?? 0
        return [name.slice(0, -behind.length), { uid, ready, restarts }]
      }),
    )
  }

  /** Resolves when the state of each pod is as wanted. */
  async become(names: readonly string[], wanted: Partial<PodState>): Promise<void> {
    const asWanted = (state: Partial<Record<string, unknown>> = {}) =>
      Object.entries(wanted).every(([key, value]) => state[key] === value)
    await until(
      `${names} become ${JSON.stringify(wanted)}`,
      async () => {
        const states = await this.states()
        return names.every(name => asWanted({ ...states.get(name) }))
      },
      PATIENCE,
    )
  }

  async becomes(name: string, wanted: Partial<PodState>): Promise<void> {
    await this.become([name], wanted)
  }

  /** The sandboxes in which pods run, by the names of their manifests. */
  private async sandboxes(): Promise<Map<string, string>> {
    const behind = `-${this.runtime.node.name}`
    const all = await this.runtime.cri.sandboxes()
    return new Map(
      all
        .filter(({ state }) => state === 'SANDBOX_READY')
        .map(({ id, metadata: { name } }) => [name.slice(0, -behind.length), id]),
    )
  }

  /** Resolves with pods when all of them are ready. */
  async allRunning(names: readonly string[], attach: AttachKind): Promise<RuntimePod[]> {
    await this.become(names, { ready: true })
    for (const [name, { uid }] of await this.states()) this.uids.set(name, uid)
    const { runtime } = this
    const sandboxes = await this.sandboxes()
    return Promise.all(
      names.map(async name => {
        const sandboxId = sandboxes.get(name)!
        return { runtime, name, attach, sandboxId, ...(await lookAt(runtime, sandboxId)) }
      }),
    )
  }

  async running(name: string, attach: AttachKind): Promise<RuntimePod> {
    return (await this.allRunning([name], attach))[0]!
  }

  /** Resolves when nothing runs, and nothing is kept, of pods whose manifests were removed. */
  async gone(names: readonly string[]): Promise<void> {
    const { folder, cgroup } = this.runtime
    const remains = (name: string) => {
      const uid = this.uids.get(name)
      if (uid === undefined) return false
      return existsSync(join(folder, 'kubelet/pods', uid)) || hasCgroup(cgroup, `pod${uid}`)
    }
    await until(
      `${names} are gone`,
      async () => {
        const [states, sandboxes] = [await this.states(), await this.sandboxes()]
        return !names.some(name => states.has(name) || sandboxes.has(name) || remains(name))
      },
      PATIENCE,
    )
  }
}
