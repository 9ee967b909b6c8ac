/**
 * The daemon's unix socket: who may speak to it, and one request and one reply a connection
 * (protocol.ts).
 *
 * Theory of operation. The socket is for root alone: by its folder (0700 when it is made here), by
 * its mode, and by SO_PEERCRED of everybody who connects all the same. At most MAX_SERVED
 * connections are read and answered at once; further ones wait unread, MAX_WAITING of them, so a
 * burst costs time and no failure. A request must be there within REQUEST_MS. Whatever the bytes
 * are, the worst that follows is a closed connection and a line in the log. `close` removes the
 * socket, lets those that wait go (the executable tries again, or queues its DEL), and gives
 * requests under way CLOSE_MS for their answers.
 */

import { once } from 'node:events'
import { chmodSync, lstatSync, rmSync, statSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { peerCredentials } from '../../dataplane/netns.ts'
import type { Logger } from '../base/logger.ts'
import { makeFolder } from '../fs/folder.ts'
import { errorReply } from '../spec/errors.ts'
import type { CniReply, CniRequest } from '../spec/request.ts'
import { descriptor } from './client.ts'
import {
  collector,
  decodeCni,
  decodeText,
  encodeCniReply,
  encodeMessage,
  MAX_CNI_REPLY_BYTES,
  MAX_QUERY_REPLY_BYTES,
  type Message,
  NEWEST,
  ProtocolError,
  requestLimit,
  WORD,
} from './protocol.ts'

/** Connections that are read and answered at once, and that wait for it. */
export const MAX_SERVED = 256
export const MAX_WAITING = 2048
/** Milliseconds within which a request must have come, and a reply must have been taken. */
export const REQUEST_MS = 10_000
export const REPLY_MS = 10_000
/** Milliseconds that `close` leaves to requests under way. */
export const CLOSE_MS = 5_000

export interface Handlers {
  /** Every verb but VERSION. What it throws becomes an error reply. */
  cni(request: CniRequest): Promise<CniReply>
  /** The answer to a question of the command line; what it throws is sent as text. */
  query(name: string): Promise<unknown>
}

/** Times and bounds, for tests; the constants above by default. */
export interface Limits {
  served?: number
  waiting?: number
  requestMs?: number
  replyMs?: number
  closeMs?: number
}

/** Serves the socket at `path` until `close`. Throws when the place is not safe or is taken. */
export async function serve(
  path: string,
  handlers: Handlers,
  log: Logger,
  limits: Limits = {},
): Promise<{ close(): Promise<void> }> {
  prepareFolder(dirname(path))
  await removeStale(path)
  const server = createServer({ pauseOnConnect: true })
  server.listen({ path, backlog: MAX_WAITING })
  await once(server, 'listening')
  chmodSync(path, 0o600)
  server.on('error', error => log.error({ socket: path, err: error }, 'the CNI socket failed'))
  return attendants(server, handlers, log, limits)
}

/** Hands connections to `attend`, in the order in which they came. */
function attendants(
  server: Server,
  handlers: Handlers,
  log: Logger,
  limits: Limits,
): { close(): Promise<void> } {
  const { served = MAX_SERVED, waiting = MAX_WAITING, closeMs = CLOSE_MS } = limits
  const queue = new Set<Socket>()
  const active = new Map<Socket, Promise<void>>()
  let closed: Promise<void> | undefined

  const next = (): void => {
    for (const socket of queue) {
      if (active.size >= served || closed) return
      queue.delete(socket)
      const done = attend(socket, handlers, log, limits).finally(() => {
        active.delete(socket)
        next()
      })
      active.set(socket, done)
    }
  }
  server.on('connection', socket => {
    socket.on('error', () => socket.destroy())
    if (closed || !isRoot(socket, log)) return void socket.destroy()
    if (queue.size >= waiting) {
      log.warn({ served: active.size, waiting: queue.size }, 'a connection was turned away')
      return void socket.destroy()
    }
    socket.on('close', () => queue.delete(socket))
    queue.add(socket)
    next()
  })

  const close = async (): Promise<void> => {
    // Closing also removes the socket file.
    const ended = new Promise<void>(resolve => server.close(() => resolve()))
    for (const socket of queue) socket.destroy()
    const timer = setTimeout(() => {
      log.warn({ requests: active.size }, 'closing the CNI socket with requests unanswered')
      for (const socket of active.keys()) socket.destroy()
    }, closeMs)
    await ended
    clearTimeout(timer)
  }
  return {
    close: () => {
      closed ??= close()
      return closed
    },
  }
}

/** One connection, from its request to its end. Never rejects. */
async function attend(
  socket: Socket,
  handlers: Handlers,
  log: Logger,
  limits: Limits,
): Promise<void> {
  try {
    const message = await receive(socket, limits.requestMs ?? REQUEST_MS)
    if (message === undefined) return
    const { word, body } = await answer(message, handlers, log)
    await send(socket, encodeMessage(word, body, message.version), limits.replyMs ?? REPLY_MS)
  } catch (error) {
    log.warn({ cause: (error as Error).message }, 'a request on the CNI socket was refused')
    if (error instanceof ProtocolError && error.otherVersion) {
      const ours = encodeMessage(WORD.ERROR, Buffer.alloc(0), NEWEST)
      await send(socket, ours, limits.replyMs ?? REPLY_MS)
    }
  } finally {
    socket.destroy()
  }
}

/** The request, or undefined when the other side goes away before it sent anything. */
function receive(socket: Socket, timeoutMs: number): Promise<Message | undefined> {
  return new Promise((resolve, reject) => {
    const collect = collector(requestLimit)
    let any = false
    const timer = setTimeout(
      () => reject(new ProtocolError(`no request within ${timeoutMs} ms`)),
      timeoutMs,
    )
    socket.on('close', () => {
      clearTimeout(timer)
      if (any) reject(new ProtocolError('the connection ended within a request'))
      else resolve(undefined)
    })
    socket.on('data', chunk => {
      any = true
      try {
        const message = collect(chunk as Buffer)
        if (message === undefined) return
        clearTimeout(timer)
        resolve(message)
      } catch (error) {
        clearTimeout(timer)
        reject(error)
      }
    })
    socket.resume()
  })
}

async function answer(
  message: Message,
  handlers: Handlers,
  log: Logger,
): Promise<{ word: number; body: Buffer }> {
  if (message.word === WORD.QUERY) {
    try {
      const text = JSON.stringify(await handlers.query(decodeText('query', message.body))) ?? 'null'
      if (Buffer.byteLength(text) > MAX_QUERY_REPLY_BYTES) throw new Error('the answer is too long')
      return { word: WORD.SUCCESS, body: Buffer.from(text) }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      return { word: WORD.ERROR, body: Buffer.from(text) }
    }
  }
  const request = decodeCni(message.body)
  let reply: CniReply
  try {
    reply = await handlers.cni(request)
    const bytes = Buffer.byteLength(reply.stdout)
    if (bytes > MAX_CNI_REPLY_BYTES) throw new Error(`an answer of ${bytes} bytes can not be sent`)
  } catch (error) {
    log.error({ command: request.env.CNI_COMMAND, err: error }, 'a CNI request failed')
    reply = errorReply(versionOf(request.config), error)
  }
  const word = reply.exit === 0 ? WORD.SUCCESS : WORD.ERROR
  return { word, body: encodeCniReply(reply, message.version) }
}

function versionOf(config: string): string | undefined {
  try {
    return (JSON.parse(config) as { cniVersion?: string } | null)?.cniVersion
  } catch {
    return undefined
  }
}

/** Sends the reply and waits until it is taken, the time is over or the other side is gone. */
function send(socket: Socket, bytes: Buffer, timeoutMs: number): Promise<void> {
  return new Promise(resolve => {
    if (socket.destroyed) return resolve()
    const timer = setTimeout(() => socket.destroy(), timeoutMs)
    socket.on('close', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.end(bytes)
  })
}

function isRoot(socket: Socket, log: Logger): boolean {
  try {
    const { pid, uid } = peerCredentials(descriptor(socket))
    if (uid !== 0) log.warn({ uid, pid }, 'a user other than root was refused on the CNI socket')
    return uid === 0
  } catch {
    return false
  }
}

function prepareFolder(folder: string): void {
  makeFolder(folder, 0o700)
  const { uid, mode } = statSync(folder)
  if (uid !== 0) throw new Error(`${folder}: it belongs to user ${uid}: give it to root`)
  if ((mode & 0o022) !== 0) throw new Error(`${folder}: others may write there: chmod 0700 it`)
}

/** Removes what an earlier daemon left at `path`; throws when it is something else, or in use. */
async function removeStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket()) throw new Error(`${path}: it is there and not a socket: remove it`)
  if (stat.uid !== 0) throw new Error(`${path}: it belongs to user ${stat.uid}: remove it`)
  const taken = await new Promise<boolean>(resolve => {
    const probe = createConnection({ path })
    probe.on('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.on('error', error => resolve((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED'))
  })
  if (taken) throw new Error(`${path}: another process serves it: stop that one first`)
  rmSync(path, { force: true })
}
