// Policy under way, with real devices: policies that change a hundred times a second, a daemon that starts anew, and
// pods that come and go. What is allowed loses nothing, what is denied never arrives.
//
//   node a                      node b
//   pods a1 (TUN)  a2 (AF_XDP) ── veth ── b1 (TUN, may speak to a1 and a2)  b2 (TUN, may not)
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Explanation } from '../../cni/policy/explain.ts'
import { addPod, CLI, deletePod, type TestPod } from '../harness/node.ts'
import { Running, run } from '../harness/processes.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping, transfer } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectSound, tellLogsOnFailure } from './expect.ts'

const PORT = 6666
/** Bytes of one transfer, and of the payload of one datagram behind its five bytes of header. */
const BYTES = 1 << 19
const SIZE = 1000
const PACKETS = Math.ceil(BYTES / (SIZE - 5))
const CHANGE_MS = 10

/** Sends a datagram to PORT of each address, again and again; says how many when it is told to end. */
const FLOOD = `
import socket, sys, signal, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent = 0
print('ready', flush=True)
while not stop:
    for address in sys.argv[1:]:
        try:
            s.sendto(b'x', (address, ${PORT}))
            sent += 1
        except OSError:
            pass
    time.sleep(0.001)
print('sent', sent, flush=True)
`
/** Says how many came to PORT when it is told to end. */
const COUNT = `
import socket, signal
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', ${PORT}))
s.settimeout(0.2)
n = 0
print('ready', flush=True)
while not stop:
    try:
        s.recv(100)
        n += 1
    except TimeoutError:
        pass
print('came', n, flush=True)
`

let folder: string
let nodes: TwoNodes | undefined
const pods: Record<string, TestPod> = {}

const pod = (name: string, node: string, ip?: string): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: test, labels: { app: ${name} } }
spec: { nodeName: ${node} }
${ip === undefined ? '' : `status: { podIPs: [{ ip: ${ip} }] }`}
`
/** All are isolated for ingress; b1 may speak to a1 and a2. `round` is in another policy, of no consequence for them. */
const policies = (round: number): string => `
apiVersion: v1
kind: Namespace
metadata: { name: test }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: deny, namespace: test }
spec: { podSelector: {}, policyTypes: [Ingress] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: from-b1, namespace: test }
spec:
  podSelector: { matchExpressions: [{ key: app, operator: In, values: [a1, a2] }] }
  ingress: [{ from: [{ podSelector: { matchLabels: { app: b1 } } }] }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: changes, namespace: test }
spec:
  podSelector: {}
  ingress: [{ from: [{ podSelector: { matchLabels: { app: nobody } } }], ports: [{ port: ${1 + (round % 60_000)} }] }]
