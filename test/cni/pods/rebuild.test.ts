/**
 * A state file that is filled from what lies in network namespaces, honest and not. Devices are made by
 * `ip`; the state is opened by a process in the node's namespace (rebuild-process.ts).
 *
 *     node ┬ hw… (labels that no pod reaches) ── eth0  pod x…
 *          └ (nothing of a TUN)                  eth0  pod t…
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Labelled } from '../../../cni/pods/label.ts'
import type { Attachment } from '../../../cni/state/state.ts'
import { vethNames } from '../../../dataplane/devices/veth.ts'
import { native } from '../../../native/native.ts'
import { must } from '../../harness/processes.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'

const PROGRAM = fileURLToPath(new URL('./rebuild-process.ts', import.meta.url))
const CIDRS = ['10.244.1.0/24', 'fd44::/64']

interface Record {
  level: string
  msg: string
  ifname?: string
  cause?: string
  label?: string
  attachments?: string[]
}

let folder = ''
let node: Namespace
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-rebuild-'))
  node = addNamespace()
})
afterEach(() => {
  removeNamespaces()
  rmSync(folder, { recursive: true, force: true })
})

async function rebuild(): Promise<{ rows: Attachment[]; records: Record[] }> {
  const args = [PROGRAM, join(folder, 'state.db'), folder, ...CIDRS]
  return JSON.parse(await must(process.execPath, args, { netns: node.path }))
}

/** The rows, and why others were refused, in the order of their interfaces' labels. */
async function outcome(): Promise<{ rows: Attachment[]; refused: (string | undefined)[] }> {
  const { rows, records } = await rebuild()
  const refused = records.filter(each => each.msg.endsWith('is refused'))
  expect(refused.every(each => each.level === 'error')).toBe(true)
  return { rows, refused: refused.map(({ cause }) => cause) }
}

const identity = ({ path }: Namespace) => native.netnsIdentity(path)

function pod(k: number, more: Partial<Labelled> = {}): Labelled {
  const own = { network: 'hawser', containerId: `c${k}`, ifname: 'eth0' }
  return { ...own, ip4: `10.244.1.${k}`, ip6: `fd44::${k}`, ...more }
}

function label({ network, containerId, ifname, ip4, ip6, overlay }: Labelled, of = node): string {
  const parts = [overlay, network, containerId, ifname, ip4, ip6].map(each => each ?? '')
  return `hawser/${identity(of).ino}/${parts.join('/')}`
}

const idOf = ({ network, containerId, ifname }: Labelled) => `${network}/${containerId}/${ifname}`

/** Addresses of an interface, and what it says of itself. */
function dress(netns: Namespace, device: string, of: Labelled, alias = label(of)): void {
  netns.ip('link', 'set', device, 'mtu', '1400', 'alias', alias)
  if (of.ip4 !== undefined) netns.ip('addr', 'add', `${of.ip4}/32`, 'dev', device)
  if (of.ip6 === undefined) return
  native.sysctlWrite(netns.path, `ipv6/conf/${device}/disable_ipv6`, '0')
  netns.ip('addr', 'add', `${of.ip6}/128`, 'dev', device, 'nodad')
}

function tun(of: Labelled, netns = addNamespace(), alias?: string): Namespace {
  netns.ip('tuntap', 'add', 'mode', 'tun', of.ifname)
  dress(netns, of.ifname, of, alias)
  return netns
}

function veth(of: Labelled, netns = addNamespace(), mac?: string): Namespace {
  const { hostDevice, hostMac, podMac } = vethNames(idOf(of))
  const peer = ['peer', 'name', of.ifname, 'address', mac ?? podMac, 'netns', netns.name]
  node.ip('link', 'add', hostDevice, 'address', hostMac, 'type', 'veth', ...peer)
  node.ip('link', 'set', hostDevice, 'alias', label(of))
  dress(netns, of.ifname, of)
  return netns
}

