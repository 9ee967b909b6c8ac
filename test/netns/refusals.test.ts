// A daemon that cannot start says on one line what is missing and what helps, and leaves nothing; one
// that can do with less says so and serves.
//
//   one namespace   under0 192.168.77.1 ── veth ── under1
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, CLI, TestNode } from '../harness/node.ts'
import { type Finished, run } from '../harness/processes.ts'
import { NODE_A } from '../harness/topology.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const NFT = (await run('nft', ['--version']).catch(() => ({ code: 1 }))).code === 0
const namespaces = new Namespaces('refuse')
let netns: string
let folder: string
let node: TestNode | undefined
let untouched: string[]
const file = (name: string) => join(folder, name)
const links = async () =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)

beforeAll(async () => {
  netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  untouched = await links()
  folder = mkdtempSync(join(tmpdir(), 'hawser-refuse-'))
  writeFileSync(file('cluster.json'), JSON.stringify({ nodes: [NODE_A] }))
})
afterAll(async () => {
  await node?.remove()
  rmSync(folder, { recursive: true, force: true })
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

const SETPRIV = (capability: string) => [
  'setpriv',
  `--bounding-set=-${capability}`,
  `--inh-caps=-${capability}`,
]

/** Runs a daemon with this configuration to its end; `before`: a command in front of it. */
function daemon(
  config: Record<string, unknown>,
  before: readonly string[] = [],
): Promise<Finished> {
  const whole = {
    node: 'node-a',
    cluster: file('cluster.json'),
    socket: file('run/cni.sock'),
    state: file('state/state.db'),
    workers: 1,
    ...config,
  }
  writeFileSync(file('hawser.json'), JSON.stringify(whole))
  const words = [...before, process.execPath, CLI, 'daemon', '--config', file('hawser.json')]
  return run(words[0]!, words.slice(1), { netns })
}

function expectRefusal({ code, stderr, stdout }: Finished, ...texts: RegExp[]): void {
  expect(code).toBe(1)
  const lines = stderr.trim().split('\n')
  const last = lines.at(-1)!
  expect(last, stdout).toMatch(/^hawser: /)
  for (const text of texts) expect(last).toMatch(text)
}

test('a configuration that is wrong', async () => {
  expectRefusal(await daemon({ workers: 0 }), /hawser\.json/, /workers/)
  expectRefusal(await daemon({ wrkers: 1 }), /hawser\.json/, /wrkers/)
  expectRefusal(await daemon({ vni: 1 << 24 }), /vni/)
  expectRefusal(await daemon({ socket: 'cni.sock' }), /socket/, /absolute/)
  expectRefusal(await daemon({ underlay: { mode: 'fast' } }), /underlay\.mode/)
  const none = [CLI, 'daemon', '--config', file('none.json')]
  expectRefusal(await run(process.execPath, none, { netns }), /none\.json/)
  expectRefusal(await run(process.execPath, [CLI, 'dameon'], { netns }), /dameon/)
  expect(await links()).toEqual(untouched)
})

test('a cluster file that is wrong', async () => {
  expectRefusal(await daemon({ cluster: file('none.json') }), /none\.json/)
  expectRefusal(await daemon({ node: 'node-z' }), /cluster\.json/, /node-z/)
  writeFileSync(
    file('moved.json'),
    JSON.stringify({ nodes: [{ ...NODE_A, vtep: '192.168.77.9' }] }),
  )
  expectRefusal(await daemon({ cluster: file('moved.json') }), /192\.168\.77\.9/, /no interface/)
  expect(await links()).toEqual(untouched)
})

test('capabilities that are missing', async () => {
  expectRefusal(await daemon({}, SETPRIV('net_admin')), /CAP_NET_ADMIN is missing/, /run as root/)
  expectRefusal(await daemon({}, SETPRIV('sys_admin')), /CAP_SYS_ADMIN is missing/, /run as root/)
  expect(await links()).toEqual(untouched)
})

test('AF_XDP on a device with fewer queues than workers', async () => {
  const refused = await daemon({ workers: 2, underlay: { mode: 'xdp' } })
  expectRefusal(refused, /under0 has 1 receive queues, 2 workers need as many/)
  expect(await links()).toEqual(untouched)
})

test('an underlay device that is not there', async () => {
  expectRefusal(await daemon({ underlay: { device: 'eth7' } }), /eth7/, /no such interface/)
})

test.skipIf(!NFT)(
  'without UDP segments the underlay is AF_XDP, or UDP packet by packet, and says why',
  async () => {
    const nft = (...words: string[]) => run('nft', words, { netns })
    await nft('add table inet hwt; add chain inet hwt in { type filter hook input priority 0; }')
    // What the trial sends never arrives.
    await nft('add rule inet hwt in iif lo meta l4proto udp drop')
    try {
      for (const { workers, mode, note } of [
        { workers: 1, mode: 'xdp', note: /under0 by AF_XDP: a trial of UDP segments .*ETIMEDOUT/ },
        {
          ...{ workers: 2, mode: 'udp' },
          note: /under0 by UDP sockets, packet by packet: .*ETIMEDOUT.*2 workers need as many/,
        },
      ]) {
        node = new TestNode('node-a', netns, { cluster: [NODE_A], workers })
        await node.start()
        const { underlay, notes } = await node.ask<DataplaneStatus>('status')
        expect(underlay).toMatchObject({ mode, device: 'under0' })
        expect(underlay.why).toMatch(mode === 'xdp' ? /ETIMEDOUT/ : /AF_XDP does not work/)
        expect(notes.join('\n')).toMatch(note)
        await node.remove()
      }
    } finally {
      await nft('delete table inet hwt')
    }
  },
)

test('by itself the underlay is UDP where segments work; one socket has one daemon', async () => {
  node = new TestNode('node-a', netns, { cluster: [NODE_A], workers: 2 })
  await node.start()
  const status = await expectSound(node)
  expect(status.underlay).toMatchObject({ mode: 'udp', why: 'UDP segments work' })
  const second = await daemon({ socket: node.socket })
  expectRefusal(second, /already serves it/, new RegExp(`process ${node.pid}`))
  await expectSound(node)
  const pods = [
    await addPod(namespaces, node, 'a1', 'tun'),
    await addPod(namespaces, node, 'a2', 'xdp'),
  ]
  await expectPing(pods[0]!, pods[1]!)
})

test('the command line without a daemon', async () => {
  const asked = await run(process.execPath, [CLI, 'status', '--socket', file('none.sock')], {
    netns,
  })
  expectRefusal(asked, /none\.sock/, /is the daemon running/)
})
