// What nobody outside may bring about, each on real devices; long, because all share one pair of nodes.
// S1 .. S5 are the executable and the daemon, S6 .. S9 the packets of pods:
//
//   node a   192.168.77.1 ──── veth ──── 192.168.77.2   node b    (VXLAN by the kernel's UDP sockets)
//   pods: tun, xdp, tap, victim             far
//   what pods send out of the cluster is masqueraded where nft is there
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeMessage, MAX_CNI_BYTES, WORD } from '../../cni/rpc/protocol.ts'
import { type DataplaneStatus, vtepMac } from '../../dataplane/control.ts'
import { NOBODY } from '../cni/plugin/hawser-plugin.ts'
import { noNft } from '../harness/needs.ts'
import { ip } from '../harness/netns.ts'
import { addPod, CLI, TestNode, type TestPod } from '../harness/node.ts'
import {
  bytesOf,
  concat,
  ethernet,
  icmp,
  ip4Bytes,
  ip6Bytes,
  udp,
  vxlan,
} from '../harness/packets.ts'
import { must, run } from '../harness/processes.ts'
import { Ear, sendRaw, sendUdp } from '../harness/raw.ts'
import { NODE_A, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectPing, expectSound, tellLogsOnFailure } from '../netns/expect.ts'
import { expectError, expectSuccess, links, rows } from './fixture.ts'

const NFT = noNft('rules of others') === undefined
if (!NFT) process.stderr.write('security: nft is not there: nothing is masqueraded\n')

let world: TwoNodes
let tun: TestPod
let xdp: TestPod
let tap: TestPod
let victim: TestPod
let far: TestPod
/** Resolves when the daemon has hung up on a client that sent a byte when the tests began. */
let slow: Promise<unknown>
let serial = 0
const newPod = () => world.namespaces.add(`n${++serial}`)
const newId = () => `s${process.pid}x${++serial}`

beforeAll(async () => {
  world = await twoNodes('sec', { underlayMode: 'udp', masquerade: NFT })
  const { namespaces, a, b } = world
  tun = await addPod(namespaces, a, 'tun', 'tun')
  xdp = await addPod(namespaces, a, 'xdp', 'xdp')
  tap = await addPod(namespaces, a, 'tap', 'tap')
  victim = await addPod(namespaces, a, 'victim', 'xdp')
  far = await addPod(namespaces, b, 'far', 'tun')
  const socket = createConnection(a.socket)
  slow = once(socket, 'close')
  socket.write('h')
})
afterAll(() => world?.close())
tellLogsOnFailure(() => [world?.a, world?.b])

