// `hawser install` and `uninstall` on real folders, with a daemon's socket that answers what a test
// wants. test/netns/install.test.ts has the real daemon, pods and kernel.
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  type FSWatcher,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { takeLock } from '../../../cni/fs/lock.ts'
import { readConflist } from '../../../cni/install/conflist.ts'
import { type InstallOptions, install } from '../../../cni/install/install.ts'
import { PACKAGED_CONFLIST } from '../../../cni/install/place.ts'
import { type UninstallOptions, uninstall } from '../../../cni/install/uninstall.ts'
import { serve } from '../../../cni/rpc/server.ts'
import { State } from '../../../cni/state/state.ts'
import { CLI } from '../../harness/node.ts'
import { Running, run } from '../../harness/processes.ts'
import { until } from '../../harness/until.ts'
import { STATUS } from '../fake-plane.ts'
import { EXECUTABLE, NOBODY, recorder } from '../plugin/hawser-plugin.ts'

const CONFLIST = '10-hawser.conflist'
let folder = ''
let said: string[] = []
const closers: (() => unknown)[] = []
const at = (path: string): string => join(folder, path)
const [BIN, CONF] = ['opt/cni/bin', 'etc/cni/net.d']
/** A runtime's own need; without it there is one line more (cni/deploy/README.md). */
const LOOPBACK = `${BIN}/loopback`

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-install-'))
  for (const each of [BIN, CONF]) mkdirSync(at(each), { recursive: true })
  writeFileSync(at(LOOPBACK), '')
  said = []
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

function options(more: Partial<InstallOptions> = {}): InstallOptions {
  return {
    ...{ binDir: at(BIN), confDir: at(CONF), conflist: PACKAGED_CONFLIST, waitS: 0 },
    socket: at('run/hawser/cni.sock'),
    tell: line => said.push(line),
    ...more,
  }
}

function leaving(more: Partial<UninstallOptions> = {}): UninstallOptions {
  return {
    ...{ binDir: at(BIN), confDir: at(CONF), socket: at('run/hawser/cni.sock') },
    ...{ state: at('lib/hawser/state.db'), hostDevice: 'hwnone', tell: line => said.push(line) },
    ...{ purge: false, force: false, dryRun: false },
    ...more,
  }
}

/** A daemon as far as `status` goes; it is ready when `ready()` says so. */
async function daemon(ready: () => boolean): Promise<void> {
  const handlers = {
    cni: () => Promise.reject(new Error('none here')),
    query: async () => ({ ...STATUS, ready: ready(), notes: ['pods are being restored'] }),
  }
  const server = await serve(at('run/hawser/cni.sock'), handlers, recorder().log)
  closers.push(() => server.close())
}

/** Everything below `folder` that is no folder, but LOOPBACK. */
function files(): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => !entry.isDirectory() && !entry.isSocket())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter(path => path !== LOOPBACK)
    .sort()
}

describe('the daemon first', () => {
  test('without one nothing is written', async () => {
    await expect(install(options())).rejects.toThrow(
      `the daemon can not serve, nothing is installed: ${at('run/hawser/cni.sock')}: no such socket (is the daemon running?)`,
    )
    expect(files()).toEqual([])
  })

  test('nor when it answers that it is not ready; the command says so and exits with 1', async () => {
    await daemon(() => false)
    const args = [CLI, 'install', '--bin-dir', at(BIN), '--conf-dir', at(CONF)]
    const { code, stdout, stderr } = await run(process.execPath, [
      ...args,
      ...['--socket', at('run/hawser/cni.sock'), '--wait', '1'],
    ])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(
      `hawser: the daemon can not serve after 1 s, nothing is installed: ${at('run/hawser/cni.sock')}: it is not ready (pods are being restored)\n`,
    )
    expect(files()).toEqual([])
  })

  test('the executable alone needs none', async () => {
    await install(options({ only: 'executable' }))
    expect(files()).toEqual([`${BIN}/hawser`])
  })

  test('--wait installs as soon as it is ready', async () => {
    let asked = 0
    await daemon(() => ++asked > 3)
    await install(options({ waitS: 60 }))
    expect(asked).toBe(4)
    expect(files()).toEqual([`${CONF}/${CONFLIST}`, `${BIN}/hawser`])
  })
})

