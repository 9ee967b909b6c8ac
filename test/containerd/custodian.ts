/**
 * A process of its own that cleans up after a test with a container runtime: when its standard input
 * ends, whether the test closed it, failed, was interrupted (it is in another session, a terminal's
 * Ctrl-C does not reach it) or was killed. Until then each line of its input names something to look
 * after:
 *
 *     {"namespaces": PREFIX}    network namespaces whose name begins so, and every process in them
 *     {"cgroup": PATH}          a cgroup in all hierarchies, and every process in it
 *     {"folder": PATH}          a folder, every mount below it, every process that names it in its
 *                              command line or is in a network namespace that is mounted there
 *
 * It ends processes by id, unmounts, removes, and prints a JSON list: the command lines of what it
 * had to end. What a runtime of ours leaves outside its folder is found through it: shims' sockets and
 * libcni's results.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { run } from '../harness/processes.ts'
import { cgroupProcesses, removeCgroup } from './cgroups.ts'
import { kill, netnsProcesses, removeShimSockets, unmountBelow } from './leftovers.ts'

/** How often it looks whether all has gone, and milliseconds in between. */
const ROUNDS = 200
const ROUND_MS = 25
const LIBCNI_RESULTS = '/var/lib/cni/results'

const prefixes: string[] = []
const cgroups: string[] = []
const places: string[] = []

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

function commandLine(pid: string | number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}

function namespaces(): string[] {
  return list('/run/netns').filter(name => prefixes.some(prefix => name.startsWith(prefix)))
}

/** Network namespaces that are mounted below the folders, as /proc names them: net:[INODE]. */
function podNamespaces(): Set<string> {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  const ours = lines
    .map(line => line.split(' '))
    .filter(([, , , , point = '']) => places.some(place => point.startsWith(`${place}/`)))
    .map(([, , , root = '']) => root)
  return new Set(ours.filter(root => root.startsWith('net:')))
}

function networkOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`)
  } catch {
    return ''
  }
}

async function processes(): Promise<number[]> {
  const found = cgroups.flatMap(cgroupProcesses)
  for (const name of namespaces()) found.push(...(await netnsProcesses(name)))
  const pods = podNamespaces()
  for (const pid of list('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = commandLine(pid)
    const inPod = pods.has(networkOf(pid))
    if (inPod || places.some(place => command.includes(place))) found.push(Number(pid))
  }
  return [...new Set(found)].filter(pid => pid !== process.pid)
}

async function endProcesses(): Promise<string[]> {
  const ended = new Map<number, string>()
  for (let round = 0; round < ROUNDS; round++) {
    const there = await processes()
    if (there.length === 0) break
    for (const pid of there) if (!ended.has(pid)) ended.set(pid, commandLine(pid))
    kill(there)
    await pause(ROUND_MS)
  }
  return [...ended.values()]
}

/** Results that libcni keeps for pods of a runtime in `place`: they hold the path of the pod's namespace. */
function removeResults(place: string): void {
  for (const file of list(LIBCNI_RESULTS)) {
    const result = join(LIBCNI_RESULTS, file)
    if (existsSync(result) && readFileSync(result, 'utf8').includes(`${place}/`)) rmSync(result)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as { namespaces?: string; cgroup?: string; folder?: string }
  if (order.namespaces !== undefined) prefixes.push(order.namespaces)
  if (order.cgroup !== undefined) cgroups.push(order.cgroup)
  if (order.folder !== undefined) places.push(order.folder)
}
const ended = await endProcesses()
for (const place of places) {
  await unmountBelow(place)
  removeShimSockets(place)
  removeResults(place)
  rmSync(place, { recursive: true, force: true })
}
for (let round = 0; round < ROUNDS && !cgroups.every(removeCgroup); round++) await pause(ROUND_MS)
for (const name of namespaces()) await run('ip', ['netns', 'delete', name])
process.stdout.write(`${JSON.stringify(ended)}\n`)