describe('the executable and the daemon', () => {
  const SHELL = '$(touch /tmp/hawser-was-here);`id`|&'
  const PATHS = ['../../../tmp/x', '/etc/passwd', '..', 'a/../b']

  test('S1 no string from outside becomes a path or a word of a shell', async () => {
    const { a } = world
    const netns = await newPod()
    const before = readdirSync(a.folder, { recursive: true })
    const call = { command: 'ADD', containerId: newId(), netns }
    for (const text of [SHELL, ...PATHS]) {
      expectError(await a.cni({ ...call, containerId: text }), 4, /CNI_CONTAINERID/)
      expectError(await a.cni({ ...call, ifname: text }), 4, /CNI_IFNAME/)
      expectError(await a.cni({ ...call, config: a.config({ name: text }) }), 7, /name/)
      const ipam = { type: text }
      expectError(await a.cni({ ...call, config: a.config({ ipam }), path: '/bin' }), 7, /ipam/)
      expectError(await a.cni({ ...call, netns: `/run/netns/${text}` }), 4, /CNI_NETNS/)
    }
    // An IPAM plugin is a file of that name in a folder of CNI_PATH, and of no relative one.
    const ipam = { type: 'sh' }
    expectError(await a.cni({ ...call, config: a.config({ ipam }), path: '.:..:bin' }), 4, /sh/)
    // A name that a shell would read otherwise is the interface's, letter by letter.
    const ifname = '$(id)`id`;*&|'
    const odd = { ...call, ifname, args: `K8S_POD_NAME=${SHELL};K8S_POD_NAMESPACE=${SHELL}` }
    expect((await a.cni(odd)).exit).toBe(0)
    expect(await links(netns)).toContain(ifname)
    expectSuccess(await a.cni({ ...odd, command: 'DEL' }))
    expect(await links(netns)).toEqual(['lo'])
    expect(existsSync('/tmp/hawser-was-here')).toBe(false)
    expect(readdirSync(a.folder, { recursive: true })).toEqual(before)
  })

  /** What the daemon says to a user who can reach the socket's file: the bytes that come back. */
  async function askAs(program: string, args: string[]): Promise<string> {
    const script = `
      const socket = require('node:net').connect(${JSON.stringify(world.a.socket)})
      socket.on('error', error => process.stdout.write(error.code))
      socket.on('data', data => process.stdout.write(data.toString('latin1')))
      socket.write(Buffer.from('${encodeMessage(WORD.QUERY, Buffer.from('pods')).toString('hex')}', 'hex'))`
    const { stdout } = await run(program, [...args, process.execPath, '-e', script], { cwd: '/' })
    return stdout
  }

  test('S2 only root is served (SO_PEERCRED), whoever can open the socket', async () => {
    const { a } = world
    const folder = join(a.folder, 'run')
    const nobody = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups']
    const modes = [a.folder, folder, a.socket].map(path => [path, statSync(path).mode] as const)
    // Closed to others by its folder and by its own mode.
    expect([statSync(folder).mode & 0o777, statSync(a.socket).mode & 0o777]).toEqual([0o700, 0o600])
    expect(await askAs('setpriv', nobody)).toBe('EACCES')
    try {
      for (const [path] of modes) chmodSync(path, 0o777)
      expect(await askAs('setpriv', nobody)).toMatch(/^(ECONNRESET|EPIPE|)$/)
      // Root of a user namespace of that user's is that user.
      const unshared = await run('setpriv', [
        ...nobody,
        'unshare',
        '--user',
        '--map-root-user',
        'id',
        '-u',
      ])
      if (unshared.code === 0) {
        expect(unshared.stdout.trim()).toBe('0')
        const inside = [...nobody, 'unshare', '--user', '--map-root-user']
        expect(await askAs('setpriv', inside)).toMatch(/^(ECONNRESET|EPIPE|)$/)
      } else process.stderr.write('S2: users may make no user namespace here: left out\n')
      expect(a.log.filter(line => line.includes('a user other than root was refused'))).not.toEqual(
        [],
      )
      expect(await askAs('env', [])).toContain(tun.containerId)
    } finally {
      for (const [path, mode] of modes) chmodSync(path, mode & 0o7777)
    }
  })

  test('S4 links and files that another user planted are not followed', async () => {
    const base = mkdtempSync('/tmp/hawser-planted-')
    const at = (name: string) => join(base, name)
    const node = new TestNode('node-a', world.a.netns, { cluster: [NODE_A] })
    const refused = async (change: Record<string, unknown>, why: RegExp): Promise<void> => {
      const file = at(`${++serial}.json`)
      const own = JSON.parse(readFileSync(join(node.folder, 'hawser.json'), 'utf8')) as object
      writeFileSync(file, JSON.stringify({ ...own, ...change }))
      const { code, stderr } = await run(process.execPath, [CLI, 'daemon', '--config', file], {
        netns: node.netns,
      })
      expect(code).toBe(1)
      expect(stderr).toMatch(why)
    }
    const plant = (target: string, name: string): string => {
      symlinkSync(target, at(name))
      lchownSync(at(name), NOBODY, NOBODY)
      return at(name)
    }
    try {
      // As /tmp is: others may write, and not touch what is others'.
      chmodSync(base, 0o1777)
      mkdirSync(at('precious'), { mode: 0o700 })
      writeFileSync(at('precious/file'), 'mine')
      mkdirSync(at('state'), { mode: 0o700 })
      writeFileSync(at('state/state.db'), '')
      chownSync(at('state/state.db'), NOBODY, NOBODY)
      const folder = plant(at('precious'), 'run')
      const state = plant(at('precious/file'), 'state.db')
      const cluster = plant(join(node.folder, 'cluster.json'), 'cluster.json')
      const [link, foreign, open] = [
        /a link of user 65534/,
        /belongs to user 65534/,
        /others may write there/,
      ]
      await Promise.all([
        refused({ socket: `${folder}/cni.sock` }, link),
        refused({ state: `${folder}/state.db` }, link),
        refused({ state }, link),
        refused({ cluster }, link),
        // Nor is a file of theirs taken, nor one in a folder that they may write to.
        refused({ state: at('state/state.db') }, foreign),
        refused({ state: at('other.db') }, open),
      ])
      expect(readdirSync(at('precious'))).toEqual(['file'])
      expect(readFileSync(at('precious/file'), 'utf8')).toBe('mine')

      // The queue: the executable neither writes through a link nor does the daemon read through one.
      mkdirSync(join(node.folder, 'run'), { mode: 0o700 })
      symlinkSync(at('precious'), join(node.folder, 'run/queue'))
      const del = { command: 'DEL', containerId: newId(), config: node.config() }
      expectSuccess(await node.cni(del))
      expect(readdirSync(at('precious'))).toEqual(['file'])
      // A link of root's on the way is root's business.
      renameSync(join(node.folder, 'cluster.json'), at('precious/cluster.json'))
      symlinkSync(at('precious/cluster.json'), join(node.folder, 'cluster.json'))
      await refused({ state: at('other.db') }, open)
    } finally {
      rmSync(base, { recursive: true, force: true })
      await node.remove()
    }
  })

  test('S5 only a network namespace is one, and never the own', async () => {
    const { a } = world
    const fifo = join(a.folder, 'fifo')
    await must('mkfifo', [fifo])
    copyFileSync('/etc/hostname', join(a.folder, 'file'))
    const wrong = [
      fifo,
      join(a.folder, 'file'),
      a.folder,
      a.socket,
      '/dev/zero',
      '/proc/self/ns/user',
      '/proc/self/ns/mnt',
      '/run/netns/hwt-none',
      'run/netns/x',
    ]
    for (const netns of wrong) {
      expectError(await a.cni({ command: 'ADD', containerId: newId(), netns }), 4, /CNI_NETNS/)
    }
    for (const netns of [a.netns, `/proc/${a.pid}/ns/net`]) {
      expectError(await a.cni({ command: 'ADD', containerId: newId(), netns }), 8, /own namespace/)
    }
    expect(rows(a)).toHaveLength(4)
    expect(await links(a.netns)).not.toContain('eth0')
  })
})

