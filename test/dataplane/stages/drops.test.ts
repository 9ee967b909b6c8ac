// Every drop reason has a case: packets in, what comes out, and the counters.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DROPS } from '../../../dataplane/drops.ts'
import { COUNTER, PORT_COUNTER, portCounters } from '../../../dataplane/memory/arena.ts'
import type { MemPacket } from '../../../dataplane/ports/mem.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  type TestEngine,
  type TestEngineOptions,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
  VTEP6,
} from '../../harness/engine.ts'
import {
  bytesOf,
  concat,
  ethernet,
  icmp,
  ip,
  ip4Bytes,
  ip6Bytes,
  udp,
  vxlan,
} from '../../harness/packets.ts'

const data = new Uint8Array(32).fill(7)
const pod = { src: '10.244.1.2', dst: '10.244.2.9' }
const pod6 = { src: 'fd44:0:0:1::2', dst: 'fd44:0:0:2::9' }
const veth = { src: '10.244.1.3', dst: '10.244.2.9' }
const remote = udp({ src: '10.244.2.9', dst: '10.244.1.2' }, data)

function fromVeth(payload: Uint8Array, type = 0x0800, src = POD_MAC, dst = VETH_MAC): Uint8Array {
  return ethernet(dst, src, type, payload)
}

function underlay(packet: Uint8Array): Uint8Array {
  const type = packet[0]! >> 4 === 6 ? 0x86dd : 0x0800
  return ethernet(UNDERLAY_MAC, UNDERLAY_PEER_MAC, type, packet)
}

function overlay(change: Partial<Parameters<typeof vxlan>[0]> = {}): Uint8Array {
  const macs = { innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC }
  return underlay(vxlan({ src: PEER, dst: VTEP, ...macs, inner: remote, ...change }))
}

function patch(bytes: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = bytes.slice()
  copy.set(values, at)
  return copy
}

function arp(
  change: Partial<{ op: number; sender: string; senderMac: string; target: string }> = {},
) {
  const { op = 1, sender = '10.244.1.3', senderMac = POD_MAC, target = '169.254.1.1' } = change
  return concat(
    bytesOf('0001080006040001'.slice(0, 12)),
    Uint8Array.of(0, op),
    bytesOf(senderMac),
    ip4Bytes(sender),
    new Uint8Array(6),
    ip4Bytes(target),
  )
}

function solicitation(src: string, target: string): Uint8Array {
  const body = concat(new Uint8Array(4), ip6Bytes(target), Uint8Array.of(1, 1), bytesOf(POD_MAC))
  return icmp({ src, dst: target, ttl: 255 }, 135, 0, body)
}

