/** Metrics over HTTP, of a node on a packet engine without packets; the text is read back by rule. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createMetrics, type Metrics, serveMetrics } from '../../../cni/observe/metrics.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { type FakeNode, fakeNode } from '../fake-node.ts'
import { FakePlane, STATUS } from '../fake-plane.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/29', 'fd00::/126'] }

let folder: string
let plane: FakePlane
let fake: FakeNode
let metrics: Metrics
let server: { close(): Promise<void> }
let url: string
let inSync: boolean
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-metrics-'))
  plane = new FakePlane(SELF, {})
  fake = fakeNode(folder, plane)
  inSync = true
  metrics = createMetrics(fake.node, () => inSync)
  fake.node.observe = metrics.observe
  server = await serveMetrics({ host: '127.0.0.1', port: 0 }, metrics.registry, fake.node.log)
  url = String(fake.records.at(-1)!['url'])
})
afterEach(async () => {
  await server.close()
  fake.state.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Every sample, by name and labels as they stand in the text. */
async function scrape(): Promise<Map<string, number>> {
  const response = await fetch(url)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  const lines = (await response.text()).split('\n').filter(line => line !== '' && line[0] !== '#')
  return new Map(
    lines.map(line => {
      const at = line.lastIndexOf(' ')
      return [line.slice(0, at), Number(line.slice(at + 1))]
    }),
  )
}

function attach(container: string, ip4: string): void {
  const key = { network: 'n', containerId: container, ifname: 'eth0' }
  const netns = { netns: '/run/netns/none', netnsDev: '1', netnsIno: '2' }
  fake.state.insert({ ...key, ...netns, phase: 'attached', kind: 'tun', ip4, pod: '', created: 1 })
}