/** Datagrams that hold a number that no other has. */
let marks = 0
const mark = (): Uint8Array => new TextEncoder().encode(`mark ${++marks} of ${process.pid}`)
/** An option of neighbour discovery that ends with a mark: for experiments (RFC 4727), of 32 bytes. */
function markedOption(): Uint8Array {
  const bytes = mark()
  return concat(Uint8Array.of(253, 4), new Uint8Array(30 - bytes.length), bytes)
}

/** What a pod sends as it is: a packet out of its TUN, a frame out of its veth. */
async function say(pod: TestPod, ...packets: Uint8Array[]): Promise<void> {
  const frames = pod.attach === 'tun' ? packets : await Promise.all(packets.map(p => frame(pod, p)))
  await sendRaw(pod.netns, 'eth0', ...frames)
}

interface Macs {
  own: string
  node: string
}
function macs(pod: TestPod): Macs {
  const [own, node] = pod.result['interfaces'] as { mac: string }[]
  return { own: own!.mac, node: node!.mac }
}

function frame(pod: TestPod, packet: Uint8Array): Uint8Array {
  const { own, node } = macs(pod)
  return ethernet(node, own, packet[0]! >> 4 === 6 ? 0x86dd : 0x0800, packet)
}

/** Drops by reason since `before`. */
async function newDrops(before: Record<string, number>): Promise<Record<string, number>> {
  const now = await dropsOf(world.a)
  const entries = Object.entries(now).map(([name, n]) => [name, n - (before[name] ?? 0)] as const)
  return Object.fromEntries(entries.filter(([, n]) => n > 0))
}

