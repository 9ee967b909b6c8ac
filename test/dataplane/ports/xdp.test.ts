/**
 * An AF_XDP queue as a port, the kernel or a bare socket at the other end of the link:
 *
 *   netns a: va, port 1 or a bare socket ───── vb, port 2 or the kernel (10.9.0.2) :netns b
 */
import { execFileSync } from 'node:child_process'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ringBytes } from '../../../dataplane/afxdp/rings.ts'
import { ROOT_RING_BYTES, Umem, XdpSocket } from '../../../dataplane/afxdp/umem.ts'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { podProgram } from '../../../dataplane/bpf/programs.ts'
import {
  DROP_NEIGHBOUR,
  DROP_NO_FRAMES,
  DROP_PORT_DOWN,
  DROP_PORT_GONE,
  DROP_TX_ERROR,
  DROP_TX_FULL,
} from '../../../dataplane/drops.ts'
import {
  FRAME_HEADROOM,
  MAX_SMALL_PACKET,
  POD_FILL_FRAMES,
  POD_FILL_SHARE,
  PORT_RETRY_MS,
} from '../../../dataplane/limits.ts'
import { HEADER } from '../../../dataplane/memory/arena.ts'
import { F_CSUM_PARTIAL, F_L2_READY, F_OUTER } from '../../../dataplane/packet/batch.ts'
import { DEVICE } from '../../../dataplane/ports/device-state.ts'
import { PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { XdpPort } from '../../../dataplane/ports/xdp.ts'
import { HOP, writeNextHop } from '../../../dataplane/tables/next-hops.ts'
import { PORT_FLAG, type PortRecord } from '../../../dataplane/tables/ports.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { native } from '../../../native/native.ts'
import { End, Link, Listener, Memory, SIZE, socketMap } from '../afxdp/link.ts'
import { plain, udp4 } from '../afxdp/packets.ts'
import { smallArena } from '../memory/plan.ts'
import { NOTHING, Place } from './place.ts'

const A = { high: 0x02090000, low: 1 }
const B = { high: 0x02090000, low: 2 }

let link: Link
let memory: Memory
let place: Place
let left: End
const open = new Set<number>()

beforeEach(async () => {
  link = new Link()
  memory = await Memory.create(link.a)
  place = new Place(memory.arena, memory.frames)
  left = await memory.open(link.a, link.indexA)
})

afterEach(() => {
  // First: whatever fails below, no namespace stays behind.
  link?.close()
  for (const fd of open) native.close(fd)
  open.clear()
  left?.close()
  memory?.umem.close()
})

function portOf(index: number, end: End, change: Partial<PortRecord> = {}): XdpPort {
  const own = end === left ? A : B
  const peer = end === left ? B : A
  const record = {
    ...NOTHING,
    macHigh: own.high,
    macLow: own.low,
    peerMacHigh: peer.high,
    peerMacLow: peer.low,
    fillFrames: POD_FILL_FRAMES,
    ...change,
  }
  const context = place.context(index, record, end.socket.fd)
  context.tables.update()
  return new XdpPort(context, end)
}

/** A socket on vb with the pod program that feeds it. */
async function openRight(): Promise<End> {
  const right = await memory.open(link.b, link.indexB)
  const map = socketMap(right.socket.fd)
  const program = native.bpfLoadXdp(podProgram(map), 'hwt_pod')
  const attached = attachXdp(link.b, program, link.indexB).linkFd
  for (const fd of [map, program, attached]) open.add(fd)
  return right
}

/** Sets va up or down. */
function setLink(state: 'up' | 'down'): void {
  execFileSync('ip', ['-n', link.a.slice('/run/netns/'.length), 'link', 'set', 'va', state])
}

/** An IP packet to the kernel behind vb. */
function toKernel(payload: string, checksum: 'full' | 'pseudo' = 'full'): Uint8Array {
  return udp4({ port: 5000, payload, checksum }).bytes.subarray(14)
}

describe('receive', () => {
  test('packets lie where the kernel put them, and their frames are in flight', async () => {
    const right = await openRight()
    const port = portOf(2, right)
    port.service()
    const { small } = place.frames
    expect(small.count - small.free).toBe(POD_FILL_SHARE)
    expect(place.frames.leaked()).toBe(0)

    const packets = [plain('first'), plain('second', 1500), plain('third')]
    for (const packet of packets) left.send(packet)
    left.reap()
    right.wait()
    place.batch.reset(2)
    expect(port.receive(place.batch, 2)).toBe(2)
    expect(port.receive(place.batch, 64)).toBe(1)
    expect(port.receive(place.batch, 64)).toBe(0)
    for (const [i, packet] of packets.entries()) {
      expect(place.batch.l3[i]).toBe(place.batch.frame[i]! + FRAME_HEADROOM + 14)
      expect(Buffer.from(place.packet(i)).equals(packet.subarray(14))).toBe(true)
      const header = place.arena.bytes.slice(place.batch.l3[i]! - 14, place.batch.l3[i]!)
      expect(Buffer.from(header).equals(packet.subarray(0, 14))).toBe(true)
    }
    expect(place.frames.leaked()).toBe(3)
    place.releaseAll()
    port.service()
    expect(place.frames.leaked()).toBe(0)
    // Many more than the fill ring holds go through, as it is topped up.
    for (let round = 0; round < 100; round++) {
      left.send(plain(`round ${round}`))
      right.wait()
      place.batch.reset(2)
      expect(port.receive(place.batch, 64)).toBe(1)
      place.releaseAll()
      port.service()
    }
    left.reap()
    expect(place.frames.leaked()).toBe(0)
    right.close()
    const held = small.count - small.free
    expect(held).toBeGreaterThan((POD_FILL_SHARE * 3) / 4)
    expect(place.frames.reclaim(2)).toBe(held)
    expect(small.free).toBe(small.count)
  })
})

test('with frames enough the fill ring of an underlay is kept full, topped up many at a time', async () => {
  const plan = { smallFrames: 2048, largeFrames: 1, xdpSockets: 8 }
  const arena = smallArena({ ...plan, xdpSocketBytes: ringBytes(SIZE) })
  place = new Place(arena)
  const umem = await Umem.create(arena, arena.layout.rings.offset, link.b)
  const at = arena.layout.rings.offset + ROOT_RING_BYTES
  const socket = await XdpSocket.open(umem, link.b, link.indexB, 0, at, SIZE)
  const end = new End({ arena, frames: place.frames } as Memory, socket)
  try {
    const held = () => place.frames.small.count - place.frames.small.free
    const port = portOf(2, end, { fillFrames: 200, role: PORT_ROLE.UNDERLAY })
    port.service()
    expect(held()).toBe(200)
    port.service()
    expect(held()).toBe(200)
    expect(end.fill.free()).toBe(SIZE - 200)
    // Never more than the ring has room for.
    const greedy = portOf(3, end, { fillFrames: 2 * SIZE, role: PORT_ROLE.UNDERLAY })
    greedy.service()
    // All that this ring takes.
    expect(held()).toBe(SIZE)
    expect(end.fill.free()).toBe(0)
    expect([place.frames.reclaim(2), place.frames.reclaim(3)]).toEqual([200, SIZE - 200])
  } finally {
    end.close()
    umem.close()
  }
})

describe('send', () => {
  test('packets reach a socket of the kernel, complete and partial', () => {
    const listener = new Listener(memory, link.b, '10.9.0.2', 5000)
    const flags = memory.umem.txMetadata ? PORT_FLAG.TX_METADATA : 0
    const port = portOf(1, left, { flags })
    expect(port.partialChecksums).toBe(memory.umem.txMetadata)
    place.put(toKernel('complete'))
    if (port.partialChecksums) {
      place.batch.flags[place.put(toKernel('partial', 'pseudo'))]! |= F_CSUM_PARTIAL
    }
    const n = place.batch.n
    expect(place.sendAll(port)).toEqual(new Array(n).fill(0))
    expect(listener.receive()).toBe('complete')
    if (n === 2) expect(listener.receive()).toBe('partial')
    // All have been sent: the port holds nothing any more.
    port.service()
    expect(port.pending()).toBe(false)
    expect(place.frames.leaked()).toBe(0)
    expect(place.frames.reclaim(1)).toBe(POD_FILL_SHARE)
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: n, TX_DROPS: 0 })
    listener.close()
  })

  test('the Ethernet header: of the pod, of the next hop, or finished already', async () => {
    const right = await openRight()
    right.feed(8)
    new TableWriter(memory.arena).change(() => {
      memory.arena.header()[HEADER.NEXT_HOP_COUNT] = 3
      const to = { network: 0, port: 1, mtu: 1450, header: new Uint8Array(0) }
      const hop = { kind: HOP.VXLAN, ...to }
      const mac = { macHigh: 0xfedcba98, macLow: 0x7654 }
      writeNextHop(memory.arena, 1, { ...hop, ...mac, macKnown: true })
      writeNextHop(memory.arena, 2, { ...hop, ...mac, macKnown: false })
    })
    const port = portOf(1, left)
    const packet = toKernel('x')
    place.put(packet)
    const outer = place.put(packet)
    place.batch.flags[outer]! |= F_OUTER
    place.batch.nextHop[outer] = 1
    const unresolved = place.put(packet)
    place.batch.flags[unresolved]! |= F_OUTER
    place.batch.nextHop[unresolved] = 2
    place.batch.flags[place.put(plain('finished'), 14)] = F_L2_READY
    expect(place.sendAll(port)).toEqual([0, 0, DROP_NEIGHBOUR, 0])
    const headers = [1, 2, 3].map(() => right.receive().subarray(0, 14).toString('hex'))
    expect(headers).toEqual([
      '0209000000020209000000010800',
      'fedcba9876540209000000010800',
      plain('').subarray(0, 14).toString('hex'),
    ])
    port.service()
    expect(place.frames.reclaim(1)).toBe(POD_FILL_SHARE)
    right.close()
    // What `feed` took belongs to no port.
    expect(place.frames.leaked()).toBe(8 - 3)
  })

  test('a large frame is refused', () => {
    const port = portOf(1, left)
    place.put(new Uint8Array(MAX_SMALL_PACKET + 1))
    expect(place.sendAll(port)).toEqual([DROP_NO_FRAMES])
  })

  test('a full ring refuses packets; the rest goes with the next flush', () => {
    const port = portOf(1, left)
    // The kernel takes none: it says 0, as when its budget is used up.
    const kick = vi.spyOn(native, 'xskKick').mockReturnValue(0)
    const reasons: number[] = []
    try {
      for (let k = 0; k <= SIZE; k++) {
        place.put(toKernel(`${k}`))
        reasons.push(...place.sendAll(port))
      }
      expect(reasons).toEqual([...new Array(SIZE).fill(0), DROP_TX_FULL])
      expect(port.pending()).toBe(true)
    } finally {
      kick.mockRestore()
    }
    port.flush()
    expect(port.pending()).toBe(false)
    port.service()
    expect(place.frames.reclaim(1)).toBe(POD_FILL_SHARE)
    expect(place.frames.leaked()).toBe(0)
  })

  test('what the device drops is counted as dropped and not as sent', () => {
    const port = portOf(1, left)
    execFileSync('ip', ['-n', link.b.slice('/run/netns/'.length), 'link', 'set', 'vb', 'down'])
    for (let k = 0; k < 10; k++) place.put(toKernel('nobody is there'))
    const kick = vi.spyOn(native, 'xskKick')
    try {
      expect(place.sendAll(port)).toEqual(new Array(10).fill(0))
      // One call a packet, and no more.
      expect(kick.mock.calls.length).toBeLessThanOrEqual(10)
    } finally {
      kick.mockRestore()
    }
    expect(port.pending()).toBe(false)
    expect(place.portCounters(1)).toMatchObject({ TX_PACKETS: 0, TX_BYTES: 0, TX_DROPS: 10 })
    expect(place.drops(DROP_TX_ERROR)).toBe(10)
    port.service()
    expect(place.frames.reclaim(1)).toBe(POD_FILL_SHARE)
  })
})

