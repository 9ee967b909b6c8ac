/** What a large cluster costs a daemon: its start, its memory, and its time once it is ready. */
import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { significant } from '../harness/statistics.ts'
import { type Figure, progress } from '../harness/suite.ts'
import { startDaemon } from './plugins.ts'

const NODES = 5000
/** Seconds that are watched, behind those that it takes to settle. */
const SETTLE = 5
const WATCHED = 20
/** Clock ticks a second of proc(5): USER_HZ. */
const USER_HZ = 100

export type ClusterFigures = Record<string, Figure>

export async function clusterFigures(quick: boolean): Promise<ClusterFigures> {
  progress(`cni a cluster of ${NODES} nodes`)
  const began = performance.now()
  const { program, node } = await startDaemon(NODES - 1)
  try {
    const seconds = (performance.now() - began) / 1000
    await pause(quick ? 0 : SETTLE * 1000)
    const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(proc(program.pid, 'status'))![1])
    const before = ticks(program.pid)
    const watched = quick ? 1 : WATCHED
    await pause(watched * 1000)
    const used = (ticks(program.pid) - before) / USER_HZ
    return {
      cluster_5000_start: { value: significant(seconds), unit: 's' },
      cluster_5000_memory: { value: significant((kib * 1024) / 1e6), unit: 'MB' },
      cluster_5000_cpu: { value: significant((used / watched) * 100), unit: '%' },
    }
  } finally {
    await program.stop()
    node.remove()
  }
}

function proc(pid: number, file: string): string {
  return readFileSync(`/proc/${pid}/${file}`, 'utf8')
}

/** utime and stime of proc(5), behind the name in brackets. */
function ticks(pid: number): number {
  const fields = proc(pid, 'stat').split(') ')[1]!.split(' ')
  return Number(fields[11]) + Number(fields[12])
}
