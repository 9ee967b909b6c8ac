/**
 * A node as a user has it: a network namespace, a daemon process in it, pods attached through the
 * CNI executable with the environment that containerd gives it.
 */

import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { query } from '../../cni/rpc/client.ts'
import type { AttachKind, DataplaneStatus } from '../../dataplane/control.ts'
import type { Namespaces } from './netns.ts'
import { Running, run } from './processes.ts'
import { until } from './until.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const EXECUTABLE = join(root, 'build/Release/hawser')
export const CLI = join(root, 'cni/cli/main.ts')
/** Milliseconds that a daemon may take to stop. */
const STOP_MS = 30_000

export interface ClusterNode {
  name: string
  vtep: string
  vtepMac?: string
  podCIDRs: string[]
  /** By network. */
  networks?: Record<string, string[]>
}

/** Of the cluster file, beside the cluster's own. */
export interface ClusterNetwork {
  name: string
  vni: number
  cidrs?: string[]
}

export interface NodeOptions {
  cluster: readonly ClusterNode[]
  networks?: readonly ClusterNetwork[]
  workers?: number
  vxlanPort?: number
  underlayMode?: 'auto' | 'xdp' | 'udp' | 'vxlan'
  masquerade?: boolean
  /** Further keys of the daemon's configuration. */
  config?: Record<string, unknown>
  /** Words of the program that is the daemon, with `--config FILE` behind them; `hawser daemon` by default. */
  program?: readonly string[]
}

export interface CniAnswer {
  exit: number
  json: Record<string, unknown>
  stderr: string
}

export interface CniCall {
  command: string
  containerId: string
  netns?: string
  ifname?: string
  config?: Record<string, unknown>
  args?: string
  /** CNI_PATH. */
  path?: string
}

export class TestNode {
  readonly name: string
  readonly netns: string
  readonly folder: string
  readonly socket: string
  private readonly options: NodeOptions
  private daemon: Running | undefined
  private earlierLog: readonly string[] = []

  constructor(name: string, netns: string, options: NodeOptions) {
    this.name = name
    this.netns = netns
    this.options = options
    this.folder = mkdtempSync(join(tmpdir(), `hawser-${name}-`))
    this.socket = join(this.folder, 'run/cni.sock')
    this.writeCluster(options.cluster)
    writeFileSync(join(this.folder, 'hawser.json'), JSON.stringify(this.daemonConfig()))
  }

  private daemonConfig(): object {
    const { workers, vxlanPort, underlayMode, masquerade, config } = this.options
    return {
      node: this.name,
      cluster: join(this.folder, 'cluster.json'),
      socket: this.socket,
      state: join(this.folder, 'state/state.db'),
      workers: workers ?? 1,
      ...(vxlanPort === undefined ? {} : { vxlanPort }),
      ...(masquerade === undefined ? {} : { masquerade }),
      underlay: { mode: underlayMode ?? 'auto' },
      log: { level: 'info' },
      ...config,
    }
  }

  /** Replaces the cluster file, as an editor does: a running daemon sees the old one or the new one. */
  writeCluster(nodes: readonly ClusterNode[], networks = this.options.networks): void {
    this.writeClusterText(JSON.stringify({ nodes, networks }))
  }

  writeClusterText(text: string): void {
    const file = join(this.folder, 'cluster.json')
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  }

  /** Starts the daemon, with the environment of this process unless said otherwise; resolves when it serves. */
  async start(env?: Record<string, string>): Promise<void> {
    const { program = [CLI, 'daemon'] } = this.options
    const args = [...program, '--config', join(this.folder, 'hawser.json')]
    this.daemon = new Running(process.execPath, args, {
      netns: this.netns,
      ...(env === undefined ? {} : { env }),
    })
    await this.logged('ready')
  }

  /** Resolves when the MACs behind the peers' VTEPs are known. */
  async acquainted(): Promise<void> {
    await until(`${this.name} knows its peers`, async () => {
      const { notes } = await this.ask<DataplaneStatus>('status')
      return !notes.some(note => note.includes('is not resolved'))
    })
  }

  /** Resolves with the facts of the first line, logged already or to come, that has this message. Throws when the daemon ends before. */
  async logged(message: string): Promise<Record<string, unknown>> {
    const line = await this.daemon!.until(each => each.includes(`"msg":${JSON.stringify(message)}`))
    return JSON.parse(line) as Record<string, unknown>
  }

  /** Writes a line to the daemon's stdin; resolves with the `count`th line that is `answer`. */
  async tell(line: string, answer: string, count = 1): Promise<void> {
    const { daemon } = this
    daemon!.child.stdin!.write(`${line}\n`)
    await until(`${count} times ${answer}`, () => {
      return daemon!.lines.filter(each => each === answer).length >= count
    })
  }

  get pid(): number {
    return this.daemon!.child.pid!
  }

  /** Path of the state file. */
  get state(): string {
    return join(this.folder, 'state/state.db')
  }

  /** What the daemon has logged, and those that ran before it. */
  get log(): readonly string[] {
    return [...this.earlierLog, ...(this.daemon?.lines ?? [])]
  }