/** Bursts of 32 packets by the port; what became of them, and how many kicks failed. */
function flood(port: XdpPort, packets: number): { reasons: Set<number>; failed: number } {
  const kick = vi.spyOn(native, 'xskKick')
  const reasons = new Set<number>()
  try {
    for (let sent = 0; sent < packets; sent += 32) {
      for (let k = 0; k < 32; k++) place.put(toKernel('a flood'))
      for (const reason of place.sendAll(port)) reasons.add(reason)
      port.service()
    }
    const failed = kick.mock.results.filter(each => each.value !== 0).length
    return { reasons, failed }
  } finally {
    kick.mockRestore()
  }
}

describe('a device that fails', () => {
  test('down: it is asked now and then, holds one burst, drops the rest by its reason; up again: it works', async () => {
    const listener = new Listener(memory, link.b, '10.9.0.2', 5000)
    const port = portOf(1, left)
    setLink('down')
    const started = performance.now()
    const { reasons, failed } = flood(port, 960)
    const tries = 2 + Math.ceil((performance.now() - started) / PORT_RETRY_MS)
    expect([...reasons]).toEqual([0, DROP_PORT_DOWN])
    expect(failed).toBeLessThanOrEqual(tries)
    expect(place.portCounters(1).DEVICE).toBe(DEVICE.DOWN)
    expect(place.frames.leaked()).toBe(0)
    const held = place.frames.small.count - place.frames.small.free
    expect(held).toBe(POD_FILL_SHARE + 32)
    // The worker may sleep until it is time to ask again.
    expect(port.gone()).toBe(false)
    expect(port.pending()).toBe(false)
    setLink('up')
    while (!port.pending()) await setTimeout(PORT_RETRY_MS / 10)
    port.flush()
    expect(listener.receive()).toBe('a flood')
    expect(place.portCounters(1).DEVICE).toBe(DEVICE.UP)
    place.put(toKernel('and more'))
    expect(place.sendAll(port)).toEqual([0])
    port.service()
    expect(place.frames.reclaim(1)).toBe(POD_FILL_SHARE)
    expect(place.frames.small.free).toBe(place.frames.small.count)
    listener.close()
  })

  test('without anything to send, a look tells that it is down, and up again', () => {
    const port = portOf(1, left)
    setLink('down')
    expect(port.look()).toBe(false)
    expect(place.portCounters(1).DEVICE).toBe(DEVICE.DOWN)
    setLink('up')
    expect(port.look()).toBe(false)
    expect(place.portCounters(1).DEVICE).toBe(DEVICE.UP)
  })

  test('gone: one kick finds it out; it holds no frame and asks for nothing any more', () => {
    const port = portOf(1, left)
    port.service()
    expect(port.gone()).toBe(false)
    place.put(toKernel('before'))
    expect(place.sendAll(port)).toEqual([0])
    execFileSync('ip', ['-n', link.a.slice('/run/netns/'.length), 'link', 'delete', 'va'])
    const { reasons, failed } = flood(port, 960)
    expect([...reasons]).toEqual([0, DROP_PORT_GONE])
    expect(failed).toBe(1)
    expect([port.gone(), port.pending()]).toEqual([true, false])
    expect(place.portCounters(1).DEVICE).toBe(DEVICE.GONE)
    expect(place.frames.small.free).toBe(place.frames.small.count)
    expect(place.frames.leaked()).toBe(0)
    place.batch.reset(1)
    expect(port.receive(place.batch, 64)).toBe(0)
    port.close()
    left.close()
    expect(place.frames.reclaim(1)).toBe(0)
  })

  test('gone while nothing is sent: a look finds it out', () => {
    const port = portOf(1, left)
    port.service()
    execFileSync('ip', ['-n', link.a.slice('/run/netns/'.length), 'link', 'delete', 'va'])
    expect(port.look()).toBe(true)
    expect(place.frames.small.free).toBe(place.frames.small.count)
  })
})