function row(of: Labelled, netns: Namespace, kind: 'tun' | 'xdp', more: Partial<Attachment> = {}) {
  const { dev, ino } = identity(netns)
  const where = { netns: netns.path, netnsDev: String(dev), netnsIno: String(ino) }
  const rest = { phase: 'attached', kind, mtu: 1400, pod: '', created: expect.any(Number) }
  return { ...of, ...where, ...rest, ...more }
}

const byId = (rows: Attachment[]) =>
  rows.toSorted((a, b) => a.containerId.localeCompare(b.containerId))

test('pods of both kinds, of one family, of an overlay, and with a MAC of their own', async () => {
  const own = { mac: '02:00:00:00:00:07' }
  const [a, b, c, d] = [pod(2), pod(3), pod(4, { ip6: undefined! }), pod(5)]
  delete c.ip6
  const blue: Labelled = { ...pod(6), overlay: 'blue', ip4: '10.9.0.6' }
  delete blue.ip6
  const made = [tun(a), veth(b), tun(c), veth(d, addNamespace(), own.mac), tun(blue)] as const
  const second = pod(7, { containerId: 'c2', ifname: 'net1' })
  tun(second, made[0])
  const before = Date.now()
  const { rows, records } = await rebuild()
  expect(byId(rows)).toEqual([
    row(a, made[0], 'tun'),
    row(second, made[0], 'tun'),
    row(b, made[1], 'xdp'),
    row(c, made[2], 'tun'),
    row(d, made[3], 'xdp', { runtime: own }),
    row(blue, made[4], 'tun'),
  ])
  for (const { created } of rows) expect(created).toBeLessThan(before)
  expect(records).toHaveLength(1)
  expect(records[0]).toMatchObject({
    level: 'warn',
    attachments: expect.arrayContaining([idOf(a)]),
  })
  expect(records[0]?.attachments).toHaveLength(6)
  // It is done: what comes later is not taken for a pod's.
  tun(pod(9))
  expect((await rebuild()).rows).toHaveLength(6)
})

test('a further interface keeps its routes, and takes no default route', async () => {
  const netns = tun(pod(2))
  const second = pod(3, { containerId: 'c2', ifname: 'net1' })
  tun(second, netns)
  for (const device of ['eth0', 'net1']) netns.ip('link', 'set', device, 'up')
  netns.ip('route', 'add', 'default', 'dev', 'eth0')
  const { ifindex } = (
    JSON.parse(netns.ip('-j', 'link', 'show', 'net1')) as { ifindex: number }[]
  )[0]!
  netns.ip('route', 'add', 'default', 'dev', 'net1', 'table', String(4096 + ifindex))
  for (const to of ['192.0.2.0/24', '2001:db8::/64']) {
    netns.ip('route', 'add', to, 'dev', 'net1', 'proto', 'static')
  }
  const { rows } = await rebuild()
  const further = { runtime: { further: ['192.0.2.0/24', '2001:db8::/64'] } }
  expect(rows).toHaveLength(2)
  expect(rows).toContainEqual(row(pod(2), netns, 'tun'))
  expect(rows).toContainEqual(row(second, netns, 'tun', further))
})

test('nothing is there: nothing is said', async () => {
  addNamespace()
  expect(await rebuild()).toEqual({ rows: [], records: [] })
})

test('pods of another node on the same machine are its own', async () => {
  const other = addNamespace()
  tun(pod(2), addNamespace(), label(pod(2), other))
  expect(await rebuild()).toEqual({ rows: [], records: [] })
})

