// Ports of the node that lead to pods: asked for from outside, from the node, and from pods.
//
//   outside  192.0.2.9 ──── veth ──── 192.0.2.1  node a ── pods: server (TUN, or veth), client (TUN)
//            2001:db8::9              2001:db8::1           10.244.1.0/24, fd44:0:0:1::/64
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { noNft } from '../harness/needs.ts'
import { connect, ip, Namespaces } from '../harness/netns.ts'
import { addPod, deletePod, TestNode, type TestPod } from '../harness/node.ts'
import { must, Running, run } from '../harness/processes.ts'
import { until } from '../harness/until.ts'
import { expectSound, tellLogsOnFailure } from './expect.ts'

const HERE = ['192.0.2.1', '2001:db8::1']
const TOLD = 'hello from '
/** Answers every datagram, and every connection, with the address of who asks; prints who sent a datagram. */
const SERVER = `
import selectors, socket, sys
port = int(sys.argv[1])
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("::", port))
print("ready", flush=True)
wait = selectors.DefaultSelector()
wait.register(tcp, selectors.EVENT_READ)
wait.register(udp, selectors.EVENT_READ)
while True:
    for key, _ in wait.select():
        if key.fileobj is tcp:
            peer, address = tcp.accept()
            peer.sendall(b"${TOLD}" + address[0].encode())
            peer.close()
        else:
            _, address = udp.recvfrom(100)
            print(address[0], flush=True)
            udp.sendto(b"${TOLD}" + address[0].encode(), address)
`
/** Prints what the server says; ends with 1 when nobody answers (a datagram is sent again). */
const CLIENT = `
import socket, sys
kind, address, port, sport = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(2 if kind == "tcp" else 0.5)
if sport: sock.bind(("::" if ":" in address else "0.0.0.0", sport))
try:
    sock.connect((address, port))
    for _ in range(1 if kind == "tcp" else 4):
        try:
            if kind == "udp": sock.send(b"x")
            print(sock.recv(100).decode())
            sys.exit(0)
        except socket.timeout: pass
except OSError as error: print(error, file=sys.stderr)
sys.exit(1)
`

