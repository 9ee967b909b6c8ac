// How large a packet the way takes, and who hears of it.
//
//   node a 192.168.77.1 ── r ══ MTU 1400 ══ s ── 192.168.78.2 node b
//   pod-a, MTU 1450                              pod-b, MTU 1450
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, ip } from '../../harness/netns.ts'
import { ping, transfer } from '../../harness/traffic.ts'
import { until } from '../../harness/until.ts'
import { dropsOf, tellLogsOnFailure } from '../expect.ts'
import { reached, ready, status, sysctl, type World, world } from './world.ts'

test.each(['xdp', 'udp'] as const)(
  'underlay %s over IPv6, where routers do not fragment',
  async mode => {
    const here = await world(`six${mode}`, {
      mode,
      vteps: ['fd77::1', 'fd78::2'],
      wire: async ({ namespaces, a, b }) => {
        const [r, s] = [await namespaces.add('r'), await namespaces.add('s')]
        const end = (netns: string, device: string, address: string) => ({
          ...{ netns, device, addresses: [address] },
        })
        for (const router of [r, s]) await sysctl(router, 'net.ipv6.conf.all.forwarding=1')
        await connect(end(a, 'under0', 'fd77::1/64'), end(r, 'ra', 'fd77::fe/64'))
        await connect(end(b, 'under0', 'fd78::2/64'), end(s, 'sb', 'fd78::fe/64'))
        await connect(end(r, 'rs', 'fd79::1/64'), end(s, 'sr', 'fd79::2/64'), 1400)
        await ip(a, 'route', 'add', 'default', 'via', 'fd77::fe')
        await ip(b, 'route', 'add', 'default', 'via', 'fd78::fe')
        await ip(r, 'route', 'add', 'fd78::/64', 'via', 'fd79::2')
        await ip(s, 'route', 'add', 'fd77::/64', 'via', 'fd79::1')
      },
    })
    try {
      await reached(here)
      const { podA, podB } = here
      const sizes = [
        [podB.ip4, 1400],
        [podB.ip6, 1380],
      ] as const
      for (const [address, size] of sizes) {
        // It arrives, in outer fragments or in its own, once the path is known.
        await until(`${size} bytes reach ${address}`, async () => {
          const { received } = await ping(podA.netns, address, { count: 1, size, timeout: 1 })
          return received === 1
        })
      }
      const sent = await transfer('tcp', podA.netns, podB.netns, podB.ip6, { bytes: 1 << 20 })
      expect(sent.intact).toBe(true)
    } finally {
      await here.close()
    }
  },
)