/**
 * Sends `packets`, which `target` must not get, and behind them one that it gets by the same way;
 * gives the drops of node a that came of it.
 */
async function refuses(
  from: TestPod,
  target: TestPod,
  packets: readonly Uint8Array[],
  send: (...packets: Uint8Array[]) => Promise<void> = (...all) => say(from, ...all),
): Promise<Record<string, number>> {
  const before = await dropsOf(world.a)
  const ear = await Ear.at(target.netns, 'eth0')
  try {
    const bytes = mark()
    await send(...packets)
    await say(from, udp({ src: from.ip4, dst: target.ip4 }, bytes))
    await ear.until(bytes)
    for (const packet of packets) expect(ear.has(packet.subarray(-16))).toBe(false)
    return await newDrops(before)
  } finally {
    await ear.close()
  }
}

describe('the packets of pods', () => {
  const pods = () => [tun, xdp, tap]

  test('S6 a pod takes no router advertisement', async () => {
    for (const { netns } of pods()) {
      const read = ['/proc/sys/net/ipv6/conf/eth0/accept_ra']
      expect((await must('cat', read, { netns })).trim()).toBe('0')
      expect(await ip(netns, '-6', 'route', 'show', 'default')).not.toContain('proto ra')
    }
  })

  test('S7 what only routers say is dropped: redirects and advertisements, neighbour discovery', async () => {
    for (const pod of pods()) {
      const flow = { src: pod.ip4, dst: victim.ip4, ttl: 255 }
      const six = { src: pod.ip6, dst: victim.ip6, ttl: 255 }
      const quoted = concat(new Uint8Array(4), udp({ src: victim.ip4, dst: pod.ip4 }, mark()))
      const drops = await refuses(pod, victim, [
        icmp(flow, 5, 1, quoted),
        icmp(flow, 9, 0, mark()),
        icmp(six, 134, 0, concat(new Uint8Array(12), mark())),
        icmp(six, 137, 0, concat(new Uint8Array(36), mark())),
        icmp(six, 136, 0, concat(new Uint8Array(20), markedOption())),
        // The mark by itself is no option: its second byte says a length that is not there (RFC 4861 section 4.6).
        icmp(six, 136, 0, concat(new Uint8Array(20), mark())),
      ])
      // What a veth pod advertises of itself, in the right form, is passed over, not held against it.
      const own = pod.attach === 'tun' ? 0 : 1
      expect(drops).toMatchObject({ redirect: 2, 'nd-malformed': 4 - own })
    }
    await expectPing(xdp, victim)
  })

  test('S8 a pod speaks in no name but its own: IP, MAC, ARP, neighbour discovery', async () => {
    const { a } = world
    for (const pod of pods()) {
      const spoofed = [
        ...[victim.ip4, far.ip4, '10.244.1.1', '192.168.77.1', '192.168.77.2', '127.0.0.1'],
        ...[victim.ip6, far.ip6, 'fd44:0:0:1::1', 'fe80::1', '::1'],
      ].map(src => udp({ src, dst: src.includes(':') ? xdpOr(pod).ip6 : xdpOr(pod).ip4 }, mark()))
      expect(await refuses(pod, xdpOr(pod), spoofed)).toMatchObject({ 'source-ip': spoofed.length })
    }
    // Ethernet is there on a veth only.
    for (const pod of [xdp, tap]) await refusesFrames(pod)
    for (const pod of [...pods(), victim]) await expectPing(pod, far)
    await expectSound(a)
  })

  async function refusesFrames(pod: TestPod): Promise<void> {
    const { own, node } = macs(pod)
    const other = macs(victim).own
    const good = udp({ src: pod.ip4, dst: victim.ip4 }, mark())
    const arp = (senderMac: string, sender: string) =>
      ethernet(
        'ff:ff:ff:ff:ff:ff',
        own,
        0x0806,
        concat(
          bytesOf('0001080006040001'),
          bytesOf(senderMac),
          ip4Bytes(sender),
          new Uint8Array(6),
          ip4Bytes(victim.ip4),
        ),
      )
    const solicited = (src: string) =>
      ethernet(
        node,
        own,
        0x86dd,
        icmp(
          { src, dst: 'fe80::1', ttl: 255 },
          135,
          0,
          concat(new Uint8Array(4), ip6Bytes('fe80::1'), Uint8Array.of(1, 1), bytesOf(own)),
        ),
      )
    const frames = [
      ethernet(node, other, 0x0800, good),
      ethernet(node, node, 0x0800, good),
      ethernet(other, own, 0x0800, good),
      arp(own, victim.ip4),
      arp(other, pod.ip4),
      solicited(victim.ip6),
    ]
    const raw = (...all: Uint8Array[]) => sendRaw(pod.netns, 'eth0', ...all)
    const drops = await refuses(pod, victim, frames, raw)
    expect(drops).toMatchObject({ 'source-mac': 2, 'l2-foreign': 1, 'arp-spoof': 2, 'nd-spoof': 1 })
  }

  const xdpOr = (pod: TestPod): TestPod => (pod === tun ? xdp : victim)

  test("S9 a pod reaches no node's VXLAN port, neither in its own name nor in a node's", async () => {
    const { a, b } = world
    const decapsulated = async (): Promise<number> => {
      const { workers } = await b.ask<DataplaneStatus>('status')
      return workers.reduce((sum, worker) => sum + worker.decapsulated, 0)
    }
    /** A packet for `far` in the name of another pod, in VXLAN as node b takes it. */
    const inner = (bytes: Uint8Array) => udp({ src: xdp.ip4, dst: far.ip4 }, bytes)
    const outer = (src: string, dst: string, bytes: Uint8Array, node = 'node-b') =>
      vxlan({ src, dst, innerDst: vtepMac(node), innerSrc: vtepMac('node-a'), inner: inner(bytes) })
    const ear = await Ear.at(far.netns, 'eth0')
    try {
      // From the node itself it is taken: these bytes are what a pod would like to get through.
      const known = mark()
      const payload = outer('192.168.77.1', '192.168.77.2', known).subarray(28)
      await sendUdp(a.netns, '192.168.77.2', 4789, payload)
      await ear.until(known)

      const before = { drops: await dropsOf(a), decapsulated: await decapsulated() }
      const tried: Uint8Array[] = []
      for (const pod of pods()) {
        const bytes = [mark(), mark(), mark()] as const
        tried.push(...bytes)
        await say(
          pod,
          outer(pod.ip4, '192.168.77.2', bytes[0]),
          outer(pod.ip4, '192.168.77.1', bytes[1], 'node-a'),
          // The sender that node b would believe.
          outer('192.168.77.1', '192.168.77.2', bytes[2]),
        )
      }
      await until('they are dropped', async () => {
        const drops = await newDrops(before.drops)
        return drops['to-vtep'] === 6 && drops['source-ip'] === 3
      })
      const last = mark()
      await say(tun, udp({ src: tun.ip4, dst: far.ip4 }, last))
      await ear.until(last)
      for (const bytes of tried) expect(ear.has(bytes)).toBe(false)
      expect(await decapsulated()).toBe(before.decapsulated + 1)
      // Of the socket that is bound to it, too: the kernel's own way to the port.
      await sendUdp(tun.netns, '192.168.77.2', 4789, payload)
      await until('dropped', async () => (await newDrops(before.drops))['to-vtep'] === 7)
      if (NFT) {
        // Nor by way of an address that the node's own rules lead there, as a service's may be.
        const rules = ['chain', 'ip', 'services', 'prerouting']
        await must('nft', ['add', 'table', 'ip', 'services'], { netns: a.netns })
        const hook = '{ type nat hook prerouting priority dstnat; }'
        await must('nft', ['add', ...rules, hook], { netns: a.netns })
        const dnat = ['ip', 'daddr', '10.96.0.1', 'dnat', 'to', '192.168.77.2:4789']
        const rule = ['add', 'rule', ...rules.slice(1), 'udp', 'dport', '53', ...dnat]
        await must('nft', rule, { netns: a.netns })
        const led = await dropsOf(b)
        await sendUdp(tun.netns, '10.96.0.1', 53, payload)
        await until('node b does not believe it', async () => {
          return ((await dropsOf(b))['vxlan-vtep'] ?? 0) > (led['vxlan-vtep'] ?? 0)
        })
        expect(await decapsulated()).toBe(before.decapsulated + 1)
      }
      // Its other ports, and the port 4789 of pods, are nobody's secret.
      const open = mark()
      const listener = await Ear.at(far.netns, far.ip4, 4789)
      await sendUdp(xdp.netns, far.ip4, 4789, open)
      await listener.until(open)
      await listener.close()
    } finally {
      await ear.close()
    }
  })
})

