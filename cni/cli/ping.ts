/**
 * `hawser ping`: is a pod reached from this node, and how long does that take? Echo requests of ICMP go
 * out by the node's own port, as kubelet's probes do, or from a network namespace.
 *
 * Raw sockets come from the package `raw-socket`, which is optional: where it could not be built, all
 * but this command works.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { isAbsolute } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { printable } from '../base/table.ts'
import { type Address, parseAddress } from '../netip/cidr.ts'
import { echoReply, echoRequest, type Run } from './echo.ts'

const DEFAULT_COUNT = 5
const MAX_COUNT = 1_000
/** Milliseconds between two requests, and that the last one is waited for. */
const EVERY_MS = 200
const LAST_MS = 1_000
/** Bytes behind the header. */
const COOKIE_BYTES = 56
const PACKAGE = 'raw-socket'

/** Of raw-socket's interface, what is used here. */
export interface RawSocket {
  on(event: 'message', heard: (message: Buffer, source: string) => void): void
  on(event: 'error', heard: (error: Error) => void): void
  send(
    message: Buffer,
    offset: number,
    length: number,
    address: string,
    sent: (error: Error | null) => void,
  ): void
  close(): void
}

/** Opens a raw socket of ICMP or ICMPv6. */
export type OpenSocket = (family: 4 | 6) => RawSocket

/** Requests that were sent, and the round trips of those that were answered, in milliseconds. */
export interface Pinged {
  sent: number
  ms: number[]
}

interface Flags {
  count: number
  netns?: string
}

/** Adds the command. It exits with 1 when nothing is answered. */
export function addPing(program: Command): void {
  program
    .command('ping')
    .description('ask a pod for an echo, from this node or from a network namespace')
    .argument('<address>', "the pod's, IPv4 or IPv6")
    .option('-c, --count <n>', 'requests', countOf, DEFAULT_COUNT)
    .option('-I, --netns <path>', 'network namespace to send from (needs nsenter)')
    .action(async (text: string, { count, netns }: Flags) => {
      const address = parseAddress(text)
      if (!address.ok) throw new Error(`${text}: ${address.cause}`)
      if (netns !== undefined) return void inNamespace(netns, [`-c${count}`, address.value.text])
      const open = await loadRawSocket()
      const pinged = await ping(address.value, count, open, line => tell(line))
      tell(showPinged(pinged))
      if (pinged.ms.length === 0) process.exitCode = 1
    })
}

/** The same command in a namespace: a process enters one as a whole. */
function inNamespace(netns: string, args: readonly string[]): void {
  if (!isAbsolute(netns)) throw new Error(`${netns}: not an absolute path of a namespace`)
  const words = [`--net=${netns}`, '--', process.execPath, process.argv[1]!, 'ping', ...args]
  const { status, error } = spawnSync('nsenter', words, { stdio: 'inherit' })
  if (error) throw new Error(`nsenter: ${error.message}`)
  process.exitCode = status ?? 1
}

/** Throws with what helps when the package is not there, or not built for this Node. */
export async function loadRawSocket(name = PACKAGE): Promise<OpenSocket> {
  try {
    const { default: raw } = await import(name)
    const { AddressFamily, Protocol, createSocket } = raw
    return family =>
      createSocket(
        family === 4
          ? { protocol: Protocol.ICMP, addressFamily: AddressFamily.IPv4 }
          : { protocol: Protocol.ICMPv6, addressFamily: AddressFamily.IPv6 },
      ) as RawSocket
  } catch (error) {
    const [cause = ''] = (error as Error).message.split('\n')
    throw new Error(`ping needs the package ${name}, which can not be loaded: ${cause}`, {
      cause: error,
    })
  }
}

/**
 * Sends `count` echo requests to `address`, one every EVERY_MS, and tells each answer at once. Ends
 * when all are answered, or LAST_MS behind the last one. Throws when the socket can't be opened or used.
 */
export async function ping(
  address: Address,
  count: number,
  open: OpenSocket,
  told: (line: string) => void,
): Promise<Pinged> {
  const run: Run = {
    family: address.family,
    id: randomInt(0x1_0000),
    cookie: randomBytes(COOKIE_BYTES),
  }
  const waiting = new Map<number, number>()
  const pinged: Pinged = { sent: 0, ms: [] }
  const end = new AbortController()
  let failure: Error | undefined
  const socket = open(address.family)
  socket.on('error', error => {
    failure ??= error
    end.abort()
  })
  socket.on('message', (message, source) => {
    const from = parseAddress(source)
    if (!from.ok || from.value.text !== address.text) return
    const sequence = echoReply(run, message)
    const began = sequence === undefined ? undefined : waiting.get(sequence)
    if (sequence === undefined || began === undefined) return
    waiting.delete(sequence)
    const ms = performance.now() - began
    pinged.ms.push(ms)
    told(`${address.text}: echo ${sequence}, ${ms.toFixed(3)} ms`)
    if (pinged.ms.length === count) end.abort()
  })
  try {
    for (let sequence = 1; sequence <= count && !end.signal.aborted; sequence++) {
      const request = echoRequest(run, sequence)
      waiting.set(sequence, performance.now())
      pinged.sent += 1
      socket.send(request, 0, request.length, address.text, error => {
        if (error !== null) told(`${address.text}: echo ${sequence}: ${error.message}`)
      })
      const ms = sequence === count ? LAST_MS : EVERY_MS
      await delay(ms, undefined, { signal: end.signal }).catch(() => {})
    }
  } finally {
    socket.close()
  }
  if (failure !== undefined) throw failure
  return pinged
}

/** The last line. */
export function showPinged({ sent, ms }: Pinged): string {
  const counts = `${sent} sent, ${ms.length} answered`
  if (ms.length === 0) return counts
  const average = ms.reduce((sum, each) => sum + each, 0) / ms.length
  const [min, avg, max] = [Math.min(...ms), average, Math.max(...ms)].map(each => each.toFixed(3))
  return `${counts}; round trip min ${min}, avg ${avg}, max ${max} ms`
}

function tell(line: string): void {
  process.stdout.write(`${printable(line)}\n`)
}

function countOf(text: string): number {
  const count = /^[0-9]{1,4}$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= MAX_COUNT) return count
  throw new InvalidArgumentError(`not 1 .. ${MAX_COUNT}`)
}
