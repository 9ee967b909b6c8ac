/**
 * Network namespaces for tests: unique names, and nothing left behind. Call `removeNamespaces` in
 * `afterEach`, which also runs when a test has failed.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { native } from '../../native/native.ts'

export interface Namespace {
  name: string
  path: string
  /** Runs a program inside; returns what it printed. */
  run(command: string, ...args: string[]): string
  /** Runs `ip` inside; returns what it printed. */
  ip(...args: string[]): string
  /** Many commands of `ip` by one process. */
  batch(commands: readonly string[]): void
  /** Runs `tc` inside. */
  tc(...args: string[]): string
}

const made = new Set<string>()
const descriptors = new Set<number>()
let serial = 0

function run(command: string, args: string[], input = ''): string {
  return execFileSync(command, args, { encoding: 'utf8', input, stdio: 'pipe' })
}

/** A new namespace with lo up, where no interface made later sends IPv6 of its own accord. */
export function addNamespace(): Namespace {
  serial += 1
  const name = `hwt-${process.pid}-${serial}`
  run('ip', ['netns', 'add', name])
  made.add(name)
  const path = `/run/netns/${name}`
  if (existsSync('/proc/sys/net/ipv6')) {
    native.sysctlWrite(path, 'ipv6/conf/default/disable_ipv6', '1')
  }
  const namespace = {
    name,
    path,
    run: (command: string, ...args: string[]) =>
      run('ip', ['netns', 'exec', name, command, ...args]),
    batch: (commands: readonly string[]) =>
      void run('ip', ['-n', name, '-batch', '-'], commands.join('\n')),
    ip: (...args: string[]) => run('ip', ['-n', name, ...args]),
    tc: (...args: string[]) => run('tc', ['-n', name, ...args]),
  }
  namespace.ip('link', 'set', 'lo', 'up')
  return namespace
}

/** Has `removeNamespaces` close `fd` too; returns it. */
export function track(fd: number): number {
  descriptors.add(fd)
  return fd
}

/** Closes a tracked descriptor now. */
export function closeTracked(fd: number): void {
  descriptors.delete(fd)
  native.close(fd)
}

export function removeNamespaces(): void {
  for (const fd of descriptors) native.close(fd)
  descriptors.clear()
  for (const name of made) run('ip', ['netns', 'delete', name])
  made.clear()
}
