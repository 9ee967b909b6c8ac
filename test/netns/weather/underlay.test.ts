// The underlay device of a running node goes, comes back, changes. Pods are not touched.
//
//   node a  192.168.77.1 under0 ──── veth ──── under0 192.168.77.2  node b
//           fd77::1                                   fd77::2
//   pod-a   10.244.1.x                         pod-b  10.244.2.x
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, ip } from '../../harness/netns.ts'
import { expectSound, tellLogsOnFailure } from '../expect.ts'
import { blocked, mended, reached, ready, readyCode, status, type World, world } from './world.ts'

describe.each([
  ['xdp', 4],
  ['udp', 4],
  ['xdp', 6],
] as const)('underlay %s over IPv%i', (mode, family) => {
  let here: World | undefined
  const addresses = [
    ['192.168.77.1/24', 'fd77::1/64'],
    ['192.168.77.2/24', 'fd77::2/64'],
  ] as const
  const vteps = addresses.map(each => each[family === 4 ? 0 : 1].split('/')[0]!)
  const wire = (a: string, b: string) =>
    connect(
      { netns: a, device: 'under0', addresses: addresses[0] },
      { netns: b, device: 'under0', addresses: addresses[1] },
    )
  /** Going down takes IPv6 addresses away. */
  const addressed = async (netns: string, device: string, which: 0 | 1) => {
    for (const address of addresses[which]) {
      const noDad = address.includes(':') ? ['nodad'] : []
      await ip(netns, 'addr', 'replace', address, 'dev', device, ...noDad)
    }
  }

  beforeAll(async () => {
    here = await world(`weather${mode}${family}`, {
      mode,
      vteps: [vteps[0]!, vteps[1]!],
      wire: ({ a, b }) => wire(a, b),
    })
    await reached(here)
  })
  afterAll(() => here?.close())
  tellLogsOnFailure(() => [here?.a, here?.b])

  test('gone: not ready, with what and since when; back under another index: all as before', async () => {
    const { a, b } = here!
    const before = await status(a)
    await ip(a.netns, 'link', 'del', 'under0')
    const trouble = await blocked(a)
    expect(trouble.what).toContain(vteps[0]!)
    expect(trouble.what).toContain('under0')
    expect(Date.parse(trouble.since)).toBeLessThanOrEqual(Date.now())
    expect(await readyCode(a)).not.toBe(0)
    await wire(a.netns, b.netns)
    await reached(here!)
    const after = await ready(a)
    expect(after.troubles.filter(({ blocking }) => blocking)).toEqual([])
    expect(mended(after, 'underlay')).toBeGreaterThan(mended(before, 'underlay'))
    expect(after.underlay).toEqual(before.underlay)
    expect(await readyCode(a)).toBe(0)
    await expectSound(a)
  })

  test('another name', async () => {
    const { a } = here!
    await ip(a.netns, 'link', 'set', 'under0', 'down')
    await ip(a.netns, 'link', 'set', 'under0', 'name', 'over0')
    await ip(a.netns, 'link', 'set', 'over0', 'up')
    await addressed(a.netns, 'over0', 0)
    await reached(here!)
    expect((await ready(a)).underlay.device).toBe('over0')
    await ip(a.netns, 'link', 'set', 'over0', 'down')
    await ip(a.netns, 'link', 'set', 'over0', 'name', 'under0')
    await ip(a.netns, 'link', 'set', 'under0', 'up')
    await addressed(a.netns, 'under0', 0)
    await reached(here!)
    expect((await ready(a)).underlay.device).toBe('under0')
  })

  test('another MAC', async () => {
    const { a, b } = here!
    await ip(a.netns, 'link', 'set', 'under0', 'address', '02:00:00:77:00:01')
    // Nobody tells the peer: its kernel finds out, or is told by our own packets.
    await ip(b.netns, 'neigh', 'flush', 'dev', 'under0')
    await reached(here!)
    await ready(a)
  })

  test('down: not ready; up: ready', async () => {
    const { a } = here!
    await ip(a.netns, 'link', 'set', 'under0', 'down')
    expect((await blocked(a)).what).toMatch(/under0|VTEP/)
    await ip(a.netns, 'link', 'set', 'under0', 'up')
    await addressed(a.netns, 'under0', 0)
    await reached(here!)
    await ready(a)
  })

  test('without a carrier: not ready', async () => {
    const { a, b } = here!
    await ip(b.netns, 'link', 'set', 'under0', 'down')
    expect((await blocked(a)).what).toContain('no carrier')
    await ip(b.netns, 'link', 'set', 'under0', 'up')
    await addressed(b.netns, 'under0', 1)
    await reached(here!)
    await Promise.all([ready(a), ready(b)])
  })

  test('the VTEP address goes, and comes back on another device', async () => {
    const { a, b } = here!
    for (const address of addresses[0]) {
      await ip(a.netns, 'addr', 'del', address, 'dev', 'under0')
    }
    expect((await blocked(a)).what).toContain(`no interface of this node has the VTEP address`)
    await connect(
      { netns: a.netns, device: 'under1', addresses: addresses[0] },
      { netns: b.netns, device: 'under1', addresses: [] },
    )
    for (const address of addresses[1]) {
      await ip(b.netns, 'addr', 'del', address, 'dev', 'under0')
    }
    await addressed(b.netns, 'under1', 1)
    await reached(here!)
    expect((await ready(a)).underlay.device).toBe('under1')
    await expectSound(a)
    await expectSound(b)
  })
})
