/** What a reader must know about the machine to read the figures. */
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release } from 'node:os'

export interface Machine {
  cpu: string
  cores: number
  kernel: string
  node: string
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    kernel: release(),
    node: process.versions.node,
  }
}

/** CPUs that this process may run on, by number (/proc/self/status, Cpus_allowed_list). */
export function allowedCpus(): number[] {
  const status = readFileSync('/proc/self/status', 'utf8')
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '0'
  return list.split(',').flatMap(range => {
    const [first, last] = range.split('-').map(Number)
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i)
  })
}