`

/** A file of the folder, whole at once. */
function write(name: string, text: string): void {
  const temporary = join(folder, `.${name}.new`)
  writeFileSync(temporary, text)
  renameSync(temporary, join(folder, name))
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-policy-'))
  write('policies.yaml', policies(0))
  nodes = await twoNodes('policy', { config: { policy: { folder } } })
  for (const [name, attach] of [
    ['a1', 'tun'],
    ['a2', 'xdp'],
    ['b1', 'tun'],
    ['b2', 'tun'],
  ] as const) {
    const node = name.startsWith('a') ? nodes.a : nodes.b
    pods[name] = await addPod(nodes.namespaces, node, name, attach)
  }
  const all = Object.values(pods).map(each =>
    pod(each.name, each.node === nodes!.a ? 'node-a' : 'node-b', each.ip4),
  )
  write('pods.yaml', all.join('---'))
  await until('b1 is let through', async () => {
    const both = ['a1', 'a2'].map(async to => {
      const { received } = await ping(pods['b1']!.netns, pods[to]!.ip4, { count: 1, timeout: 1 })
      return received === 1
    })
    return (await Promise.all(both)).every(Boolean)
  })
})
afterAll(async () => {
  await nodes?.close()
  rmSync(folder, { recursive: true, force: true })
})
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

/** A script in a pod's namespace; ends with what it has counted. */
class Counter {
  private readonly process: Running
  constructor(netns: string, script: string, args: readonly string[] = []) {
    this.process = new Running('python3', ['-c', script, ...args], { netns })
  }
  async ready(): Promise<this> {
    await this.process.until(line => line === 'ready')
    return this
  }
  async end(): Promise<number> {
    const told = this.process.until(line => /^(came|sent) \d+$/.test(line))
    await this.process.stop()
    return Number((await told).split(' ')[1])
  }
}

/** Floods from b2 while `work` runs; how many were sent, and how many came to a1 and a2. */
async function floodedWhile(work: () => Promise<void>): Promise<{ sent: number; came: number[] }> {
  const targets = [pods['a1']!, pods['a2']!]
  const counters = await Promise.all(targets.map(each => new Counter(each.netns, COUNT).ready()))
  const flood = await new Counter(
    pods['b2']!.netns,
    FLOOD,
    targets.map(each => each.ip4),
  ).ready()
  let sent = 0
  try {
    await work()
  } finally {
    sent = await flood.end()
  }
  return { sent, came: await Promise.all(counters.map(each => each.end())) }
}

test('a hundred changes a second: what is allowed loses nothing, what is denied never arrives', async () => {
  let round = 0
  let changing = true
  const { sent, came } = await floodedWhile(async () => {
    const timer = setInterval(() => {
      if (changing) write('policies.yaml', policies(++round))
    }, CHANGE_MS)
    try {
      for (const to of ['a1', 'a2', 'a1', 'a2']) {
        const { netns, ip4 } = pods[to]!
        const done = await transfer('udp', pods['b1']!.netns, netns, ip4, { bytes: BYTES }, SIZE)
        expect({ intact: done.intact, sent: done.sentPackets }).toEqual({
          intact: true,
          sent: PACKETS,
        })
      }
    } finally {
      changing = false
      clearInterval(timer)
    }
  })
  expect(round).toBeGreaterThan(20)
  expect(sent).toBeGreaterThan(100)
  expect(came).toEqual([0, 0])
  expect((await dropsOf(nodes!.a))['policy-ingress']).toBeGreaterThan(100)
  for (const node of [nodes!.a, nodes!.b]) await expectSound(node)
})

test('what the node receives from pods: rules of a GlobalPolicy; its own probes are answered', async () => {
  const { a1, b1 } = pods as Record<string, TestPod>
  const gateway = '10.244.1.1'
  const answered = async (netns: string, to: string): Promise<boolean> =>
    (await ping(netns, to, { count: 1, timeout: 1 })).received === 1
  const reaches = async (from: TestPod) => answered(from.netns, gateway)
  const probed = async () => answered(nodes!.a.netns, a1!.ip4)
  expect([await reaches(a1!), await reaches(b1!), await probed()]).toEqual([true, true, true])
  write(
    'host.yaml',
    `
apiVersion: hawser.dev/v1
kind: GlobalPolicy
metadata: { name: node }
spec:
  subject: { host: {} }
  ingress:
    - { name: from-a1, action: Deny, protocol: ICMP, peer: { namespaceSelector: {}, podSelector: { matchLabels: { app: a1 } } } }
    - { name: from-b1, action: Deny, protocol: ICMP, peer: { namespaceSelector: {}, podSelector: { matchLabels: { app: b1 } } } }
`,
  )
  await until('a1 is denied', async () => !(await reaches(a1!)))
  await until('b1 is denied', async () => !(await reaches(b1!)))
  expect([await reaches(pods['a2']!), await probed()]).toEqual([true, true])
  const rules = await nodes!.a.ask<{ rule: string; count: number }[]>('policy rules')
  for (const rule of ['from-a1', 'from-b1']) {
    expect(
      rules.some(each => each.rule.includes(rule) && each.count > 0),
      rule,
    ).toBe(true)
  }
  rmSync(join(folder, 'host.yaml'))
  await until('all is as before', async () => (await reaches(a1!)) && (await reaches(b1!)))
  for (const node of [nodes!.a, nodes!.b]) await expectSound(node)
})

test('a daemon that starts anew lets nothing through meanwhile, and what is allowed goes on', async () => {
  const { sent, came } = await floodedWhile(async () => {
    await nodes!.a.stop()
    await nodes!.a.start()
    await nodes!.a.acquainted()
    await until('b1 is let through again', async () => {
      const { received } = await ping(pods['b1']!.netns, pods['a1']!.ip4, { count: 1, timeout: 1 })
      return received === 1
    })
  })
  expect(sent).toBeGreaterThan(100)
  expect(came).toEqual([0, 0])
})

test('a pod that no file has is known by the labels of its annotation, after a restart of the daemon, too', async () => {
  const { a, namespaces } = nodes!
  const annotations = { 'hawser.dev/labels': '{"app":"b1"}' }
  const runtimeConfig = { 'io.kubernetes.cri.pod-annotations': annotations }
  const made = [
    await addPod(namespaces, a, 'd1', 'tun', { runtimeConfig }),
    await addPod(namespaces, a, 'd2', 'tun'),
  ]
  const received = () =>
    Promise.all(
      made.map(async ({ netns }) => {
        const answer = await ping(netns, pods['a1']!.ip4, { count: 1, timeout: 1 })
        return answer.received
      }),
    )
  expect(await received()).toEqual([1, 0])
  await a.stop()
  await a.start()
  expect(await received()).toEqual([1, 0])
  for (const each of made) expect((await deletePod(each)).exit).toBe(0)
})

test('explain asks the running node, and says what more files would come to', async () => {
  const { a } = nodes!
  const explain = async (...words: string[]): Promise<Explanation> => {
    const args = [
      CLI,
      'policy',
      'explain',
      '--json',
      '--socket',
      a.socket,
      '--port',
      '80',
      ...words,
    ]
    const { code, stdout, stderr } = await run(process.execPath, args, { netns: a.netns })
    expect([code, stderr]).toEqual([0, ''])
    return JSON.parse(stdout) as Explanation
  }
  const rule = 'NetworkPolicy test/from-b1, ingress rule 0'
  expect(await explain('--from', 'test/b1', '--to', 'test/a1')).toMatchObject({
    allowed: true,
    ends: [{ pod: 'test/b1' }, { pod: 'test/a1', by: rule, enforced: true }],
  })
  const denied = await explain('--from', 'test/b2', '--to', 'test/a1')
  expect(denied.ends[1]).toMatchObject({
    ...{ allowed: false, enforced: true },
    by: expect.stringMatching(/^NetworkPolicy test\/.*, which isolates for ingress$/),
  })
  expect((await explain('--from', 'test/a1', '--to', 'node')).ends[1]).toMatchObject({
    ...{ pod: 'node', allowed: true, enforced: true },
  })
  const file = join(folder, '.more.yaml')
  writeFileSync(
    file,
    `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: from-b1, namespace: test }
