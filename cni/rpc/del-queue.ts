/**
 * DELs that came while no daemon ran. The executable leaves each as a file in a folder beside the
 * socket and tells the runtime that all is well; the daemon works them off.
 *
 *     NANOSECONDS(20 digits)-PID.del   one CNI message (protocol.ts); the name's order is the age
 *     .tmp-...                         still being written; left behind when the writer died
 *     ....broken                       not understood; kept for a person to look at, a few of them
 *
 * When to drain: before the socket opens, once more right after it (the executable asks the daemon
 * again after it wrote a file, so between the two nothing is missed), and now and then for those
 * that failed.
 */

import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { faultPoint } from '../base/fault-points.ts'
import type { Logger } from '../base/logger.ts'
import type { CniReply, CniRequest } from '../spec/request.ts'
import {
  collector,
  decodeCni,
  HEADER_BYTES,
  MAX_CNI_BYTES,
  ProtocolError,
  requestLimit,
  WORD,
} from './protocol.ts'

/** Files not understood that are kept. */
export const MAX_BROKEN = 16
/** Milliseconds after which a file still being written has no writer any more. */
export const ABANDONED_MS = 60_000

const QUEUED = /^(\d{20})-\d{1,10}\.del$/

/** The folder of the queue that belongs to the daemon at `socket`. */
export function queueFolder(socket: string): string {
  return join(dirname(socket), 'queue')
}

/** DELs that are worked on at once, and held in memory. */
const MAX_PARALLEL = 8

/**
 * Hands every queued DEL to `handle`, oldest first and some at once, and removes those that succeed; gives their
 * number. One that fails stays, and so does one of which `handle` answers nothing yet. None is begun once
 * `signal` is aborted. `queuedAt` is milliseconds since 1970: an attachment made later
 * than that is not what the DEL meant. Never throws for what lies in the folder.
 */
export async function drainQueue(
  socket: string,
  handle: (request: CniRequest, queuedAt: number) => Promise<CniReply | undefined>,
  log: Logger,
  signal?: AbortSignal,
): Promise<number> {
  const folder = queueFolder(socket)
  const left = queued(folder, log)
  let handled = 0
  const one = async (name: string): Promise<void> => {
    const file = join(folder, name)
    let request: CniRequest | undefined
    try {
      request = read(file)
    } catch (error) {
      if (error instanceof ProtocolError) setAside(folder, name, error, log)
      else log.error({ file, err: error }, 'a queued DEL can not be read; it stays queued')
    }
    if (request === undefined) return
    const queuedAt = Number(BigInt(name.slice(0, 20)) / 1_000_000n)
    const facts = { file, containerID: request.env.CNI_CONTAINERID, ifname: request.env.CNI_IFNAME }
    try {
      const reply = await handle(request, queuedAt)
      if (reply === undefined) return
      if (reply.exit !== 0) throw new Error(reply.stdout)
      faultPoint('queue.done')
      rmSync(file, { force: true })
      faultPoint('queue.removed')
      handled += 1
      log.info(facts, 'a queued DEL is done')
    } catch (error) {
      log.warn(
        { ...facts, cause: (error as Error).message },
        'a queued DEL failed; it stays queued',
      )
    }
  }
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      if (signal?.aborted) return
      await one(next)
    }
  }
  await Promise.all(Array.from({ length: MAX_PARALLEL }, work))
  return handled
}

/** Names of queued DELs, oldest first; empty when the folder is not there or not root's alone. */
function queued(folder: string, log: Logger): string[] {
  try {
    const stat = lstatSync(folder, { throwIfNoEntry: false })
    if (stat === undefined) return []
    if (!stat.isDirectory()) throw new Error('not a folder')
    if (stat.uid !== 0 || (stat.mode & 0o022) !== 0) throw new Error('others may write there')
    const names = readdirSync(folder)
    for (const name of names) if (name.startsWith('.tmp-')) removeAbandoned(join(folder, name))
    return names.filter(name => QUEUED.test(name)).sort()
  } catch (error) {
    log.error({ folder, cause: (error as Error).message }, 'the queue of DELs can not be read')
    return []
  }
}

function removeAbandoned(file: string): void {
  const stat = statSync(file, { throwIfNoEntry: false })
  if (stat !== undefined && Date.now() - stat.mtimeMs > ABANDONED_MS) rmSync(file, { force: true })
}

/** The request of a file; undefined when it is gone meanwhile. Throws when it is not a DEL. */
function read(file: string): CniRequest | undefined {
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'ELOOP') throw new ProtocolError('a symbolic link')
    throw error
  }
  try {
    if (!fstatSync(fd).isFile()) throw new ProtocolError('not a regular file')
    const bytes = Buffer.allocUnsafe(Math.min(fstatSync(fd).size, HEADER_BYTES + MAX_CNI_BYTES) + 1)
    let length = 0
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      got = readSync(fd, bytes, length, bytes.length - length, null)
    }
    const message = collector(requestLimit)(bytes.subarray(0, length))
    if (message === undefined) throw new ProtocolError('cut')
    if (message.word !== WORD.CNI) throw new ProtocolError('not a CNI request')
    const request = decodeCni(message.body)
    if (request.env.CNI_COMMAND !== 'DEL') throw new ProtocolError('not a DEL')
    return request
  } finally {
    closeSync(fd)
  }
}

function setAside(folder: string, name: string, error: Error, log: Logger): void {
  const file = join(folder, name)
  log.error({ file, cause: error.message }, 'a queued DEL is not understood; it is put aside')
  try {
    const kept = readdirSync(folder).filter(other => other.endsWith('.broken')).length
    if (kept < MAX_BROKEN) renameSync(file, `${file}.broken`)
    else rmSync(file, { force: true, recursive: true })
  } catch (failure) {
    log.error({ file, cause: (failure as Error).message }, 'it can not be put aside')
  }
}
