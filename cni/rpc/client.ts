/** What the command line asks a running daemon (protocol.ts). */
import { createConnection, type Socket } from 'node:net'
import { peerCredentials } from '../../dataplane/netns.ts'
import { collector, decodeText, encodeMessage, queryReplyLimit, WORD } from './protocol.ts'

/** Milliseconds that an answer may take. */
export const QUERY_MS = 30_000
/** Milliseconds that swapping an algorithm may take; the daemon gives up before (fib/vet.ts). */
export const SWAP_MS = 180_000
/** Milliseconds that mending addresses may take: their attachments' turns, and IPAM plugins. */
export const REPAIR_MS = 180_000

/**
 * Asks the daemon at `socket` for `name` and gives its answer, parsed. Throws with the socket, the
 * cause and a remedy when there is no answer, and with the daemon's own words when it refuses.
 */
export async function query(socket: string, name: string, timeoutMs = QUERY_MS): Promise<unknown> {
  const { word, text } = await ask(socket, name, timeoutMs).catch((error: unknown) => {
    throw new Error(`${socket}: ${explain(error)}`, { cause: error })
  })
  if (word !== WORD.SUCCESS) throw new Error(text)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`${socket}: the daemon's answer is not JSON (${(error as Error).message})`)
  }
}

function ask(
  path: string,
  name: string,
  timeoutMs: number,
): Promise<{ word: number; text: string }> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path })
    const collect = collector(queryReplyLimit)
    const fail = (error: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    const timer = setTimeout(
      () => fail(new Error(`no answer within ${timeoutMs} ms (is the daemon overloaded?)`)),
      timeoutMs,
    )
    socket.on('error', fail)
    socket.on('close', () => fail(new Error('the daemon hung up (is it stopping? try again)')))
    socket.on('connect', () => {
      try {
        const { uid } = peerCredentials(descriptor(socket))
        if (uid !== 0) throw new Error(`it is served by user ${uid}, not by root`)
        socket.write(encodeMessage(WORD.QUERY, Buffer.from(name)))
      } catch (error) {
        fail(error as Error)
      }
    })
    socket.on('data', chunk => {
      try {
        const message = collect(chunk as Buffer)
        if (message === undefined) return
        const text = decodeText('the answer', message.body)
        clearTimeout(timer)
        resolve({ word: message.word, text })
        socket.destroy()
      } catch (error) {
        fail(error as Error)
      }
    })
  })
}

/** The descriptor of a connected unix socket, which Node keeps to itself. */
export function descriptor(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
  if (fd === undefined || fd < 0) throw new Error('the connection is closed')
  return fd
}

const CAUSES: Readonly<Record<string, string>> = {
  ENOENT: 'no such socket (is the daemon running?)',
  ECONNREFUSED: 'nobody answers (is the daemon running?)',
  EACCES: 'permission denied (run as root)',
  EPERM: 'permission denied (run as root)',
  ENOTSOCK: 'not a socket',
}

function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return (code === undefined ? undefined : CAUSES[code]) ?? message
}
