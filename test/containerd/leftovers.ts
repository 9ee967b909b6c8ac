/** What a containerd or podman that was killed leaves outside its folder, and how it goes. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../harness/processes.ts'

/** What libcni keeps of each attachment. */
export const LIBCNI_RESULTS = '/var/lib/cni/results'

/** Processes in a named network namespace. */
export async function netnsProcesses(name: string): Promise<number[]> {
  const { stdout } = await run('ip', ['netns', 'pids', name])
  return stdout.split('\n').filter(Boolean).map(Number)
}

/** Removes the results of libcni that hold `text`. */
export function removeResults(text: string): void {
  for (const file of existsSync(LIBCNI_RESULTS) ? readdirSync(LIBCNI_RESULTS) : []) {
    const result = join(LIBCNI_RESULTS, file)
    if (existsSync(result) && readFileSync(result, 'utf8').includes(text)) rmSync(result)
  }
}

/** Sends SIGKILL to each. */
export function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
}

/** Unmounts all that is mounted below a folder, the last first. */
export async function unmountBelow(folder: string): Promise<void> {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${folder}/`))
  for (const point of points.reverse()) await run('umount', ['--lazy', point])
}

/** Names of the network namespaces that podmans have made: there is no telling whose. */
export function podmanNamespaces(): string[] {
  const there = existsSync('/run/netns') ? readdirSync('/run/netns') : []
  return there.filter(name => /^netns-[0-9a-f-]+$/.test(name))
}

/** Removes the sockets of shims (in /run/containerd) that the runtime with this folder started. */
export function removeShimSockets(folder: string): void {
  const tasks = join(folder, 'state/io.containerd.runtime.v2.task/k8s.io')
  for (const id of existsSync(tasks) ? readdirSync(tasks) : []) {
    const address = join(tasks, id, 'address')
    if (!existsSync(address)) continue
    rmSync(readFileSync(address, 'utf8').replace(/^unix:\/\//, ''), { force: true })
  }
}
