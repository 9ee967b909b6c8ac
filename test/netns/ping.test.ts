// `hawser ping` on a real node: to pods of both kinds and families, from the node and from a pod.
//
//     node a ── hawser0 ── daemon ── pods: t1 (TUN), x1 (AF_XDP)
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadRawSocket } from '../../cni/cli/ping.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, CLI, TestNode, type TestPod } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { lacking } from '../harness/skip.ts'
import { NODE_A } from '../harness/topology.ts'
import { tellLogsOnFailure } from './expect.ts'

const cause = await loadRawSocket().then(
  () => undefined,
  (error: Error) => error.message,
)
if (cause !== undefined) lacking(`raw-socket (optional npm package): ${cause}`)

describe.skipIf(cause !== undefined)('hawser ping', () => {
  const namespaces = new Namespaces('ping')
  let node: TestNode
  let pods: TestPod[] = []
  beforeAll(async () => {
    const netns = await namespaces.add('a')
    await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
    await ip(netns, 'addr', 'add', `${NODE_A.vtep}/24`, 'dev', 'under0')
    await ip(netns, 'link', 'set', 'under0', 'up')
    await ip(netns, 'link', 'set', 'under1', 'up')
    node = new TestNode('node-a', netns, { cluster: [NODE_A] })
    await node.start()
    pods = [
      await addPod(namespaces, node, 't1', 'tun'),
      await addPod(namespaces, node, 'x1', 'xdp'),
    ]
  })
  afterAll(async () => {
    await node?.remove()
    await namespaces.removeAll()
  })
  tellLogsOnFailure(() => [node])

  const ping = (...args: string[]) =>
    run(process.execPath, [CLI, 'ping', '-c', '2', ...args], { netns: node.netns })
  const ALL = /\n2 sent, 2 answered; round trip min [\d.]+, avg [\d.]+, max [\d.]+ ms\n$/

  test('reaches pods of both kinds, in both families', async () => {
    for (const { ip4, ip6 } of pods) {
      for (const address of [ip4!, ip6!]) {
        const { code, stdout, stderr } = await ping(address)
        expect({ address, code, stderr }).toEqual({ address, code: 0, stderr: '' })
        expect(stdout).toMatch(ALL)
      }
    }
  })

  test('goes out of another namespace', async () => {
    const [from, to] = pods
    const { code, stdout } = await ping('-I', from!.netns, to!.ip4!)
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(ALL) })
    expect((await ping('-I', '/nowhere', to!.ip4!)).code).toBe(1)
  })

  test('ends with 1 when nobody answers', async () => {
    const { code, stdout } = await ping(pods[0]!.ip4!.replace(/\d+$/, '99'))
    expect({ code, stdout }).toEqual({ code: 1, stdout: '2 sent, 0 answered\n' })
  })
})
