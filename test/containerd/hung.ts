/** A daemon that hangs (SIGSTOP) while containerd makes one pod and stops another. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { until } from '../harness/until.ts'
import { networkReady, twoRuntimes } from './cluster.ts'
import { expectMesh, expectOnly, holdings, queuedDels } from './expect.ts'
import { removePod, runPod, runSandbox, stopPod } from './pods.ts'
import type { Runtime } from './runtime.ts'

/** Seconds after which the executable has given up an ADD: it takes 60 (native/plugin). */
const ADD_SECONDS = 70
/** Seconds within which a daemon looks into its queue: every two minutes. */
const QUEUE_SECONDS = 150

/** The process of the CNI executable that carries out `verb` for a runtime. */
function pluginProcess({ folder }: Runtime, verb: string): string | undefined {
  return readdirSync('/proc').find(pid => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const words = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
      return (
        words.includes(`CNI_COMMAND=${verb}`) &&
        words.some(word => word.startsWith('CNI_PATH=') && word.includes(`${folder}/`)) &&
        readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'hawser'
      )
    } catch {
      return false
    }
  })
}

/** RunPodSandbox fails before a kubelet gives it up, StopPodSandbox succeeds; SIGCONT makes all good. */
export async function hungBehindContainerd(): Promise<void> {
  const { a, b, close } = await twoRuntimes('hung')
  const { node } = a
  try {
    for (const runtime of [a, b]) await networkReady(runtime)
    const [stays, doomed] = [await runPod(a, 'stays', 'xdp'), await runPod(a, 'doomed', 'tun')]
    const far = await runPod(b, 'far', 'tun')
    process.kill(node.pid, 'SIGSTOP')
    try {
      const early = runSandbox(a, 'early', 'tun').then(
        () => 'it runs',
        (error: Error) => error.message,
      )
      const stopped = stopPod(doomed)
      const add = await until('the ADD waits', () => pluginProcess(a, 'ADD'))
      await stopped
      expect(existsSync(doomed.netns)).toBe(false)
      expect(queuedDels(node)).toHaveLength(1)
      await until('the ADD has given up', () => !existsSync(`/proc/${add}`), ADD_SECONDS)
      process.kill(node.pid, 'SIGCONT')
      // containerd undoes what it began, by a DEL that is answered.
      expect(await early).toMatch(/hawser.*did not answer in time.*try again/)
    } finally {
      process.kill(node.pid, 'SIGCONT')
    }
    await until(
      'the DEL is made up for',
      async () => {
        const { served, reserved } = await holdings(node)
        return served.length === 1 && reserved.length === 1 && queuedDels(node).length === 0
      },
      QUEUE_SECONDS,
    )
    await removePod(doomed)
    await expectOnly(a, [stays])
    const late = await runPod(a, 'late', 'tun')
    await expectMesh([stays, late, far])
    for (const pod of [stays, late, far]) await removePod(pod)
    for (const runtime of [a, b]) await expectOnly(runtime, [])
  } finally {
    await close()
  }
}
