/**
 * A podman of its own on a test's node, with CNI as its network backend: it runs in the node's network
 * namespace, and all that it keeps lies in one folder. There is no daemon: each call is a process, and
 * each container has a conmon that watches it.
 *
 *     FOLDER/root, runroot, tmp, runc    podman's and runc's own
 *     FOLDER/cni/bin                     the CNI executable
 *     FOLDER/cni/net.d                   the networks: `hawser`, the default, and `hawser-xdp`
 *     FOLDER/cache                       what it writes to a fixed place, by a mount that only it sees
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { AttachKind } from '../../dataplane/control.ts'
import { cgroupProcesses } from '../containerd/cgroups.ts'
import type { Custody } from '../containerd/custody.ts'
import { AGENT_IMAGE, images } from '../containerd/images.ts'
import { fetchFrom, PORT, type ServingPod } from '../containerd/pods.ts'
import { EXECUTABLE, type TestNode } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import { until } from '../harness/until.ts'

const CONFLIST = fileURLToPath(new URL('../../cni/deploy/10-hawser.conflist', import.meta.url))
/** Name of the network of either kind. */
export const NETWORKS = { tun: 'hawser', xdp: 'hawser-xdp', tap: 'hawser-tap' } as const
/** Where podman notes blobs, whatever its configuration says. */
const BLOB_CACHE = '/var/lib/containers/cache'
/** Mounts $1 on $2, then becomes the rest. */
const BIND = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
/** Hard limits that any machine lets a container have. */
const ULIMITS = ['nofile=1024:1024', 'nproc=1024:1024']

/** A container as podman tells of it. */
export interface PodmanPod extends ServingPod {
  runtime: Podman
  attach: AttachKind
  id: string
  mac: string
}

interface Inspected {
  Id: string
  NetworkSettings: {
    SandboxKey: string
    Networks: Record<string, { IPAddress: string; GlobalIPv6Address: string; MacAddress: string }>
  }
}

/** containers.conf(5). */
function configuration(folder: string): string {
  const at = (path: string) => JSON.stringify(join(folder, path))
  return `[containers]
default_sysctls = []
default_ulimits = ${JSON.stringify(ULIMITS)}
seccomp_profile = "unconfined"
[network]
network_backend = "cni"
cni_plugin_dirs = [${at('cni/bin')}]
network_config_dir = ${at('cni/net.d')}
default_network = "${NETWORKS.tun}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = ${at('tmp')}
static_dir = ${at('root/libpod')}
volume_path = ${at('root/volumes')}
runtime = "runc"
[engine.runtimes]
runc = [${at('bin/runc')}]
`
}

/** containers-storage.conf(5). */
function storage(folder: string): string {
  const at = (path: string) => JSON.stringify(join(folder, path))
  return `[storage]
driver = "vfs"
graphroot = ${at('root')}
runroot = ${at('runroot')}
`
}

export class Podman {
  readonly node: TestNode
  readonly folder: string
  /** Parent of the containers' cgroups, without leading slash. */
  readonly cgroup: string

  constructor(node: TestNode, cgroup: string, custody: Custody) {
    this.node = node
    this.cgroup = cgroup
    this.folder = mkdtempSync(join(tmpdir(), `hwt-${node.name}-`))
    custody.add({ folder: this.folder, podman: true })
    for (const name of ['bin', 'cache', 'cni/bin', 'cni/net.d', 'runc', 'tmp']) {
      mkdirSync(join(this.folder, name), { recursive: true })
    }
    writeFileSync(join(this.folder, 'containers.conf'), configuration(this.folder))
    writeFileSync(join(this.folder, 'storage.conf'), storage(this.folder))
    const runc = join(this.folder, 'bin/runc')
    writeFileSync(runc, `#!/bin/sh\nexec runc --root '${join(this.folder, 'runc')}' "$@"\n`)
    copyFileSync(EXECUTABLE, join(this.folder, 'cni/bin/hawser'))
    for (const path of [runc, join(this.folder, 'cni/bin/hawser')]) chmodSync(path, 0o755)
    for (const attach of ['tun', 'xdp'] as const) this.installNetwork(attach)
  }

  /** The network configuration of cni/deploy, with this node's socket and this kind of attachment. */
  private installNetwork(attach: AttachKind): void {
    const conflist = JSON.parse(readFileSync(CONFLIST, 'utf8')) as { plugins: object[] }
    const own = { ...conflist.plugins[0], attach, socket: this.node.socket }
    const text = JSON.stringify({ ...conflist, name: NETWORKS[attach], plugins: [own] })
    writeFileSync(join(this.folder, 'cni/net.d', `10-${NETWORKS[attach]}.conflist`), text)
  }

  private get options(): { netns: string; env: Record<string, string> } {
    const env = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      TMPDIR: join(this.folder, 'tmp'),
      CONTAINERS_CONF: join(this.folder, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(this.folder, 'storage.conf'),
    }
    return { netns: this.node.netns, env }
  }

  /** What podman says; throws with its error. */
  async call(...args: string[]): Promise<string> {
    return (await must('podman', args, this.options)).trim()
  }

  /** Has the agent's image known as AGENT_IMAGE. */
  async pullImage(): Promise<void> {
    mkdirSync(BLOB_CACHE, { recursive: true })
    const pull = ['podman', 'pull', '--quiet', `oci-archive:${await images()}:${AGENT_IMAGE}`]
    const binds = [join(this.folder, 'cache'), BLOB_CACHE]
    await must('unshare', ['--mount', 'sh', '-c', BIND, 'sh', ...binds, ...pull], this.options)
  }

  /** Runs a container that answers on PORT with its name, with `options` of `podman run`; resolves when it does. */
  async run(name: string, attach: AttachKind, ...options: string[]): Promise<PodmanPod> {
    const where = ['--network', NETWORKS[attach], '--cgroup-parent', `/${this.cgroup}`]
    const agent = [AGENT_IMAGE, 'serve', String(PORT), name]
    const program = ['--entrypoint', '/agent']
    await this.call('run', '--detach', '--name', name, ...where, ...program, ...options, ...agent)
    return this.look(name, attach)
  }

  /** Resolves with a container that was started, when it answers. */
  async look(name: string, attach: AttachKind): Promise<PodmanPod> {
    const [{ Id, NetworkSettings }] = JSON.parse(await this.call('inspect', name)) as [Inspected]
    const { IPAddress, GlobalIPv6Address, MacAddress } = NetworkSettings.Networks[NETWORKS[attach]]!
    const netns = NetworkSettings.SandboxKey
    await until(`${name} answers`, () => fetchFrom(netns, '127.0.0.1'))
    return {
      ...{ runtime: this, name, attach, id: Id, netns },
      ...{ ip4: IPAddress, ip6: GlobalIPv6Address, mac: MacAddress },
    }
  }

  /** Stops and removes containers; resolves when nothing watches them any more. */
  async remove(...names: string[]): Promise<void> {
    await this.call('rm', '--force', '--time', '0', ...names)
  }

  /** Containers that the OCI runtime knows. */
  running(): string[] {
    return readdirSync(join(this.folder, 'runc'))
  }

  async close(): Promise<void> {
    await this.remove('--all')
    await until('every conmon has ended', () => cgroupProcesses(this.cgroup).length === 0)
  }
}