spec:
  podSelector: { matchLabels: { app: a1 } }
  ingress: [{ from: [{ podSelector: { matchLabels: { app: b2 } } }] }]
`,
  )
  const after = await explain('--from', 'test/b2', '--to', 'test/a1', '--with', file)
  expect(after).toMatchObject({ allowed: true, ends: [{}, { by: rule }] })
  expect((await explain('--from', 'test/b1', '--to', 'test/a1', '--with', file)).allowed).toBe(
    false,
  )
  expect((await explain('--from', 'test/b1', '--to', 'test/a1')).allowed).toBe(true)
})

/** Takes a connection, and says a word on it each time that it is told to; the other one says what it has heard. */
const SERVER = `
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', ${PORT}))
s.listen()
print('listening', flush=True)
c = s.accept()[0]
print('accepted', flush=True)
for line in sys.stdin:
    c.sendall(b'x')
`
const CLIENT = `
import socket, sys
c = socket.create_connection((sys.argv[1], ${PORT}))
print('connected', flush=True)
while c.recv(1):
    print('heard', flush=True)
`

test('a connection goes on behind a start, though its server speaks first and its client lets nobody in', async () => {
  const { a1, b1 } = pods as Record<string, TestPod>
  const server = new Running('python3', ['-c', SERVER], { netns: a1!.netns })
  let client: Running | undefined
  try {
    await server.until(line => line === 'listening')
    client = new Running('python3', ['-c', CLIENT, a1!.ip4], { netns: b1!.netns })
    await server.until(line => line === 'accepted')
    await nodes!.b.stop()
    await nodes!.b.start()
    await nodes!.b.acquainted()
    // Nothing else than this tells node b of the connection.
    server.child.stdin!.write('say\n')
    await client.until(line => line === 'heard')
    const flows = await nodes!.b.cli<{ source: string; destinationPort: number }[]>('flows')
    expect(flows.filter(({ destinationPort }) => destinationPort === PORT)).toMatchObject([
      { source: b1!.ip4 },
    ])
  } finally {
    await Promise.all([server.stop('SIGKILL'), client?.stop('SIGKILL')])
  }
})

test('pods that come and go get nothing before their policy is in force', async () => {
  const { a, namespaces } = nodes!
  const names = ['c1', 'c2', 'c3', 'c4']
  // Wherever a new pod may be.
  const range = Array.from({ length: 20 }, (_, n) => `10.244.1.${n + 2}`)
  const flood = await new Counter(pods['b2']!.netns, FLOOD, range).ready()
  const came: number[] = []
  let sent = 0
  try {
    for (const name of names) {
      // The namespace is made first, so that somebody listens before the pod has an address.
      const made = await addPod(namespaces, a, name, 'tun')
      const counter = await new Counter(made.netns, COUNT).ready()
      const { received } = await ping(pods['b1']!.netns, made.ip4, { count: 1, timeout: 1 })
      expect(received, 'b1 may not speak to it').toBe(0)
      came.push(await counter.end())
      expect((await deletePod(made)).exit).toBe(0)
    }
  } finally {
    sent = await flood.end()
  }
  expect(sent).toBeGreaterThan(100)
  expect(came).toEqual(names.map(() => 0))
  await expectSound(a)
})
