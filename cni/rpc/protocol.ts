/**
 * What the CNI executable (native/plugin/) and the command line say to the daemon over its unix
 * socket, byte by byte. One connection carries one request and one reply. Numbers are unsigned, 32
 * bits, most significant byte first; text is UTF-8 without a terminator.
 *
 *     message   0  magic    68 77 73 ("hws") and the version, 01 or 02
 *               4  word     request: 1 = CNI, 2 = query; reply: 0 = success, 1 = error
 *               8  length   bytes of the body
 *              12  body
 *
 *     CNI       seven texts, each a length and its bytes, that fill the body exactly: CNI_COMMAND,
 *               CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH (empty when not set),
 *               and the configuration as the runtime sent it
 *     reply     version 2: a text for stderr, its length and its bytes, in front of what follows
 *               what goes to stdout: one JSON document, or nothing
 *
 *     query     the name of the question; `swap fib`, a space, and a name or an absolute path
 *     reply     the answer as JSON; or the error's text
 *
 * A request is answered in its own version. Who is sent another one answers with an error of the newest
 * that it speaks, without a body; the executable then asks again in that version, so executable and
 * daemon may be upgraded in either order. What version 2 changes nothing about stays in version 1, for the
 * same reason: queries, and a queued DEL (del-queue.ts), which is a file with exactly one CNI message.
 * native/plugin/protocol.h is the twin of this file; a change of one byte is a new version.
 */
import {
  type CniReply,
  type CniRequest,
  MAX_STDERR_BYTES,
  VARIABLES,
  type Variable,
} from '../spec/request.ts'

export const DEFAULT_SOCKET = '/run/hawser/cni.sock'

/** "hws" and the first version of the protocol; the versions that we speak, oldest first. */
export const MAGIC = 0x68777301
export const VERSIONS = [1, 2] as const
export type Version = (typeof VERSIONS)[number]
export const NEWEST: Version = 2
export const HEADER_BYTES = 12
export const WORD = { CNI: 1, QUERY: 2, SUCCESS: 0, ERROR: 1 } as const

/**
 * Bounds of a message's parts, in bytes. A pod's annotations come with the configuration: 256 KiB at most,
 * of which Go's encoding/json makes up to six times that (a `<` becomes `\u003c`).
 */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024
export const MAX_VARIABLE_BYTES = 64 * 1024
/** A question and an absolute path (PATH_MAX of Linux is 4096). */
export const MAX_QUERY_BYTES = 64 + 4096
export const MAX_CNI_REPLY_BYTES = 1024 * 1024
export const MAX_QUERY_REPLY_BYTES = 256 * 1024 * 1024

export const MAX_CNI_BYTES = VARIABLES.length * (4 + MAX_VARIABLE_BYTES) + 4 + MAX_CONFIG_BYTES

export interface Message {
  version: Version
  word: number
  body: Buffer
}

/** Bytes that are not what this page says. */
export class ProtocolError extends Error {
  /** The other side speaks another version of the protocol. */
  readonly otherVersion: boolean

  constructor(message: string, otherVersion = false) {
    super(message)
    this.name = 'ProtocolError'
    this.otherVersion = otherVersion
  }
}

export function encodeMessage(word: number, body: Buffer, version: Version = 1): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.writeUInt32BE(magicOf(version), 0)
  header.writeUInt32BE(word, 4)
  header.writeUInt32BE(body.length, 8)
  return Buffer.concat([header, body])
}

function magicOf(version: Version): number {
  return MAGIC - 1 + version
}

/**
 * A function that takes the bytes of one message in pieces of any size, and gives the message with
 * the last of them. `limit` says how long the body of a message of this word may be, undefined for
 * a word that can't be. Throws ProtocolError as soon as the bytes are wrong.
 */
