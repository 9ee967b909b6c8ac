// Rules about domain names, with real devices: what a pod asks a resolver for is open when it has the answer, and nothing else is.
//
//   node a                                                      node b
//   pods tun (TUN)  xdp (AF_XDP), which ask ─────── veth ─────── dns (TUN), a resolver
//        dns (TUN), a resolver   rogue (TUN), none
//   the node itself: a resolver; behind it the world, 203.0.113.0/24 and fd99::/64, where somebody listens
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LearnedName } from '../../dataplane/control.ts'
import { ip } from '../harness/netns.ts'
import { addPod, type TestPod } from '../harness/node.ts'
import { must, Running } from '../harness/processes.ts'
import { NODE_A, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { dropsOf, expectSound, tellLogsOnFailure } from './expect.ts'

const NEAR = '10.244.1.200'
const FAR = '10.244.2.200'
const NODE = NODE_A.vtep
/** Names that each pod asks for in a row. */
const ROUNDS = 120

/**
 * A resolver at port 53, UDP and TCP: `n7…` is 203.0.113.7 and fd99::7, by way of a CNAME where the name ends in `c`.
 * `any` says so to who asks, whoever that is.
 */
const SERVER = `
import socket, struct, sys, threading, re
def answer(q):
    at, labels = 12, []
    while q[at]:
        labels.append(q[at + 1:at + 1 + q[at]].decode())
        at += 1 + q[at]
    kind = struct.unpack('>H', q[at + 1:at + 3])[0]
    n, cname = re.match(r'n([0-9]+)(c?)', labels[0].lower()).groups()
    address = socket.inet_aton('203.0.113.' + n) if kind == 1 else socket.inet_pton(socket.AF_INET6, 'fd99::' + n)
    record = lambda name, type, data: name + struct.pack('>HHIH', type, 1, 60, len(data)) + data
    end = b'\\x03web\\x03cdn\\x03net\\x00'
    records = [record(b'\\xc0\\x0c', 5, end), record(end, kind, address)] if cname else [record(b'\\xc0\\x0c', kind, address)]
    return q[:2] + struct.pack('>HHHHH', 0x8180, 1, len(records), 0, 0) + q[12:at + 5] + b''.join(records)
def stream(s):
    s.listen(64)
    while True:
        c, _ = s.accept()
        n = struct.unpack('>H', c.recv(2, socket.MSG_WAITALL))[0]
        a = answer(c.recv(n, socket.MSG_WAITALL))
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = struct.pack('>H', len(a)) + a
        c.sendall(whole[:20])
        c.sendall(whole[20:])
        c.close()
t = socket.create_server((sys.argv[1], 53))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind((sys.argv[1], 53))
threading.Thread(target=stream, args=(t,), daemon=True).start()
print('ready', flush=True)
while True:
    q, who = u.recvfrom(4096)
    u.sendto(answer(q), who)
`

/** Accepts at port 80 of every address. */
const WORLD = `
import socket
s = socket.create_server(('::', 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
print('ready', flush=True)
while True:
    s.accept()[0].close()
`

/**
 * For each word \`RESOLVER/PROTOCOL/NAME/FAMILY\` asks for the name, and connects to what it is told as soon as it knows; for
 * an address alone connects. Says for each whether it came through.
 */
const CLIENT = `
import socket, struct, sys, random
def ask(resolver, protocol, name, family):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    id = struct.pack('>H', random.randrange(65536))
    q = id + struct.pack('>HHHHH', 0x100, 1, 0, 0, 0) + labels + b'\\x00' + struct.pack('>HH', 1 if family == 4 else 28, 1)
    if protocol == 'udp':
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(20)
        s.connect((resolver, 53))
        s.send(q)
        a = s.recv(4096)
    else:
        s = socket.create_connection((resolver, 53), timeout=20)
        s.sendall(struct.pack('>H', len(q)) + q)
        f = s.makefile('rb')
        a = f.read(struct.unpack('>H', f.read(2))[0])
    assert a[:2] == id
    return socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, a[-4:] if family == 4 else a[-16:])
def reaches(address, seconds):
    try:
        socket.create_connection((address, 80), timeout=seconds).close()
        return True
    except OSError:
        return False
seconds = float(sys.argv[1])
for word in sys.argv[2:]:
    at = ask(*[int(w) if w in ('4', '6') else w for w in word.split('/')]) if '/' in word else word
    print(word, at, reaches(at, seconds), flush=True)
`

const GLOBAL = {
  apiVersion: 'hawser.dev/v1',
  kind: 'GlobalPolicy',
  metadata: { name: 'names' },
  spec: {
    subject: { podSelector: { matchLabels: { asks: 'yes' } } },
    egress: [
      { action: 'Allow', protocol: 'UDP', ports: [53] },
      { action: 'Allow', protocol: 'TCP', ports: [53] },
      {
        ...{ name: 'example', action: 'Allow', protocol: 'TCP', ports: [80] },
        peer: { domainNames: ['*.Example.org', 'n77.example.com'] },
      },
      { action: 'Deny' },
    ],
  },
}
const pod = (name: string, node: string, asks = 'no'): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'test', labels: { asks } },
  spec: { nodeName: node },
})