describe('refused', () => {
  test('what the label says is not so', async () => {
    const cases: [string, () => void][] = [
      [
        'its name is eth7',
        () => {
          const netns = addNamespace()
          netns.ip('tuntap', 'add', 'mode', 'tun', 'eth7')
          dress(netns, 'eth7', pod(2))
        },
      ],
      [
        'it does not have 10.244.1.3',
        () => tun(pod(3)).ip('addr', 'del', '10.244.1.3/32', 'dev', 'eth0'),
      ],
      [
        'it does not have fd44::4',
        () => tun(pod(4)).ip('addr', 'del', 'fd44::4/128', 'dev', 'eth0'),
      ],
      [
        'a device of kind bridge',
        () => {
          const netns = addNamespace()
          netns.ip('link', 'add', 'eth0', 'type', 'bridge')
          dress(netns, 'eth0', pod(5))
        },
      ],
      ['not as labels are written', () => tun(pod(6), addNamespace(), `${label(pod(6))}/more`)],
      ['not a name (', () => tun(pod(7), addNamespace(), label(pod(7, { containerId: '$(id)' })))],
    ]
    for (const [, make] of cases) make()
    const { rows, refused } = await outcome()
    expect(rows).toEqual([])
    expect(refused).toHaveLength(cases.length)
    for (const [cause] of cases) expect(refused).toContainEqual(expect.stringContaining(cause))
  })

  test.each(['10.244.2.2', '10.244.1.0', '10.244.1.1', '10.244.1.255', '192.0.2.1'])(
    'an address that no pod of this node may have: %s',
    async ip4 => {
      tun(pod(2, { ip4 }))
      const { rows, refused } = await outcome()
      expect([rows, refused]).toEqual([[], [`${ip4} is not an address of this node's pods`]])
    },
  )

  test('an overlay that is not there', async () => {
    tun(pod(2, { overlay: 'red' }))
    const { rows, refused } = await outcome()
    expect([rows, refused]).toEqual([[], ['this node has no such overlay']])
  })

  test('of two TUNs that claim an address, or an attachment, both', async () => {
    tun(pod(2))
    tun(pod(3, { ip4: '10.244.1.2' }))
    tun(pod(4))
    tun(pod(5, { containerId: 'c4' }))
    const honest = tun(pod(9))
    const { rows, refused } = await outcome()
    expect(rows).toEqual([row(pod(9), honest, 'tun')])
    expect(refused).toHaveLength(4)
    for (const cause of refused) expect(cause).toMatch(/^eth0 in .* claims the same$/)
  })

  test('a TUN that claims what a veth has', async () => {
    const honest = veth(pod(2))
    tun(pod(3, { ip6: 'fd44::2' }))
    tun(pod(2))
    const { rows, refused } = await outcome()
    expect(rows).toEqual([row(pod(2), honest, 'xdp')])
    expect(refused).toHaveLength(2)
  })

  test('a veth that is not the other end of the node’s', async () => {
    // The label of an honest pod, on a pair of the thief's with the same indices.
    const honest = veth(pod(2))
    const index = (netns: Namespace, device: string) =>
      (JSON.parse(netns.ip('-j', 'link', 'show', device)) as { ifindex: number }[])[0]!.ifindex
    const [here, there] = [index(honest, 'eth0'), index(node, vethNames(idOf(pod(2))).hostDevice)]
    const [thief, aid] = [addNamespace(), addNamespace()]
    const peer = ['peer', 'name', 'p', 'index', String(there), 'netns', aid.name]
    thief.ip('link', 'add', 'eth0', 'index', String(here), 'type', 'veth', ...peer)
    dress(thief, 'eth0', pod(2))
    // And one that the node has never heard of.
    const stray = addNamespace()
    stray.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'p')
    dress(stray, 'eth0', pod(3))
    const { rows, refused } = await outcome()
    expect(rows).toEqual([row(pod(2), honest, 'xdp')])
    expect(refused).toHaveLength(2)
    for (const cause of refused)
      expect(cause).toMatch(/^hw[0-9a-f]{12} of the node is not its other end$/)
  })

  test('a veth whose pod has written something else on its end', async () => {
    const netns = veth(pod(2))
    netns.ip('link', 'set', 'eth0', 'alias', label(pod(2, { ip4: '10.244.1.77' })))
    netns.ip('addr', 'add', '10.244.1.77/32', 'dev', 'eth0')
    const { rows, records } = await rebuild()
    expect(rows).toEqual([])
    expect(records.map(each => each.cause)).toContainEqual(
      expect.stringMatching(/ of the node says otherwise$/),
    )
    expect(records.at(-1)?.msg).toContain("a pod's link without its pod")
  })
})
