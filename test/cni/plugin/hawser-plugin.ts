/** What the tests of the socket share: the real executable, peers that misbehave, a log to look at. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { createLogger, type Logger } from '../../../cni/base/logger.ts'

const built = (name: string): string =>
  fileURLToPath(new URL(`../../../build/Release/${name}`, import.meta.url))
export const EXECUTABLE = built('hawser')
/** The same in twenty times more of a hurry, for what waits until it gives up. */
export const HASTY = built('hawser-hasty')

/** What a runtime says of a pod. */
export const POD = {
  CNI_CONTAINERID: 'a9'.repeat(32),
  CNI_NETNS: '/var/run/netns/cni-1234',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=ü-1',
  CNI_PATH: '/opt/cni/bin',
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs the executable with exactly these variables. */
export async function plugin(
  env: Record<string, string>,
  stdin: string | Buffer,
  executable = EXECUTABLE,
): Promise<Ended> {
  return finished(spawn(executable, [], { env, stdio: ['pipe', 'pipe', 'pipe'] }), stdin)
}

/** Success, and nothing on stdout. */
export function silent(ended: Ended): void {
  expect(ended).toMatchObject({ code: 0, signal: null, stdout: '' })
}

/** Gives a child its stdin and waits for its end. */
export async function finished(child: ChildProcess, stdin: string | Buffer = ''): Promise<Ended> {
  let stdout = ''
  let stderr = ''
  child.stdout!.on('data', chunk => {
    stdout += String(chunk)
  })
  child.stderr!.on('data', chunk => {
    stderr += String(chunk)
  })
  child.stdin?.on('error', () => {})
  child.stdin?.end(stdin)
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code, signal, stdout, stderr }
}

/** A unix socket at `path` where `talk` has every connection. */
export async function listener(path: string, talk: (socket: Socket) => void): Promise<Server> {
  const server = createServer(socket => {
    socket.on('error', () => socket.destroy())
    talk(socket)
  })
  server.listen(path)
  await once(server, 'listening')
  return server
}

/** A logger whose records end up in `records`. */
export function recorder(): { log: Logger; records: Record<string, unknown>[] } {
  const records: Record<string, unknown>[] = []
  const write = (line: string): void => void records.push(JSON.parse(line))
  return { log: createLogger('debug', 'node-a', { write }), records }
}

/** A program of a user other than root that serves a socket: prints `ready`, then waits for stdin to end. */
export const OTHER_USERS_SERVER = `
  const server = require('node:net').createServer(socket => socket.on('error', () => {}))
  server.listen(process.argv[1], () => process.stdout.write('ready'))
  process.stdin.on('end', () => process.exit()).resume()`

export const NOBODY = 65_534