export function collector(
  limit: (word: number) => number | undefined,
): (chunk: Buffer) => Message | undefined {
  const header = Buffer.alloc(HEADER_BYTES)
  let body: Buffer | undefined
  let have = 0
  return chunk => {
    let at = 0
    if (body === undefined) {
      at = chunk.copy(header, have)
      have += at
      if (have < HEADER_BYTES) return undefined
      body = Buffer.allocUnsafe(bodyLength(header, limit))
      have = 0
    }
    if (chunk.length - at > body.length - have) throw new ProtocolError('bytes after the message')
    have += chunk.copy(body, have, at)
    if (have < body.length) return undefined
    return { version: versionOf(header), word: header.readUInt32BE(4), body }
  }
}

function bodyLength(header: Buffer, limit: (word: number) => number | undefined): number {
  versionOf(header)
  const word = header.readUInt32BE(4)
  const most = limit(word)
  if (most === undefined) throw new ProtocolError(`unknown word ${word}`)
  const length = header.readUInt32BE(8)
  if (length > most) throw new ProtocolError(`${length} bytes, more than ${most}`)
  return length
}

function versionOf(header: Buffer): Version {
  const magic = header.readUInt32BE(0)
  if (magic >>> 8 !== MAGIC >>> 8) throw new ProtocolError('it is not our protocol')
  const version = VERSIONS.find(each => magicOf(each) === magic)
  if (version !== undefined) return version
  const versions = `it speaks version ${magic & 0xff} of the protocol, we speak ${VERSIONS.join(', ')}`
  throw new ProtocolError(`${versions} (install both from one release)`, true)
}

/** `limit` of a collector of requests. */
export function requestLimit(word: number): number | undefined {
  return word === WORD.CNI ? MAX_CNI_BYTES : word === WORD.QUERY ? MAX_QUERY_BYTES : undefined
}

/** `limit` of a collector of the replies to queries. */
export function queryReplyLimit(word: number): number | undefined {
  return word === WORD.SUCCESS || word === WORD.ERROR ? MAX_QUERY_REPLY_BYTES : undefined
}

/** The body of a CNI request. Throws ProtocolError for what `decodeCni` would refuse. */
export function encodeCni(request: CniRequest): Buffer {
  const parts: Buffer[] = []
  for (const text of [...VARIABLES.map(name => request.env[name]), request.config]) {
    const bytes = Buffer.from(text)
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32BE(bytes.length)
    parts.push(length, bytes)
  }
  const body = Buffer.concat(parts)
  decodeCni(body)
  return body
}

/** Reads the body of a CNI request; throws ProtocolError. */
export function decodeCni(body: Buffer): CniRequest {
  let at = 0
  const text = (what: string, most: number): string => {
    if (body.length - at < 4) throw new ProtocolError(`${what}: cut`)
    const length = body.readUInt32BE(at)
    at += 4
    if (length > most) throw new ProtocolError(`${what}: ${length} bytes, more than ${most}`)
    if (length > body.length - at) throw new ProtocolError(`${what}: cut`)
    at += length
    return decodeText(what, body.subarray(at - length, at))
  }
  const env = Object.fromEntries(
    VARIABLES.map(name => {
      const value = text(name, MAX_VARIABLE_BYTES)
      if (value.includes('\0')) throw new ProtocolError(`${name}: holds a zero byte`)
      return [name, value]
    }),
  ) as Record<Variable, string>
  const config = text('configuration', MAX_CONFIG_BYTES)
  if (at !== body.length) throw new ProtocolError('bytes after the configuration')
  return { env, config }
}

/** The body of the reply to a CNI request of `version`, which may have no place for stderr. */
export function encodeCniReply({ stdout, stderr = '' }: CniReply, version: Version): Buffer {
  if (version === 1) return Buffer.from(stdout)
  const said = Buffer.from(stderr).subarray(0, MAX_STDERR_BYTES)
  const length = Buffer.allocUnsafe(4)
  length.writeUInt32BE(said.length)
  return Buffer.concat([length, said, Buffer.from(stdout)])
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text that must be UTF-8; throws ProtocolError. */
export function decodeText(what: string, bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new ProtocolError(`${what}: not UTF-8 text`)
  }
}
