// Bandwidth: what passes, by a clock of the test's own.
import { afterEach, describe, expect, test } from 'vitest'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import type { Rate } from '../../../dataplane/tables/rates.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { bytesOf, concat, ethernet, ip4Bytes, tcp, udp, vxlan } from '../../harness/packets.ts'

const SECOND = 1e9
/** One packet of 1000 bytes a second. */
const SLOW: Rate = { rate: 1000, burst: 1000 }
/** A packet of 1000 bytes; with the Ethernet header of a veth pod it has 14 more. */
const data = new Uint8Array(1000 - 28)
const far = '10.244.2.9'

let now = 0
let world: TestEngine
function limited(rates: { ingress?: Rate; egress?: Rate }): void {
  now = 1e15
  world = testEngine({ rates, clock: () => now })
}
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

const fromVeth = (packet: Uint8Array): Uint8Array => ethernet(VETH_MAC, POD_MAC, 0x0800, packet)
const toPod = (last: number): Uint8Array =>
  ethernet(
    UNDERLAY_MAC,
    UNDERLAY_PEER_MAC,
    0x0800,
    vxlan({
      src: PEER,
      dst: VTEP,
      innerDst: OWN_VTEP_MAC,
      innerSrc: PEER_VTEP_MAC,
      inner: udp({ src: far, dst: `10.244.1.${last}` }, data),
    }),
  )
const sent = (port: number, packet: Uint8Array | MemPacket): number =>
  world.send(port, packet).reduce((sum, packets) => sum + packets.length, 0)

/** Offers the packet 100 times a second, for 50 s. Returns how many have passed. */
function offer(port: number, packet: Uint8Array): number {
  let passed = 0
  for (let k = 0; k < 5000; k++) {
    passed += sent(port, packet)
    now += SECOND / 100
  }
  return passed
}

describe('a rate holds', () => {
  test.each([
    ['of what a TUN pod sends', 'egress', TUN_POD, udp({ src: '10.244.1.2', dst: far }, data), 0],
    [
      'of what a veth pod sends',
      'egress',
      VETH_POD,
      fromVeth(udp({ src: '10.244.1.3', dst: far }, data)),
      14,
    ],
    ['of what a TUN pod receives', 'ingress', UNDERLAY, toPod(2), 0],
    ['of what a veth pod receives', 'ingress', UNDERLAY, toPod(3), 14],
    [
      'of what a pod receives from its node',
      'ingress',
      HOST,
      udp({ src: '192.88.99.9', dst: '10.244.1.2' }, data),
      0,
    ],
  ] as const)('%s', (_, direction, port, packet, link) => {
    limited({ [direction]: SLOW })
    const passed = offer(port, packet)
    // What was in the bucket and what 50 s have earned, and one packet beyond it.
    const most = (SLOW.burst + 50 * SLOW.rate) / (1000 + link)
    expect(passed).toBeGreaterThan(most - 1)
    expect(passed).toBeLessThan(most + 1)
    expect(world.drops()).toEqual({ rate: 5000 - passed })
  })

  test('and nothing in the other direction', () => {
    limited({ ingress: SLOW })
    expect(offer(TUN_POD, udp({ src: '10.244.1.2', dst: far }, data))).toBe(5000)
    limited({ egress: SLOW })
    expect(offer(UNDERLAY, toPod(2))).toBe(5000)
  })

  test('for each pod by itself', () => {
    limited({ ingress: SLOW })
    expect(sent(UNDERLAY, toPod(2))).toBe(1)
    expect(sent(UNDERLAY, toPod(2))).toBe(0)
    expect(sent(UNDERLAY, toPod(3))).toBe(1)
    expect(sent(UNDERLAY, toPod(3))).toBe(0)
  })
})

describe('what counts', () => {
  test('a superframe passes whole and counts as its segments, headers and all', () => {
    limited({ egress: { rate: 1000, burst: 1000 } })
    const superframe = {
      bytes: tcp({ src: '10.244.1.2', dst: far, partial: true }, new Uint8Array(10_000)),
      partial: true,
      csumStart: 20,
      csumOffset: 16,
      gsoType: 1,
      gsoSize: 1000,
    }
    expect(sent(TUN_POD, superframe)).toBe(10)
    // Ten segments of 1,040 bytes, of which the bucket had 1,000.
    now += 9.3 * SECOND
    expect(sent(TUN_POD, superframe)).toBe(0)
    now += 0.2 * SECOND
    expect(sent(TUN_POD, superframe)).toBe(10)
  })

  test('an ICMP error that a pod gets', () => {
    limited({ ingress: { rate: 1, burst: 1 } })
    const expired = udp({ src: '10.244.1.2', dst: far, ttl: 1 }, data)
    expect(sent(TUN_POD, expired)).toBe(1)
    expect(sent(TUN_POD, expired)).toBe(0)
    expect(world.drops()).toEqual({ ttl: 2, rate: 1 })
  })

  test('what a pod may not send is no use of its rate, nor is ARP', () => {
    limited({ egress: SLOW })
    expect(sent(VETH_POD, fromVeth(udp({ src: '10.244.1.9', dst: far }, data)))).toBe(0)
    const head = bytesOf('0001080006040001')
    const ask = concat(head, bytesOf(POD_MAC), ip4Bytes('10.244.1.3'), new Uint8Array(6))
    const arp = ethernet(VETH_MAC, POD_MAC, 0x0806, concat(ask, ip4Bytes('169.254.1.1')))
    for (let k = 0; k < 50; k++) expect(sent(VETH_POD, arp)).toBe(1)
    expect(sent(VETH_POD, fromVeth(udp({ src: '10.244.1.3', dst: far }, data)))).toBe(1)
    expect(world.drops()).toEqual({ 'source-ip': 1 })
  })

  test('time is read once a batch, and not at all without a rate', () => {
    limited({ egress: SLOW, ingress: SLOW })
    let reads = 0
    world.engine.clock = () => {
      reads++
      return now
    }
    const packet = udp({ src: '10.244.1.2', dst: '10.244.1.3' }, new Uint8Array(1))
    world.send(TUN_POD, ...new Array(20).fill(packet))
    expect(reads).toBe(2)
    world.send(HOST, udp({ src: '192.88.99.9', dst: far }, data))
    expect(reads).toBe(2)
  })
})
