// The contract, "What containerd sends": each capability as it comes, and CNI_ARGS.
import { expect, test } from 'vitest'
import { noNft } from '../harness/needs.ts'
import { ip } from '../harness/netns.ts'
import { Ear, sendUdp } from '../harness/raw.ts'
import { contractNode, expectError, expectSuccess, rows } from './fixture.ts'

const a = contractNode('run')
const NFT = noNft('port mappings') === undefined
const runtimeOf = (containerId: string): unknown => {
  const row = rows(a.node).find(each => each['container'] === containerId)
  return row?.['runtime'] == null ? undefined : JSON.parse(String(row['runtime']))
}

test.skipIf(!NFT)('R1 portMappings, with the capitals that containerd writes', async () => {
  const portMappings = [{ HostPort: 8053, ContainerPort: 53, Protocol: 'UDP', HostIP: '' }]
  const pod = await a.add('tun', { runtimeConfig: { portMappings } })
  expect(runtimeOf(pod.containerId)).toEqual({
    portMappings: [{ protocol: 'udp', hostPort: 8053, containerPort: 53 }],
  })
  const client = await a.add('xdp')
  const ear = await Ear.at(pod.netns, pod.ip4, 53)
  try {
    const mark = new TextEncoder().encode('through the port of the node')
    await sendUdp(client.netns, '192.168.77.1', 8053, mark)
    await ear.until(mark)
  } finally {
    await ear.close()
  }
  const { containerId, netns } = pod
  expectSuccess(await a.cni('DEL', { containerId, netns }))
})

test('R2 bandwidth, with the largest number for "no limit"', async () => {
  const bandwidth = { IngressRate: 8_000_000, IngressBurst: 4_294_967_295, EgressRate: 0 }
  const pod = await a.add('tun', { runtimeConfig: { bandwidth } })
  expect(runtimeOf(pod.containerId)).toMatchObject({ bandwidth: { ingressRate: 8_000_000 } })
})

test('R3 dns goes into the result', async () => {
  const dns = {
    nameservers: ['10.96.0.10'],
    domain: 'cluster.local',
    search: ['a.b'],
    options: ['x'],
  }
  const pod = await a.add('tun', { dns, runtimeConfig: { dns: { servers: ['10.96.0.10'] } } })
  expect(pod.result['dns']).toEqual(dns)
})

test('R4 cgroupPath is taken and not looked at', async () => {
  const pod = await a.add('xdp', { runtimeConfig: { cgroupPath: '../../etc/shadow\u0000' } })
  expect(runtimeOf(pod.containerId)).toBeUndefined()
})

test('R5 the annotations of the pod come along: no question to an API server', async () => {
  const annotations = {
    'hawser.dev/ips': '["10.244.1.70", "fd44:0:0:1::70"]',
    'kubernetes.io/config.source': 'api',
    long: 'x'.repeat(200_000),
  }
  const pod = await a.add('tun', { 'io.kubernetes.cri.pod-annotations': annotations })
  expect([pod.ip4, pod.ip6]).toEqual(['10.244.1.70', 'fd44:0:0:1::70'])
  // In `runtimeConfig`, too, where the capability puts them.
  const inside = { 'io.kubernetes.cri.pod-annotations': { 'hawser.dev/ips': '10.244.1.71' } }
  const { exit } = await a.cni('ADD', {
    netns: await a.netns(),
    config: a.node.config({ runtimeConfig: inside }),
  })
  expect(exit).toBe(0)
  expect(rows(a.node).map(row => row['ip4'])).toContain('10.244.1.71')
})

test('R6 CNI_ARGS: IgnoreUnknown, and who the pod is', async () => {
  const containerId = a.newId()
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=${containerId};K8S_POD_UID=5f2e`
  const call = { containerId, netns: await a.netns(), args }
  expect((await a.cni('ADD', call)).exit).toBe(0)
  expect(rows(a.node).find(row => row['container'] === containerId)).toMatchObject({
    pod: 'shop/web-0',
  })
  const told = a.node.log.map(line => JSON.parse(line) as Record<string, unknown>)
  expect(told).toContainEqual(expect.objectContaining({ verb: 'ADD', pod: 'shop/web-0' }))
  expectSuccess(await a.cni('DEL', call))
})

test('R7 ips, mac and deviceID, as Multus sends them', async () => {
  const mac = '02:00:00:00:00:77'
  const wanted = { ips: ['10.244.1.80/24', 'fd44:0:0:1::80/64'], mac, deviceID: '0000:01:00.0' }
  const pod = await a.add('xdp', { runtimeConfig: wanted })
  expect([pod.ip4, pod.ip6]).toEqual(['10.244.1.80', 'fd44:0:0:1::80'])
  expect(pod.result['interfaces']).toMatchObject([{ name: 'eth0', mac }, {}])
  expect(await ip(pod.netns, 'link', 'show', 'eth0')).toContain(mac)
  // What was asked for and can't be had is an error, not another address.
  const again = { netns: await a.netns(), config: a.node.config({ runtimeConfig: wanted }) }
  expectError(await a.cni('ADD', again), 7, /MAC/)
  const ips = a.node.config({ runtimeConfig: { ips: wanted.ips } })
  expectError(await a.cni('ADD', { ...again, config: ips }), 11, /10\.244\.1\.80: taken by/)
})