describe('the fill level', () => {
  test('grows with bursts, so that one as large as the last but one loses nothing, and shrinks at rest', async () => {
    const right = await openRight()
    const port = portOf(2, right)
    const held = () => place.frames.small.count - place.frames.small.free
    port.service()
    expect(held()).toBe(POD_FILL_SHARE)
    const burst = (packets: number): number => {
      for (let k = 0; k < packets; k++) left.put(plain(`${k}`))
      left.flush()
      right.wait()
      let got = 0
      for (let n = -1; n !== 0; got += n) {
        place.batch.reset(2)
        n = port.receive(place.batch, 256)
        place.releaseAll()
      }
      port.service()
      left.reap()
      return got
    }
    expect(burst(200)).toBe(POD_FILL_SHARE)
    // What it lost the kernel tells.
    expect(right.socket.statistics().rxFillRingEmpty).toBe(200 - POD_FILL_SHARE)
    expect(burst(200)).toBe(2 * POD_FILL_SHARE)
    expect(burst(200)).toBe(200)
    // All that this ring takes.
    expect(held()).toBe(SIZE)
    for (let second = 0; second < 4; second++) port.look()
    expect(burst(3)).toBe(3)
    // The kernel keeps what it has; what comes back is not replaced.
    expect(held()).toBe(SIZE - 3)
    right.close()
    expect(place.frames.reclaim(2)).toBe(SIZE - 3)
  })
})

