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
 *     {"podman": true}          when a process had to be ended: network namespaces of a podman that
 *                              came meanwhile and are empty
 *
 * It ends processes by id, unmounts, removes, and prints a JSON list: the command lines of what it
 * had to end. What a runtime of ours leaves outside its folder is found through it: shims' sockets and
 * libcni's results.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { run } from '../harness/processes.ts'
import { cgroupProcesses, removeCgroup } from './cgroups.ts'
import type { Care } from './custody.ts'
import {
  kill,
  netnsProcesses,
  podmanNamespaces,
  removeResults,
  removeShimSockets,
  unmountBelow,
} from './leftovers.ts'

/** How often it looks whether all has gone, and milliseconds in between. */
const ROUNDS = 200
const ROUND_MS = 25

const prefixes: string[] = []
const cgroups: string[] = []
const places: string[] = []
let podmans: string[] | undefined

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

/** Namespaces that came since a podman of ours was announced, with no process in them. */
async function removePodmanNamespaces(known: readonly string[]): Promise<void> {
  for (const name of podmanNamespaces().filter(each => !known.includes(each))) {
    if ((await netnsProcesses(name)).length > 0) continue
    removeResults(name)
    await run('ip', ['netns', 'delete', name])
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Care
  if (order.namespaces !== undefined) prefixes.push(order.namespaces)
  if (order.cgroup !== undefined) cgroups.push(order.cgroup)
  if (order.folder !== undefined) places.push(order.folder)
  if (order.podman === true) podmans ??= podmanNamespaces()
}
const ended = await endProcesses()
if (podmans !== undefined && ended.length > 0) await removePodmanNamespaces(podmans)
for (const place of places) {
  await unmountBelow(place)
  removeShimSockets(place)
  removeResults(`${place}/`)
  rmSync(place, { recursive: true, force: true })
}
for (let round = 0; round < ROUNDS && !cgroups.every(removeCgroup); round++) await pause(ROUND_MS)
for (const name of namespaces()) await run('ip', ['netns', 'delete', name])
process.stdout.write(`${JSON.stringify(ended)}\n`)
