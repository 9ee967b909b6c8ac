/** Network namespaces with names of their own, and `ip` inside them. Needs root and iproute2. */
import { execFileSync } from 'node:child_process'
import { Skipped } from './suite.ts'
import { later } from './undo.ts'

let made = 0

/** Runs a program of the system; its error names the command and what it said. */
export function command(file: string, ...args: string[]): string {
  try {
    return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw new Error(`${file} ${args.join(' ')}: ${stderr?.trim() || message}`)
  }
}

/** Throws `Skipped` when this process can't make namespaces. */
export function requireRoot(): void {
  if (process.geteuid?.() !== 0) throw new Skipped('needs root (network namespaces, AF_XDP)')
}

export class Namespace {
  readonly name: string
  readonly remove: () => void

  /** Makes `hwb-PID-N-role` with the loopback up and IPv6 off, so that it sends nothing unasked. */
  constructor(role: string) {
    this.name = `hwb-${process.pid}-${made++}-${role}`
    command('ip', 'netns', 'add', this.name)
    this.remove = later(() => command('ip', 'netns', 'del', this.name))
    this.sysctl('net.ipv6.conf.all.disable_ipv6', '1')
    this.sysctl('net.ipv6.conf.default.disable_ipv6', '1')
    this.ip('link set lo up')
  }

  get path(): string {
    return `/run/netns/${this.name}`
  }

  /** `ip -n NAME ...`: words are split at blanks. */
  ip(words: string): void {
    command('ip', '-n', this.name, ...words.split(' '))
  }

  fdb(words: string): void {
    command('bridge', '-n', this.name, 'fdb', ...words.split(' '))
  }

  sysctl(key: string, value: string): void {
    this.run('sysctl', '-qw', `${key}=${value}`)
  }

  /** Runs a program inside to its end. */
  run(file: string, ...args: string[]): string {
    return command('ip', 'netns', 'exec', this.name, file, ...args)
  }
}