describe('clients that behave badly', () => {
  test('S3 one request a connection, bounded in size and time; others are served meanwhile', async () => {
    const { a } = world
    const sockets: Socket[] = []
    const connect = async (): Promise<Socket> => {
      const socket = createConnection(a.socket)
      sockets.push(socket)
      socket.on('error', () => {})
      await once(socket, 'connect')
      return socket
    }
    const status = encodeMessage(WORD.QUERY, Buffer.from('pods'))
    try {
      // Nothing, half of a head, half of a body.
      for (const part of [Buffer.alloc(0), status.subarray(0, 5), status.subarray(0, -1)]) {
        ;(await connect()).write(part)
      }
      // Longer than a request may be, and another one behind the first.
      const huge = encodeMessage(WORD.CNI, Buffer.alloc(0))
      huge.writeUInt32BE(MAX_CNI_BYTES + 1, 8)
      for (const bytes of [huge, Buffer.concat([status, status]), Buffer.alloc(64, 0x78)]) {
        const socket = await connect()
        let answer = 0
        socket.on('data', chunk => {
          answer += chunk.length
        })
        const closed = once(socket, 'close')
        socket.write(bytes)
        await closed
        expect(answer).toBe(0)
      }
      // A burst of connections that say nothing does not keep an ADD waiting.
      for (let k = 0; k < 100; k++) await connect()
      const netns = await newPod()
      const call = { command: 'ADD', containerId: newId(), netns }
      expect((await a.cni(call)).exit).toBe(0)
      expectSuccess(await a.cni({ ...call, command: 'DEL' }))
      // Who has begun a request and does not end it is let go (REQUEST_MS).
      await slow
    } finally {
      for (const socket of sockets) socket.destroy()
    }
    // The executable bounds what a runtime may send: 4 MiB on stdin, 64 KiB a variable.
    const netns = await newPod()
    const call = { command: 'ADD', containerId: newId(), netns }
    const filler = 'x'.repeat(4 * 1024 * 1024)
    expectError(await a.cni({ ...call, config: a.config({ filler }) }), 6, /longer than 4194304/)
    expectError(await a.cni({ ...call, args: 'x'.repeat(65_537) }), 4, /CNI_ARGS: longer/)
    expect(await links(netns)).toEqual(['lo'])
    await expectSound(a)
  })
})
