/**
 * The daemon that a plugin needs, if it has one: started in the node's namespace and ended, killed
 * and frozen for the cases that want that; or a process that runs already and can only be frozen.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { clean } from '../base/document.ts'

/** Milliseconds until it must be ready, and until it must have ended by SIGTERM. */
const READY_MS = 60_000
const STOP_MS = 30_000
const LOOK_MS = 10
/** Characters of its output that are kept for the message when it doesn't get ready. */
const KEPT_OUTPUT = 4_000

export interface NodeDaemon {
  /** Whether it can be ended and started again. */
  readonly restartable: boolean
  readonly running: boolean
  /** Resolves when it is ready; rejects with the end of its output. */
  start(): Promise<void>
  /** Sends the signal; resolves when it has ended. By SIGKILL when that takes too long. */
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  freeze(): void
  thaw(): void
}

/** A daemon of the runner's own. `command` is split at spaces; no shell. Not started yet. */
export function ownDaemon(command: string, readySocket: string, netns: string): NodeDaemon {
  const words = command.split(/\s+/).filter(word => word !== '')
  if (words.length === 0) throw new Error('--daemon: the command is empty')
  let child: ChildProcess | undefined
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT)
  }
  const alive = (): boolean =>
    child !== undefined && child.exitCode === null && child.signalCode === null
  return {
    restartable: true,
    get running() {
      return alive()
    },
    async start() {
      output = ''
      child = spawn('nsenter', [`--net=${netns}`, '--', ...words], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      child.stdout!.on('data', keep)
      child.stderr!.on('data', keep)
      let broken: Error | undefined
      child.once('error', error => {
        broken = error
      })
      const end = performance.now() + READY_MS
      while (!(await answers(readySocket))) {
        if (broken !== undefined || !alive() || performance.now() > end) {
          throw new Error(`the daemon is not ready: ${broken?.message ?? lastWords(output)}`)
        }
        await pause(LOOK_MS)
      }
    },
    async stop(signal) {
      if (!alive()) return
      const ended = once(child!, 'exit')
      child!.kill(signal)
      const timer = setTimeout(() => child!.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(timer)
    },
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
  }
}

/** A daemon that somebody else started. */
export function foreignDaemon(pid: number): NodeDaemon {
  return {
    restartable: false,
    running: true,
    start: async () => {},
    stop: async () => {},
    freeze: () => void process.kill(pid, 'SIGSTOP'),
    thaw: () => void process.kill(pid, 'SIGCONT'),
  }
}

/** What a program said at last: a line that names an error, or else its last lines. */
function lastWords(output: string): string {
  const lines = output.trim().split('\n')
  return clean(lines.findLast(line => /error/i.test(line)) ?? lines.slice(-3).join(' '), 300)
}

/** Whether somebody accepts connections at a unix socket. */
async function answers(path: string): Promise<boolean> {
  const socket = createConnection(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