describe('from port to port', () => {
  test('a frame goes round without a copy and belongs to one of them at a time', async () => {
    const right = await openRight()
    const [one, two] = [portOf(1, left), portOf(2, right)]
    two.service()
    const total = place.frames.small.free
    const at = place.put(plain('round and round'), 14)
    place.batch.flags[at] = F_L2_READY
    expect(place.sendAll(one)).toEqual([0])
    right.wait()
    place.batch.reset(2)
    expect(two.receive(place.batch, 64)).toBe(1)
    const frame = place.batch.frame[0]!
    place.batch.flags[0] = F_L2_READY
    // The received frame itself leaves by the other port.
    expect(place.sendAll(one)).toEqual([0])
    expect(place.frames.leaked()).toBe(0)
    right.wait()
    place.batch.reset(2)
    expect(two.receive(place.batch, 64)).toBe(1)
    expect(Buffer.from(place.packet(0)).toString()).toMatch(/^round and round/)
    expect(place.batch.frame[0]).not.toBe(frame)
    place.releaseAll()
    one.service()
    two.service()
    expect(place.frames.leaked()).toBe(0)
    right.close()
    left.close()
    place.frames.reclaim(1)
    place.frames.reclaim(2)
    expect(place.frames.small.free).toBe(total + POD_FILL_SHARE)
    expect(place.frames.doubleReleases).toBe(0)
  })
})
