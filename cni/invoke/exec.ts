/**
 * Plugins of others, for addresses (IPAM) or for further interfaces, called as the specification (1.1.0, "Delegated Plugin Execution") has it: the
 * executable of that name in CNI_PATH, the variables of our own request, the whole configuration on
 * stdin, one JSON document back on stdout. What it says on stderr goes to the log, and to the runtime
 * (plugin-stderr.ts).
 *
 * The plugin runs as root, so it must be root's: a regular file that nobody else may write. It is
 * started without a shell, in a process group of its own, which is ended as a whole after DELEGATE_MS,
 * when it prints more than MAX_ANSWER_BYTES, or when its caller gives up.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { realpathSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { clean } from '../base/document.ts'
import type { Logger } from '../base/logger.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateProblem } from '../spec/names.ts'
import type { CniRequest } from '../spec/request.ts'
import { pluginSays } from './stderr.ts'

/** Milliseconds that one call may take; an ADD and the DEL that undoes it fit into a turn (turns.ts). */
export const DELEGATE_MS = 20_000
export const MAX_ANSWER_BYTES = 1024 * 1024
/** What is kept of stderr, and how many of its lines are logged. */
const MAX_STDERR_BYTES = 64 * 1024
const MAX_STDERR_LINES = 100
/** Folders of CNI_PATH that are looked at. */
const MAX_FOLDERS = 64
const DEFAULT_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** What it is called for, as messages name it. */
export type Role = 'IPAM plugin' | 'plugin'

/** A call of a plugin: its name, and the request that it gets to see. */
export interface DelegateCall extends CniRequest {
  type: string
  /** `IPAM plugin` when absent. */
  role?: Role
}

export interface Limits {
  ms?: number
  answerBytes?: number
}

/**
 * The executable `name` in the folders of `cniPath`; undefined when none has it. Throws CniError
 * (code 4) with the file and the remedy when the first one that is there must not be run.
 */
export function findDelegate(
  name: string,
  cniPath: string,
  role: Role = 'IPAM plugin',
): string | undefined {
  const problem = delegateProblem(name)
  if (problem !== undefined) throw new CniError(CODE.config, `${role} ${clean(name)}: ${problem}`)
  for (const folder of cniPath.split(':', MAX_FOLDERS)) {
    if (!isAbsolute(folder)) continue
    const path = join(folder, name)
    const found = target(path, role)
    if (found === undefined) continue
    const { isFile, mode, uid } = found
    const refuse = (cause: string, help: string): CniError =>
      new CniError(CODE.environment, `${role} ${path}: ${cause}`, help)
    if (!isFile) throw refuse('not a regular file', 'remove it')
    if (uid !== 0) throw refuse(`it belongs to user ${uid}`, 'chown root it')
    if ((mode & 0o022) !== 0) throw refuse('others may write it', 'chmod 0755 it')
    if ((mode & 0o111) === 0) throw refuse('not executable', 'chmod 0755 it')
    return found.path
  }
  return undefined
}

function target(path: string, role: Role) {
  try {
    const real = realpathSync(path)
    const stat = statSync(real)
    return { path: real, isFile: stat.isFile(), mode: stat.mode, uid: stat.uid }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new CniError(CODE.environment, `${role} ${path}: ${message}`)
  }
}

/**
 * Calls the plugin that `call` names and gives the document that it answers, undefined when it
 * answers nothing. Throws CniError: its own error document with code, message and details; code 4
 * when it isn't there; 5 when it can't be run or ends badly; 6 when its answer isn't JSON or too long;
 * 11 when it takes too long. When `signal` is aborted, it ends and the signal's reason is thrown.
 */
export async function callDelegate(
  call: DelegateCall,
  log: Logger,
  signal?: AbortSignal,
  limits: Limits = {},
): Promise<unknown> {
  const { type, env, role = 'IPAM plugin' } = call
  const file = findDelegate(type, env.CNI_PATH, role)
  if (file === undefined) throw missing(call)
  const { failure, exit, stdout, stderr } = await run(file, call, signal, limits)
  const lines = stderr
    .split('\n')
    .filter(line => line.trim() !== '')
    .map(line => clean(line, 1000))
  for (const line of lines) pluginSays(line)
  for (const line of lines.slice(0, MAX_STDERR_LINES)) {
    const facts = { verb: env.CNI_COMMAND, line }
    if (role === 'plugin') log.info({ plugin: type, ...facts }, 'a plugin says')
    else log.info({ ipam: type, ...facts }, 'an IPAM plugin says')
  }
  if (failure !== undefined) throw failure
  const who = `${role} ${type}`
  const answer = parse(who, stdout, exit === 0)
  const refused = errorIn(who, answer)
  if (refused !== undefined) throw refused
  if (exit === 0) return answer
  const last = lines.at(-1)
  const said = last === undefined ? '' : `: ${clean(last, 200)}`
  throw new CniError(CODE.io, `${who}: it ended with ${exit}${said}`)
}