  /** Resolves when the daemon has ended of its own, with the signal that ended it. */
  async died(): Promise<NodeJS.Signals | null> {
    const { child, ended } = this.daemon!
    await ended
    await this.stop()
    return child.signalCode
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const code = (await this.daemon?.stop(signal)) ?? null
    this.earlierLog = this.log
    this.daemon = undefined
    return code
  }

  /** Ends the daemon, by SIGKILL if it does not end by itself in time (then it throws), and removes its files. */
  async remove(): Promise<void> {
    const { daemon } = this
    let late = false
    const timer = setTimeout(() => {
      late = true
      daemon?.child.kill('SIGKILL')
    }, STOP_MS)
    await this.stop()
    clearTimeout(timer)
    rmSync(this.folder, { recursive: true, force: true })
    if (late) throw new Error(`${this.name}: the daemon did not stop within ${STOP_MS} ms`)
  }

  /** Descriptors that the daemon has open. */
  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length
  }

  /** The network configuration that the runtime hands to the plugin. */
  config(extra: Record<string, unknown> = {}): Record<string, unknown> {
    return { cniVersion: '1.1.0', name: 'hawser', type: 'hawser', socket: this.socket, ...extra }
  }

  /** Calls the CNI executable as containerd does. */
  async cni(call: CniCall): Promise<CniAnswer> {
    const { code, stdout, stderr } = await run(EXECUTABLE, [], {
      netns: this.netns,
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        CNI_COMMAND: call.command,
        CNI_CONTAINERID: call.containerId,
        CNI_NETNS: call.netns ?? '',
        CNI_IFNAME: call.ifname ?? 'eth0',
        CNI_ARGS: call.args ?? '',
        CNI_PATH: call.path ?? '/opt/cni/bin',
      },
      input: JSON.stringify(call.config ?? this.config()),
    })
    let json: Record<string, unknown> = {}
    if (stdout.trim() !== '') json = JSON.parse(stdout) as Record<string, unknown>
    return { exit: code ?? -1, json, stderr }
  }

  /** The daemon's answer to a question, as the command line gets it; a second sooner than by that. */
  async ask<T>(question: string): Promise<T> {
    return (await query(this.socket, question)) as T
  }

  /** The CLI's answer to `command --json`. */
  async cli<T>(command: string): Promise<T> {
    const args = [CLI, ...command.split(' '), '--json', '--socket', this.socket]
    const { code, stdout, stderr } = await run(process.execPath, args, { netns: this.netns })
    if (code !== 0) throw new Error(`hawser ${command} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }
}

export interface TestPod {
  node: TestNode
  name: string
  containerId: string
  netns: string
  attach: AttachKind
  ip4: string
  ip6: string
  result: Record<string, unknown>
}

interface CniIp {
  address: string
}

/**
 * Makes a namespace and attaches it by ADD; `kubernetes` is the pod's name there, `test/NAME` by default. Throws with the
 * error document when that fails.
 */
export async function addPod(
  namespaces: Namespaces,
  node: TestNode,
  name: string,
  attach: AttachKind,
  extra: Record<string, unknown> = {},
  kubernetes = `test/${name}`,
): Promise<TestPod> {
  const [space, pod] = kubernetes.split('/')
  const netns = await namespaces.add(name)
  const containerId = randomBytes(32).toString('hex')
  const answer = await node.cni({
    command: 'ADD',
    containerId,
    netns,
    config: node.config({ attach, ...extra }),
    args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${space};K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${containerId};K8S_POD_UID=${name}`,
  })
  if (answer.exit !== 0)
    throw new Error(`ADD ${name}: ${JSON.stringify(answer.json)} ${answer.stderr}`)
  const addresses = (answer.json['ips'] as CniIp[]).map(each => each.address.split('/')[0]!)
  return {
    node,
    name,
    containerId,
    netns,
    attach,
    ip4: addresses.find(each => !each.includes(':')) ?? '',
    ip6: addresses.find(each => each.includes(':')) ?? '',
    result: answer.json,
  }
}

/** DEL of a pod that `addPod` made; its namespace stays. */
export async function deletePod(pod: TestPod): Promise<CniAnswer> {
  return pod.node.cni({
    command: 'DEL',
    containerId: pod.containerId,
    netns: pod.netns,
    config: pod.node.config({ attach: pod.attach }),
  })
}

/** ADD of a further interface, as Multus asks for one; `pod` with the addresses that it has there. Throws as `addPod` does. */
export async function addInterface(
  pod: TestPod,
  ifname: string,
  config: Record<string, unknown>,
): Promise<TestPod> {
  const { node, containerId, netns } = pod
  const call = { command: 'ADD', containerId, netns, ifname, config: node.config(config) }
  const { exit, json, stderr } = await node.cni(call)
  if (exit !== 0) throw new Error(`ADD ${pod.name}: ${JSON.stringify(json)} ${stderr}`)
  const [ip4 = '', ip6 = ''] = (json['ips'] as CniIp[]).map(each => each.address.split('/')[0]!)
  return { ...pod, ip4, ip6, result: json }
}
