// hawser itself: every case, driven as containerd drives it.
//
//   runner's node ┌───────────────────────────────────────┐
//                 │ daemon ── socket ── hawser ◄┼── the cases
//                 │ under0 192.168.77.1 ── veth ── under1 │
//                 └───────────────────────────────────────┘
//   pods: a namespace each
import { afterEach, describe, expect, test } from 'vitest'
import { conformance, type Options, type Report } from '../../cni/conformance/runner.ts'
import { noPlugin } from '../harness/needs.ts'
import { LONG } from '../runner/tiers.ts'
import { expectGreen, type HawserFiles, hawserFiles } from './hawser-daemon.ts'

/** Milliseconds for a whole run on a busy machine. */
const RUN_MS = 600_000
let files: HawserFiles | undefined
afterEach(() => files?.remove())

/** One version of each form that a result has had; at length all seven. */
const FORMS = ['0.2.0', '0.4.0', '1.1.0']
const VERSIONS = LONG ? {} : { only: FORMS.map(version => `*@${version}`).join(',') }

async function run(
  attach: 'tun' | 'xdp',
  options: Partial<Options>,
  config: object = {},
): Promise<Report> {
  files = hawserFiles(attach, config)
  return conformance({ ...files.options, ...options })
}

describe('hawser', () => {
  test(
    `on TUN: all cases of ${LONG ? 'all versions' : FORMS.join(', ')}`,
    async () => {
      const report = await run('tun', { skip: '*hung*', ...VERSIONS })
      expectGreen(report)
      expect(report.versions).toHaveLength(7)
      expect(report.passed).toBeGreaterThan(LONG ? 500 : 250)
      const passed = new Set(report.cases.filter(each => each.verdict === 'passed').map(c => c.id))
      for (const id of ['14-hundred-at-once', '16-dead-del', '14-restart-add', '11-pool-whole']) {
        expect(passed).toContain(id)
      }
      // Delegates that are configured nowhere are asked when they are offered.
      for (const id of ['21-delegate-asked', '21-delegate-stderr']) expect(passed).toContain(id)
    },
    RUN_MS,
  )

  test(
    'on veth and AF_XDP: all cases of the newest version',
    async () => {
      const report = await run('xdp', {
        only: '*@1.1.0',
        skip: '*hung*,*dead-*,*args*,*config*,*pool*',
      })
      expectGreen(report)
      expect(report.cases.find(each => each.id === '18-check-mac')?.verdict).toBe('passed')
    },
    RUN_MS,
  )

  test.skipIf(noPlugin('host-local', 'delegates') !== undefined)(
    'with an IPAM plugin: delegates are asked, and undone',
    async () => {
      const ranges = [[{ subnet: '10.244.1.0/25' }], [{ subnet: 'fd44:0:0:1::/64' }]]
      const ipam = { type: 'host-local', ranges }
      const report = await run('tun', { only: '*delegate*,10-*' }, { ipam })
      expectGreen(report)
      expect(report.skipped).toBe(0)
      expect(report.versions.at(-1)).toBe('1.0.0')
    },
    RUN_MS,
  )
})
