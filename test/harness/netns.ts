/** Network namespaces of tests: unique names, removed whatever happens. */
import { randomBytes } from 'node:crypto'
import { must, run } from './processes.ts'

export class Namespaces {
  readonly prefix: string
  private readonly names: string[] = []

  /** `label`: what the names begin with, behind `hwt-`. */
  constructor(label: string) {
    this.prefix = `hwt-${label}-${process.pid.toString(36)}${randomBytes(2).toString('hex')}`
  }

  /** Makes a namespace with loopback up; returns its path. */
  async add(name: string): Promise<string> {
    const full = `${this.prefix}-${name}`
    await must('ip', ['netns', 'add', full])
    this.names.push(full)
    await must('ip', ['-n', full, 'link', 'set', 'lo', 'up'])
    return `/run/netns/${full}`
  }

  /** A name of at most 15 bytes for a device that passes through the first namespace. */
  device(name: string): string {
    return `${name}${randomBytes(4).toString('hex')}`.slice(0, 15)
  }

  /** Removes one namespace. */
  async remove(path: string): Promise<void> {
    const name = path.slice('/run/netns/'.length)
    this.names.splice(this.names.indexOf(name), 1)
    await must('ip', ['netns', 'delete', name])
  }

  async removeAll(): Promise<void> {
    for (const name of this.names.splice(0)) await run('ip', ['netns', 'delete', name])
  }
}

/** The name that `ip -n` takes. */
export function nameOf(netns: string): string {
  return netns.slice('/run/netns/'.length)
}

/** `ip` in a namespace. */
export function ip(netns: string, ...args: string[]): Promise<string> {
  return must('ip', ['-n', nameOf(netns), ...args])
}

/** A veth pair between two namespaces, with `queues` receive and transmit queues at either end. */
export async function connect(
  a: { netns: string; device: string; addresses: readonly string[] },
  b: { netns: string; device: string; addresses: readonly string[] },
  mtu = 1500,
  queues = 1,
): Promise<void> {
  const common = ['mtu', String(mtu), 'numrxqueues', String(queues), 'numtxqueues', String(queues)]
  await must('ip', [
    ...['-n', nameOf(a.netns), 'link', 'add', a.device, ...common, 'type', 'veth'],
    ...['peer', 'name', b.device, ...common, 'netns', nameOf(b.netns)],
  ])
  for (const { netns, device, addresses } of [a, b]) {
    for (const address of addresses) {
      const noDad = address.includes(':') ? ['nodad'] : []
      await ip(netns, 'addr', 'add', address, 'dev', device, ...noDad)
    }
    await ip(netns, 'link', 'set', device, 'up')
  }
}
