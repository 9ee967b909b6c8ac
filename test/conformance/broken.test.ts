/** The runner itself: a plugin that is wrong must fail the cases that say so, and only cleanly. */

import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Case, Skipped } from '../../cni/conformance/case.ts'
import { Failed } from '../../cni/conformance/failed.ts'
import { conformance, type Outcome, type Report } from '../../cni/conformance/runner.ts'
import { CLI } from '../harness/node.ts'
import { Running, run } from '../harness/processes.ts'
import { until } from '../harness/until.ts'
import { brokenPlugin } from './broken-plugin.ts'

let folder = ''
let broken: { plugin: string; conflist: string }
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-broken-'))
  broken = brokenPlugin(folder)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Namespaces that a runner in this process, or in one of ours, has left. */
function namespaces(pid = process.pid): string[] {
  if (!existsSync('/run/netns')) return []
  return readdirSync('/run/netns').filter(name => name.startsWith(`hwc-${pid.toString(36)}`))
}

describe('a plugin that is wrong', () => {
  let report: Report
  const of = (id: string): Outcome => report.cases.find(each => each.id === id)!
  beforeAll(async () => {
    const skip = '*killed*,*hundred*,*chain*,*huge*,*pool*,*talk*'
    report = await conformance({ ...broken, skip })
  })

  test.each([
    ['05-unlisted-version', /not one JSON document: level=info/],
    ['05-unknown-version', /not one JSON document/],
    ['08-conflist-versions', /does not list 1\.1\.0/],
    ['02-add-without-netns', /absent: ADD succeeded, an error was expected/],
    ['03-containerid-bad', /CNI_CONTAINERID="-a": ADD succeeded/],
    ['03-ifname-bad', /CNI_IFNAME="\.": ADD succeeded/],
    ['03-network-bad', /an error was expected/],
    ['04-config-truncated', /not one JSON document/],
    ['05-result-form', /no interfaces\[\]\.mtu/],
    ['10-result-indexes', /index 1 of 1 interfaces/],
    ['10-result-addresses', /the pod has no interface eth0/],
    ['10-add-and-del', /the pod has no interface eth0/],
    ['09-add-twice', /ADD succeeded, an error was expected/],
    ['09-foreign-interface', /ADD succeeded, an error was expected/],
    ['07-prev-result-kept', /the earlier interface is not in front/],
    ['15-del-without-netns', /DEL answered code 999, "no namespace"/],
    ['15-del-dead-netns', /DEL answered code 999/],
    ['18-check-without-prevresult', /CHECK succeeded, an error was expected/],
    ['18-check-unknown', /CHECK succeeded, an error was expected/],
    ['05-status-too-early', /exit code 3 without an error document/],
    ['05-gc-too-early', /ended by SIGSEGV/],
    ['06-no-command', /ended by SIGSEGV/],
    ['04-unknown-command', /ended by SIGSEGV/],
  ])('fails %s', (id, why) => {
    expect(of(id)).toMatchObject({ verdict: 'failed', why: expect.stringMatching(why) })
  })

  test('passes what it does right', () => {
    const right = ['06-version-list', '05-version-echoed', '05-result-version', '15-del-unknown']
    for (const id of right) expect(of(id).verdict).toBe('passed')
  })

  test('is counted, in the versions that it lists and where it is refused only', () => {
    const { passed, failed, skipped, cases } = report
    expect(passed + failed + skipped).toBe(cases.length)
    expect(report.versions).toEqual(['1.0.0'])
    const others = cases.filter(each => each.specVersion !== '1.0.0').map(each => each.id)
    expect(new Set(others)).toEqual(new Set(['05-unlisted-version']))
    expect(new Set(cases.map(each => `${each.id}@${each.specVersion}`)).size).toBe(cases.length)
    for (const { why } of cases) expect(why).not.toBe('')
  })

  test('leaves no namespace', () => {
    expect(namespaces()).toEqual([])
  })
})