describe('what is told', () => {
  test('what is wrong with the node now, and what has been mended', async () => {
    const since = '2026-01-01T00:00:00.000Z'
    const status = plane.status.bind(plane)
    plane.status = () => ({
      ...status(),
      troubles: [{ what: 'underlay eth0 is gone', since, blocking: true }],
      mended: [{ what: 'nft', count: 3 }],
    })
    const samples = await scrape()
    expect(samples.get('hawser_troubles{blocking="true"}')).toBe(1)
    expect(samples.get('hawser_troubles{blocking="false"}')).toBe(0)
    expect(samples.get('hawser_mended_total{what="nft"}')).toBe(3)
  })

  test('addresses by range and state, before they run out', async () => {
    attach('a', '10.0.0.2')
    attach('b', '10.0.0.3')
    fake.state.release({ network: 'n', containerId: 'b', ifname: 'eth0' })
    const samples = await scrape()
    const of = (range: string, state: string) =>
      samples.get(`hawser_addresses{overlay="",network="",range="${range}",state="${state}"}`)
    // Of eight: network, gateway and broadcast are nobody's.
    expect(['free', 'taken', 'cooling'].map(state => of('10.0.0.0/29', state))).toEqual([3, 1, 1])
    expect(of('fd00::/126', 'taken')).toBe(0)
  })

  test('packets, ports, workers and frames as the engine counts them, again and again', async () => {
    for (const _ of [1, 2]) {
      const samples = await scrape()
      expect(samples.get('hawser_dropped_packets_total{reason="ttl"}')).toBe(3)
      const [worker] = STATUS.workers
      expect(samples.get('hawser_worker_packets_total{worker="0"}')).toBe(worker!.packets)
      expect(samples.get('hawser_worker_cpu_seconds_total{worker="0"}')).toBe(worker!.cpuNs / 1e9)
      expect(samples.get('hawser_worker_frames{worker="0",size="small",state="free"}')).toBe(
        worker!.smallFree,
      )
      for (const { role, kind, name, rxPackets, txBytes } of STATUS.ports) {
        const labels = `{role="${role}",kind="${kind}",name="${name}"}`
        expect(samples.get(`hawser_port_receive_packets_total${labels}`)).toBe(rxPackets)
        expect(samples.get(`hawser_port_transmit_bytes_total${labels}`)).toBe(txBytes)
      }
      expect(samples.get('hawser_routes{family="ipv4",fib="dir24_8"}')).toBe(2)
    }
  })

  test('whether policy is what its files say, where there is one', async () => {
    expect((await scrape()).has('hawser_policy_in_sync')).toBe(false)
    const policy = { ...{ causes: () => [], notes: () => [], status: () => ({}) }, inSync: false }
    const mended = { mended: 3 }
    const rules = { ruleText: () => undefined, ruleTexts: () => [] }
    const asked = { explain: () => ({}), known: () => ({}) }
    const node = { ...fake.node, policy: { ...policy, ...rules, ...asked, ...mended } }
    const { registry } = createMetrics(node, () => true)
    const text = await registry.metrics()
    expect(text).toMatch(/^hawser_policy_in_sync 0$/m)
    expect(text).toMatch(/^hawser_policy_mended_total 3$/m)
  })

  test('names that pods have learned, where resolvers are named', async () => {
    expect([...(await scrape()).keys()].filter(name => name.startsWith('hawser_dns'))).toEqual([])
    plane.learned = {
      ...{ addresses: 4, learned: 9, unasked: 5, malformed: 6, unfollowed: 7, busy: 8 },
      refused: { '256 names of a pod': 3 },
    }
    const { registry } = createMetrics(fake.node, () => true)
    const text = await registry.metrics()
    for (const line of [
      'hawser_dns_addresses 4',
      'hawser_dns_learned_total 9',
      'hawser_dns_refused{limit="256 names of a pod"} 3',
      'hawser_dns_unread_total{why="unfollowed"} 7',
    ]) {
      expect(text.split('\n')).toContain(line)
    }
  })

  test('whether the node is ready, and what ails it', async () => {
    expect((await scrape()).get('hawser_ready')).toBe(1)
    inSync = false
    plane.ready = false
    fake.node.pods.troubles.set('n/a/eth0', 'gone')
    const samples = await scrape()
    expect(samples.get('hawser_ready')).toBe(0)
    expect(samples.get('hawser_cluster_in_sync')).toBe(0)
    expect(samples.get('hawser_troubled_attachments')).toBe(1)
  })

  test('requests by verb and outcome, with their times', async () => {
    const call = (command: string, config: string) =>
      answer(fake.node, {
        env: {
          ...{ CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_NETNS: '', CNI_IFNAME: 'eth0' },
          ...{ CNI_ARGS: '', CNI_PATH: '' },
        },
        config,
      })
    await call('DEL', '{"cniVersion":"1.0.0","name":"n","type":"hawser"}')
    await call('DEL', '{"cniVersion":"1.0.0","name":"n","type":"hawser"}')
    await call('DEL', '{')
    await call('"}\nhawser_ready 7', '{}')
    const samples = await scrape()
    const count = (verb: string, outcome: string) =>
      samples.get(`hawser_cni_requests_total{verb="${verb}",outcome="${outcome}"}`)
    expect([count('DEL', 'ok'), count('DEL', '6'), count('unknown', '4')]).toEqual([2, 1, 1])
    expect(samples.get('hawser_cni_request_duration_seconds_count{verb="DEL"}')).toBe(3)
    expect(samples.get('hawser_ready')).toBe(1)
  })
})

describe('the server', () => {
  test('knows one path and reads only', async () => {
    const at = (path: string, method = 'GET') => fetch(new URL(path, url), { method })
    expect((await at('/')).status).toBe(404)
    expect((await at('/metrics/../../etc/passwd')).status).toBe(404)
    expect((await at('/metrics?x=1')).status).toBe(200)
    expect((await at('/metrics', 'POST')).status).toBe(405)
    expect(await (await at('/metrics', 'HEAD')).text()).toBe('')
  })

  test('what it can not read is an error of that request alone', async () => {
    plane.drops = () => {
      throw new Error('no drops today')
    }
    const response = await fetch(url)
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('no drops today')
    expect(fake.records.at(-1)).toMatchObject({ msg: 'metrics could not be read' })
  })

  test('an address that is taken is named', async () => {
    const { port } = new URL(url)
    const again = serveMetrics(
      { host: '127.0.0.1', port: Number(port) },
      metrics.registry,
      fake.node.log,
    )
    await expect(again).rejects.toThrow(`metrics.listen 127.0.0.1:${port}: listen EADDRINUSE`)
  })

  test('it closes under a client that says nothing', async () => {
    const silent = connect(Number(new URL(url).port), '127.0.0.1')
    await new Promise(resolve => silent.once('connect', resolve))
    const gone = new Promise(resolve => silent.once('close', resolve))
    await server.close()
    await gone
  })
})
