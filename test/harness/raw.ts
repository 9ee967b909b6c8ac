/** Frames and packets that no kernel would make (test/tools/raw.py), and what comes of them. */
import { fileURLToPath } from 'node:url'
import { must, Running } from './processes.ts'

const tool = fileURLToPath(new URL('../tools/raw.py', import.meta.url))

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Sends frames out of an Ethernet device, or packets out of a TUN, in a namespace. */
export async function sendRaw(
  netns: string,
  device: string,
  ...packets: Uint8Array[]
): Promise<void> {
  await must('python3', [tool, 'send', device, ...packets.map(hex)], { netns })
}

/** Sends datagrams from a port of the kernel's choice. */
export async function sendUdp(
  netns: string,
  address: string,
  port: number,
  ...payloads: Uint8Array[]
): Promise<void> {
  await must('python3', [tool, 'udp', address, String(port), ...payloads.map(hex)], { netns })
}

/** What comes in by a device, or as datagrams to an address and port. */
export class Ear {
  private readonly running: Running

  private constructor(running: Running) {
    this.running = running
  }

  /** Resolves when it listens. */
  static async at(netns: string, ...where: [device: string] | [address: string, port: number]) {
    const words = where.length === 1 ? ['hear', where[0]] : ['take', where[0], String(where[1])]
    const running = new Running('python3', [tool, ...words], { netns })
    await running.until(line => line.includes('ready'))
    return new Ear(running)
  }

  /** What has come so far, oldest first. */
  get heard(): Uint8Array[] {
    const packets = this.running.lines.filter(line => /^[0-9a-f]+$/.test(line))
    return packets.map(line => Uint8Array.from(Buffer.from(line, 'hex')))
  }

  /** Whether `bytes` lie anywhere in what has come. */
  has(bytes: Uint8Array): boolean {
    return this.running.lines.some(line => line.includes(hex(bytes)))
  }

  /** Resolves when something comes, or has come, that holds these bytes. */
  async until(bytes: Uint8Array): Promise<void> {
    await this.running.until(line => line.includes(hex(bytes)))
  }

  async close(): Promise<void> {
    await this.running.stop('SIGKILL')
  }
}
