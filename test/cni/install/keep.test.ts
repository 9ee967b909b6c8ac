/** What the daemon installs and looks after, on real folders: it appears when the daemon serves, and stays. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Installation, type KeepOptions } from '../../../cni/install/keep.ts'
import { PACKAGED_CONFLIST } from '../../../cni/install/place.ts'
import { until } from '../../harness/until.ts'
import { EXECUTABLE, recorder } from '../plugin/hawser-plugin.ts'

let folder = ''
let causes: string[] = []
let records: Record<string, unknown>[] = []
const closing: (() => unknown)[] = []
const at = (path: string): string => join(folder, path)
const [BIN, CONF] = ['opt/cni/bin', 'etc/cni/net.d']
const LIST = `${CONF}/10-hawser.conflist`
const PROGRAM = `${BIN}/hawser`
const packaged = readFileSync(PACKAGED_CONFLIST, 'utf8')

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-keep-'))
  for (const each of [BIN, CONF]) mkdirSync(at(each), { recursive: true })
  writeFileSync(at(`${BIN}/loopback`), '')
  causes = []
})
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close()
  rmSync(folder, { recursive: true, force: true })
})

function keep(more: Partial<KeepOptions> = {}): Installation {
  const recording = recorder()
  records = recording.records
  const installation = new Installation({
    ...{ binDir: at(BIN), confDir: at(CONF), conflist: PACKAGED_CONFLIST },
    ...{ socket: '/run/hawser/cni.sock', log: recording.log, causes: () => causes },
    ...more,
  })
  closing.push(() => installation.close())
  return installation
}

const said = (message: string): Record<string, unknown>[] =>
  records.filter(({ msg }) => msg === message)
const standing = (installation: Installation): Promise<unknown> =>
  until('it stands', () => installation.problem === undefined)
const broken = (installation: Installation): Promise<unknown> =>
  until('it does not stand', () => installation.problem !== undefined)

test('both are in place when the daemon serves, and stay when it ends', () => {
  const installation = keep()
  expect(installation).toMatchObject({ problem: undefined, remarks: [] })
  expect(readFileSync(at(LIST), 'utf8')).toBe(packaged)
  expect(readFileSync(at(PROGRAM)).equals(readFileSync(EXECUTABLE))).toBe(true)
  expect(statSync(at(PROGRAM)).mode & 0o777).toBe(0o755)
  expect(said('installed').map(({ file }) => file)).toEqual([at(PROGRAM), at(LIST)])
  installation.close()
  const before = statSync(at(LIST)).ino
  expect(keep().problem).toBeUndefined()
  expect(statSync(at(LIST)).ino).toBe(before)
  expect(said('installed')).toEqual([])
})

test('the configuration waits for a daemon that can not serve; the executable does not', async () => {
  causes = ['no packet frame is left']
  const installation = keep()
  expect(installation.problem).toBe('it waits for the daemon: no packet frame is left')
  expect([existsSync(at(PROGRAM)), existsSync(at(LIST))]).toEqual([true, false])
  causes = []
  await standing(installation)
  expect(readFileSync(at(LIST), 'utf8')).toBe(packaged)
})

test('one that is there already stays, whatever the daemon can', () => {
  keep().close()
  causes = ['no packet frame is left']
  expect(keep().problem).toBeUndefined()
  expect(existsSync(at(LIST))).toBe(true)
})

test.each<[string, (file: string) => void]>([
  ['removed', file => rmSync(file)],
  ['emptied', file => writeFileSync(file, '')],
  ['made writable for all', file => chmodSync(file, 0o666)],
])('what is %s comes back', async (_, harm) => {
  keep()
  for (const [file, mode] of [
    [LIST, 0o644],
    [PROGRAM, 0o755],
  ] as const) {
    const { size } = statSync(at(file))
    harm(at(file))
    const mended = (): boolean =>
      existsSync(at(file)) &&
      statSync(at(file)).size === size &&
      (statSync(at(file)).mode & 0o777) === mode
    await until(`${file} is back`, mended)
  }
})

test('another list of the operator follows', async () => {
  mkdirSync(at('config'))
  const list = JSON.parse(packaged)
  const write = (mtu: number): void => {
    const plugins = [{ ...list.plugins[0], mtu }]
    writeFileSync(at('config/10-hawser.conflist'), JSON.stringify({ ...list, plugins }))
  }
  write(1400)
  keep({ conflist: at('config/10-hawser.conflist') })
  const mtu = (): number => JSON.parse(readFileSync(at(LIST), 'utf8')).plugins[0].mtu
  expect(mtu()).toBe(1400)
  write(1300)
  await until('the other list is there', () => mtu() === 1300)
})

test.each<[string, () => void, () => void, RegExp]>([
  [
    'a folder that others may write to',
    () => chmodSync(at(CONF), 0o775),
    () => chmodSync(at(CONF), 0o755),
    /net\.d: others than root may write there/,
  ],
  [
    "a stranger's list in our place",
    () => writeFileSync(at(LIST), '{"plugins":[{"type":"bridge"}]}'),
    () => rmSync(at(LIST)),
    /10-hawser\.conflist: not hawser's; it is left alone/,
  ],
  [
    "a stranger's program in our place",
    () => writeFileSync(at(PROGRAM), '#!/bin/sh\n'),
    () => rmSync(at(PROGRAM)),
    /bin\/hawser: not hawser's/,
  ],
])('%s: it says so, goes on, and recovers', async (_, harm, mend, cause) => {
  harm()
  const installation = keep()
  expect(installation.problem).toMatch(cause)
  expect(said('the installation does not stand')).toHaveLength(1)
  mend()
  await standing(installation)
  expect(existsSync(at(LIST)) && existsSync(at(PROGRAM))).toBe(true)
  harm()
  await broken(installation)
  expect(installation.problem).toMatch(cause)
  mend()
  await standing(installation)
})

test('a broken list of the operator changes nothing of what stands', async () => {
  mkdirSync(at('config'))
  writeFileSync(at('config/10-hawser.conflist'), packaged)
  const installation = keep({ conflist: at('config/10-hawser.conflist') })
  writeFileSync(at('config/10-hawser.conflist'), '{')
  await broken(installation)
  expect(readFileSync(at(LIST), 'utf8')).toBe(packaged)
  writeFileSync(at('config/10-hawser.conflist'), packaged)
  await standing(installation)
})

test('another configuration that sorts before ours is remarked, once', async () => {
  writeFileSync(at(`${CONF}/05-other.conflist`), '{}')
  const installation = keep()
  const remark = `${at(CONF)}/05-other.conflist sorts before 10-hawser.conflist: runtimes use the first one, not ours (move it away)`
  expect(installation).toMatchObject({ problem: undefined, remarks: [remark] })
  rmSync(at(`${CONF}/05-other.conflist`))
  await until('the remark goes', () => installation.remarks.length === 0)
  expect(records.filter(({ remark: told }) => told === remark)).toHaveLength(1)
})

test('folders that are not there are made, also when they go', async () => {
  rmSync(at('etc'), { recursive: true })
  const installation = keep()
  expect(installation.problem).toBeUndefined()
  rmSync(at('etc'), { recursive: true })
  await until('the list is back', () => existsSync(at(LIST)))
  expect(readdirSync(at(CONF))).toEqual(['10-hawser.conflist'])
})

test('who keeps removing ours is answered ever more slowly', async () => {
  keep()
  const ends = performance.now() + 3_500
  await until('time is over', () => {
    rmSync(at(LIST), { force: true })
    return performance.now() > ends
  })
  // At 0, 1 and 3 seconds; a busy machine makes it fewer.
  expect(said('it was gone or changed: installed again').length).toBeLessThanOrEqual(4)
})
