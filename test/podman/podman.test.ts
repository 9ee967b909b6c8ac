// A real podman with CNI as its network backend, on two nodes:
//
//     node a (namespace)                     node b (namespace)
//       hawser daemon, hawser0    ── veth ──   hawser daemon, hawser0
//       podman, a conmon a container           podman, a conmon a container
//       network hawser: TUN                    networks hawser and hawser-xdp
//       network hawser-xdp: AF_XDP
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasCgroup, makeCgroup } from '../containerd/cgroups.ts'
import { Custody } from '../containerd/custody.ts'
import { expectMesh, holdings, queuedDels } from '../containerd/expect.ts'
import { LIBCNI_RESULTS } from '../containerd/leftovers.ts'
import { askFrom, expectHttp, fetchFrom, PORT } from '../containerd/pods.ts'
import { missing } from '../containerd/requirements.ts'
import { must } from '../harness/processes.ts'
import { NODE_A, type TwoNodes, twoNodes } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { expectSound, tellLogsOnFailure } from '../netns/expect.ts'
import { NETWORKS, Podman, type PodmanPod } from './podman.ts'

const PROGRAMS = [
  ['podman', 'Debian package podman'],
  ['conmon', 'Debian package conmon'],
  ['runc', 'Debian package runc'],
  ['g++', 'Debian package g++'],
  ['nft', 'Debian package nftables'],
] as const
const MAC = '02:00:00:00:00:77'

/** MAC and addresses of a pod's interface, as the kernel has them. */
async function eth0(netns: string): Promise<{ address: string | undefined; local: string[] }> {
  const [link] = JSON.parse(await must('ip', ['-j', 'addr', 'show', 'eth0'], { netns })) as [
    { address?: string; addr_info: { local: string; scope: string }[] },
  ]
  const global = link.addr_info.filter(({ scope }) => scope === 'global')
  return { address: link.address, local: global.map(each => each.local).sort() }
}

