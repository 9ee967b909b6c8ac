// A MAC that the runtime asks for: on veth pods, checked, kept over a restart; on TUN there is none.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, deletePod, TestNode, type TestPod } from '../harness/node.ts'
import { expectPing, expectSound, tellLogsOnFailure } from './expect.ts'

const namespaces = new Namespaces('mac')
let node: TestNode
let other: TestPod
beforeAll(async () => {
  const netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  await ip(netns, 'link', 'set', 'under0', 'up')
  await ip(netns, 'link', 'set', 'under1', 'up')
  node = new TestNode('node-a', netns, {
    cluster: [
      { name: 'node-a', vtep: '192.168.77.1', podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
    ],
  })
  await node.start()
  other = await addPod(namespaces, node, 'other', 'tun')
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})
tellLogsOnFailure(() => [node])

const MAC = '02:12:34:56:78:9a'
const macOf = async (netns: string): Promise<string | undefined> =>
  (JSON.parse(await ip(netns, '-j', 'link', 'show', 'dev', 'eth0')) as [{ address?: string }])[0]
    .address
const check = ({ containerId, netns, attach, result }: TestPod) =>
  node.cni({
    command: 'CHECK',
    containerId,
    netns,
    config: node.config({ attach, prevResult: result }),
  })

test.each(['xdp', 'tap'] as const)(
  'a veth pod has it by %s, CHECK sees to it, and a restart takes it over',
  async attach => {
    const runtimeConfig = { mac: MAC.toUpperCase() }
    const pod = await addPod(namespaces, node, `pod${attach}`, attach, { runtimeConfig })
    expect((pod.result['interfaces'] as { mac: string }[])[0]?.mac).toBe(MAC)
    expect(await macOf(pod.netns)).toBe(MAC)
    await expectPing(pod, other)
    await expectPing(other, pod)
    expect((await check(pod)).json).toEqual({})
    await node.stop('SIGKILL')
    await node.start()
    expect((await check(pod)).json).toEqual({})
    await expectPing(pod, other)
    await ip(pod.netns, 'link', 'set', 'eth0', 'address', '02:12:34:56:78:9b')
    expect((await check(pod)).json).toMatchObject({
      code: 104,
      msg: expect.stringContaining(`with MAC ${MAC}, it has 02:12:34:56:78:9b`),
    })
    expect((await deletePod(pod)).json).toEqual({})
    expect(await ip(pod.netns, '-o', 'link')).not.toContain('eth0')
  },
)

test('CNI_ARGS can ask for it, beside what a runtime says of aliases and more', async () => {
  const netns = await namespaces.add('args')
  const runtimeConfig = { aliases: { hawser: ['web'] }, unknown: { x: [1] }, deviceID: '' }
  const config = node.config({ attach: 'xdp', runtimeConfig, capabilities: { aliases: true } })
  const args = `IgnoreUnknown=1;MAC=${MAC};K8S_POD_NAME=args`
  const call = { command: 'ADD', containerId: 'args', netns, config, args }
  expect((await node.cni(call)).exit).toBe(0)
  expect(await macOf(netns)).toBe(MAC)
  expect((await node.cni({ ...call, command: 'DEL' })).json).toEqual({})
})

test('what is no MAC, or is for a TUN pod, is refused and nothing is made', async () => {
  const netns = await namespaces.add('refused')
  const before = (await node.cli<unknown[]>('pods')).length
  for (const [attach, mac, text] of [
    ['tun', MAC, /"tun" has no MAC/],
    ['xdp', '01:00:5e:00:00:01', /group address/],
    ['xdp', '02:00', /not a MAC address/],
  ] as const) {
    const config = node.config({ attach, runtimeConfig: { mac } })
    const { json } = await node.cni({ command: 'ADD', containerId: 'refused', netns, config })
    expect(json).toMatchObject({ code: 7, msg: expect.stringMatching(text) })
  }
  expect(await ip(netns, '-o', 'link')).not.toContain('eth0')
  expect(await node.ask<unknown[]>('pods')).toHaveLength(before)
  await expectSound(node)
})
