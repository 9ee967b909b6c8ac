// Install and uninstall on a node with a real daemon, pods, links and nft tables, beside those of
// strangers.
//
//     node   under0 192.168.77.1 ── veth ── under1     hawser0 (TUN)
//            pods: one TUN, one veth                   strangers: a TUN, a veth pair, nft tables
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { noNft } from '../harness/needs.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, CLI, TestNode, type TestPod } from '../harness/node.ts'
import { type Finished, must, Running, run } from '../harness/processes.ts'
import { NODE_A } from '../harness/topology.ts'
import { tellLogsOnFailure } from './expect.ts'

const namespaces = new Namespaces('inst')
const NFT = noNft('tables of others') === undefined
if (!NFT) process.stderr.write('install: nft is not there: its tables are left out\n')
let netns: string
let folder: string
let node: TestNode
let pods: TestPod[]
let strangers: string[]
const at = (name: string) => join(folder, name)

const links = async (where: string): Promise<string[]> =>
  (JSON.parse(await ip(where, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)
const tables = async (): Promise<string[]> =>
  NFT ? (await must('nft', ['list', 'tables'], { netns })).trim().split('\n').sort() : []

function hawser(command: string, ...more: string[]): Promise<Finished> {
  const folders = ['--bin-dir', at('bin'), '--conf-dir', at('net.d'), '--socket', node.socket]
  return run(process.execPath, [CLI, command, ...folders, ...more], { netns })
}
const uninstall = (...more: string[]) => hawser('uninstall', '--state', node.state, ...more)

beforeAll(async () => {
  netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  for (const device of ['under0', 'under1']) await ip(netns, 'link', 'set', device, 'up')
  // Strangers: names like ours, but neither kind, MAC nor row.
  await ip(netns, 'link', 'add', 'hw0123456789ab', 'type', 'veth', 'peer', 'name', 'hawser1')
  await ip(netns, 'tuntap', 'add', 'mode', 'tun', 'name', 'hawser2')
  if (NFT) {
    for (const table of [
      ['inet', 'hawser'],
      ['ip', 'hawser-other'],
      ['ip', 'world'],
    ]) {
      await must('nft', ['add', 'table', ...table], { netns })
    }
  }
  strangers = await links(netns)
  folder = mkdtempSync(join(tmpdir(), 'hawser-inst-'))
  for (const name of ['bin', 'net.d']) mkdirSync(at(name))
  for (const name of ['bridge', 'loopback']) writeFileSync(at(`bin/${name}`), '')
  node = new TestNode('node-a', netns, {
    ...{ cluster: [NODE_A], underlayMode: 'vxlan' },
    ...(NFT ? { masquerade: true } : {}),
  })
})
afterAll(async () => {
  await node?.remove()
  rmSync(folder, { recursive: true, force: true })
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

test('install waits for a daemon that starts, and says when it is done', async () => {
  const refused = await hawser('install')
  expect(refused).toMatchObject({ code: 1, stdout: '' })
  expect(refused.stderr).toMatch(/can not serve, nothing is installed: .*no such socket/)
  expect([readdirSync(at('bin')), readdirSync(at('net.d'))]).toEqual([['bridge', 'loopback'], []])

  const waiting = hawser('install', '--wait', '100')
  await node.start()
  const { code, stdout, stderr } = await waiting
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toBe(
    `installed ${at('bin/hawser')}\ninstalled ${at('net.d/10-hawser.conflist')}\n`,
  )
  // What was installed is what a runtime can use: the executable, with the list's own plugin.
  const list = JSON.parse(readFileSync(at('net.d/10-hawser.conflist'), 'utf8'))
  const { name, cniVersion, plugins } = list
  const status = await run(at('bin/hawser'), [], {
    netns,
    env: { CNI_COMMAND: 'STATUS', CNI_PATH: at('bin') },
    input: JSON.stringify({ ...plugins[0], name, cniVersion: '1.1.0' }),
  })
  expect({ cniVersion, ...status }).toEqual({
    cniVersion: '1.0.0',
    code: 0,
    stdout: '',
    stderr: '',
  })
})

test('uninstall refuses while the daemon runs, and while pods are attached', async () => {
  pods = [
    await addPod(namespaces, node, 'tun', 'tun'),
    await addPod(namespaces, node, 'xdp', 'xdp'),
    await addPod(namespaces, node, 'tap', 'tap'),
  ]
  const before = await links(netns)
  for (const more of [[], ['--force', '--purge']]) {
    const { code, stderr } = await uninstall(...more)
    expect(code).toBe(1)
    expect(stderr).toMatch(/a hawser daemon already serves it \(process \d+\); stop that one first/)
  }
  await node.stop()
  const { code, stdout, stderr } = await uninstall()
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  const ids = pods.map(pod => `hawser/${pod.containerId}/eth0`)
  expect(stderr).toMatch(/^hawser: pods are attached: /)
  for (const id of ids) expect(stderr).toContain(id)
  expect(await links(netns)).toEqual(before)
  expect(existsSync(at('net.d/10-hawser.conflist'))).toBe(true)
})

test('what a crash leaves is found, too', async () => {
  await node.start()
  await node.stop('SIGKILL')
  const { code, stdout } = await uninstall('--dry-run', '--force', '--purge')
  expect(code).toBe(0)
  expect(stdout).toContain(`would remove ${node.socket}\n`)
  expect(existsSync(node.socket)).toBe(true)
})

test('a device that somebody has open is not ours', async () => {
  const args = ['uninstall', '--host-device', 'hawser2', '--dry-run', '--force']
  const script = [
    'import fcntl, struct, sys',
    "tun = open('/dev/net/tun', 'r+b', buffering=0)",
    // TUNSETIFF with IFF_TUN (linux/if_tun.h).
    "fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'hawser2', 1))",
    "print('open', flush=True)",
    'sys.stdin.read()',
  ].join('\n')
  const holder = new Running('python3', ['-c', script], { netns })
  try {
    await holder.until(line => line === 'open')
    await ip(netns, 'link', 'set', 'hawser2', 'up')
    const [command, ...more] = args
    const { code, stdout } = await hawser(command!, '--state', node.state, ...more)
    expect({ code, stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('left alone: hawser2: another program has it open\n'),
    })
  } finally {
    await holder.stop()
  }
  const other = await hawser(
    'uninstall',
    '--state',
    node.state,
    '--host-device',
    'under0',
    '--dry-run',
    '--force',
  )
  expect(other.stdout).toContain('left alone: under0: it is a device of kind veth\n')
})

test('with --force all that is ours goes, and nothing else', async () => {
  const found = await tables()
  if (NFT) expect(found).toContain('table ip hawser')
  const dry = await uninstall('--force', '--purge', '--dry-run')
  expect(await tables()).toEqual(found)
  const { code, stdout, stderr } = await uninstall('--force', '--purge')
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const lines = stdout.trim().split('\n')
  expect(lines.slice(0, 2)).toEqual([
    `removed ${at('net.d/10-hawser.conflist')}`,
    `removed ${at('bin/hawser')}`,
  ])
  // The dry run has said the same, but for folders that are empty only afterwards.
  const planned = dry.stdout.trim().split('\n')
  expect(lines.slice(0, planned.length)).toEqual(
    planned.map(line => line.replace('would remove', 'removed')),
  )
  expect((await links(netns)).sort()).toEqual([...strangers].sort())
  for (const pod of pods) expect(await links(pod.netns)).toEqual(['lo'])
  if (NFT)
    expect(await tables()).toEqual(['table inet hawser', 'table ip hawser-other', 'table ip world'])
  expect([readdirSync(at('bin')), readdirSync(at('net.d'))]).toEqual([['bridge', 'loopback'], []])
  expect(readdirSync(join(node.folder, 'run'))).toEqual([])
  expect(readdirSync(join(node.folder, 'state'))).toEqual([])
})

test('twice is as good as once', async () => {
  expect(await uninstall('--force', '--purge')).toEqual({
    code: 0,
    stdout: 'nothing to remove\n',
    stderr: '',
  })
})

test('and the node can have it again', async () => {
  cpSync(at('bin/bridge'), at('bin/other'))
  await node.start()
  const { code } = await hawser('install')
  expect(code).toBe(0)
  const pod = await addPod(namespaces, node, 'again', 'tun')
  expect(await links(pod.netns)).toContain('eth0')
})
