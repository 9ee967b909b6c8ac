// What is on the disk before somebody hears of it. A machine that loses its power keeps what was synced, and
// no more: the order of the daemon's, the executable's and the installer's system calls is looked at.
//
//   strace ─ node (a namespace, one pod) ─ state.db, state.db-wal, queue, /opt/cni/bin
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { damagedFiles } from '../../cni/state/damage.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { CLI, EXECUTABLE, TestNode } from '../harness/node.ts'
import { Running, run } from '../harness/processes.ts'
import {
  isDurable,
  isOn,
  isWrite,
  noStrace,
  readTrace,
  type SystemCall,
  straceTo,
} from '../harness/strace.ts'

const CALLS = [
  ...[
    'mkdir',
    'openat',
    'write',
    'writev',
    'pwrite64',
    'ftruncate',
    'fsync',
    'fdatasync',
    'unlink',
  ],
  ...['rename', 'renameat', 'renameat2', 'ioctl', 'listen', 'accept4', 'execve', 'exit_group'],
]

const skip = await noStrace()
const namespaces = new Namespaces('power')
let node: TestNode
let fake: FakeDelegate
let pod = ''
let daemon: Running | undefined
let traces = 0
let trace = ''

beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  // Without it there is no carrier, and no readiness.
  await ip(netns, 'link', 'set', 'under1', 'up')
  pod = await namespaces.add('pod')
  node = new TestNode('node-a', netns, {
    cluster: [{ name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24'] }],
    underlayMode: 'udp',
  })
  fake = fakeDelegate(node.folder)
})
afterAll(async () => {
  await daemon?.stop('SIGKILL')
  await node?.remove()
  await namespaces.removeAll()
})

async function start(): Promise<void> {
  trace = join(node.folder, `trace-${traces++}`)
  const words = [process.execPath, CLI, 'daemon', '--config', join(node.folder, 'hawser.json')]
  daemon = new Running('strace', [...straceTo(trace, CALLS), ...words], { netns: node.netns })
  await daemon.until(line => line.includes('"msg":"ready"'))
}

/** Runs a program to its end under strace; what it did. */
async function traced(
  file: string,
  args: readonly string[],
  env?: Record<string, string>,
  input = '',
) {
  const to = join(node.folder, `trace-${traces++}`)
  const words = [...straceTo(to, CALLS), file, ...args]
  const { code, stdout, stderr } = await run('strace', words, {
    netns: node.netns,
    input,
    ...(env === undefined ? {} : { env: { PATH: process.env['PATH'] ?? '', ...env } }),
  })
  return { code, said: `${stdout}${stderr}`, calls: readTrace(to) }
}

/** What the daemon has done for one verb: its calls from the connection to the answer, the last one. */
async function verb(command: string, containerId: string, more = {}): Promise<SystemCall[]> {
  const before = readTrace(trace).length
  const config = node.config(more)
  const { exit, json } = await node.cni({
    command,
    containerId,
    netns: pod,
    config,
    path: fake.folder,
  })
  expect([exit, json['msg']]).toEqual([0, undefined])
  const calls = readTrace(trace)
  const accepted = calls.findIndex(
    (each, k) => k >= before && /^\d+</.test(each.result) && each.name === 'accept4',
  )
  const socket = /<(.*)>$/.exec(calls[accepted]!.result)![1]!
  const answer = calls.findIndex((each, k) => k > accepted && isWrite(each, socket))
  expect(answer).toBeGreaterThan(accepted)
  return calls.slice(accepted, answer + 1)
}

const wal = () => `${node.state}-wal`
const writes = (calls: readonly SystemCall[]) => calls.filter(each => isWrite(each, wal()))
const find = (calls: readonly SystemCall[], name: string, text: string): SystemCall => {
  const found = calls.find(each => each.name === name && each.args.includes(text))
  expect(found, `${name} ${text}`).toBeDefined()
  return found!
}

