import { expect, test } from 'vitest'
import { MAX_NEXT_HOPS, VXLAN_OVERHEAD_IPV6 } from '../../../dataplane/limits.ts'
import { NEXT_HOP_BYTES } from '../../../dataplane/memory/arena.ts'
import {
  HOP,
  HOP_HEADER,
  HOP_HEADER_BYTES,
  HOP_KIND,
  HOP_MAC_HIGH,
  HOP_MAC_KNOWN,
  HOP_MAC_LOW,
  HOP_MTU,
  HOP_NETWORK,
  HOP_PORT,
  type NextHop,
  writeNextHop,
} from '../../../dataplane/tables/next-hops.ts'
import { smallArena } from '../memory/plan.ts'

const VXLAN: NextHop = {
  kind: HOP.VXLAN,
  network: 255,
  port: 511,
  mtu: 1450,
  header: Uint8Array.from({ length: VXLAN_OVERHEAD_IPV6 }, (_, i) => i + 1),
  macHigh: 0xfedcba98,
  macLow: 0x7654,
  macKnown: true,
}

test('an entry is where the stages look for it, and nowhere else', () => {
  const arena = smallArena()
  const { view, layout } = arena
  const table = arena.slice(layout.nextHops).fill(0xaa)
  const untouched = new Uint8Array(table.length).fill(0xaa)
  for (const id of [1, 7, MAX_NEXT_HOPS - 1]) {
    writeNextHop(arena, id, VXLAN)
    const at = layout.nextHops.offset + id * NEXT_HOP_BYTES
    const word = (offset: number) => view.getUint32(at + offset, true)
    expect([HOP_PORT, HOP_MTU, HOP_HEADER_BYTES].map(word)).toEqual([511, 1450, 70])
    const half = (offset: number) => view.getUint16(at + offset, true)
    expect([HOP_KIND, HOP_NETWORK].map(half)).toEqual([HOP.VXLAN, 255])
    expect([HOP_MAC_HIGH, HOP_MAC_LOW, HOP_MAC_KNOWN].map(word)).toEqual([0xfedcba98, 0x7654, 1])
    expect(arena.bytes.slice(at + HOP_HEADER, at + HOP_HEADER + 70)).toEqual(VXLAN.header)
    // The longest template ends before the fields behind it.
    expect(HOP_HEADER + VXLAN_OVERHEAD_IPV6).toBeLessThanOrEqual(HOP_MAC_HIGH)
    const own = table.subarray(id * NEXT_HOP_BYTES, (id + 1) * NEXT_HOP_BYTES)
    own.fill(0xaa)
    expect(Buffer.compare(table, untouched)).toBe(0)
  }
})

test('a shorter header takes the place of a longer one', () => {
  const arena = smallArena()
  writeNextHop(arena, 3, VXLAN)
  writeNextHop(arena, 3, { ...VXLAN, kind: HOP.PORT, header: new Uint8Array(0), macKnown: false })
  const at = arena.layout.nextHops.offset + 3 * NEXT_HOP_BYTES
  expect(arena.view.getUint32(at + HOP_HEADER_BYTES, true)).toBe(0)
  expect(arena.view.getUint32(at + HOP_MAC_KNOWN, true)).toBe(0)
  expect(arena.view.getUint16(at + HOP_KIND, true)).toBe(HOP.PORT)
})
