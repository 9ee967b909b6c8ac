/** IPAM plugins as programs: which file may be run, what it gets to see, and how it can fail. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import { callDelegate, findDelegate, type Limits } from '../../../cni/invoke/exec.ts'
import { until } from '../../harness/until.ts'
import {
  type Behaviour,
  FAKE,
  type FakeDelegate,
  fakeDelegate,
  fakeIpam,
  isRunning,
} from './fake-delegate.ts'

let folder = ''
let fake: FakeDelegate
let records: Record<string, unknown>[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-delegate-'))
  fake = fakeDelegate(folder)
  records = []
})
afterEach(() => {
  for (const pid of fake.pids()) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

const log = createLogger('debug', 'node-a', { write: line => void records.push(JSON.parse(line)) })

/** A file with a shebang and this text. */
function script(name: string, text = 'echo {}', mode = 0o755): string {
  const path = join(fake.folder, name)
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, mode)
  return path
}

interface Call {
  type?: string
  verb?: string
  config?: string
  limits?: Limits
  signal?: AbortSignal
  path?: string
}

function call({ type = FAKE, verb = 'ADD', path = fake.folder, ...rest }: Call = {}) {
  const { config = JSON.stringify({ ipam: {} }), signal, limits } = rest
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/x',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: 'A=B',
    CNI_PATH: path,
  }
  return callDelegate({ type, env, config }, log, signal, limits)
}

const behaving = (behaviour: Behaviour): string =>
  JSON.stringify({ cniVersion: '1.0.0', ipam: fakeIpam({}, { ADD: behaviour }) })

describe('which file', () => {
  test('is the first of that name in CNI_PATH; other folders than absolute ones are passed over', () => {
    const other = join(folder, 'other')
    mkdirSync(other)
    expect(findDelegate(FAKE, `${other}:${fake.folder}`)).toBe(join(fake.folder, FAKE))
    writeFileSync(join(other, FAKE), '', { mode: 0o755 })
    expect(findDelegate(FAKE, `${other}:${fake.folder}`)).toBe(join(other, FAKE))
    expect(findDelegate(FAKE, `plugins:.::${folder}/none`)).toBeUndefined()
    expect(findDelegate('other', fake.folder)).toBeUndefined()
    expect(findDelegate(FAKE, '')).toBeUndefined()
  })

  test.each(['../plugins/fake-ipam', '/bin/sh', '..', 'fake.ipam', '', 'a b', `a\0b`])(
    'is never %j',
    name => {
      expect(() => findDelegate(name, fake.folder)).toThrow(expect.objectContaining({ code: 7 }))
    },
  )

  test("is run only when it is root's alone, also behind a link", () => {
    symlinkSync(script('good'), join(fake.folder, 'link'))
    expect(findDelegate('link', fake.folder)).toBe(join(fake.folder, 'good'))
    mkdirSync(join(fake.folder, 'folder'))
    chownSync(script('strange'), 65_534, 65_534)
    script('writable', '', 0o775)
    script('plain', '', 0o644)
    symlinkSync(join(fake.folder, 'writable'), join(fake.folder, 'bad-link'))
    symlinkSync('nowhere', join(fake.folder, 'dangling'))
    for (const [name, cause] of [
      ['folder', 'not a regular file'],
      ['strange', 'it belongs to user 65534'],
      ['writable', 'others may write it'],
      ['plain', 'not executable'],
      ['bad-link', 'others may write it'],
    ] as const) {
      expect(() => findDelegate(name, fake.folder)).toThrow(
        expect.objectContaining({
          code: 4,
          message: `IPAM plugin ${join(fake.folder, name)}: ${cause}`,
        }),
      )
    }
    expect(findDelegate('dangling', fake.folder)).toBeUndefined()
  })
})

