/**
 * Two nodes as in harness/topology.ts, each with a containerd in it:
 *
 *     node a (namespace)                     node b (namespace)
 *       hawser daemon, hawser0    ── veth ──   hawser daemon, hawser0
 *       containerd, its shims                  containerd, its shims
 *       pods: handler '' is TUN,               pods
 *             handler 'xdp' AF_XDP
 */
import type { AttachKind } from '../../dataplane/control.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { makeCgroup } from './cgroups.ts'
import { Custody } from './custody.ts'
import { removeAllPods } from './pods.ts'
import { Runtime } from './runtime.ts'

export interface Cluster {
  nodes: TwoNodes
  a: Runtime
  b: Runtime
  custody: Custody
  /** Removes every pod, ends everything and cleans up; throws when something had been left behind. */
  close(): Promise<void>
}

/** Makes both nodes; runtimes run and have images, the plugin, and no network configuration yet. */
export async function twoRuntimes(label: string): Promise<Cluster> {
  const custody = new Custody()
  const cgroup = `hwt-${label}-${process.pid}`
  custody.add({ namespaces: `hwt-${label}-${process.pid.toString(36)}`, cgroup })
  const undo: (() => Promise<unknown>)[] = []
  const close = async () => {
    const problems: unknown[] = []
    for (const step of undo.splice(0).reverse()) {
      await step().catch((error: unknown) => problems.push(error))
    }
    const left = await custody.end()
    if (left.length > 0) problems.push(new Error(`had to be killed: ${left.join('; ')}`))
    if (problems.length > 0) throw problems[0]
  }
  try {
    const nodes = await twoNodes(label)
    undo.push(() => nodes.close())
    const start = async (node: TwoNodes['a']): Promise<Runtime> => {
      custody.add({ folder: node.folder })
      makeCgroup(`${cgroup}/${node.name}`)
      const runtime = new Runtime(node, `${cgroup}/${node.name}`, custody)
      await runtime.start()
      undo.push(async () => {
        await removeAllPods(runtime).finally(() => runtime.stop())
      })
      await runtime.importImages()
      runtime.installPlugin()
      return runtime
    }
    const [a, b] = [await start(nodes.a), await start(nodes.b)]
    return { nodes, a, b, custody, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

/** Gives pods of no handler this kind of attachment; resolves when the runtime has noticed. */
export async function networkReady(runtime: Runtime, attach: AttachKind = 'tun'): Promise<void> {
  runtime.installNetwork('xdp', 'xdp.d')
  runtime.installNetwork(attach)
  await until('the runtime notices the network', async () => {
    const { info } = await runtime.cri.call('Status', { verbose: true })
    const inForce = (info['cniconfig'] ?? '').includes(`\\"attach\\":\\"${attach}\\"`)
    return inForce && (await runtime.cri.conditions())['NetworkReady']
  })
}
