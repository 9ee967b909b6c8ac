/**
 * The control group: Debian's `bridge` with `host-local`, whose gaps are known. What the runner finds
 * there shows that it finds something, and that it blames nobody for what is right.
 */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { conformance } from '../../cni/conformance/runner.ts'
import { noPlugin } from '../harness/needs.ts'
import { run } from '../harness/processes.ts'
import { LONG } from '../runner/tiers.ts'

const RUN_MS = 600_000
const BRIDGE = '/usr/lib/cni/bridge'
const CONFLIST = fileURLToPath(
  new URL('../../cni/conformance/examples/bridge.conflist', import.meta.url),
)

/** What `bridge` 1.1.1 gets wrong. */
const KNOWN = [
  '04-error-document', // errors have no cniVersion
  '04-own-netns', // it attaches the node to itself
  '05-version-echoed', // always the newest
  '07-prev-result-kept',
  '11-delegate-undone', // a failed ADD leaves its veth, and the interface in the pod
  '13-late-del', // the interface is known by its namespace only
  '15-del-netns-is-a-file',
  '18-check-mtu',
  '21-delegate-missing',
  '21-delegate-refuses',
  '21-delegate-rubbish',
  '22-pool-full', // as with delegates that refuse
]
/** An old form of results, the newest, and the version that it does not list; at length all. */
const VERSIONS = LONG ? {} : { only: '*@0.4.0,*@1.0.0,*@1.1.0' }
/** What depends on which step a kill or another DEL meets. */
const BY_CHANCE = /killed|15-del-at-once|11-pool-whole/

test.skipIf(noPlugin('bridge', 'the control group') !== undefined)(
  'bridge fails what it is known to fail, and nothing else',
  async () => {
    const { stderr } = await run(BRIDGE, [], { env: {} })
    const report = await conformance({ plugin: BRIDGE, conflist: CONFLIST, ...VERSIONS })
    const failed = report.cases.filter(each => each.verdict === 'failed')
    const ids = [...new Set(failed.map(each => each.id))].filter(id => !BY_CHANCE.test(id)).sort()
    const told = failed.map(({ id, specVersion, why }) => `${id}@${specVersion}: ${why}`)
    expect(ids, `${stderr}\n${told.join('\n')}`).toEqual(KNOWN)
    expect(report.passed).toBeGreaterThan(LONG ? 400 : 150)
    const skipped = report.cases.filter(each => each.verdict === 'skipped')
    for (const { why } of skipped) expect(why).toMatch(/no daemon|does not list|is not in \//)
  },
  RUN_MS,
)