describe('a call', () => {
  test('shows the variables and the whole configuration, and gives the answer', async () => {
    const config = { cniVersion: '1.0.0', more: ['ä'], ipam: fakeIpam({ ips: [] }) }
    expect(await call({ config: JSON.stringify(config) })).toEqual({ cniVersion: '1.0.0', ips: [] })
    const [asked, ...others] = fake.asked()
    expect(others).toEqual([])
    expect(asked).toMatchObject({ config, cwd: '/' })
    expect(asked?.env).toEqual({
      PATH: process.env['PATH'],
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: '/run/netns/x',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'A=B',
      CNI_PATH: fake.folder,
    })
    expect(records).toMatchObject([
      { level: 'info', msg: 'an IPAM plugin says', ipam: FAKE, verb: 'ADD', line: 'ADD is asked' },
    ])
  })

  test('may be answered by nothing', async () => {
    expect(await call({ verb: 'DEL' })).toBeUndefined()
  })

  test('works with a plugin that does not read', async () => {
    script('deaf', 'echo \'{"a":1}\'')
    expect(await call({ type: 'deaf', config: ' '.repeat(1_000_000) })).toEqual({ a: 1 })
  })

  test.each<[Behaviour, number, RegExp]>([
    ['refuse', 117, /^IPAM plugin fake-ipam: ADD is refused$/],
    ['unknown', 5, /: who\?$/],
    ['fail', 5, /it ended with 9: out of order$/],
    ['junk', 6, /its answer is not JSON: your address is: 10\.0\.0\.2$/],
    ['flood', 6, /it answers more than 1048576 bytes$/],
  ])('fails when the plugin does: %s', async (behaviour, code, message) => {
    await expect(call({ config: behaving(behaviour) })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  test('passes the details of an error on', async () => {
    await expect(call({ config: behaving('refuse') })).rejects.toMatchObject({
      details: 'ask again',
    })
  })

  test('takes an error for one whatever the exit code says', async () => {
    script('odd', `echo '{"code":7,"msg":"no"}'`)
    await expect(call({ type: 'odd' })).rejects.toMatchObject({ code: 7 })
    script('other', `echo '{"code":"7","msg":5}'; exit 1`)
    await expect(call({ type: 'other' })).rejects.toMatchObject({ code: 5 })
    script('killed', 'kill -9 $$')
    await expect(call({ type: 'killed' })).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining('SIGKILL'),
    })
  })

  test('says what is missing', async () => {
    await expect(call({ type: 'none' })).rejects.toMatchObject({
      code: 4,
      message: `IPAM plugin none: not in ${fake.folder}`,
    })
    await expect(call({ path: '' })).rejects.toMatchObject({
      code: 4,
      message: `IPAM plugin ${FAKE}: CNI_PATH is empty`,
    })
    writeFileSync(join(fake.folder, 'text'), 'no program', { mode: 0o755 })
    await expect(call({ type: 'text' })).rejects.toMatchObject({ code: 5 })
    writeFileSync(join(fake.folder, 'lost'), '#!/nowhere/sh\n', { mode: 0o755 })
    await expect(call({ type: 'lost' })).rejects.toMatchObject({ code: 5 })
  })

  test('ends with its time, and what it started ends too', async () => {
    const slow = call({ config: behaving('hang'), limits: { ms: 1000 } })
    await expect(slow).rejects.toMatchObject({
      code: 11,
      message: `IPAM plugin ${FAKE}: no answer within 1000 ms`,
    })
    await until('both have ended', () => !fake.pids().some(isRunning))
  })

  test('ends when its caller gives up, with the reason', async () => {
    const giveUp = new AbortController()
    const hanging = call({ config: behaving('hang'), signal: giveUp.signal })
    hanging.catch(() => {})
    await until('it hangs', () => fake.pids().length === 2)
    giveUp.abort(new Error('enough'))
    await expect(hanging).rejects.toThrow('enough')
    await until('both have ended', () => !fake.pids().some(isRunning))
    await expect(call({ signal: giveUp.signal })).rejects.toThrow('enough')
  })

  test('logs only so much of what a plugin says, and nothing that a terminal obeys', async () => {
    script('loud', 'i=0; while [ $i -lt 300 ]; do printf "\\033[2J%s\\n" $i >&2; i=$((i+1)); done')
    await call({ type: 'loud' })
    expect(records).toHaveLength(100)
    expect(records[0]).toMatchObject({ line: '?[2J0' })
  })
})