const namespaces = new Namespaces('ports')
let node: TestNode
let outside: string
let client: TestPod
let hasNft = true
beforeAll(async () => {
  hasNft = noNft('port mappings') === undefined
  outside = await namespaces.add('out')
  const netns = await namespaces.add('a')
  await connect(
    { netns: outside, device: 'up0', addresses: ['192.0.2.9/24', '2001:db8::9/64'] },
    { netns, device: 'under0', addresses: ['192.0.2.1/24', '192.0.2.2/24', '2001:db8::1/64'] },
  )
  node = new TestNode('node-a', netns, {
    program: [fileURLToPath(new URL('../contract/collecting-daemon.ts', import.meta.url))],
    cluster: [
      { name: 'node-a', vtep: '192.0.2.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  await node.start()
  client = await addPod(namespaces, node, 'client', 'tun')
})
const servers: Running[] = []
afterAll(async () => {
  for (const server of servers) await server.stop('SIGKILL')
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

async function serve(netns: string, port: number): Promise<Running> {
  const server = new Running('python3', ['-c', SERVER, String(port)], { netns })
  servers.push(server)
  await server.until(line => line === 'ready')
  return server
}

/** Whom the server saw; undefined when nobody answered. */
async function ask(
  kind: 'tcp' | 'udp',
  netns: string,
  address: string,
  port: number,
  sport = 0,
): Promise<string | undefined> {
  const words = ['-c', CLIENT, kind, address, String(port), String(sport)]
  const { code, stdout } = await run('python3', words, { netns })
  return code === 0 ? stdout.trim().replace('::ffff:', '').slice(TOLD.length) : undefined
}

const mappings = (...portMappings: object[]) => ({ runtimeConfig: { portMappings } })
const rules = () => must('nft', ['list', 'ruleset'], { netns: node.netns })

describe.each(['tun', 'xdp'] as const)('a pod on %s', attach => {
  let server: TestPod
  beforeAll(async () => {
    if (!hasNft) return
    const both = (['tcp', 'udp'] as const).map(protocol => ({
      ...{ protocol, hostPort: 8080, containerPort: 80 },
    }))
    const one = { protocol: 'tcp', hostPort: 8081, containerPort: 80, hostIP: '192.0.2.2' }
    const sctp = { protocol: 'sctp', hostPort: 8082, containerPort: 80 }
    server = await addPod(namespaces, node, `s-${attach}`, attach, mappings(...both, one, sctp))
    await serve(server.netns, 80)
  })
  afterAll(async () => {
    if (hasNft) await deletePod(server)
  })

  test.each(['tcp', 'udp'] as const)('answers at the node from outside, by %s', async kind => {
    if (!hasNft) return
    // Its source is what it is.
    expect(await ask(kind, outside, '192.0.2.1', 8080)).toBe('192.0.2.9')
    expect(await ask(kind, outside, '2001:db8::1', 8080)).toBe('2001:db8::9')
    expect(await ask(kind, outside, '192.0.2.1', 8079)).toBeUndefined()
  })

  test.each(['tcp', 'udp'] as const)('answers the node itself, by %s', async kind => {
    if (!hasNft) return
    for (const address of [...HERE, '127.0.0.1', '10.244.1.1', 'fd44:0:0:1::1']) {
      expect(await ask(kind, node.netns, address, 8080), address).toBeDefined()
    }
    // The loopback address is not what the pod sees.
    expect(await ask(kind, node.netns, '127.0.0.1', 8080)).toBe('10.244.1.1')
  })

  test.each(['tcp', 'udp'] as const)('answers pods, itself among them, by %s', async kind => {
    if (!hasNft) return
    for (const pod of [client, server]) {
      for (const address of HERE) {
        expect(await ask(kind, pod.netns, address, 8080), `${pod.name} ${address}`).toMatch(
          /^(10\.244\.1\.1|fd44:0:0:1::1)$/,
        )
      }
    }
  })

  test('on one address of the node answers there alone', async () => {
    if (!hasNft) return
    expect(await ask('tcp', outside, '192.0.2.2', 8081)).toBe('192.0.2.9')
    expect(await ask('tcp', outside, '192.0.2.1', 8081)).toBeUndefined()
    expect(await ask('tcp', outside, '2001:db8::1', 8081)).toBeUndefined()
  })

  test("the node's own loopback stays closed to pods", async () => {
    if (!hasNft) return
    const port = attach === 'tun' ? 7001 : 7002
    const own = await serve(node.netns, port)
    // A pod that does all it can to send there.
    for (const destination of ['127.0.0.0/8', '127.0.0.1']) {
      await ip(server.netns, 'route', 'del', 'local', destination, 'dev', 'lo', 'table', 'local')
    }
    expect(await ask('udp', server.netns, '127.0.0.1', port)).toBeUndefined()
    // What comes next to the server is the node's own.
    expect(await ask('udp', node.netns, '127.0.0.1', port)).toBe('127.0.0.1')
    expect(own.lines).toEqual(['ready', '::ffff:127.0.0.1'])
  })

  test('SCTP has its rule', async () => {
    if (!hasNft) return
    expect(await rules()).toMatch(new RegExp(`sctp \\. 8082 : ${server.ip4} \\. 80`))
  })

  test('a port that is taken is refused, and nothing of that pod stays', async () => {
    if (!hasNft) return
    const netns = await namespaces.add(`taken-${attach}`)
    const config = node.config({
      attach,
      ...mappings({ hostPort: 8080, containerPort: 1, protocol: 'udp', hostIP: '192.0.2.2' }),
    })
    const before = await rules()
    const answer = await node.cni({ command: 'ADD', containerId: `taken${attach}`, netns, config })
    expect(answer.json).toMatchObject({
      code: 11,
      msg: expect.stringMatching(/8080\/udp is taken/),
    })
    expect(answer.json['msg']).toContain(server.containerId)
    expect(await rules()).toBe(before)
    expect(await ip(netns, '-o', 'link')).not.toContain('eth0')
  })

  test('that are flushed come back by themselves', async () => {
    if (!hasNft) return
    const check = async (pod: TestPod): Promise<Record<string, unknown> | undefined> => {
      const { containerId, netns, result } = pod
      const config = node.config({ attach: pod.attach, prevResult: result })
      return (await node.cni({ command: 'CHECK', containerId, netns, config })).json
    }
    expect(await check(server)).toEqual({})
    // A map has no order.
    const parts = async () => (await rules()).split(/[\s{},]+/).sort()
    const before = await parts()
    await must('nft', ['flush', 'ruleset'], { netns: node.netns })
    const mended = async (): Promise<number> =>
      (await node.ask<DataplaneStatus>('status')).mended.find(({ what }) => what === 'nft')
        ?.count ?? 0
    await until('the mappings are back', async () => (await mended()) > 0)
    expect(await parts()).toEqual(before)
    expect(await check(client)).toEqual({})
    expect(await check(server)).toEqual({})
    expect(await ask('tcp', outside, '192.0.2.1', 8080)).toBe('192.0.2.9')
  })

  test('a restart keeps them', async () => {
    if (!hasNft) return
    await node.stop('SIGKILL')
    await node.start()
    expect(await ask('tcp', outside, '192.0.2.1', 8080)).toBe('192.0.2.9')
    expect(await ask('udp', node.netns, '127.0.0.1', 8080)).toBe('10.244.1.1')
  })

  test('DEL closes them, for a UDP flow that goes on too; what went meanwhile leaves no rule', async () => {
    if (!hasNft) return
    // A flow that was there before the mapping, and one that outlives it, have the same ports.
    expect(await ask('udp', outside, '192.0.2.1', 8080, 5555)).toBe('192.0.2.9')
    await deletePod(server)
    expect(await ask('udp', outside, '192.0.2.1', 8080, 5555)).toBeUndefined()
    expect(await ask('tcp', outside, '192.0.2.1', 8080)).toBeUndefined()
    expect(await rules()).not.toContain('hawser_ports')
    const next = await addPod(
      namespaces,
      node,
      `n-${attach}`,
      attach,
      mappings({ protocol: 'udp', hostPort: 8080, containerPort: 80 }),
    )
    await serve(next.netns, 80)
    expect(await ask('udp', outside, '192.0.2.1', 8080, 5555)).toBe('192.0.2.9')
    await node.stop('SIGKILL')
    await deletePod(next)
    expect(await rules()).toContain('hawser_ports')
    await node.start()
    expect(await rules()).not.toContain('hawser_ports')
    await expectSound(node)
  })
})

test('without nft a pod with port mappings is refused, others are not', async () => {
  const bare = new TestNode('node-a', node.netns, {
    cluster: [{ name: 'node-a', vtep: '192.0.2.1', podCIDRs: ['10.244.1.0/24'] }],
  })
  await node.stop()
  try {
    // A folder with what the test itself needs to start the daemon, and nothing else.
    symlinkSync('/usr/bin/nsenter', join(bare.folder, 'nsenter'))
    await bare.start({ PATH: bare.folder })
    const refused = await namespaces.add('refused')
    const config = bare.config(mappings({ hostPort: 8080, containerPort: 80 }))
    const add = { command: 'ADD', containerId: 'bare', netns: refused, config }
    const { json } = await bare.cni(add)
    expect(json).toMatchObject({ code: 5, msg: expect.stringMatching(/nft.*install nftables/) })
    const other = await addPod(namespaces, bare, 'other', 'tun')
    expect(other.ip4).toBe('10.244.1.3')
    await deletePod(other)
  } finally {
    await bare.remove()
    await node.start()
  }
})