describe.skipIf(skip !== undefined)('on the disk', () => {
  test('a new state file, its folder and what is in it, before the socket opens', async () => {
    await start()
    const calls = readTrace(trace)
    const listen = calls.find(each => each.name === 'listen' && each.result === '0')!
    const folder = dirname(node.state)
    const made = find(calls, 'mkdir', `"${folder}"`)
    expect(isDurable(calls, dirname(folder), listen, made)).toBe(true)
    for (const path of [node.state, wal()]) {
      const created = find(calls, 'openat', `"${path}", O_RDWR|O_CREAT`)
      expect(isDurable(calls, folder, listen, created), path).toBe(true)
      expect(isDurable(calls, path, listen), path).toBe(true)
    }
  })

  test('ADD: the addresses are written before the interface is made, and durable before the answer', async () => {
    const calls = await verb('ADD', 'c1')
    const interfaceMade = find(calls, 'ioctl', 'TUNSETIFF')
    const reserved = writes(calls).filter(each => each.ended < interfaceMade.begun)
    expect(reserved).not.toEqual([])
    expect(isDurable(calls, wal(), calls.at(-1)!, reserved.at(-1))).toBe(true)
    expect(writes(calls).at(-1)!.begun).toBeGreaterThan(interfaceMade.ended)
  })

  test('DEL: the interface before the row, that is written before the answer', async () => {
    const calls = await verb('DEL', 'c1')
    const gone = find(calls, 'ioctl', 'TUNSETPERSIST, 0')
    expect(writes(calls)[0]!.begun).toBeGreaterThan(gone.ended)
  })

  test("an IPAM plugin's call before the call, its addresses before the interface", async () => {
    const ipam = { ipam: fakeIpam({ ips: [{ address: '10.244.1.77/24' }] }) }
    const calls = await verb('ADD', 'c2', ipam)
    const called = find(calls, 'execve', `${FAKE}"`)
    const interfaceMade = find(calls, 'ioctl', 'TUNSETIFF')
    expect(called.begun).toBeLessThan(interfaceMade.begun)
    expect(isDurable(calls, wal(), called)).toBe(true)
    expect(
      writes(calls).some(each => called.ended < each.begun && each.ended < interfaceMade.begun),
    ).toBe(true)
    expect(isDurable(calls, wal(), interfaceMade)).toBe(true)
    const deleted = await verb('DEL', 'c2', ipam)
    const asked = find(deleted, 'execve', `${FAKE}"`)
    // The row is gone before the plugin is asked; its call is forgotten after that.
    expect(writes(deleted)[0]!.ended).toBeLessThan(asked.begun)
    expect(writes(deleted).at(-1)!.begun).toBeGreaterThan(asked.ended)
    expect(isDurable(deleted, wal(), deleted.at(-1)!)).toBe(true)
  })

  test('what is installed: bytes before the name, the name before it is told', async () => {
    const folders = ['bin', 'conf'].map(name => join(node.folder, name))
    for (const folder of folders) mkdirSync(folder)
    const { code, said, calls } = await traced(process.execPath, [
      ...[CLI, 'install', '--bin-dir', folders[0]!, '--conf-dir', folders[1]!],
      ...['--socket', node.socket],
    ])
    expect([code, said]).toEqual([0, expect.any(String)])
    for (const folder of folders) {
      const [name, ...more] = readdirSync(folder)
      expect(more).toEqual([])
      const renamed = find(calls, 'rename', `, "${join(folder, name!)}"`)
      const temporary = /^"([^"]*)"/.exec(renamed.args)![1]!
      expect(isDurable(calls, temporary, renamed)).toBe(true)
      const told = calls.find(
        each => each.name === 'write' && /^1</.test(each.args) && each.begun > renamed.ended,
      )
      expect(isDurable(calls, folder, told!, renamed)).toBe(true)
    }
  })

  test('a damaged file is set aside before another one is made', async () => {
    await daemon?.stop('SIGKILL')
    for (const ending of ['', '-wal'])
      writeFileSync(node.state + ending, 'no database '.repeat(1000))
    await start()
    const calls = readTrace(trace)
    const [kept] = damagedFiles(node.state)
    const renamed = ['', '-wal'].map(end =>
      find(calls, 'rename', `"${node.state}${end}", "${kept}${end}"`),
    )
    const created = calls.find(
      each =>
        each.name === 'openat' &&
        each.args.includes(`"${node.state}", O_RDWR|O_CREAT`) &&
        each.begun > renamed[0]!.ended,
    )
    for (const each of renamed) {
      expect(isDurable(calls, dirname(node.state), created!, each)).toBe(true)
    }
  })

  test('a DEL without a daemon: in the queue before the runtime hears that it is done', async () => {
    await daemon?.stop('SIGKILL')
    const env = {
      ...{ CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c9', CNI_NETNS: pod, CNI_IFNAME: 'eth0' },
      ...{ CNI_ARGS: '', CNI_PATH: fake.folder },
    }
    const { code, calls } = await traced(EXECUTABLE, [], env, JSON.stringify(node.config()))
    expect(code).toBe(0)
    const folder = join(dirname(node.socket), 'queue')
    const made = find(calls, 'mkdir', `"${folder}"`)
    const renamed = calls.find(each => each.name.startsWith('rename'))!
    const [, temporary] = /"(\.tmp-[^"]*)"/.exec(renamed.args)!
    const ended = find(calls, 'exit_group', '0')
    expect(isDurable(calls, join(folder, temporary!), renamed)).toBe(true)
    expect(isDurable(calls, folder, ended, renamed)).toBe(true)
    expect(isDurable(calls, dirname(folder), ended, made)).toBe(true)
    expect(calls.some(each => isOn(each, folder) && each.begun > renamed.ended)).toBe(true)
  })
})
