/**
 * Programs that the runner starts: no shell, in a network namespace, with exactly the variables
 * given, what they print kept up to a bound, ended by their own id.
 */
import { type ChildProcess, spawn } from 'node:child_process'

/** Bytes of each of stdout and stderr that are kept; a plugin's answer is far smaller. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024
/** Milliseconds after its end in which a program's pipes must be closed: libcni waits for that. */
const PIPES_MS = 3_000

export interface StartOptions {
  /** Path of the network namespace; the runner's own when absent. */
  netns?: string
  /** All variables. */
  env?: Readonly<Record<string, string>>
  /** What stdin gives; `null` is /dev/null. Default: nothing, and the end. */
  stdin?: string | Buffer | null
  /** Nobody reads stderr: what is written there fails with EPIPE. */
  stderrUnread?: boolean
  /** Milliseconds until it is killed. */
  timeoutMs: number
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** Milliseconds that it ran. */
  ms: number
  /** It was killed, since it took longer than `timeoutMs`. */
  late: boolean
  /** It ended, and something that it started held its pipes open. */
  lingering: boolean
}

export interface Started {
  child: ChildProcess
  /** Rejects only when the program can't be started. */
  ended: Promise<Ended>
}

/** Starts `file`. nsenter enters the namespace and becomes the program: same id, same signals. */
export function start(file: string, args: readonly string[], options: StartOptions): Started {
  const { netns, env, stdin = '', stderrUnread = false, timeoutMs } = options
  const [program, words] =
    netns === undefined ? [file, args] : ['nsenter', [`--net=${netns}`, '--', file, ...args]]
  const began = performance.now()
  const child = spawn(program, words, {
    stdio: [stdin === null ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(env === undefined ? {} : { env }),
  })
  const stdout = collect(child.stdout)
  const stderr = stderrUnread ? () => '' : collect(child.stderr)
  if (stderrUnread) child.stderr?.destroy()
  child.stdin?.on('error', () => {})
  if (stdin !== null) child.stdin?.end(stdin)
  const ended = new Promise<Ended>((resolve, reject) => {
    let late = false
    let lingering = false
    let ms = 0
    let pipes: NodeJS.Timeout | undefined
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, timeoutMs)
    child.once('error', reject)
    child.once('exit', () => {
      ms = performance.now() - began
      clearTimeout(timer)
      pipes = setTimeout(() => {
        lingering = true
        child.stdout?.destroy()
        child.stderr?.destroy()
      }, PIPES_MS)
    })
    child.once('close', (code, signal) => {
      clearTimeout(pipes)
      resolve({ code, signal, stdout: stdout(), stderr: stderr(), ms, late, lingering })
    })
  })
  return { child, ended }
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  const parts: Buffer[] = []
  let length = 0
  stream?.on('data', (part: Buffer) => {
    if (length < MAX_OUTPUT_BYTES) parts.push(part)
    length += part.length
  })
  return () => Buffer.concat(parts).toString()
}

/** Runs a tool to its end and gives its stdout; throws with what it said when it fails. */
export async function tool(file: string, args: readonly string[], netns?: string): Promise<string> {
  const { code, stdout, stderr } = await start(file, args, {
    timeoutMs: TOOL_MS,
    env: TOOL_ENV,
    ...(netns === undefined ? {} : { netns }),
  }).ended
  if (code === 0) return stdout
  throw new Error(`${file} ${args.join(' ')} ended with ${code}: ${stderr.trim()}`)
}

const TOOL_MS = 30_000
export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const TOOL_ENV = { PATH: SYSTEM_PATH }
