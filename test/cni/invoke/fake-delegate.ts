/**
 * Plugins that do as the configuration tells them, and write down what they were asked: one for
 * addresses, and as many for further interfaces as a test needs.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const FAKE = 'fake-ipam'

/** What it does for a verb; `good` where nothing is said. */
export type Behaviour =
  | 'good'
  /** An error document, code 117; or code 3. */
  | 'refuse'
  /** The same, once there is a file `go` in its folder. */
  | 'wait'
  | 'unknown'
  /** It doesn't speak the version: code 1. */
  | 'too-new'
  /** Exit code 9, and a word on stderr. */
  | 'fail'
  | 'junk'
  | 'nothing'
  /** 2 MiB. */
  | 'flood'
  /** It never ends, and neither does the process that it starts. */
  | 'hang'

export interface Asked {
  env: Record<string, string>
  cwd: string
  config: Record<string, unknown>
}

/**
 * CommonJS. `ipam.behaviour` (of a plugin for interfaces: `fake.behaviour`) says what it does for each
 * verb, `.result` what ADD answers; without one it adds an interface of its own name to `prevResult`.
 */
const SCRIPT = `#!${process.execPath}
const fs = require('node:fs')
const text = fs.readFileSync(0, 'utf8')
const config = JSON.parse(text)
const { CNI_COMMAND: verb } = process.env
fs.appendFileSync(__dirname + '/asked', JSON.stringify({ env: process.env, cwd: process.cwd(), config }) + '\\n')
const { cniVersion, type, prevResult } = config
const chained = {
  interfaces: [...(prevResult?.interfaces ?? []), { name: type, sandbox: process.env.CNI_NETNS }],
  ips: [...(prevResult?.ips ?? []), { address: '192.0.2.' + (config.name ?? '').length + '/24' }],
}
const { behaviour = {}, result = chained } = config.ipam ?? config.fake ?? {}
process.stderr.write(verb + ' is asked\\n')
const answer = (document, code) => {
  fs.writeSync(1, JSON.stringify(document))
  process.exitCode = code
}
switch (behaviour[verb] ?? 'good') {
  case 'good':
    if (verb === 'ADD') answer({ cniVersion, ...result }, 0)
    break
  case 'wait':
    while (!fs.existsSync(__dirname + '/go')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  case 'refuse':
    answer({ cniVersion, code: 117, msg: verb + ' is refused', details: 'ask again' }, 1)
    break
  case 'unknown':
    answer({ cniVersion, code: 3, msg: 'who?' }, 1)
    break
  case 'too-new':
    answer({ cniVersion: '1.0.0', code: 1, msg: 'incompatible CNI versions' }, 1)
    break
  case 'fail':
    process.stderr.write('out of order\\n')
    process.exitCode = 9
    break
  case 'junk':
    fs.writeSync(1, 'your address is: 10.0.0.2')
    break
  case 'nothing':
    break
  case 'flood':
    process.stdout.write('"' + 'x'.repeat(2 * 1024 * 1024) + '"')
    break
  case 'hang': {
    const { spawn } = require('node:child_process')
    const child = spawn('/bin/sleep', ['600'], { stdio: 'inherit' })
    fs.writeFileSync(__dirname + '/pids', process.pid + ' ' + child.pid)
    setInterval(() => {}, 1000)
  }
}
`

export interface FakeDelegate {
  /** For CNI_PATH. */
  folder: string
  /** What it was asked since the last call of this. */
  asked(): Asked[]
  /** The processes of one that hangs. */
  pids(): number[]
}

/** Puts the plugin into a new folder below `parent`, under each of `names`. */
export function fakeDelegate(parent: string, names: readonly string[] = [FAKE]): FakeDelegate {
  const folder = join(parent, 'plugins')
  mkdirSync(folder)
  for (const name of names) writeFileSync(join(folder, name), SCRIPT, { mode: 0o755 })
  const log = join(folder, 'asked')
  return {
    folder,
    asked: () => {
      if (!existsSync(log)) return []
      const lines = readFileSync(log, 'utf8').split('\n')
      writeFileSync(log, '')
      return lines.filter(line => line !== '').map(line => JSON.parse(line) as Asked)
    },
    pids: () => {
      const file = join(folder, 'pids')
      return existsSync(file) ? readFileSync(file, 'utf8').split(' ').map(Number) : []
    },
  }
}

/** `ipam` of a configuration that wants addresses from it. */
export function fakeIpam(
  result: object,
  behaviour: Readonly<Record<string, Behaviour>> = {},
): Record<string, unknown> {
  return { type: FAKE, result, behaviour }
}

export function isRunning(pid: number): boolean {
  try {
    // A zombie still takes signals.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