let folder: string
let nodes: TwoNodes | undefined
const pods: Record<string, TestPod> = {}
const servers: Running[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-names-'))
  const items = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'test' } },
    GLOBAL,
    ...[pod('tun', 'node-a', 'yes'), pod('xdp', 'node-a', 'yes'), pod('other', 'node-a', 'yes')],
  ]
  writeFileSync(join(folder, 'all.json'), JSON.stringify({ kind: 'List', items }))
  const dns = { resolvers: [NEAR, FAR, NODE] }
  nodes = await twoNodes('names', { config: { policy: { folder, dns }, workers: 2 } })
  const { a, b, namespaces } = nodes
  const at = (address: string) => ({ runtimeConfig: { ips: [address] } })
  pods['near'] = await addPod(namespaces, a, 'near', 'tun', at(NEAR))
  pods['far'] = await addPod(namespaces, b, 'far', 'tun', at(FAR))
  pods['tun'] = await addPod(namespaces, a, 'tun', 'tun')
  pods['xdp'] = await addPod(namespaces, a, 'xdp', 'xdp')
  pods['other'] = await addPod(namespaces, a, 'other', 'tun')
  pods['rogue'] = await addPod(namespaces, a, 'rogue', 'tun')
  await ip(a.netns, 'route', 'add', 'local', '203.0.113.0/24', 'dev', 'lo')
  await ip(a.netns, '-6', 'route', 'add', 'local', 'fd99::/64', 'dev', 'lo')
  const resolvers = [pods['near'], pods['far'], pods['rogue'], { ...a, ip4: NODE }]
  for (const { netns, ip4 } of resolvers) {
    servers.push(new Running('python3', ['-c', SERVER, ip4], { netns }))
  }
  servers.push(new Running('python3', ['-c', WORLD], { netns: a.netns }))
  await Promise.all(servers.map(each => each.until(line => line === 'ready')))
})
afterAll(async () => {
  await Promise.all(servers.map(each => each.stop()))
  await nodes?.close()
  rmSync(folder, { recursive: true, force: true })
})
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

/** Those words of which a pod reaches what it is told; an address alone is not asked for. */
async function reached(name: string, words: readonly string[], seconds: number): Promise<string[]> {
  const args = ['-c', CLIENT, String(seconds), ...words]
  const lines = (await must('python3', args, { netns: pods[name]!.netns })).trim().split('\n')
  return lines.filter(line => line.endsWith(' True')).map(line => line.split(' ')[0]!)
}
/** What is let through may take its time; what is denied gets no answer, however long. */
const PATIENT = 20
const SHORT = 0.5
const denials = async () => (await dropsOf(nodes!.a))['policy-egress'] ?? 0

describe.each(['tun', 'xdp'])('a pod by %s', name => {
  test('goes where it is told at once: its first packet is not too early, whoever resolves', async () => {
    const before = await denials()
    const words = Array.from({ length: ROUNDS }, (_, n) => {
      const resolver = [NEAR, FAR, NODE][n % 3]
      const protocol = n % 4 === 0 ? 'tcp' : 'udp'
      const family = n % 5 === 0 ? 6 : 4
      return `${resolver}/${protocol}/n${n + 1}${n % 2 === 0 ? 'c' : ''}.Pods.example.ORG/${family}`
    })
    expect(await reached(name, words, PATIENT)).toEqual(words)
    expect((await denials()) - before).toBe(0)
  })

  test('not where another name leads, nor by what no resolver says', async () => {
    const words = [`${NEAR}/udp/n200.example.net/4`, `${pods['rogue']!.ip4}/udp/n201.example.org/4`]
    expect(await reached(name, [...words, '203.0.113.202'], SHORT)).toEqual([])
  })
})

test('what one pod has asked opens nothing for another', async () => {
  const word = `${NEAR}/udp/n77.example.com/4`
  expect(await reached('tun', [word], PATIENT)).toEqual([word])
  expect(await reached('other', ['203.0.113.77'], SHORT)).toEqual([])
})

test('a daemon that starts anew knows what its pods have learned', async () => {
  const { a } = nodes!
  await a.stop()
  await a.start()
  await a.acquainted()
  expect(await reached('tun', ['203.0.113.77'], PATIENT)).toEqual(['203.0.113.77'])
  expect(await reached('other', ['203.0.113.77'], SHORT)).toEqual([])
})

test('an operator sees what was learned', async () => {
  const { a } = nodes!
  const names = await a.cli<LearnedName[]>('policy names')
  expect(names).toContainEqual({
    ...{ pod: 'test/tun', name: 'n77.example.com', address: '203.0.113.77' },
    seconds: expect.any(Number),
  })
  expect(names.filter(({ pod: its }) => its === 'test/other')).toEqual([])
  const { policy } = await a.cli<{ policy: { names: { learned: number; unfollowed: number } } }>(
    'status',
  )
  expect(policy.names).toMatchObject({ unfollowed: 0, malformed: 0, busy: 0 })
  for (const node of [nodes!.a, nodes!.b]) await expectSound(node)
})
