/** Child processes of tests: no shell, ended by id, and their output kept. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface Finished {
  code: number | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  /** Path of the network namespace to run in. */
  netns?: string
  env?: Record<string, string>
  input?: string
  cwd?: string
}

function command(
  file: string,
  args: readonly string[],
  netns: string | undefined,
): [string, string[]] {
  if (netns === undefined) return [file, [...args]]
  // `ip netns exec` would remount /sys; nsenter enters the network namespace and nothing else.
  return ['nsenter', [`--net=${netns}`, '--', file, ...args]]
}

/** Runs to the end; never throws for an exit code. */
export async function run(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const [program, words] = command(file, args, options.netns)
  const child = spawn(program, words, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', chunk => {
    stdout += String(chunk)
  })
  child.stderr.on('data', chunk => {
    stderr += String(chunk)
  })
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}

/** Runs and gives stdout; throws with stderr when it fails. */
export async function must(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await run(file, args, options)
  if (code !== 0) {
    throw new Error(
      `${file} ${args.join(' ')} ended with ${code}: ${stderr.trim() || stdout.trim()}`,
    )
  }
  return stdout
}

/** A process that goes on: its lines can be awaited, and it is ended by `stop`. */
export class Running {
  readonly child: ChildProcess
  readonly lines: string[] = []
  readonly ended: Promise<number | null>
  stderr = ''
  private readonly waiting: { match: (line: string) => boolean; found: (line: string) => void }[] =
    []

  constructor(file: string, args: readonly string[], options: RunOptions = {}) {
    const [program, words] = command(file, args, options.netns)
    this.child = spawn(program, words, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    this.child.stdin!.on('error', () => {})
    this.ended = once(this.child, 'close').then(([code]) => code as number | null)
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      createInterface({ input: stream }).on('line', line => this.line(line))
    }
    this.child.stderr!.on('data', chunk => {
      this.stderr = (this.stderr + String(chunk)).slice(-20_000)
    })
  }

  private line(line: string): void {
    this.lines.push(line)
    for (const [k, { match, found }] of this.waiting.entries()) {
      if (match(line)) {
        this.waiting.splice(k, 1)
        found(line)
        return
      }
    }
  }

  /** The first line, of those that came or will come, that `match` accepts. Throws when the process ends before. */
  async until(match: (line: string) => boolean): Promise<string> {
    const there = this.lines.find(match)
    if (there !== undefined) return there
    return Promise.race([
      new Promise<string>(found => this.waiting.push({ match, found })),
      this.ended.then(code => {
        const late = this.lines.find(match)
        if (late !== undefined) return late
        throw new Error(`it ended with ${code}: ${this.stderr.trim() || this.lines.join('\n')}`)
      }),
    ])
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
    return this.ended
  }
}
