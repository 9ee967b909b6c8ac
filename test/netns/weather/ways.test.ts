// The way to a peer changes while the device stays.
//
//   node a 192.168.77.1 under0 ──┐            ┌── ra 192.168.77.252  r  rb 192.168.78.254 ──┐
//                                ├── switch ──┤                                             ├── under0 192.168.78.2 node b
//                                │            └── sa 192.168.77.253  s  sb 192.168.78.253 ──┘   (a switch there, too)
//
// r and s are routers; a and b go by r. The gateway of a, 192.168.77.254, is r's, and moves.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, ip } from '../../harness/netns.ts'
import { tellLogsOnFailure } from '../expect.ts'
import { blocked, reached, ready, sysctl, type World, world } from './world.ts'

describe.each(['xdp', 'udp'] as const)('underlay %s behind routers', mode => {
  let here: World | undefined
  let r: string
  let s: string
  const far = '192.168.78.0/24'

  beforeAll(async () => {
    here = await world(`ways${mode}`, {
      mode,
      vteps: ['192.168.77.1', '192.168.78.2'],
      wire: async ({ namespaces, a, b }) => {
        const [left, right] = [await namespaces.add('left'), await namespaces.add('right')]
        r = await namespaces.add('r')
        s = await namespaces.add('s')
        const plugs = [
          [a, 'under0', '192.168.77.1/24', left, 'p1'],
          [r, 'ra', '192.168.77.252/24', left, 'p2'],
          [s, 'sa', '192.168.77.253/24', left, 'p3'],
          [b, 'under0', '192.168.78.2/24', right, 'p1'],
          [r, 'rb', '192.168.78.254/24', right, 'p2'],
          [s, 'sb', '192.168.78.253/24', right, 'p3'],
        ] as const
        for (const bridge of [left, right]) {
          await ip(bridge, 'link', 'add', 'switch', 'up', 'type', 'bridge')
        }
        for (const [netns, device, address, bridge, plug] of plugs) {
          await connect(
            { netns, device, addresses: [address] },
            { netns: bridge, device: plug, addresses: [] },
          )
          await ip(bridge, 'link', 'set', plug, 'master', 'switch')
        }
        for (const router of [r, s]) {
          await sysctl(router, 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0')
          // Both answer a failover with an ARP of their own.
          await sysctl(router, 'net.ipv4.conf.all.arp_notify=1')
        }
        await ip(r, 'addr', 'add', '192.168.77.254/32', 'dev', 'ra')
        await ip(a, 'route', 'add', far, 'via', '192.168.77.254')
        await ip(b, 'route', 'add', '192.168.77.0/24', 'via', '192.168.78.254')
      },
    })
    await reached(here)
  })
  afterAll(() => here?.close())
  tellLogsOnFailure(() => [here?.a, here?.b])

  /** Packets that a router's device has sent. */
  const sent = async (router: string, device: string): Promise<number> => {
    const [link] = JSON.parse(await ip(router, '-s', '-j', 'link', 'show', device))
    return link.stats64.tx.packets
  }

  test('the gateway has another MAC, and says so', async () => {
    await ip(r, 'link', 'set', 'ra', 'address', '02:00:00:00:77:fe')
    await reached(here!)
  })

  test('the gateway address moves to the other router', async () => {
    await ip(r, 'addr', 'del', '192.168.77.254/32', 'dev', 'ra')
    await ip(s, 'addr', 'add', '192.168.77.254/32', 'dev', 'sa')
    await ip(s, 'link', 'set', 'sa', 'address', '02:00:00:00:77:fd')
    await reached(here!)
    await ip(s, 'addr', 'del', '192.168.77.254/32', 'dev', 'sa')
    await ip(r, 'addr', 'add', '192.168.77.254/32', 'dev', 'ra')
    await ip(r, 'link', 'set', 'ra', 'address', '02:00:00:00:77:fc')
    await reached(here!)
  })

  test('the route leads over the other router; without one the node is not ready', async () => {
    const { a } = here!
    await ip(a.netns, 'route', 'replace', far, 'via', '192.168.77.253')
    const before = await sent(s, 'sb')
    await reached(here!)
    expect(await sent(s, 'sb')).toBeGreaterThan(before)
    await ip(a.netns, 'route', 'del', far)
    expect((await blocked(a)).what).toContain('no other node is reached')
    await ip(a.netns, 'route', 'add', far, 'via', '192.168.77.254')
    await reached(here!)
    await ready(a)
  })

  test("a rule for our source, or for VXLAN's port, chooses the way", async () => {
    const { a } = here!
    await ip(a.netns, 'route', 'add', far, 'via', '192.168.77.253', 'table', '100')
    for (const selector of [
      ['from', '192.168.77.1'],
      ['ipproto', 'udp', 'dport', '4789'],
    ]) {
      await ip(a.netns, 'route', 'replace', 'blackhole', far)
      await blocked(a)
      await ip(a.netns, 'rule', 'add', ...selector, 'table', '100')
      await reached(here!)
      await ready(a)
      await ip(a.netns, 'rule', 'del', ...selector, 'table', '100')
      await ip(a.netns, 'route', 'del', 'blackhole', far)
      await ip(a.netns, 'route', 'replace', far, 'via', '192.168.77.254')
      await reached(here!)
    }
  })

  test('of two equal ways the one that is left is taken', async () => {
    const { a } = here!
    await ip(
      ...([a.netns, 'route', 'replace', far] as const),
      ...['nexthop', 'via', '192.168.77.254', 'nexthop', 'via', '192.168.77.253'],
    )
    await reached(here!)
    for (const gateway of ['192.168.77.253', '192.168.77.254']) {
      await ip(a.netns, 'route', 'replace', far, 'via', gateway)
      await reached(here!)
    }
  })
})
