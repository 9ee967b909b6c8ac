/** Debian packages that tests use as peers. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** A file of each, the package. */
const PACKAGES = [
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['strace', 'strace'],
  ['containerd', 'containerd'],
  ['runc', 'runc'],
  ['loopback', 'containernetworking-plugins'],
  ['podman', 'podman'],
  ['pkg-config', 'pkg-config'],
  ['libdpdk.pc', 'libdpdk-dev'],
] as const

const FOLDERS = [
  ...['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/lib/cni'],
  ...['x86_64', 'aarch64'].map(cpu => `/usr/lib/${cpu}-linux-gnu/pkgconfig`),
]

function installed(file: string): boolean {
  return FOLDERS.some(folder => existsSync(join(folder, file)))
}

/** Installs the packages that are missing. What cannot be had is named; its tests are skipped and say so. */
export function installPackages(): void {
  const missing = PACKAGES.filter(([file]) => !installed(file)).map(([, name]) => name)
  if (missing.length === 0) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args: string[]) => spawnSync('apt-get', args, { stdio: ['ignore', 2, 2], env })
  apt('update', '-q')
  if (apt('install', '-y', '-q', '--no-install-recommends', ...missing).status !== 0) {
    process.stderr.write(`hawser: could not install ${missing.join(', ')}\n`)
  }
}