describe.each(['xdp', 'udp'] as const)('underlay %s', mode => {
  describe('a link on the way is narrower than the devices', () => {
    let here: World | undefined
    beforeAll(async () => {
      here = await world(`narrow${mode}`, {
        mode,
        vteps: ['192.168.77.1', '192.168.78.2'],
        wire: async ({ namespaces, a, b }) => {
          const [r, s] = [await namespaces.add('r'), await namespaces.add('s')]
          const end = (netns: string, device: string, address: string) => ({
            ...{ netns, device, addresses: [address] },
          })
          await connect(end(a, 'under0', '192.168.77.1/24'), end(r, 'ra', '192.168.77.254/24'))
          await connect(end(b, 'under0', '192.168.78.2/24'), end(s, 'sb', '192.168.78.254/24'))
          await connect(end(r, 'rs', '192.168.79.1/24'), end(s, 'sr', '192.168.79.2/24'), 1400)
          for (const router of [r, s]) await sysctl(router, 'net.ipv4.ip_forward=1')
          await ip(a, 'route', 'add', 'default', 'via', '192.168.77.254')
          await ip(b, 'route', 'add', 'default', 'via', '192.168.78.254')
          await ip(r, 'route', 'add', '192.168.78.0/24', 'via', '192.168.79.2')
          await ip(s, 'route', 'add', '192.168.77.0/24', 'via', '192.168.79.1')
        },
      })
      await reached(here)
    })
    afterAll(() => here?.close())
    tellLogsOnFailure(() => [here?.a, here?.b])

    test('packets as large as the pod may send arrive: routers fragment, the node puts together', async () => {
      const { podA, podB } = here!
      for (const dontFragment of [false, true]) {
        const { received, errors } = await ping(podA.netns, podB.ip4, {
          ...{ count: 3, size: 1422, dontFragment },
        })
        expect({ received, errors }).toEqual({ received: 3, errors: [] })
      }
      const whole = { count: 3, size: 1402, dontFragment: true }
      expect((await ping(podA.netns, podB.ip6, whole)).received).toBe(3)
      const sent = await transfer('tcp', podA.netns, podB.netns, podB.ip4, { bytes: 1 << 20 })
      expect(sent.intact).toBe(true)
    })

    test('a path MTU that the kernel knows is told to pods that ask', async () => {
      const { a, podA, podB } = here!
      await ip(
        ...([a.netns, 'route', 'replace', '192.168.78.0/24'] as const),
        ...['via', '192.168.77.254', 'mtu', '1400'],
      )
      const told = await until('the pod is told', async () => {
        const large = { count: 1, size: 1400, dontFragment: true, timeout: 1 }
        const { errors } = await ping(podA.netns, podB.ip4, large)
        return errors.find(error => typeof error !== 'string')
      })
      expect(told).toMatchObject({ type: 3, code: 4, mtu: 1350 })
      expect((await dropsOf(a))['mtu']).toBeGreaterThan(0)
    })
  })

  describe("the device's MTU is lowered", () => {
    let here: World | undefined
    beforeAll(async () => {
      here = await world(`lowered${mode}`, {
        mode,
        wire: ({ a, b }) =>
          connect(
            { netns: a, device: 'under0', addresses: ['192.168.77.1/24'] },
            { netns: b, device: 'under0', addresses: ['192.168.77.2/24'] },
          ),
      })
      await reached(here)
    })
    afterAll(() => here?.close())
    tellLogsOnFailure(() => [here?.a, here?.b])

    test('pods are told, status says so, nothing vanishes; raised again, all is as before', async () => {
      const { a, b, podA, podB } = here!
      for (const { netns } of [a, b]) await ip(netns, 'link', 'set', 'under0', 'mtu', '1400')
      const trouble = await until('status says so', async () => {
        const { troubles } = await status(a)
        return troubles.find(({ what }) => what.includes('1350'))
      })
      expect(trouble).toMatchObject({ blocking: false })
      const large = { count: 1, size: 1400, dontFragment: true, timeout: 1 }
      const told = await until('the pod is told', async () => {
        const { errors } = await ping(podA.netns, podB.ip4, large)
        return errors.find(error => typeof error !== 'string')
      })
      expect(told).toMatchObject({ type: 3, code: 4, mtu: 1350 })
      const sent = await transfer('tcp', podA.netns, podB.netns, podB.ip4, { bytes: 1 << 20 })
      expect(sent.intact).toBe(true)
      for (const { netns } of [a, b]) await ip(netns, 'link', 'set', 'under0', 'mtu', '1500')
      await until('the trouble is over', async () => (await ready(a)).troubles.length === 0)
      // What the kernel of the pod has learnt stays with it for minutes; the other way nobody was told.
      const back = await ping(podB.netns, podA.ip4, { count: 2, size: 1422, dontFragment: true })
      expect(back.received).toBe(2)
    })
  })

  test('with the VTEP on lo the least MTU of the ways counts', async () => {
    const here = await world(`lo${mode}`, {
      mode,
      vteps: ['192.168.1.1', '192.168.1.2'],
      wire: async ({ a, b }) => {
        const end = (netns: string, device: string, address: string) => ({
          ...{ netns, device, addresses: [address] },
        })
        await connect(end(a, 'wide', '192.168.77.1/24'), end(b, 'wide', '192.168.77.2/24'))
        await connect(end(a, 'slim', '192.168.78.1/24'), end(b, 'slim', '192.168.78.2/24'), 1400)
        await ip(a, 'addr', 'add', '192.168.1.1/32', 'dev', 'lo')
        await ip(b, 'addr', 'add', '192.168.1.2/32', 'dev', 'lo')
        await ip(a, 'route', 'add', '192.168.1.2/32', 'via', '192.168.77.2', 'src', '192.168.1.1')
        await ip(b, 'route', 'add', '192.168.1.1/32', 'via', '192.168.77.1', 'src', '192.168.1.2')
      },
    })
    try {
      expect((await ready(here.a)).mtu).toBe(1350)
      await reached(here)
      // The other way, at run time.
      await ip(here.a.netns, 'route', 'replace', '192.168.1.2/32', 'via', '192.168.78.2')
      await ip(here.b.netns, 'route', 'replace', '192.168.1.1/32', 'via', '192.168.78.1')
      await reached(here)
      const { netns } = here.podA
      const large = { count: 2, size: 1322, dontFragment: true }
      expect((await ping(netns, here.podB.ip4, large)).received).toBe(2)
    } finally {
      await here.close()
    }
  })
})
