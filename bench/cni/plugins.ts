/** The plugins under test: each has a node's namespace of its own, and what it needs there. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compile, root } from '../harness/compile.ts'
import { Namespace } from '../harness/namespaces.ts'
import { Program } from '../harness/program.ts'
import { Skipped } from '../harness/suite.ts'
import { later } from '../harness/undo.ts'

export const PLUGINS = ['hawser', 'bridge', 'ptp', 'macvlan'] as const
export type PluginName = (typeof PLUGINS)[number]

const REFERENCE = '/usr/lib/cni'
const HAWSER = 'build/Release/hawser'
const VTEP = '192.0.2.1'
/** The node's underlay device. */
const UNDERLAY = 'und0'

/** Addresses of the node's pods. */
const PODS = '10.1.0.0/22'

/** A plugin, ready to be called. */
export interface Plugin {
  /** Speaks the protocol of native/spawn.cc; lives in the node's namespace. */
  spawner: Program
  /** Process id of the daemon, of a plugin that has one. */
  daemon?: number
  stop(): Promise<void>
}

export function start(name: PluginName): Promise<Plugin> {
  return name === 'hawser' ? startHawser() : startReference(name)
}

export interface Daemon {
  program: Program
  node: Namespace
  socket: string
  /** Folder of its state. */
  state: string
}

/**
 * A daemon that is ready: a durable state file, one worker, and so many other nodes in its cluster; `policy`: the
 * folder of its policy files.
 */
export async function startDaemon(peers = 0, policy?: string): Promise<Daemon> {
  const node = underlayNode()
  const state = folder(join(root, 'build/bench'))
  const run = folder(tmpdir())
  const socket = join(run, 'run/cni.sock')
  const cluster = join(state, 'cluster.json')
  const others = Array.from({ length: peers }, (_, n) => {
    const [high, low] = [n >> 8, n & 255]
    const vtep = `198.18.${high}.${low}`
    const podCIDRs = [`10.${100 + (n >> 8)}.${low}.0/24`, `fd10:0:${n.toString(16)}::/64`]
    return { name: `peer${n}`, vtep, podCIDRs }
  })
  const own = peers === 0 ? [PODS] : [PODS, 'fd10:1::/64']
  const nodes = [{ name: 'bench', vtep: VTEP, podCIDRs: own }, ...others]
  writeFileSync(cluster, JSON.stringify({ nodes }))
  const config = join(state, 'daemon.json')
  writeFileSync(
    config,
    JSON.stringify({
      node: 'bench',
      cluster,
      socket,
      state: join(state, 'state/state.db'),
      workers: 1,
      underlay: { mode: 'udp' },
      ...(policy === undefined ? {} : { policy: { folder: policy } }),
      log: { level: 'info' },
    }),
  )
  // As cni/bin/hawser.mjs starts it.
  const words = ['--max-semi-space-size=2', join(root, 'cni/cli/main.ts'), 'daemon']
  const program = new Program('daemon', process.execPath, [...words, '--config', config], node)
  await program.logged('"msg":"ready"')
  return { program, node, socket, state }
}

/** The path of our own CNI executable. */
export function hawserPlugin(): string {
  const executable = join(root, HAWSER)
  if (!existsSync(executable)) throw new Error(`${HAWSER}: missing (run npm run build)`)
  return executable
}

/** The daemon with pods of kind TUN. */
async function startHawser(): Promise<Plugin> {
  const executable = hawserPlugin()
  const { program: daemon, node, socket, state } = await startDaemon()
  const netconf = { cniVersion: '1.0.0', name: 'hawser', type: 'hawser', attach: 'tun', socket }
  const spawner = await startSpawner(executable, join(root, 'build/Release'), state, netconf, node)
  return {
    spawner,
    daemon: daemon.pid,
    stop: async () => {
      await spawner.stop()
      await daemon.stop()
      node.remove()
    },
  }
}

/** What a reference plugin is given beside its addresses: `bridge` as Flannel delegates to it (gateway on the bridge, default route). */
const REFERENCES = {
  bridge: { bridge: 'cni0', isDefaultGateway: true, mtu: 1450 },
  ptp: { mtu: 1450 },
  macvlan: { master: UNDERLAY, mode: 'bridge' },
} as const

/** A reference plugin with `host-local`. */
async function startReference(name: keyof typeof REFERENCES): Promise<Plugin> {
  const executable = join(REFERENCE, name)
  for (const plugin of [name, 'host-local']) {
    if (existsSync(join(REFERENCE, plugin))) continue
    throw new Skipped(
      `${join(REFERENCE, plugin)}: missing (apt install containernetworking-plugins)`,
    )
  }
  const node = underlayNode()
  const state = folder(join(root, 'build/bench'))
  const netconf = {
    cniVersion: '1.0.0',
    name: 'bench',
    type: name,
    ...REFERENCES[name],
    ipam: {
      type: 'host-local',
      dataDir: join(state, 'addresses'),
      ranges: [[{ subnet: PODS }]],
      ...(name === 'bridge' ? {} : { routes: [{ dst: '0.0.0.0/0' }] }),
    },
  }
  const spawner = await startSpawner(executable, REFERENCE, state, netconf, node)
  return {
    spawner,
    stop: async () => {
      await spawner.stop()
      node.remove()
    },
  }
}

async function startSpawner(
  plugin: string,
  path: string,
  state: string,
  netconf: object,
  node: Namespace,
): Promise<Program> {
  const config = join(state, 'net.json')
  writeFileSync(config, JSON.stringify(netconf))
  const args = ['--plugin', plugin, '--config', config, '--cni-path', path]
  const spawner = new Program('spawn', compile('bench/cni/native/spawn.cc'), args, node)
  await spawner.ready()
  return spawner
}

/** A node's namespace with an underlay device that leads nowhere. */
function underlayNode(): Namespace {
  const node = new Namespace('cni')
  node.ip(`link add ${UNDERLAY} type veth peer name und1`)
  node.ip(`address add ${VTEP}/24 dev ${UNDERLAY}`)
  node.ip(`link set ${UNDERLAY} up`)
  node.ip('link set und1 up')
  return node
}

/** A folder that goes away with the bench. */
export function folder(parent: string): string {
  mkdirSync(parent, { recursive: true })
  const path = mkdtempSync(join(parent, 'cni-'))
  later(() => rmSync(path, { recursive: true, force: true }))
  return path
}