const cases: Record<string, [port: number, packet: Uint8Array | MemPacket][]> = {
  'l2-truncated': [[VETH_POD, new Uint8Array(9)]],
  'l2-foreign': [[VETH_POD, fromVeth(udp(veth, data), 0x0800, POD_MAC, '02:00:00:00:00:99')]],
  ethertype: [
    [VETH_POD, fromVeth(data, 0x88cc)],
    [UNDERLAY, underlay(arp()).with(12, 8).with(13, 6)],
  ],
  'source-mac': [[VETH_POD, fromVeth(udp(veth, data), 0x0800, '02:00:00:00:00:99')]],
  'ip-truncated': [
    [TUN_POD, new Uint8Array(0)],
    [TUN_POD, udp(pod, data).subarray(0, 40)],
    [TUN_POD, udp(pod6, data).subarray(0, 60)],
    [TUN_POD, udp(pod6, data).subarray(0, 30)],
  ],
  'ip-version': [[TUN_POD, patch(udp(pod, data), 0, 0x55)]],
  'ip-header': [
    [TUN_POD, patch(udp(pod, data), 0, 0x44)],
    [TUN_POD, patch(udp(pod, data), 2, 0, 19)],
    // Hop-by-hop options that say they are longer than the packet.
    [TUN_POD, ip({ ...pod6, proto: 0, payload: Uint8Array.of(17, 200, 0, 0, 0, 0, 0, 0) })],
  ],
  'ip-checksum': [[TUN_POD, patch(udp(pod, data), 10, 1, 2)]],
  'l4-truncated': [
    [TUN_POD, ip({ ...pod, proto: 6, payload: new Uint8Array(19) })],
    [TUN_POD, ip({ ...pod, proto: 17, payload: new Uint8Array(8) })],
    [TUN_POD, ip({ ...pod, proto: 1, payload: new Uint8Array(7) })],
    [TUN_POD, ip({ ...pod6, proto: 58, payload: new Uint8Array(4) })],
  ],
  offload: [
    [TUN_POD, { bytes: udp(pod, data), gsoType: 1, gsoSize: 8 }],
    [TUN_POD, { bytes: udp(pod, data), partial: true, csumStart: 900, csumOffset: 6 }],
  ],
  'arp-malformed': [
    [VETH_POD, fromVeth(arp({ op: 2 }), 0x0806)],
    [VETH_POD, fromVeth(data.subarray(0, 20), 0x0806)],
  ],
  'arp-spoof': [
    [VETH_POD, fromVeth(arp({ sender: '10.244.1.7' }), 0x0806)],
    [VETH_POD, fromVeth(arp({ senderMac: VETH_MAC }), 0x0806)],
  ],
  'nd-malformed': [
    // A redirect, and a solicitation that came over a router.
    [VETH_POD, fromVeth(icmp({ src: 'fe80::2', dst: 'fe80::1', ttl: 255 }, 137), 0x86dd)],
    [
      VETH_POD,
      fromVeth(
        icmp({ src: 'fe80::2', dst: 'fe80::1', ttl: 64 }, 135, 0, new Uint8Array(28)),
        0x86dd,
      ),
    ],
  ],
  'nd-spoof': [[VETH_POD, fromVeth(solicitation('fd44:0:0:1::9', 'fe80::1'), 0x86dd)]],
  'source-ip': [
    [TUN_POD, udp({ ...pod, src: '10.244.1.3' }, data)],
    [TUN_POD, udp({ ...pod6, src: 'fd44:0:0:1::3' }, data)],
    [VETH_POD, fromVeth(udp({ ...veth, src: '10.244.1.2' }, data))],
  ],
  multicast: [
    [TUN_POD, udp({ ...pod, dst: '224.0.0.251' }, data)],
    [TUN_POD, udp({ ...pod, dst: '255.255.255.255' }, data)],
    [TUN_POD, udp({ ...pod, dst: '0.0.0.0' }, data)],
    [TUN_POD, udp({ ...pod, dst: '127.0.0.1' }, data)],
    [TUN_POD, udp({ ...pod6, dst: 'ff02::fb' }, data)],
    [TUN_POD, udp({ ...pod6, dst: 'fe80::1' }, data)],
  ],
  'not-vxlan': [
    [UNDERLAY, overlay({ dport: 4790 })],
    [UNDERLAY, overlay({ dst: '192.0.2.77' })],
    [UNDERLAY, underlay(icmp({ src: PEER, dst: VTEP }, 8))],
  ],
  'vxlan-header': [
    [UNDERLAY, overlay({ flags: 0 })],
    [UNDERLAY, underlay(udp({ src: PEER, dst: VTEP, dport: 4789 }, new Uint8Array(10)))],
  ],
  'vxlan-vni': [[UNDERLAY, overlay({ vni: 2 })]],
  'vxlan-vtep': [[UNDERLAY, overlay({ src: '192.0.2.3' })]],
  'vxlan-inner': [[UNDERLAY, overlay({ innerDst: '02:aa:00:00:00:09' })]],
  'vxlan-checksum': [[UNDERLAY, patch(overlay(), 14 + 26, 0x12, 0x34)]],
  'vxlan-ecn': [[UNDERLAY, overlay({ tos: 3 })]],
  'overlay-transit': [
    [UNDERLAY, overlay({ inner: udp({ src: '10.244.2.9', dst: '10.244.2.8' }, data) })],
  ],
  'no-route': [
    // Nor is there one back to its sender, for the ICMP error.
    [UNDERLAY, overlay({ inner: udp({ src: '192.88.99.9', dst: '192.88.99.1' }, data) })],
  ],
  unreachable: [[HOST, udp({ src: '192.88.99.9', dst: '10.244.1.77' }, data)]],
  ttl: [[TUN_POD, udp({ ...pod, ttl: 1 }, data)]],
  mtu: [[TUN_POD, udp(pod, new Uint8Array(1500))]],
  'port-gone': [[TUN_POD, udp({ ...pod, dst: '203.0.113.5' }, data)]],
  loop: [[HOST, udp({ src: '203.0.113.9', dst: '198.51.100.7' }, data)]],
  rate: [
    // What the pods send and receive once; then each once more, and a superframe.
    [TUN_POD, udp({ ...pod, dst: '10.244.1.3' }, data)],
    [VETH_POD, fromVeth(udp({ ...veth, dst: '10.244.1.2' }, data))],
    [TUN_POD, udp(pod, data)],
    [VETH_POD, fromVeth(udp(veth, data))],
    [UNDERLAY, overlay()],
    [HOST, udp({ src: '192.88.99.9', dst: '10.244.1.3' }, data)],
  ],
  redirect: [
    [TUN_POD, icmp({ ...pod, dst: '10.244.1.3' }, 5, 1, new Uint8Array(32))],
    [VETH_POD, fromVeth(icmp(veth, 5, 1, new Uint8Array(32)))],
    [TUN_POD, icmp(pod, 9)],
  ],
  'other-network': [[TUN_POD, udp({ src: '10.244.1.2', dst: '10.60.1.3' }, data)]],
  'to-vtep': [
    [TUN_POD, udp({ ...pod, dst: VTEP, dport: 4789 }, data)],
    [TUN_POD, udp({ ...pod, dst: PEER, dport: 4789 }, data)],
    [TUN_POD, udp({ ...pod6, dst: VTEP6, dport: 4789 }, data)],
    [VETH_POD, fromVeth(udp({ ...veth, dst: PEER, dport: 4789 }, data))],
    // The first fragment of one.
    [TUN_POD, udp({ ...pod, dst: PEER, dport: 4789, fragment: 0x2000 }, data)],
  ],
  handled: [
    // Duplicate address detection of the pod's own address; an ARP announcement; a router solicitation.
    [VETH_POD, fromVeth(solicitation('::', 'fd44:0:0:1::3'), 0x86dd)],
    [VETH_POD, fromVeth(arp({ target: '10.244.1.3' }), 0x0806)],
    [
      VETH_POD,
      fromVeth(
        icmp({ src: 'fe80::2', dst: 'ff02::2', ttl: 255 }, 133, 0, new Uint8Array(4)),
        0x86dd,
      ),
    ],
  ],
}

