// A node that loses its power: every process of it, every namespace, mount and device is gone at once,
// and what lies on disk is all that the next boot knows. Only node a (cluster.ts) is rebooted.
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ip, nameOf } from '../harness/netns.ts'
import { until } from '../harness/until.ts'
import { cgroupProcesses, removeCgroup } from './cgroups.ts'
import { type Cluster, networkReady, twoRuntimes } from './cluster.ts'
import { expectMesh, expectOnly, tellRuntimesOnFailure } from './expect.ts'
import { kill, netnsProcesses, removeShimSockets, unmountBelow } from './leftovers.ts'
import { type RuntimePod, removePod, runPod } from './pods.ts'
import { missing } from './requirements.ts'
import type { Runtime } from './runtime.ts'

/** Ends what the node runs and takes from it what no boot leaves. */
async function powerOff(runtime: Runtime): Promise<void> {
  const { node, cgroup, folder } = runtime
  await Promise.all([node.stop('SIGKILL'), runtime.stop('SIGKILL')])
  await until('no process of the node is left', async () => {
    // The shims, then the containers.
    const left = [...(await netnsProcesses(nameOf(node.netns))), ...cgroupProcesses(cgroup)]
    kill(left)
    return left.length === 0
  })
  await unmountBelow(folder)
  // What lies in /run on a real node.
  removeShimSockets(folder)
  rmSync(join(folder, 'state'), { recursive: true })
  rmSync(dirname(node.socket), { recursive: true })
  removeCgroup(cgroup)
  await ip(node.netns, 'link', 'delete', 'hawser0')
  const state = new DatabaseSync(node.state)
  state.exec("UPDATE facts SET value = 'an earlier one' WHERE name = 'boot'")
  state.close()
}

describe.skipIf(missing() !== undefined)('reboot', () => {
  let cluster: Cluster | undefined
  let far: RuntimePod
  beforeAll(async () => {
    cluster = await twoRuntimes('boot')
    await networkReady(cluster.a)
    await networkReady(cluster.b)
    far = await runPod(cluster.b, 'far', 'tun')
  })
  afterAll(() => cluster?.close())
  tellRuntimesOnFailure(() => [cluster?.a, cluster?.b])

  test('old pods are forgotten, new ones work, and nothing of either is left', async () => {
    const { a, b } = cluster!
    const old = [await runPod(a, 'old-tun', 'tun'), await runPod(a, 'old-xdp', 'xdp')]
    await powerOff(a)
    await a.node.start()
    await a.start()
    await a.node.acquainted()
    const { attachments } = await a.node.logged('attachments of an earlier boot are forgotten')
    expect(attachments).toBe(old.length)
    await expectOnly(a, [])
    await until('the runtime is ready', async () => (await a.cri.conditions())['NetworkReady'])
    const fresh = [await runPod(a, 'new-tun', 'tun'), await runPod(a, 'new-xdp', 'xdp')]
    await expectMesh([...fresh, far])

    const known = await a.cri.sandboxes()
    for (const { sandboxId } of old) {
      expect(known.find(({ id }) => id === sandboxId)?.state).toBe('SANDBOX_NOTREADY')
    }
    // The kubelet removes what it no longer wants; the DELs come without a namespace.
    for (const pod of old) await removePod(pod)
    await expectOnly(a, fresh)
    await expectMesh([...fresh, far])
    for (const pod of [...fresh, far]) await removePod(pod)
    for (const runtime of [a, b]) await expectOnly(runtime, [])
  })
})