export function missing({ type, env, role = 'IPAM plugin' }: DelegateCall): CniError {
  const where = env.CNI_PATH === '' ? 'CNI_PATH is empty' : `not in ${clean(env.CNI_PATH, 200)}`
  return new CniError(CODE.environment, `${role} ${type}: ${where}`, 'install it there')
}

/** What stdout holds; when it isn't JSON, an error if `needed`. */
function parse(who: string, stdout: string, needed: boolean): unknown {
  if (stdout.trim() === '') return undefined
  try {
    return JSON.parse(stdout)
  } catch {
    if (!needed) return undefined
    const start = clean(stdout.slice(0, 60))
    throw new CniError(CODE.decode, `${who}: its answer is not JSON: ${start}`)
  }
}

/** The error that a document is (specification, "Error"), if it is one. */
function errorIn(who: string, answer: unknown): CniError | undefined {
  const { code, msg, details } = (answer ?? {}) as Record<string, unknown>
  if (typeof code !== 'number' || code === 0) return undefined
  // Code 3 would tell the runtime that no DEL is needed: it is, for us.
  const passed = Number.isInteger(code) && code > 0 && code !== CODE.unknownContainer
  const message = `${who}: ${clean(msg ?? 'no message', 1000)}`
  const more = typeof details === 'string' ? clean(details, 2000) : ''
  return new CniError(passed ? code : CODE.io, message, more)
}

interface Ended {
  /** Why it was ended. */
  failure?: unknown
  /** Exit code, or the signal that ended it. */
  exit: number | string
  stdout: string
  stderr: string
}

function run(
  file: string,
  { type, env, config, role = 'IPAM plugin' }: DelegateCall,
  signal: AbortSignal | undefined,
  { ms = DELEGATE_MS, answerBytes = MAX_ANSWER_BYTES }: Limits,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const child = start(file, env, role)
    const out: Buffer[] = []
    const err: Buffer[] = []
    let outBytes = 0
    let errBytes = 0
    let failure: unknown
    /** Ends the plugin and what it started; the first cause counts. */
    const end = (cause: unknown): void => {
      failure ??= cause
      endGroup(child.pid)
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()
    }
    const abort = (): void => end(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    const timer = setTimeout(
      () => end(new CniError(CODE.tryAgain, `${role} ${type}: no answer within ${ms} ms`)),
      ms,
    )
    const settle = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    child.on('error', error => {
      settle()
      reject(new CniError(CODE.io, `${role} ${file}: ${error.message}`))
    })
    child.on('close', (code, by) => {
      settle()
      const [stdout, stderr] = [out, err].map(chunks => Buffer.concat(chunks).toString())
      const ended = { exit: code ?? by ?? 1, stdout: stdout ?? '', stderr: stderr ?? '' }
      resolve(failure === undefined ? ended : { ...ended, failure })
    })
    child.stdout.on('data', (chunk: Buffer) => {
      outBytes += chunk.length
      if (outBytes <= answerBytes) return void out.push(chunk)
      const cause = `it answers more than ${answerBytes} bytes`
      end(new CniError(CODE.decode, `${role} ${type}: ${cause}`))
    })
    child.stderr.on('data', (chunk: Buffer) => {
      if (errBytes < MAX_STDERR_BYTES) err.push(chunk.subarray(0, MAX_STDERR_BYTES - errBytes))
      errBytes += chunk.length
    })
    // A plugin may end without reading all, or anything.
    child.stdin.on('error', () => {})
    child.stdin.end(config)
  })
}

function start(file: string, env: CniRequest['env'], role: Role): ChildProcessWithoutNullStreams {
  try {
    return spawn(file, [], {
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? DEFAULT_PATH, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    })
  } catch (error) {
    // Not a program of this machine, or a script that doesn't say what runs it.
    throw new CniError(CODE.io, `${role} ${file}: ${(error as Error).message}`)
  }
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