describe.skipIf(missing(PROGRAMS) !== undefined)('podman', () => {
  const custody = new Custody()
  let nodes: TwoNodes | undefined
  let a: Podman
  let b: Podman
  let pods: PodmanPod[] = []
  beforeAll(async () => {
    const cgroup = `hwt-podman-${process.pid}`
    custody.add({ namespaces: `hwt-podman-${process.pid.toString(36)}`, cgroup })
    nodes = await twoNodes('podman')
    const podmanOn = async (node: TwoNodes['a']): Promise<Podman> => {
      custody.add({ folder: node.folder })
      makeCgroup(`${cgroup}/${node.name}`)
      const podman = new Podman(node, `${cgroup}/${node.name}`, custody)
      await podman.pullImage()
      return podman
    }
    a = await podmanOn(nodes.a)
    b = await podmanOn(nodes.b)
  })
  afterAll(async () => {
    await Promise.all([a?.close(), b?.close()])
    await nodes?.close()
    expect(await custody.end()).toEqual([])
  })
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  const on = (podman: Podman) => pods.filter(({ runtime }) => runtime === podman)

  /** Exactly these containers have addresses and interfaces on the node, and run. */
  async function expectOnly(podman: Podman, those: readonly PodmanPod[]): Promise<void> {
    const ids = those.map(({ id }) => id).sort()
    expect(await holdings(podman.node)).toEqual({
      served: ids,
      reserved: ids,
      routes: 2 * those.length,
      links: those.filter(({ attach }) => attach === 'xdp').length,
      queued: 0,
    })
    expect(podman.running().sort()).toEqual(ids)
    await expectSound(podman.node)
  }

  /** Removes containers; nothing of them is left. */
  async function removed(...those: PodmanPod[]): Promise<void> {
    await those[0]!.runtime.remove(...those.map(({ name }) => name))
    for (const { runtime, attach, id, netns } of those) {
      expect(existsSync(netns), netns).toBe(false)
      expect(existsSync(join(LIBCNI_RESULTS, `${NETWORKS[attach]}-${id}-eth0`))).toBe(false)
      expect(hasCgroup(runtime.cgroup, `libpod-${id}`)).toBe(false)
    }
  }

  test('the networks are there, and no other', async () => {
    const known = JSON.parse(await a.call('network', 'ls', '--format', 'json')) as object[]
    expect(known).toMatchObject([
      { name: NETWORKS.tun, driver: 'hawser' },
      { name: NETWORKS.xdp, driver: 'hawser' },
    ])
  })

  test('containers of both kinds, on one node and on two, reach each other', async () => {
    for (const attach of ['tun', 'xdp'] as const) {
      pods.push(...(await Promise.all([a, b].map(each => each.run(`c-${attach}`, attach)))))
    }
    for (const { netns, attach, ip4, ip6, mac } of pods) {
      const { address, local } = await eth0(netns)
      expect(local).toEqual([ip4, ip6].sort())
      expect(mac).toBe(attach === 'xdp' ? address : '00:00:00:00:00:00')
    }
    await expectMesh(pods)
    for (const each of [a, b]) await expectOnly(each, on(each))
  })

  test.each(['tun', 'xdp'] as const)('%s: -p publishes a port, TCP and UDP', async attach => {
    const ports = ['--publish', `18080:${PORT}`, '--publish', `18080:${PORT}/udp`]
    const pod = await a.run('published', attach, ...ports)
    const elsewhere = b.node.netns
    for (const netns of [a.node.netns, elsewhere]) {
      for (const address of [NODE_A.vtep, 'fd77::1']) {
        expect(await fetchFrom(netns, address, '/', 18_080)).toBe(pod.name)
        expect(await askFrom(netns, address, 18_080)).toBe(pod.name)
      }
    }
    await removed(pod)
    await expect(fetchFrom(elsewhere, NODE_A.vtep, '/', 18_080)).rejects.toThrow()
    await expectOnly(a, on(a))
  })

  test('--ip, --ip6 and --mac-address are what the container gets', async () => {
    const one = await a.run('one', 'tun', '--ip', '10.244.1.77')
    expect(one.ip4).toBe('10.244.1.77')
    const both = ['--ip', '10.244.1.78', '--ip6', 'fd44:0:0:1::78', '--mac-address', MAC]
    const two = await a.run('two', 'xdp', ...both)
    expect(two).toMatchObject({ ip4: '10.244.1.78', ip6: 'fd44:0:0:1::78', mac: MAC })
    const kept = JSON.parse(
      readFileSync(join(LIBCNI_RESULTS, `${NETWORKS.xdp}-${two.id}-eth0`), 'utf8'),
    ) as object
    // Two addresses come as a capability, one comes in CNI_ARGS, and so does the MAC.
    expect(kept).toMatchObject({
      capabilityArgs: { ips: ['10.244.1.78', 'fd44:0:0:1::78'] },
      cniArgs: expect.arrayContaining([['MAC', MAC]]),
    })
    expect((await eth0(two.netns)).address).toBe(MAC)
    await expectMesh([one, two, on(b)[0]!])
    await expect(a.run('taken', 'xdp', '--ip', '10.244.1.77')).rejects.toThrow(/10\.244\.1\.77/)
    await expect(a.run('layer-3', 'tun', '--mac-address', MAC)).rejects.toThrow(/MAC/i)
    await a.remove('taken', 'layer-3')
    await expectOnly(a, [...on(a), one, two])
    await removed(one, two)
  })

  test('a restarted container is attached anew', async () => {
    for (const { name, attach, id } of on(a)) {
      await a.call('restart', '--time', '0', name)
      const pod = await a.look(name, attach)
      expect(pod.id).toBe(id)
      pods = pods.map(each => (each.id === id ? pod : each))
    }
    await expectOnly(a, on(a))
    await expectMesh([...on(a), on(b)[0]!])
  })

  test('a container that ends by itself gives all back', async () => {
    const pod = await a.run('ends', 'xdp')
    await expect(fetchFrom(a.node.netns, pod.ip4, '/crash')).rejects.toThrow()
    // The conmon has podman clean up.
    await until(
      'its address is free',
      async () => !(await holdings(a.node)).served.includes(pod.id),
    )
    expect(await a.call('wait', pod.name)).toBe('3')
    await removed(pod)
    await expectOnly(a, on(a))
  })

  test('without a daemon: no container starts, those that go are made up for', async () => {
    const doomed = [await a.run('doomed-tun', 'tun'), await a.run('doomed-xdp', 'xdp')]
    await a.node.stop('SIGKILL')
    await expect(a.run('early', 'tun')).rejects.toThrow(/hawser daemon is not running/)
    await a.remove('early')
    await removed(...doomed)
    expect(queuedDels(a.node).length).toBeGreaterThanOrEqual(doomed.length)
    await a.node.start()
    await a.node.acquainted()
    await expectOnly(a, on(a))
    await expectHttp(on(a)[0]!, on(b)[0]!)
  })

  test('podman rm leaves nothing', async () => {
    for (const each of [a, b]) {
      await removed(...on(each))
      await expectOnly(each, [])
      expect(JSON.parse(await each.call('ps', '--all', '--format', 'json'))).toEqual([])
    }
    pods = []
  })
})
