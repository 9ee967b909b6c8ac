// The contract, "Installing": how executable and configuration come to the runtime's folders and go.
import {
  existsSync,
  type FSWatcher,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CLI, EXECUTABLE } from '../harness/node.ts'
import { type Finished, Running, run } from '../harness/processes.ts'
import { type OneNode, oneNode } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { tellLogsOnFailure } from '../netns/expect.ts'

let world: OneNode
const at = (name: string) => join(world.node.folder, name)
const BINARY = 'bin/hawser'
const CONFLIST = 'net.d/10-hawser.conflist'
beforeAll(async () => {
  world = await oneNode('contract-inst')
  for (const name of ['bin', 'net.d']) mkdirSync(at(name))
})
afterAll(() => world?.close())
tellLogsOnFailure(() => [world?.node])

function hawser(command: string, ...more: string[]): Promise<Finished> {
  const { netns, socket } = world.node
  const folders = ['--bin-dir', at('bin'), '--conf-dir', at('net.d'), '--socket', socket]
  return run(process.execPath, [CLI, command, ...folders, ...more], { netns })
}

/** What a runtime hears of a folder while `work` is done: names, in order. */
async function heard(folder: string, work: () => Promise<unknown>): Promise<string[]> {
  const names: string[] = []
  const watcher: FSWatcher = watch(folder, (_, name) => void names.push(String(name)))
  try {
    await work()
    // Events come in order: behind this one nothing is missing.
    writeFileSync(join(folder, 'last'), '')
    await until('the last event', () => names.includes('last'))
    rmSync(join(folder, 'last'))
  } finally {
    watcher.close()
  }
  return names.filter(name => name !== 'last')
}

test('I3 the configuration appears only when the daemon can serve', async () => {
  const refused = await hawser('install')
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/can not serve, nothing is installed/)
  expect([readdirSync(at('bin')), readdirSync(at('net.d'))]).toEqual([[], []])
  // One that waits puts it there behind "ready".
  const waiting = hawser('install', '--wait', '60')
  const early = until('it is there', () => existsSync(at(CONFLIST)), 60).then(() =>
    world.node.log.some(line => line.includes('"msg":"ready"')),
  )
  await world.node.start()
  expect((await waiting).code).toBe(0)
  expect(await early).toBe(true)
})

test('I1 the executable is renamed into its place, never written over one that runs', async () => {
  rmSync(at(BINARY))
  // An older one: the same but for a byte behind its end.
  writeFileSync(at(BINARY), Buffer.concat([readFileSync(EXECUTABLE), Buffer.from('x')]), {
    mode: 0o755,
  })
  const before = statSync(at(BINARY))
  const running = new Running(at(BINARY), [], { env: { CNI_COMMAND: 'VERSION' } })
  try {
    await until('it runs', () => readFileSync(`/proc/${running.child.pid}/cmdline`).length > 0)
    const names = await heard(at('bin'), async () => expect((await hawser('install')).code).toBe(0))
    expect(names.at(-1)).toBe('hawser')
    const [temporary] = names
    expect(temporary).toMatch(/^\.hawser-[0-9a-f]{16}\.tmp$/)
    const after = statSync(at(BINARY))
    expect(after.ino).not.toBe(before.ino)
    expect(after.mode & 0o7777).toBe(0o755)
    expect(readFileSync(at(BINARY)).equals(readFileSync(EXECUTABLE))).toBe(true)
    // The one that runs ends as it would have.
    running.child.stdin!.end('{"cniVersion":"1.0.0"}')
    expect(await running.ended).toBe(0)
    expect(running.lines.join('')).toContain('supportedVersions')
  } finally {
    await running.stop('SIGKILL')
  }
  expect(readdirSync(at('bin'))).toEqual(['hawser'])
})

test("I2 the configuration's temporary file lies in the same folder, under a name that no runtime reads", async () => {
  rmSync(at(CONFLIST))
  const names = await heard(at('net.d'), async () => expect((await hawser('install')).code).toBe(0))
  const temporary = names.filter(name => name !== '10-hawser.conflist')
  expect(temporary.length).toBeGreaterThan(0)
  for (const name of temporary) expect(name).not.toMatch(/\.(conf|conflist|json)$/)
  expect(names.at(-1)).toBe('10-hawser.conflist')
  expect(readdirSync(at('net.d'))).toEqual(['10-hawser.conflist'])
  // Of the daemon that was asked, and whole.
  const { plugins } = JSON.parse(readFileSync(at(CONFLIST), 'utf8'))
  expect(plugins[0]).toMatchObject({ type: 'hawser', socket: world.node.socket })
})

test('I4 it stays over restarts of the daemon, and over a crash', async () => {
  const before = statSync(at(CONFLIST))
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await world.node.stop(signal)
    expect(statSync(at(CONFLIST)).ino).toBe(before.ino)
    await world.node.start()
  }
  // Once more is no event for a runtime.
  const names = await heard(at('net.d'), () => hawser('install'))
  expect(names).toEqual([])
  expect(statSync(at(CONFLIST))).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs })
})

test('I6 the first file by name wins: who stands before ours is told', async () => {
  for (const name of ['05-other.conf', '10-hawser.conflist.bak', '99-late.json', '.hidden']) {
    writeFileSync(at(`net.d/${name}`), '{}')
  }
  const { code, stdout } = await hawser('install')
  expect(code).toBe(0)
  expect(stdout).toContain('05-other.conf sorts before 10-hawser.conflist: runtimes use the first')
  expect(stdout).toContain('99-late.json sorts behind 10-hawser.conflist: not used')
  expect(stdout).not.toMatch(/\.bak|hidden/)
  for (const name of ['05-other.conf', '10-hawser.conflist.bak', '99-late.json', '.hidden']) {
    rmSync(at(`net.d/${name}`))
  }
})

test('I5 it goes on uninstall, before the executable', async () => {
  expect((await hawser('uninstall', '--state', world.node.state)).code).toBe(1)
  expect(existsSync(at(CONFLIST))).toBe(true)
  await world.node.stop()
  const { code, stdout } = await hawser('uninstall', '--state', world.node.state)
  expect(code).toBe(0)
  expect(stdout.indexOf('10-hawser.conflist')).toBeLessThan(stdout.indexOf(at(BINARY)))
  expect([readdirSync(at('bin')), readdirSync(at('net.d'))]).toEqual([[], []])
})
