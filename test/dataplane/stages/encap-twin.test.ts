// The native twin of `encap`: the same frames as TypeScript makes, from packets of all kinds.
import { expect, test } from 'vitest'
import {
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  VETH_MAC,
  VETH_POD,
} from '../../harness/engine.ts'
import { ethernet, ip, tcp, udp } from '../../harness/packets.ts'
import { random } from '../hash/random.ts'

function anyPacket(draw: () => number): Uint8Array {
  const six = draw() % 3 === 0
  const ends = six
    ? { src: 'fd44:0:0:1::2', dst: `fd44:0:0:2::${draw() % 10}` }
    : { src: '10.244.1.2', dst: `10.244.2.${draw() % 200}` }
  const data = new Uint8Array(draw() % 1200).map(() => draw())
  const [sport, dport, tos] = [draw() & 0xffff, draw() & 0xffff, draw() & 255]
  const kinds = [
    () => udp({ ...ends, sport, dport, tos }, data),
    () => tcp({ ...ends, sport, dport, tos, flags: 16 }, data),
    () => ip({ ...ends, proto: 47, tos, payload: data }),
    () =>
      ip({
        ...ends,
        proto: 17,
        tos,
        id: draw() & 0xffff,
        fragment: 0x2000,
        payload: udp({ ...ends, sport, dport }, data).subarray(six ? 40 : 20),
      }),
  ]
  return kinds[draw() % (six ? 3 : 4)]!()
}

test.each([
  ['complete checksums', { partialChecksums: false }],
  ['partial ones', { partialChecksums: true }],
  ['outer IPv6, which has no twin', { underlay: 6 as const }],
])('%s', (_, options) => {
  const draw = random(7)
  const twin = testEngine(options)
  const plain = testEngine(options)
  plain.engine.twins = false
  const both: TestEngine[] = [twin, plain]
  let out = 0
  for (let round = 0; round < 12; round++) {
    const packets = Array.from({ length: 50 }, () => anyPacket(draw))
    const tun = round % 2 === 0
    // Packets of the veth pod come with another source; they are dropped before.
    const sent = tun
      ? packets
      : packets.map(packet =>
          ethernet(VETH_MAC, POD_MAC, packet[0]! >> 4 === 6 ? 0x86dd : 0x0800, packet),
        )
    const [a, b] = both.map(world => world.send(tun ? TUN_POD : VETH_POD, ...sent))
    expect(a).toEqual(b)
    out += a!.flat().length
  }
  expect(out).toBeGreaterThan(250)
  expect(twin.drops()).toEqual(plain.drops())
  expect(twin.engine.identification).toBe(plain.engine.identification)
  expect(both.map(world => world.leaked())).toEqual([0, 0])
})