/** Reasons that only a port of the kernel, or the kernel itself, gives (test/dataplane/ports and afxdp have their cases), and policy's (policy.test.ts). */
const ELSEWHERE = [
  ...['none', 'neighbour', 'tx-full', 'tx-error', 'no-frames', 'port-down'],
  ...['fill-empty', 'rx-full', 'rx-long', 'descriptor'],
  ...['vxlan-peer', 'vxlan-device', 'tap-gone'],
  ...['policy-egress', 'policy-ingress', 'policy-fragment', 'policy-icmp', 'dns-busy', 'half-open'],
]

/** A pod may send, and receive, one packet. */
const LIMITED: Record<string, TestEngineOptions> = {
  rate: {
    rates: { egress: { rate: 1, burst: 1 }, ingress: { rate: 1, burst: 1 } },
    clock: () => 0,
  },
}
/** What else an engine must have for a case. */
const WITH: Record<string, TestEngineOptions> = { 'other-network': { blue: 'veth' }, ...LIMITED }

let world: TestEngine
beforeEach(() => {
  world = testEngine()
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

describe('every drop is counted by its reason', () => {
  for (const [reason, packets] of Object.entries(cases)) {
    test(reason, () => {
      world = testEngine(WITH[reason])
      const passes = reason in LIMITED ? packets.splice(0, 2) : []
      for (const [port, packet] of [...passes, ...packets]) world.send(port, packet)
      expect(world.drops()).toEqual({ [reason]: packets.length })
    })
  }

  test('every reason has a case', () => {
    const names = DROPS.map(([name]) => name as string)
    expect([...Object.keys(cases), ...ELSEWHERE].sort()).toEqual(names.sort())
  })
})

test('without frames the rest of a superframe that must be cut is dropped, segment by segment', () => {
  world = testEngine({ smallFrames: 1 })
  const big = udp({ ...pod, partial: true }, new Uint8Array(4000))
  world.send(TUN_POD, {
    bytes: big,
    partial: true,
    csumStart: 20,
    csumOffset: 6,
    gsoType: 5,
    gsoSize: 1000,
  })
  expect(world.counter(COUNTER.SEGMENTED)).toBe(1)
  expect(world.counter(COUNTER.SEGMENTS)).toBe(4)
  expect(world.counter(COUNTER.ENCAPSULATED)).toBe(1)
  expect(world.drops()).toEqual({ 'no-frames': 3 })
  expect(world.counter(portCounters(TUN_POD) + PORT_COUNTER.RX_DROPS)).toBe(3)
})

test('truncations and random changes of good packets never throw and never lose a frame', () => {
  let seed = 1
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff
    return seed
  }
  const good: [number, Uint8Array][] = [
    [TUN_POD, udp(pod, data)],
    [TUN_POD, udp(pod6, data)],
    [VETH_POD, fromVeth(udp(veth, data))],
    [VETH_POD, fromVeth(arp(), 0x0806)],
    [VETH_POD, fromVeth(solicitation('fd44:0:0:1::3', 'fe80::1'), 0x86dd)],
    [UNDERLAY, overlay()],
  ]
  for (let round = 0; round < 20_000; round++) {
    const [port, packet] = good[round % good.length]!
    const bytes = packet.slice(0, random() % (packet.length + 1))
    for (let k = random() % 4; k > 0 && bytes.length > 0; k--)
      bytes[random() % bytes.length] = random() & 0xff
    world.send(port, bytes)
  }
  const dropped = Object.values(world.drops()).reduce((sum, n) => sum + n, 0)
  expect(dropped).toBeGreaterThan(10_000)
})