describe('what is written', () => {
  test('is whole, has its modes, and is left alone the second time', async () => {
    await daemon(() => true)
    await install(options())
    expect(readFileSync(at(`${BIN}/hawser`)).equals(readFileSync(EXECUTABLE))).toBe(true)
    const list = JSON.parse(readFileSync(at(`${CONF}/${CONFLIST}`), 'utf8'))
    expect(list).toMatchObject({
      name: 'hawser',
      plugins: [{ type: 'hawser', attach: 'tun', socket: at('run/hawser/cni.sock') }],
    })
    const modes = [`${BIN}/hawser`, `${CONF}/${CONFLIST}`].map(each => statSync(at(each)).mode)
    expect(modes.map(mode => mode & 0o7777)).toEqual([0o755, 0o644])
    expect(said).toEqual([`installed ${at(BIN)}/hawser`, `installed ${at(CONF)}/${CONFLIST}`])
    const inodes = files().map(each => statSync(at(each)).ino)
    said = []
    await install(options())
    expect(files().map(each => statSync(at(each)).ino)).toEqual(inodes)
    expect(said.map(line => line.split(' ')[0])).toEqual(['unchanged', 'unchanged'])
  })

  test('a runtime that watches the folder sees the configuration whole or not at all', async () => {
    await daemon(() => true)
    const seen: { event: string; name: string; text?: string }[] = []
    const watcher: FSWatcher = watch(at(CONF), (event, name) => {
      const file = at(`${CONF}/${name}`)
      seen.push({
        event,
        name: name ?? '',
        ...(existsSync(file) ? { text: readFileSync(file, 'utf8') } : {}),
      })
    })
    closers.push(() => watcher.close())
    await install(options())
    await until('the watcher sees it', () => seen.some(each => each.name === CONFLIST))
    const final = seen.filter(each => each.name === CONFLIST)
    // Only a rename: no write under the final name.
    expect(new Set(final.map(each => each.event))).toEqual(new Set(['rename']))
    for (const { text } of final) expect(JSON.parse(text!).name).toBe('hawser')
    const temporary = seen.filter(each => each.name !== CONFLIST)
    expect(temporary.length).toBeGreaterThan(0)
    for (const { name } of temporary) expect(name).toMatch(/^\.hawser-[0-9a-f]{16}\.tmp$/)
  })

  test('an executable that runs goes on, and its place has the new one', async () => {
    const old = at(`${BIN}/hawser`)
    // Another version: the same program with something behind its end.
    writeFileSync(old, Buffer.concat([readFileSync(EXECUTABLE), Buffer.from('older')]), {
      mode: 0o755,
    })
    const busy = new Running(old, [], { env: { CNI_COMMAND: 'VERSION' } })
    closers.push(() => busy.stop())
    await once(busy.child, 'spawn')
    await install(options({ only: 'executable' }))
    expect(readFileSync(old).equals(readFileSync(EXECUTABLE))).toBe(true)
    busy.child.stdin!.end('{"cniVersion":"1.1.0"}')
    expect(await busy.ended).toBe(0)
    expect(busy.lines.join('')).toContain('supportedVersions')
  })

  test('others in the folder are named, and which one a runtime takes', async () => {
    await daemon(() => true)
    writeFileSync(at(`${CONF}/05-other.conf`), '{}')
    writeFileSync(at(`${CONF}/99-third.json`), '{}')
    writeFileSync(at(`${CONF}/00-notes.txt`), '')
    await install(options())
    expect(said.slice(2)).toEqual([
      `${at(CONF)}/05-other.conf sorts before ${CONFLIST}: runtimes use the first one, not ours (move it away)`,
      `${at(CONF)}/99-third.json sorts behind ${CONFLIST}: not used`,
    ])
  })

  test('a runtime without its loopback is warned of, and installed for', async () => {
    rmSync(at(LOOPBACK))
    await daemon(() => true)
    const warning = `${at(LOOPBACK)} is not there: containerd 1.x starts no pod without it (install the CNI plugins of your distribution)`
    for (const only of ['executable', 'conflist'] as const) {
      said = []
      await install(options({ only }))
      expect(said).toEqual([expect.stringMatching(/^installed /), warning])
    }
    expect(files()).toEqual([`${CONF}/${CONFLIST}`, `${BIN}/hawser`])
  })

  test('a missing folder is made, for root alone to write', async () => {
    rmSync(at('opt'), { recursive: true })
    await install(options({ only: 'executable' }))
    expect(statSync(at(BIN)).mode & 0o7777).toBe(0o755)
  })
})

