/** What must be true of a node with a container runtime. */
import { readdirSync, readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, expect } from 'vitest'
import { queueFolder } from '../../cni/rpc/del-queue.ts'
import type { PodAttachment, RouteEntry } from '../../dataplane/control.ts'
import { ip } from '../harness/netns.ts'
import type { TestNode } from '../harness/node.ts'
import { until } from '../harness/until.ts'
import { expectPing, expectSound } from '../netns/expect.ts'
import { expectHttp, type RuntimePod, type ServingPod } from './pods.ts'
import type { Runtime } from './runtime.ts'

/** What a node holds because of its pods. */
export interface Holdings {
  /** Container ids, each as often as it is there; sorted. */
  served: string[]
  reserved: string[]
  /** Addresses that lead to a pod. */
  routes: number
  /** The node's ends of veth pairs. */
  links: number
  /** DELs that wait for the daemon. */
  queued: number
}

function containers(state: string): string[] {
  const database = new DatabaseSync(state, { readOnly: true })
  try {
    const rows = database.prepare('SELECT container FROM attachments ORDER BY container').all()
    return rows.map(row => String(row['container']))
  } finally {
    database.close()
  }
}

export function queuedDels(node: TestNode): string[] {
  try {
    return readdirSync(queueFolder(node.socket)).filter(name => name.endsWith('.del'))
  } catch {
    return []
  }
}

export async function holdings(node: TestNode): Promise<Holdings> {
  const served = (await node.ask<PodAttachment[]>('pods')).map(({ id }) => id.split('/')[1]!)
  const routes = await node.ask<RouteEntry[]>('routes')
  const links = JSON.parse(await ip(node.netns, '-j', 'link')) as { ifname: string }[]
  return {
    served: served.sort(),
    reserved: containers(node.state),
    routes: routes.filter(({ kind }) => kind === 'pod').length,
    links: links.filter(({ ifname }) => /^hw[0-9a-f]{12}$/.test(ifname)).length,
    queued: queuedDels(node).length,
  }
}

/** Exactly these pods have addresses, interfaces and namespaces on the node, and no frame is lost. */
export async function expectOnly(runtime: Runtime, pods: readonly RuntimePod[]): Promise<void> {
  const ids = pods.map(({ sandboxId }) => sandboxId).sort()
  expect(await holdings(runtime.node)).toEqual({
    served: ids,
    reserved: ids,
    routes: 2 * pods.length,
    links: pods.filter(({ attach }) => attach === 'xdp').length,
    queued: 0,
  })
  const folder = runtime.netnsFolder
  expect(runtime.namespaces().sort()).toEqual(
    pods.map(({ netns }) => netns.slice(folder.length + 1)).sort(),
  )
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  expect(mounts.filter(line => line.includes(` ${folder}/`))).toHaveLength(pods.length)
  // Frames come home after the packets that they carried.
  await until('no frame is without an owner', async () => {
    const { workers } = await expectSound(runtime.node)
    return workers.every(({ leaked }) => leaked === 0)
  })
}

/** Pings, and HTTP between containers both ways, in both families, for every pair. */
export async function expectMesh(pods: readonly ServingPod[]): Promise<void> {
  for (const [k, one] of pods.entries()) {
    for (const other of pods.slice(k + 1)) {
      await expectPing(one, other)
      await expectHttp(one, other)
      await expectHttp(other, one)
    }
  }
}

/** When a test fails, the ends of the daemons' and the runtimes' logs are printed behind it. */
export function tellRuntimesOnFailure(runtimes: () => readonly (Runtime | undefined)[]): void {
  afterEach(({ task }) => {
    if (task.result?.state !== 'fail') return
    for (const runtime of runtimes()) {
      if (runtime === undefined) continue
      for (const line of runtime.node.log.slice(-15)) console.log(`${runtime.node.name}: ${line}`)
      const grave = runtime.log.filter(line => /level=(error|fatal|warning)/.test(line))
      for (const line of grave.slice(-15)) console.log(`${runtime.node.name}: ${line}`)
    }
  })
}
