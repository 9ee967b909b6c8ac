// What a pod with a raw socket may send, under policies that deny everything: nothing of it arrives anywhere.
//
//   node a                                             node b
//   x (AF_XDP)  t (TUN), nothing let in or out    ── veth ── f (TUN), free
//   u (TUN), free
//
// What comes to a pod is heard by a packet socket; the packets are those of test/packets/deny.test.ts, but fewer.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addPod, type TestPod } from '../harness/node.ts'
import { ip4Bytes, ip6Bytes } from '../harness/packets.ts'
import { Ear, sendRaw } from '../harness/raw.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { isError, read } from '../packets/hostile/read.ts'
import { type Ends, hostileFrame, hostilePacket } from '../packets/hostile/seeds.ts'
import { generator } from '../packets/mutate.ts'
import { dropsOf, expectSound, tellLogsOnFailure } from './expect.ts'

/** Packets of each sender, and of one call. */
const PACKETS = 600
const AT_ONCE = 200
/** Longest one: the MTU of a pod on an underlay of 1,500 bytes. */
const LONGEST = 1450
const GATEWAYS = ['10.244.1.1', 'fd44:0:0:1::1']

let folder: string
let nodes: TwoNodes | undefined
const pods: Record<string, TestPod> = {}
const labels = { x: 'closed', t: 'closed', u: 'free', f: 'free' }

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-policy-'))
  const podsOf = Object.entries(labels).map(([name, app]) => ({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'test', labels: { app } } },
    spec: { nodeName: name === 'f' ? 'node-b' : 'node-a' },
  }))
  const closed = {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { name: 'closed', namespace: 'test' },
    spec: {
      podSelector: { matchLabels: { app: 'closed' } },
      policyTypes: ['Ingress', 'Egress'],
    },
  }
  writeFileSync(
    join(folder, 'all.json'),
    JSON.stringify({ kind: 'List', items: [...podsOf, closed] }),
  )
  nodes = await twoNodes('hostile', { config: { policy: { folder } } })
  for (const name of ['x', 't', 'u'] as const) {
    const attach = name === 'x' ? 'xdp' : 'tun'
    pods[name] = await addPod(nodes.namespaces, nodes.a, name, attach)
  }
  pods['f'] = await addPod(nodes.namespaces, nodes.b, 'f', 'tun')
})
afterAll(async () => {
  await nodes?.close()
  rmSync(folder, { recursive: true, force: true })
})
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

const hex = (text: string): string =>
  Buffer.from(text.includes(':') ? ip6Bytes(text) : ip4Bytes(text)).toString('hex')

/** Whether a frame or packet that came to a pod is the node's own word, which answers the pod: so does the node's kernel, by the rule `node`. */
function isOfTheNode(bytes: Uint8Array, ethernet: boolean): boolean {
  if (ethernet && bytes[12] === 8 && bytes[13] === 6) return bytes[21] === 2
  const seen = read(ethernet ? bytes.subarray(14) : bytes)
  if (seen.icmp?.type === 136) return true
  if (!GATEWAYS.map(hex).includes(seen.source)) return false
  if (!isError(seen)) return true
  return read(seen.icmp!.quoted, true).source === seen.destination
}

test('nothing arrives, from pods of either kind and from another node', async () => {
  const { x, t, u, f } = pods as Record<keyof typeof labels, TestPod>
  const of = (family: 4 | 6) => {
    const [tun, veth, far] = [t, x, f].map(pod => (family === 4 ? pod.ip4 : pod.ip6))
    const world = family === 4 ? '198.51.100.7' : '2001:db8:9::7'
    return { tun: tun!, veth: veth!, far: far!, world, node: GATEWAYS[family === 4 ? 0 : 1]! }
  }
  const ends: Ends = { 4: of(4), 6: of(6) }
  const [podEnd, nodeEnd] = x.result['interfaces'] as { mac: string }[]
  const random = generator(0x6865_6172)
  const ears = await Promise.all([x, t].map(pod => Ear.at(pod.netns, 'eth0')))
  try {
    for (const [name, pod] of [
      ['veth', x],
      ['tun', t],
      ['far', f],
    ] as const) {
      for (let sent = 0; sent < PACKETS; sent += AT_ONCE) {
        const packets: Uint8Array[] = []
        while (packets.length < AT_ONCE) {
          const one = hostilePacket(random, ends)
          if (one.from !== name || one.bytes.length > LONGEST) continue
          const framed = () => hostileFrame(random, one, nodeEnd!.mac, podEnd!.mac)
          packets.push(name === 'veth' ? framed() : one.bytes)
        }
        await sendRaw(pod.netns, 'eth0', ...packets)
      }
      // Whatever was sent before has been looked at: by the node, for its own pods, and by the other one for the last.
      const to = name === 'far' ? u.ip4 : GATEWAYS[0]!
      await until(`${name} is answered`, async () => {
        const { received } = await ping(pod.netns, to, { count: 1, timeout: 1 })
        return received === 1
      })
    }
    const drops = await dropsOf(nodes!.a)
    for (const reason of ['policy-egress', 'policy-ingress', 'policy-fragment', 'ip-header']) {
      expect(drops[reason], reason).toBeGreaterThan(PACKETS / 100)
    }
    for (const [k, ear] of ears.entries()) {
      expect(ear.heard.length).toBeGreaterThan(0)
      for (const bytes of ear.heard) {
        const text = Buffer.from(bytes).toString('hex')
        expect(isOfTheNode(bytes, k === 0), `came to ${k === 0 ? 'x' : 't'}: ${text}`).toBe(true)
      }
    }
  } finally {
    await Promise.all(ears.map(ear => ear.close()))
  }
  const flows = await nodes!.a.cli<{ source: string; destination: string }[]>('flows')
  const closed = [x.ip4, x.ip6, t.ip4, t.ip6]
  expect(
    flows.filter(({ source, destination }) => [source, destination].some(a => closed.includes(a))),
  ).toEqual([])
  await expectSound(nodes!.a)
})
