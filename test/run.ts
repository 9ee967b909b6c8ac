/**
 * `npm test`: everything. Checks first what costs seconds (format, lint, types), then runs every
 * test, on real devices in network namespaces of their own. Ends with `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { staticChecks } from './static.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Debian packages that tests use as peers: a file of each, the package. */
const PACKAGES = [
  ['nft', 'nftables'],
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

/** Installs the packages that are missing. What cannot be had is named; its tests say so and are left out. */
function installPackages(): void {
  const missing = PACKAGES.filter(([file]) => !installed(file)).map(([, name]) => name)
  if (missing.length === 0) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args: string[]) => spawnSync('apt-get', args, { stdio: ['ignore', 2, 2], env })
  apt('update', '-q')
  if (apt('install', '-y', '-q', '--no-install-recommends', ...missing).status !== 0) {
    process.stderr.write(`hawser: could not install ${missing.join(', ')}\n`)
  }
}

if (process.getuid?.() !== 0) {
  process.stderr.write('hawser: the tests make network namespaces and devices: run them as root\n')
  process.exit(1)
}
const files = process.argv.slice(2)
let failedChecks = 0
if (files.length === 0) {
  installPackages()
  failedChecks = staticChecks(root)
}
const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
const report = join(folder, 'report.json')
const vitest = join(root, 'node_modules/vitest/vitest.mjs')
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
const done = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...files], {
  cwd: root,
  stdio: 'inherit',
})
let passed = 0
let failed = failedChecks
if (existsSync(report)) {
  const { numPassedTests, numFailedTests, numFailedTestSuites, success } = JSON.parse(
    readFileSync(report, 'utf8'),
  ) as {
    numPassedTests: number
    numFailedTests: number
    numFailedTestSuites: number
    success: boolean
  }
  passed = numPassedTests
  failed += Math.max(numFailedTests, numFailedTests === 0 ? numFailedTestSuites : 0)
  if (!success && failed === 0) failed = 1
} else {
  failed += 1
}
rmSync(folder, { recursive: true, force: true })
if (done.status !== 0 && failed === 0) failed = 1
process.stdout.write(`\n${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 ? 0 : 1)