describe('places that are not safe', () => {
  const refused = (cause: RegExp, more: Partial<InstallOptions> = {}): Promise<void> =>
    expect(install(options({ only: 'executable', ...more }))).rejects.toThrow(cause)

  test('a path that is not absolute, or none', async () => {
    await refused(/--bin-dir: "bin" is not an absolute path/, { binDir: 'bin' })
    await refused(/--bin-dir: holds a zero byte/, { binDir: `${at(BIN)}\0` })
  })

  test('a folder that others may write, or that is not root’s, or below such a one', async () => {
    chmodSync(at('opt/cni'), 0o777)
    await refused(/opt\/cni: others than root may write there/)
    await refused(/opt\/cni: others than root may write there/, { binDir: at('opt/cni/new') })
    chmodSync(at('opt/cni'), 0o755)
    chmodSync(at(BIN), 0o1777)
    await refused(/bin: others than root may write there/)
    chmodSync(at(BIN), 0o755)
    chownSync(at('opt'), NOBODY, NOBODY)
    await refused(new RegExp(`opt: belongs to user ${NOBODY}`))
    expect(files()).toEqual([])
  })

  test('a file instead of the folder', async () => {
    rmSync(at(BIN), { recursive: true })
    writeFileSync(at(BIN), '')
    await refused(/bin: not a folder/)
  })

  test('a link, a folder or a stranger at the destination', async () => {
    writeFileSync(at('passwd'), 'precious')
    symlinkSync(at('passwd'), at(`${BIN}/hawser`))
    await refused(/hawser: a symbolic link, not a file; it is left alone/)
    rmSync(at(`${BIN}/hawser`))
    mkdirSync(at(`${BIN}/hawser`))
    await refused(/hawser: a folder, not a file/)
    rmSync(at(`${BIN}/hawser`), { recursive: true })
    writeFileSync(at(`${BIN}/hawser`), '#!/bin/sh\n')
    await refused(/hawser: not hawser's; it is left alone/)
    expect(readFileSync(at('passwd'), 'utf8')).toBe('precious')
    rmSync(at(`${BIN}/hawser`))
    symlinkSync(at('passwd'), at(`${CONF}/${CONFLIST}`))
    await refused(/conflist: a symbolic link/, { only: 'conflist' })
    expect(files()).toEqual([`${CONF}/${CONFLIST}`, 'passwd'])
  })

  test('a link to a safe folder is taken for it', async () => {
    symlinkSync(at(BIN), at('plugins'))
    await install(options({ only: 'executable', binDir: at('plugins') }))
    expect(existsSync(at(`${BIN}/hawser`))).toBe(true)
  })

  test('what is not our executable is not installed', async () => {
    await refused(/not hawser's executable/, { executable: '/bin/true' })
    await refused(/none: no such file \(build it/, { executable: at('none') })
  })
})

describe('the configuration list', () => {
  const good = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'hawser' }] }
  const write = (list: unknown, name = 'net.conflist'): string => {
    const file = at(name)
    writeFileSync(file, typeof list === 'string' ? list : JSON.stringify(list))
    return file
  }

  test('names its socket and its chain; a file keeps its bytes', () => {
    const chain = { ...good, plugins: [{ type: 'hawser', socket: '/run/a' }, { type: 'portmap' }] }
    const file = write(chain)
    expect(readConflist(file)).toMatchObject({
      ...{ fileName: 'net.conflist', socket: '/run/a', plugins: ['hawser', 'portmap'] },
      bytes: readFileSync(file),
    })
  })

  test.each<[string, unknown, RegExp]>([
    ['no JSON', '{"a":', /net\.conflist: /],
    ['YAML', 'cniVersion: 1.0.0', /not a JSON object/],
    ['a version of tomorrow', { ...good, cniVersion: '2.0.0' }, /cniVersion: /],
    ['one of several', { ...good, cniVersions: ['1.0.0', '9.0.0'] }, /cniVersions\[1\]: /],
    ['no versions', { ...good, cniVersions: [] }, /cniVersions/],
    ['no name', { ...good, name: undefined }, /name: missing/],
    ['a name that is a path', { ...good, name: '../x' }, /name: not a name/],
    ['no plugins', { ...good, plugins: [] }, /plugins/],
    ['a stranger first', { ...good, plugins: [{ type: 'bridge' }] }, /plugins\[0\]\.type: not/],
    ['a type that is a path', { ...good, plugins: [{ type: '../sh' }] }, /type: .*not a file name/],
    ['a key of ours', { ...good, plugins: [{ type: 'hawser', attach: 'macvtap' }] }, /attach/],
    ['an MTU', { ...good, plugins: [{ type: 'hawser', mtu: 12 }] }, /mtu/],
    [
      'a socket',
      { ...good, plugins: [{ type: 'hawser', socket: 'x' }] },
      /socket: not an absolute/,
    ],
  ])('is refused for %s', (_, list, cause) => {
    expect(() => readConflist(write(list))).toThrow(cause)
  })

  test('is refused for its name, and for another socket than the daemon’s', () => {
    expect(() => readConflist(write(good, 'net.json'))).toThrow(/does not end in \.conflist/)
    const other = { ...good, plugins: [{ type: 'hawser', socket: '/run/a' }] }
    expect(() => readConflist(write(other), '/run/b')).toThrow(
      /socket: \/run\/a, but the daemon is asked at \/run\/b/,
    )
  })

  test('that comes with the package is good as it is', () => {
    const list = readConflist(PACKAGED_CONFLIST)
    expect(list).toMatchObject({ fileName: CONFLIST, socket: '/run/hawser/cni.sock' })
    expect(list.bytes.equals(readFileSync(PACKAGED_CONFLIST))).toBe(true)
  })

  test('a plugin of the chain that is not there is told', async () => {
    await daemon(() => true)
    const socket = at('run/hawser/cni.sock')
    const file = write({ ...good, plugins: [{ type: 'hawser', socket }, { type: 'portmap' }] })
    await install(options({ conflist: file }))
    expect(said.at(-1)).toBe(`${at(BIN)}/portmap is not there: the chain can't run`)
  })
})

