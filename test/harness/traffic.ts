/** Traffic between namespaces (test/tools/traffic.py): what arrived, counted and hashed. */
import { fileURLToPath } from 'node:url'
import { Running, run } from './processes.ts'

const tool = fileURLToPath(new URL('../tools/traffic.py', import.meta.url))

export interface PingResult {
  sent: number
  received: number
  /** Texts of the sender's own errors, or what an ICMP error said. */
  errors: (string | { type: number; code: number; from: string; mtu: number })[]
  medianUs: number | null
}

export interface PingOptions {
  count?: number
  /** Payload bytes. */
  size?: number
  ttl?: number
  dontFragment?: boolean
  timeout?: number
  /** Address to send from. */
  source?: string
}

export async function ping(
  netns: string,
  address: string,
  options: PingOptions = {},
): Promise<PingResult> {
  const args = ['ping', address]
  if (options.count !== undefined) args.push('--count', String(options.count))
  if (options.size !== undefined) args.push('--size', String(options.size))
  if (options.ttl !== undefined) args.push('--ttl', String(options.ttl))
  if (options.dontFragment === true) args.push('--dont-fragment')
  if (options.source !== undefined) args.push('--source', options.source)
  args.push('--timeout', String(options.timeout ?? 5))
  return JSON.parse(lastLine(await run('python3', [tool, ...args], { netns }))) as PingResult
}

export interface Transfer {
  sentBytes: number
  receivedBytes: number
  sentPackets?: number
  receivedPackets?: number
  /** Of the receiver. */
  bitsPerSecond: number
  /** Whether both sides have the same hash, or all bytes when none was taken. */
  intact: boolean
}

interface Report {
  bytes: number
  packets?: number
  seconds: number
  sha256: string | null
}

/** Sends a file of random bytes (`bytes`) or a timed stream (`seconds`); UDP's at `rate` bits a second, or without a brake. */
export async function transfer(
  kind: 'tcp' | 'udp',
  from: string,
  to: string,
  address: string,
  load: { bytes: number } | { seconds: number; rate?: number },
  size = 1200,
): Promise<Transfer> {
  const bind = address.includes(':') ? '::' : '0.0.0.0'
  const receiver = new Running('python3', [tool, `${kind}-receive`, '--bind', bind], { netns: to })
  try {
    const { port } = JSON.parse(await receiver.until(line => line.includes('"port"'))) as {
      port: number
    }
    const amount =
      'bytes' in load ? ['--bytes', String(load.bytes)] : ['--seconds', String(load.seconds)]
    const words = [tool, `${kind}-send`, address, String(port), ...amount]
    if (kind === 'udp') words.push('--size', String(size))
    if ('rate' in load) words.push('--rate', String(Math.round(load.rate)))
    const sent = JSON.parse(lastLine(await run('python3', words, { netns: from }))) as Report
    const received = JSON.parse(await receiver.until(line => line.includes('"sha256"'))) as Report
    return {
      sentBytes: sent.bytes,
      receivedBytes: received.bytes,
      ...(sent.packets === undefined ? {} : { sentPackets: sent.packets }),
      ...(received.packets === undefined ? {} : { receivedPackets: received.packets }),
      bitsPerSecond: received.seconds > 0 ? (received.bytes * 8) / received.seconds : 0,
      intact:
        'bytes' in load
          ? sent.sha256 !== null && sent.sha256 === received.sha256
          : kind === 'udp' || sent.bytes === received.bytes,
    }
  } finally {
    await receiver.stop('SIGKILL')
  }
}

function lastLine(done: { stdout: string; stderr: string }): string {
  const line = done.stdout.trim().split('\n').at(-1) ?? ''
  if (!line.startsWith('{')) throw new Error(`traffic.py: ${done.stderr.trim() || 'said nothing'}`)
  return line
}
