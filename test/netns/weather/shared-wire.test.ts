// Others on the same wire: somebody else's VXLAN on our port, and two devices on one segment that
// answer for each other.
import { expect, test } from 'vitest'
import { connect, ip } from '../../harness/netns.ts'
import { ping } from '../../harness/traffic.ts'
import { reached, ready, sysctl, world } from './world.ts'

test('VXLAN of others on our port goes on beside AF_XDP', async () => {
  //   node a: hawser, and vx0 172.31.0.1 ── under0 ── under0 ── vx0 172.31.0.2, and hawser :node b
  const here = await world('foreign', {
    mode: 'xdp',
    wire: async ({ a, b }) => {
      await connect(
        { netns: a, device: 'under0', addresses: ['192.168.77.1/24'] },
        { netns: b, device: 'under0', addresses: ['192.168.77.2/24'] },
      )
    },
  })
  try {
    await reached(here)
    const ends = [
      [here.a.netns, '192.168.77.1', '192.168.77.2', '172.31.0.1/24'],
      [here.b.netns, '192.168.77.2', '192.168.77.1', '172.31.0.2/24'],
    ] as const
    for (const [netns, local, remote, address] of ends) {
      const vxlan = ['type', 'vxlan', 'id', '77', 'dstport', '4789', 'local', local]
      await ip(netns, 'link', 'add', 'vx0', 'up', ...vxlan, 'remote', remote)
      await ip(netns, 'addr', 'add', address, 'dev', 'vx0')
    }
    const { received } = await ping(here.a.netns, '172.31.0.2', { count: 3 })
    expect(received).toBe(3)
    await reached(here)
  } finally {
    await here.close()
  }
})

test.each(['xdp', 'udp'] as const)(
  'underlay %s: packets for the VTEP come in by the other device',
  async mode => {
    //   node a: under0 192.168.77.1 (VTEP), extra0 192.168.77.11 ──┬── switch ── under0 192.168.77.2 :node b
    const here = await world(`flux${mode}`, {
      mode,
      wire: async ({ namespaces, a, b }) => {
        const wire = await namespaces.add('wire')
        await ip(wire, 'link', 'add', 'switch', 'up', 'type', 'bridge')
        const plugs = [
          [a, 'under0', '192.168.77.1/24', 'p1'],
          [a, 'extra0', '192.168.77.11/24', 'p2'],
          [b, 'under0', '192.168.77.2/24', 'p3'],
        ] as const
        await sysctl(a, 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0')
        for (const [netns, device, address, plug] of plugs) {
          await connect(
            { netns, device, addresses: [address] },
            { netns: wire, device: plug, addresses: [] },
          )
          await ip(wire, 'link', 'set', plug, 'master', 'switch')
        }
      },
    })
    try {
      await reached(here)
      // Node b believes the answer of the other device.
      const [extra] = JSON.parse(await ip(here.a.netns, '-j', 'link', 'show', 'extra0'))
      const permanent = ['lladdr', extra.address, 'dev', 'under0', 'nud', 'permanent']
      await ip(here.b.netns, 'neigh', 'replace', '192.168.77.1', ...permanent)
      await reached(here)
      const { received } = await ping(here.podB.netns, here.podA.ip4, { count: 3, size: 1400 })
      expect(received).toBe(3)
      await ready(here.a)
    } finally {
      await here.close()
    }
  },
)
