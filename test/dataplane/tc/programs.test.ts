import { afterEach, beforeEach, expect, test } from 'vitest'
import { DROP_TAP_GONE, DROP_VXLAN_DEVICE } from '../../../dataplane/drops.ts'
import { countOf, createMaps, DEVICE_TAP, type TcMaps, u32 } from '../../../dataplane/tc/maps.ts'
import { down, peerUp, podUp } from '../../../dataplane/tc/programs.ts'
import { TAG_PEER, TAG_POD, tagValue } from '../../../dataplane/tc/tag.ts'
import { TUNNEL, tunnelValue } from '../../../dataplane/tc/tunnel.ts'
import { native } from '../../../native/native.ts'

// Programs run as on loopback (BPF_PROG_TEST_RUN): its index is 1, its MAC 00:00:00:00:00:00.

const TC_ACT_SHOT = 2
const TC_ACT_REDIRECT = 7
const LOOPBACK = 1
const TO_LOOPBACK = '000000000000'
const TO_ANOTHER = '020000000099'
const FROM = '020000000011'
const REST = `0800${'45'.repeat(46)}`

const open: number[] = []
let maps: TcMaps

beforeEach(() => {
  maps = createMaps()
})
afterEach(() => {
  maps.close()
  for (const fd of open.splice(0)) native.close(fd)
})

function load(instructions: Uint8Array): number {
  open.push(native.bpfLoadTc(instructions, 'hwt_tc'))
  return open.at(-1)!
}

/** What a program answers, and what it makes of the frame. */
function run(program: number, hex: string): { answer: number; frame: string } {
  const packet = Uint8Array.from(Buffer.from(hex, 'hex'))
  const answer = native.bpfRun(program, packet)
  return { answer, frame: Buffer.from(packet).toString('hex') }
}

function pod(ifindex: number, macs: string): Uint8Array {
  return Uint8Array.from(Buffer.concat([u32(ifindex), Buffer.from(macs, 'hex')]))
}

test('a pod’s frame gets the tag of its port in the place of its destination', () => {
  native.bpfMapUpdate(maps.devices, u32(DEVICE_TAP), u32(LOOPBACK))
  native.bpfMapUpdate(maps.senders, u32(LOOPBACK), tagValue(TAG_POD, 0x0123, 0x4_5678))
  const program = load(podUp(maps))
  const sent = run(program, TO_LOOPBACK + FROM + REST)
  expect(sent).toEqual({ answer: TC_ACT_REDIRECT, frame: `020001235678${FROM}${REST}` })
  // skb->pkt_type: PACKET_OTHERHOST, PACKET_MULTICAST.
  expect(run(program, TO_ANOTHER + FROM + REST).frame).toBe(`020301235678${FROM}${REST}`)
  expect(run(program, `333300000001${FROM}${REST}`).frame).toBe(`020201235678${FROM}${REST}`)
})

test('whoever is not known sends nothing up, and is counted', () => {
  const program = load(podUp(maps))
  native.bpfMapUpdate(maps.devices, u32(DEVICE_TAP), u32(LOOPBACK))
  const frame = TO_LOOPBACK + FROM + REST
  expect(run(program, frame)).toEqual({ answer: TC_ACT_SHOT, frame })
  expect(countOf(maps, DROP_TAP_GONE)).toBe(1)
  // Without a TAP.
  native.bpfMapUpdate(maps.senders, u32(LOOPBACK), tagValue(TAG_POD, 1, 1))
  native.bpfMapUpdate(maps.devices, u32(DEVICE_TAP), u32(0))
  expect(run(program, frame).answer).toBe(TC_ACT_SHOT)
  expect(countOf(maps, DROP_TAP_GONE)).toBe(2)
})

test('a frame for a pod gets its MACs, one for a port that is not there is dropped', () => {
  const program = load(down(maps))
  native.bpfMapUpdate(maps.pods, u32(5), pod(LOOPBACK, 'aaaaaaaaaaaabbbbbbbbbbbb'))
  const to = (tag: string) => run(program, `${tag}${FROM}${REST}`)
  expect(to('020000050000')).toEqual({
    answer: TC_ACT_REDIRECT,
    frame: `aaaaaaaaaaaabbbbbbbbbbbb${REST}`,
  })
  expect(countOf(maps, DROP_TAP_GONE)).toBe(0)
  for (const tag of ['020000060000', '02000fff0000', '000000050000', 'ffffffffffff']) {
    expect(to(tag)).toEqual({ answer: TC_ACT_SHOT, frame: `${tag}${FROM}${REST}` })
  }
  expect(countOf(maps, DROP_TAP_GONE)).toBe(4)
})

test('a frame for a next hop gets its tunnel', () => {
  const program = load(down(maps))
  const tunnel = tunnelValue({
    ...{ local: '192.0.2.1', remote: '192.0.2.2', vni: 7 },
    ...{ sourceMac: '02:00:00:00:00:01', destinationMac: '02:00:00:00:00:02' },
  })
  native.bpfMapUpdate(maps.tunnels, u32(0x7ffe), tunnel)
  native.bpfMapUpdate(maps.devices, u32(1), u32(LOOPBACK))
  expect(run(program, `06007ffe0000${FROM}${REST}`)).toEqual({
    answer: TC_ACT_REDIRECT,
    frame: `020000000002020000000001${REST}`,
  })
  expect(run(program, `06007ffd0000${FROM}${REST}`).answer).toBe(TC_ACT_SHOT)
  expect(countOf(maps, DROP_TAP_GONE)).toBe(1)
  // Flags that the kernel doesn't know.
  new DataView(tunnel.buffer).setUint32(TUNNEL.FLAGS, 0x8000_0000, true)
  native.bpfMapUpdate(maps.tunnels, u32(1), tunnel)
  expect(run(program, `060000010000${FROM}${REST}`).answer).toBe(TC_ACT_SHOT)
  expect(countOf(maps, DROP_TAP_GONE)).toBe(2)
})

test('what came by no tunnel, or is addressed to somebody else, does not go up', () => {
  for (const vtep of ['192.0.2.1', '2001:db8::1']) {
    const program = load(peerUp(maps, vtep))
    expect(run(program, TO_LOOPBACK + FROM + REST).answer).toBe(TC_ACT_SHOT)
    expect(run(program, TO_ANOTHER + FROM + REST).answer).toBe(TC_ACT_SHOT)
  }
  expect(countOf(maps, DROP_VXLAN_DEVICE)).toBe(4)
})

test('a tag is no address of anybody', () => {
  for (const kind of [TAG_POD, TAG_PEER]) {
    // Locally administered, unicast.
    expect(tagValue(kind, 1, 1)[0]! & 3).toBe(2)
  }
})
