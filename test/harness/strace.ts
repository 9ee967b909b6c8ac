/** System calls of a process and its threads and children, as strace(1) sees them, in order. */
import { readFileSync } from 'node:fs'
import { run } from './processes.ts'
import { impossible, lacking } from './skip.ts'

/** One call. It has begun, and ended, at that line of the trace. */
export interface SystemCall {
  pid: number
  name: string
  /** Arguments as strace prints them, descriptors with their paths: `21</var/lib/hawser/state.db>`. */
  args: string
  /** What it returned, as text; empty when it never did. */
  result: string
  begun: number
  ended: number
}

const WRITES: readonly string[] = ['write', 'pwrite64', 'writev', 'ftruncate']
const SYNCS: readonly string[] = ['fsync', 'fdatasync']

/** Why nothing can be traced here; undefined when it can. Prints it: a skipped test says why. */
export async function noStrace(): Promise<string | undefined> {
  const tried = await run('strace', ['-o', '/dev/null', 'true']).catch((error: Error) => error)
  if (tried instanceof Error) return lacking(`strace (Debian package strace): ${tried.message}`)
  if (tried.code !== 0) return impossible(`strace does not work here: ${tried.stderr.trim()}`)
  return undefined
}

/**
 * Arguments of strace, to be followed by a program and its arguments: these `calls` go to `file`. The
 * program is the process that was started, strace a grandchild of it that ends with it.
 */
export function straceTo(file: string, calls: readonly string[]): string[] {
  return [
    '-D',
    '-f',
    '--seccomp-bpf',
    '-y',
    '-s',
    '64',
    '-e',
    `trace=${calls.join(',')}`,
    '-o',
    file,
  ]
}

export function readTrace(file: string): SystemCall[] {
  const calls: SystemCall[] = []
  const open = new Map<number, SystemCall>()
  for (const [at, line] of readFileSync(file, 'latin1').split('\n').entries()) {
    const [, pid, rest] = /^(\d+)\s+(.*)$/.exec(line) ?? []
    if (pid === undefined || rest === undefined) continue
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)
    const call = resumed ? open.get(Number(pid)) : begin(Number(pid), rest, at)
    if (call === undefined) continue
    if (!resumed) calls.push(call)
    if (rest.endsWith('<unfinished ...>')) {
      open.set(call.pid, call)
      continue
    }
    open.delete(call.pid)
    call.ended = at
    call.result = /\)?\s+= (.*)$/.exec(resumed ? resumed[1]! : rest)?.[1] ?? ''
  }
  return calls
}

function begin(pid: number, text: string, at: number): SystemCall | undefined {
  const [, name, args] = /^(\w+)\((.*)$/.exec(text) ?? []
  if (name === undefined || args === undefined) return undefined
  return { pid, name, args, result: '', begun: at, ended: Number.POSITIVE_INFINITY }
}

/** Whether the first argument is a descriptor of `path`. */
export function isOn(call: SystemCall, path: string): boolean {
  return /^\d+<([^>]*)>/.exec(call.args)?.[1] === path
}

export function isWrite(call: SystemCall, path: string): boolean {
  return WRITES.includes(call.name) && isOn(call, path)
}

/**
 * Whether all that was written to the file, or all names that were made in the folder by the call
 * `made`, is on the disk before `before` begins: a sync that succeeded lies between.
 */
export function isDurable(
  calls: readonly SystemCall[],
  path: string,
  before: SystemCall,
  made?: SystemCall,
): boolean {
  const written = made ?? calls.findLast(each => isWrite(each, path) && each.begun < before.begun)
  if (written === undefined) return false
  return calls.some(
    each =>
      SYNCS.includes(each.name) &&
      isOn(each, path) &&
      each.result === '0' &&
      each.begun > written.ended &&
      each.ended < before.begun,
  )
}