describe('uninstall', () => {
  const DAMAGED = 'lib/hawser/state.db.damaged-20260102T030405678Z'

  /** All that a node has, beside files of strangers; returns the strangers'. */
  async function furnish(): Promise<string[]> {
    await daemon(() => true)
    await install(options())
    await closers.pop()!()
    for (const path of [at('run/hawser/cni.sock'), at('lib/hawser/state.db')]) takeLock(path)()
    new State(at('lib/hawser/state.db')).close()
    mkdirSync(at('run/hawser/queue'), { mode: 0o700 })
    for (const name of [`${'1'.repeat(20)}-7.del`, `${'2'.repeat(20)}-7.del.broken`, '.tmp-x']) {
      writeFileSync(at(`run/hawser/queue/${name}`), '')
    }
    writeFileSync(at(`${CONF}/.hawser-0123456789abcdef.tmp`), 'cut')
    for (const ending of ['', '-wal']) writeFileSync(at(`${DAMAGED}${ending}`), 'no database')
    const strange = {
      [`${CONF}/20-bridge.conflist`]: '{"plugins":[{"type":"bridge"},{"type":"hawser"}]}',
      [`${CONF}/30-hawser.conf`]: 'not JSON at all',
      [`${CONF}/.hawser-mine.tmp`]: '',
      [`${BIN}/bridge`]: '#!/bin/sh',
      'run/hawser/notes': '',
      'lib/hawser/state.db.bak': '',
    }
    for (const [name, text] of Object.entries(strange)) writeFileSync(at(name), text)
    symlinkSync(at(`${CONF}/20-bridge.conflist`), at(`${CONF}/40-link.conflist`))
    return [...Object.keys(strange), `${CONF}/40-link.conflist`].sort()
  }

  test('keeps state and queue, and with --purge leaves the strangers alone', async () => {
    const strangers = await furnish()
    const all = files()
    said = []
    await uninstall(leaving({ purge: true, dryRun: true }))
    expect(files()).toEqual(all)
    const planned = said.filter(line => line.startsWith('would remove '))
    expect(planned.length).toBe(all.length - strangers.length)
    expect(planned.slice(0, 3)).toEqual([
      `would remove ${at(CONF)}/${CONFLIST}`,
      `would remove ${at(CONF)}/.hawser-0123456789abcdef.tmp`,
      `would remove ${at(BIN)}/hawser`,
    ])

    await uninstall(leaving())
    const kept = ['lib/hawser/state.db', DAMAGED, `${DAMAGED}-wal`, 'lib/hawser/state.db.lock']
    const queue = all.filter(name => name.startsWith('run/hawser/queue/'))
    expect(files()).toEqual([...strangers, ...kept, ...queue].sort())

    said = []
    await uninstall(leaving({ purge: true }))
    expect(files()).toEqual(strangers)
    expect(said).toContain(`removed ${at('lib/hawser/state.db')}`)
    expect(existsSync(at('run/hawser/queue'))).toBe(false)
    expect(said).toContainEqual(expect.stringMatching(/^left alone: .*40-link.*symbolic link/))

    said = []
    await uninstall(leaving({ purge: true }))
    const others = /^left alone|^nft tables are not looked for/
    expect(said.filter(line => !others.test(line))).toEqual(['nothing to remove'])
    expect(files()).toEqual(strangers)
  })

  test('folders of our name go when nothing is in them, other ones stay', async () => {
    await furnish()
    rmSync(at('run/hawser/notes'))
    rmSync(at('lib/hawser/state.db.bak'))
    await uninstall(leaving({ purge: true }))
    expect([readdirSync(at('run')), readdirSync(at('lib'))]).toEqual([[], []])
    expect(existsSync(at(BIN))).toBe(true)
  })

  test('not while a daemon runs', async () => {
    await furnish()
    const all = files()
    closers.push(takeLock(at('lib/hawser/state.db')))
    for (const force of [false, true]) {
      await expect(uninstall(leaving({ purge: true, force }))).rejects.toThrow(
        /a hawser daemon already serves it/,
      )
    }
    expect(files()).toEqual(all)
  })

  test('a state file of others and a socket that is none stay', async () => {
    for (const name of ['run/hawser', 'lib/hawser']) mkdirSync(at(name), { recursive: true })
    writeFileSync(at('lib/hawser/state.db'), 'not SQLite')
    writeFileSync(at('run/hawser/cni.sock'), 'a file')
    await uninstall(leaving({ purge: true, force: true }))
    expect(files()).toEqual(['lib/hawser/state.db', 'run/hawser/cni.sock'])
    expect(said[0]).toMatch(/^left alone: .*state\.db: file is not a database/)
  })

  test('what plugins were not asked to undo stops a purge', async () => {
    const state = new State(at('lib/hawser/state.db'))
    const key = { network: 'net', containerId: 'abc', ifname: 'eth0' }
    const call = {
      type: 'host-local',
      netns: '',
      args: '',
      path: '/opt/cni/bin',
      config: '{}',
      created: 1,
    }
    state.keepDelegation(key, call)
    state.close()
    await uninstall(leaving())
    await expect(uninstall(leaving({ purge: true }))).rejects.toThrow(/1 addresses of IPAM plugins/)
    const later = new State(at('lib/hawser/state.db'))
    later.forgetDelegation(key)
    later.keepSecondary(key, { ...call, position: 0 })
    later.close()
    await expect(uninstall(leaving({ purge: true }))).rejects.toThrow(/1 further interfaces are/)
    await uninstall(leaving({ purge: true, force: true }))
    expect(files()).toEqual([])
  })

  test('a pod whose namespace can not be looked at may still be there', async () => {
    const state = new State(at('lib/hawser/state.db'))
    state.insert({
      ...{ network: 'net', containerId: 'abc', ifname: 'eth0', phase: 'attached', kind: 'tun' },
      ...{ netns: at('netns/pod'), netnsDev: '4', netnsIno: '7', pod: 'a/b', created: 1 },
    })
    state.close()
    const all = files()
    await expect(uninstall(leaving())).rejects.toThrow(/^pods are attached: net\/abc\/eth0 /)
    expect(files()).toEqual(all)
    // With the folder that it was in, but without it, it is gone.
    mkdirSync(at('netns'))
    await uninstall(leaving({ purge: true }))
    expect(files()).toEqual([])
  })

  test('a socket that nobody serves any more goes', async () => {
    mkdirSync(at('run/hawser'), { recursive: true })
    const server = createServer().listen(at('run/hawser/cni.sock'))
    await once(server, 'listening')
    copyFileSync(EXECUTABLE, at(`${BIN}/hawser`))
    await uninstall(leaving())
    expect(existsSync(at('run/hawser/cni.sock'))).toBe(false)
    expect(said.map(line => basename(line))).toContain('cni.sock')
    server.close()
  })
})
