/**
 * A containerd of its own on a test's node: it runs in the node's network namespace, and all that it
 * keeps lies in one folder.
 *
 *     FOLDER/root, state, runc, opt     containerd's and runc's own
 *     FOLDER/containerd.sock
 *     FOLDER/cni/bin                    the CNI executable
 *     FOLDER/cni/net.d                  the network of pods; FOLDER/cni/xdp.d that of the handler `xdp`
 *     FOLDER/logs
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AttachKind } from '../../dataplane/control.ts'
import { EXECUTABLE, type TestNode } from '../harness/node.ts'
import { must, Running } from '../harness/processes.ts'
import { Cri } from './cri.ts'
import type { Custody } from './custody.ts'
import { images, PAUSE_IMAGE } from './images.ts'

const CONFLIST = fileURLToPath(new URL('../../cni/deploy/10-hawser.conflist', import.meta.url))
/** Where Debian puts the plugin that sets a pod's lo up. */
export const LOOPBACK = '/usr/lib/cni/loopback'
/** Snapshotters and the like that need what these machines lack. */
const DISABLED = ['aufs', 'btrfs', 'devmapper', 'zfs'].map(
  name => `io.containerd.snapshotter.v1.${name}`,
)
/** What containerd sends to plugins that ask for it. */
const CAPABILITIES = Object.fromEntries(
  ['portMappings', 'bandwidth', 'dns', 'cgroupPath', 'io.kubernetes.cri.pod-annotations'].map(
    name => [name, true],
  ),
)

function configuration(folder: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"'
  const at = (path: string) => JSON.stringify(join(folder, path))
  const runtime = (name: string, conf: string) => `
[${cri}.containerd.runtimes.${name}]
  runtime_type = "io.containerd.runc.v2"
  cni_conf_dir = ${at(conf)}
  cni_max_conf_num = 1
[${cri}.containerd.runtimes.${name}.options]
  Root = ${at('runc')}
`
  return `version = 2
root = ${at('root')}
state = ${at('state')}
disabled_plugins = ${JSON.stringify(DISABLED)}
[grpc]
  address = ${at('containerd.sock')}
[plugins."io.containerd.internal.v1.opt"]
  path = ${at('opt')}
[${cri}]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
[${cri}.cni]
  bin_dir = ${at('cni/bin')}
  conf_dir = ${at('cni/net.d')}
[${cri}.containerd]
  snapshotter = "native"
  default_runtime_name = "runc"
${runtime('runc', 'cni/net.d')}${runtime('xdp', 'cni/xdp.d')}`
}

export class Runtime {
  readonly node: TestNode
  readonly folder: string
  /** Parent of the pods' cgroups, without leading slash. */
  readonly cgroup: string
  private daemon: Running | undefined
  private client: Cri | undefined

  constructor(node: TestNode, cgroup: string, custody: Custody) {
    this.node = node
    this.cgroup = cgroup
    this.folder = mkdtempSync(join(tmpdir(), `hwt-${node.name}-`))
    custody.add({ folder: this.folder })
    for (const name of ['cni/bin', 'cni/net.d', 'cni/xdp.d', 'logs']) {
      mkdirSync(join(this.folder, name), { recursive: true })
    }
    writeFileSync(join(this.folder, 'containerd.toml'), configuration(this.folder))
  }

  get socket(): string {
    return join(this.folder, 'containerd.sock')
  }

  get cri(): Cri {
    this.client ??= new Cri(this.socket)
    return this.client
  }

  /** Folder of the pods' network namespaces. */
  get netnsFolder(): string {
    return join(this.folder, 'state/io.containerd.grpc.v1.cri/netns')
  }

  get log(): readonly string[] {
    return this.daemon?.lines ?? []
  }

  /** Starts containerd; resolves when it serves. */
  async start(): Promise<void> {
    const args = ['--config', join(this.folder, 'containerd.toml')]
    this.daemon = new Running('containerd', args, { netns: this.node.netns })
    await this.daemon.until(line => line.includes('containerd successfully booted'))
  }

  /** Ends containerd only: pods run on. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.client?.close()
    this.client = undefined
    await this.daemon?.stop(signal)
    this.daemon = undefined
  }

  async importImages(): Promise<void> {
    const space = ['--address', this.socket, '--namespace', 'k8s.io']
    const args = ['images', 'import', '--snapshotter', 'native', await images()]
    await must('ctr', [...space, ...args], { netns: this.node.netns })
  }

  /**
   * Puts the CNI executable in its place, as cni/deploy/README.md says: beside it, then renamed. Beside
   * it lies `loopback`, which containerd calls for every pod before the network of the configuration.
   */
  installPlugin(): void {
    copyFileSync(LOOPBACK, join(this.folder, 'cni/bin/loopback'))
    const fresh = join(this.folder, 'cni/bin/.hawser.new')
    copyFileSync(EXECUTABLE, fresh)
    chmodSync(fresh, 0o755)
    renameSync(fresh, join(this.folder, 'cni/bin/hawser'))
  }

  /**
   * Installs the network configuration of cni/deploy into `folder` (`net.d` or `xdp.d`), with this
   * node's socket, this kind of attachment, and the capabilities that make containerd send what it has.
   */
  installNetwork(attach: AttachKind, folder = 'net.d'): void {
    const conflist = JSON.parse(readFileSync(CONFLIST, 'utf8')) as { plugins: object[] }
    const own = { attach, socket: this.node.socket, capabilities: CAPABILITIES }
    const text = JSON.stringify({ ...conflist, plugins: [{ ...conflist.plugins[0], ...own }] })
    const path = join(this.folder, 'cni', folder)
    writeFileSync(join(path, '.10-hawser.conflist.tmp'), text)
    renameSync(join(path, '.10-hawser.conflist.tmp'), join(path, '10-hawser.conflist'))
  }

  /** Names of the pods' network namespaces. */
  namespaces(): string[] {
    try {
      return readdirSync(this.netnsFolder)
    } catch {
      return []
    }
  }
}
