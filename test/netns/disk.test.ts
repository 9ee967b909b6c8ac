// A state file that can't be written: a disk that is full, one that is read-only. Verbs fail and say why,
// nothing is left half, and all works again when the disk does.
//
//   node a  ── state on a tmpfs of 512 KiB ── pods on TUN and on AF_XDP
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, deletePod, TestNode } from '../harness/node.ts'
import { must, run } from '../harness/processes.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const KINDS = ['tun', 'xdp'] as const

const namespaces = new Namespaces('disk')
let node: TestNode
let disk = ''
let serial = 0

beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  for (const device of ['under0', 'under1']) await ip(netns, 'link', 'set', device, 'up')
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  disk = dirname(node.state)
  mkdirSync(disk)
  await must('mount', ['-t', 'tmpfs', '-o', 'size=512k,mode=700', 'hawser-test', disk])
  await node.start()
})
afterAll(async () => {
  await node?.stop()
  await run('umount', [disk])
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

const interfaces = async (netns: string): Promise<string[]> =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]).map(each => each.ifname)

function rows(): unknown[] {
  const database = new DatabaseSync(node.state, { readOnly: true })
  try {
    return database.prepare('SELECT container FROM attachments').all()
  } finally {
    database.close()
  }
}

/** Takes what is left of the disk. */
function fill(): void {
  for (let bytes = 65_536; bytes >= 4096; ) {
    try {
      writeFileSync(join(disk, `filler-${serial++}`), Buffer.alloc(bytes))
    } catch {
      bytes /= 2
    }
  }
}

function empty(): void {
  for (let k = 0; k < serial; k++) rmSync(join(disk, `filler-${k}`), { force: true })
}

const FULL = /database or disk is full|disk I\/O error/

test('a disk that is full', async () => {
  const before = rows()
  const there = await addPod(namespaces, node, 'old', 'tun')
  const links = await interfaces(node.netns)
  fill()
  for (const attach of KINDS) {
    const netns = await namespaces.add(`full-${attach}`)
    const call = { containerId: `c-${attach}`, netns, config: node.config({ attach }) }
    const { exit, json } = await node.cni({ command: 'ADD', ...call })
    expect([exit, json['code'], json['msg']]).toEqual([1, 5, expect.stringMatching(FULL)])
    expect(await interfaces(netns)).toEqual(['lo'])
    // What was never there is gone, whatever the disk does.
    expect((await node.cni({ command: 'DEL', ...call })).exit).toBe(0)
  }
  expect(await interfaces(node.netns)).toEqual(links)
  expect(rows()).toHaveLength(before.length + 1)
  const status = () => node.cni({ command: 'STATUS', containerId: '', ifname: '' })
  const { json: told } = await status()
  expect([told['code'], told['msg']]).toEqual([
    50,
    expect.stringMatching(/state\.db can't be written since \d{4}-.*(full|disk I\/O error)/),
  ])
  // DEL is not held up; the address is nobody else's until that is on disk.
  expect((await deletePod(there)).exit).toBe(0)
  expect(rows()).toHaveLength(before.length + 1)
  empty()
  expect(await status()).toMatchObject({ exit: 0, json: {} })
  expect((await deletePod(there)).exit).toBe(0)
  expect(rows()).toEqual(before)
  const [one, other] = [
    await addPod(namespaces, node, 'q', 'tun'),
    await addPod(namespaces, node, 'r', 'xdp'),
  ]
  await expectPing(one, other)
  for (const pod of [one, other]) expect((await deletePod(pod)).exit).toBe(0)
  await expectSound(node)
})

test('a disk that is read-only at the start: refused by name, and nothing is taken for damage', async () => {
  const pod = await addPod(namespaces, node, 's', 'tun')
  await node.stop('SIGKILL')
  const files = readdirSync(disk)
  await must('mount', ['-o', 'remount,ro', disk])
  await expect(node.start()).rejects.toThrow(
    /it ended with 1: .*state\.db.*(readonly|unable to open)/,
  )
  await node.stop()
  await must('mount', ['-o', 'remount,rw', disk])
  expect(readdirSync(disk)).toEqual(files)
  await node.start()
  const { json } = await node.cni({
    ...{ command: 'CHECK', containerId: pod.containerId, netns: pod.netns },
    config: node.config({ attach: 'tun', prevResult: pod.result }),
  })
  expect(json).toEqual({})
  expect((await deletePod(pod)).exit).toBe(0)
})