describe('the runner', () => {
  const once = (id: string, run: Case['run']): Case => ({ id, name: id, runs: 'once', run })

  test('a pass, a failure, a skip and a broken tool are told apart', async () => {
    const { cases } = await conformance({
      ...broken,
      cases: [
        once('1', async () => 'seen'),
        once('2', async () => {
          throw new Failed('not so')
        }),
        once('3', async () => {
          throw new Skipped('can not')
        }),
        once('4', async context => {
          await context.pod()
          throw new Error('ip ended with 1')
        }),
      ],
    })
    expect(cases.map(each => [each.verdict, each.why])).toEqual([
      ['passed', 'seen'],
      ['failed', 'not so'],
      ['skipped', 'can not'],
      ['failed', 'not tried: ip ended with 1'],
    ])
    expect(namespaces()).toEqual([])
  })

  test('a plugin that does not end, or whose child keeps stdout, fails in bounded time', async () => {
    const hanging = join(folder, 'hanging')
    const script = `#!${process.execPath}
if (process.env.CNI_COMMAND === 'ADD') setInterval(() => {}, 1000)
else if (process.env.CNI_COMMAND === 'DEL') {
  require('node:child_process').spawn(process.execPath, ['-e', 'setTimeout(() => {}, 5000)'], { stdio: 'inherit', detached: true }).unref()
}`
    writeFileSync(hanging, script, { mode: 0o755 })
    const conflist = join(folder, 'hanging.conf')
    writeFileSync(conflist, JSON.stringify({ name: 'hanging', type: 'hanging' }))
    const told: (string | undefined)[] = []
    const { cases } = await conformance({
      ...{ plugin: hanging, conflist, timeoutS: 0.5 },
      cases: [
        once('hanging', async context => {
          const pod = await context.pod()
          for (const verb of ['ADD', 'DEL']) told.push((await context.call(verb, pod)).fault)
          return 'seen'
        }),
      ],
    })
    expect(cases[0]!.why).toBe('seen')
    expect(told[0]).toMatch(/did not end within .* and was killed/)
    expect(told[1]).toMatch(/keeps its pipes open/)
  })

  test('a daemon of its own is started in its node, and again behind a case that killed it', async () => {
    const readySocket = join(folder, 'daemon.sock')
    const script = join(folder, 'daemon.cjs')
    const listen = `fs.rmSync(path, { force: true }); require('node:net').createServer(c => c.destroy()).listen(path)`
    writeFileSync(
      script,
      `const fs = require('node:fs'); const path = ${JSON.stringify(readySocket)}; ${listen}`,
    )
    const seen: (boolean | undefined)[] = []
    const { cases } = await conformance({
      ...broken,
      daemon: { command: `${process.execPath} ${script}`, readySocket },
      cases: [
        once('1', async ({ daemon }) => {
          seen.push(daemon?.running)
          await daemon!.stop('SIGKILL')
          seen.push(daemon?.running)
          return 'seen'
        }),
        once('2', async ({ daemon }) => {
          seen.push(daemon?.running, daemon?.restartable)
          return 'seen'
        }),
      ],
    })
    expect(cases.map(each => each.verdict)).toEqual(['passed', 'passed'])
    expect(seen).toEqual([true, false, true, true])
  })

  test('a daemon that runs already is only frozen; its namespace is the node', async () => {
    const loop = `console.log('up'); setInterval(() => {}, 1000)`
    const daemon = new Running('unshare', ['--net', process.execPath, '-e', loop])
    try {
      await daemon.until(line => line === 'up')
      const pid = daemon.child.pid!
      const state = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0]
      const { cases } = await conformance({
        ...broken,
        daemon: { pid },
        cases: [
          once('1', async context => {
            expect(readlinkSync(context.node)).toBe(readlinkSync(`/proc/${pid}/ns/net`))
            context.daemon!.freeze()
            await until('it is stopped', () => state() === 'T')
            return `restartable: ${context.daemon!.restartable}`
          }),
        ],
      })
      expect(cases[0]).toMatchObject({ verdict: 'passed', why: 'restartable: false' })
      await until('it goes on', () => state() !== 'T')
    } finally {
      await daemon.stop('SIGKILL')
    }
  })

  test('what can not be run is said', async () => {
    const { plugin, conflist } = broken
    await expect(conformance({ plugin: conflist, conflist })).rejects.toThrow(/not an executable/)
    const other = join(folder, 'other.conf')
    writeFileSync(other, JSON.stringify({ name: 'x', type: 'other' }))
    await expect(conformance({ plugin, conflist: other })).rejects.toThrow(
      /no plugin of type broken/,
    )
    await expect(conformance({ ...broken, only: 'nothing-like-it' })).rejects.toThrow(/no case/)
    const daemon = { pid: process.pid }
    await expect(conformance({ ...broken, daemon })).rejects.toThrow(/own network namespace/)
    const dying = { command: `${process.execPath} -e throw(7)`, readySocket: join(folder, 's') }
    await expect(conformance({ ...broken, daemon: dying })).rejects.toThrow(/daemon is not ready/)
    expect(namespaces()).toEqual([])
  })
})

describe('the command', () => {
  const cli = (...args: string[]) => run(process.execPath, [CLI, 'conformance', ...args])
  const plugin = () => ['--plugin', broken.plugin, '--conflist', broken.conflist]

  test('--list names at least 150 cases, each once', async () => {
    const { code, stdout } = await cli('--list')
    const names = stdout
      .trim()
      .split('\n')
      .map(line => line.split(' ')[0]!)
    expect(code).toBe(0)
    expect(names.length).toBeGreaterThanOrEqual(150)
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) expect(name).toMatch(/^\d\d-[a-z0-9-]+@\d\.\d\.\d$/)
  })

  test('--json and --junit; the exit code says whether something failed', async () => {
    const junit = join(folder, 'report.xml')
    const only = '06-version-list,08-conflist'
    const bad = await cli(...plugin(), '--json', '--junit', junit, '--only', only)
    expect(bad.code).toBe(1)
    const report = JSON.parse(bad.stdout)
    expect(Object.keys(report)).toEqual(['plugin', 'passed', 'failed', 'skipped', 'cases'])
    expect(report).toMatchObject({ plugin: broken.plugin, passed: 1, failed: 1, skipped: 0 })
    expect(Object.keys(report.cases[0])).toEqual(['id', 'name', 'specVersion', 'verdict', 'why'])
    expect(readFileSync(junit, 'utf8')).toContain('tests="2" failures="1" skipped="0"')
    const good = await cli(...plugin(), '--only', '06-version-list')
    expect(good.code).toBe(0)
    expect(good.stdout).toContain('1 passed, 0 failed, 0 skipped')
  })

  test('what is wrong with its options is one line', async () => {
    for (const [args, cause] of [
      [[], /--plugin and --conflist/],
      [[...plugin(), '--timeout', '0'], /--timeout/],
      [[...plugin(), '--daemon', 'x'], /--daemon-ready-socket/],
      [[...plugin(), '--daemon', 'x', '--daemon-pid', '1'], /not both/],
    ] as const) {
      const { code, stderr } = await cli(...args)
      expect(code).toBe(1)
      expect(stderr).toMatch(cause)
      expect(stderr.trim().split('\n')).toHaveLength(1)
    }
  })
})
