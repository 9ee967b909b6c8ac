/**
 *   sender (UDP socket) ── routing ── hwt0 (TUN, 10.9.0.1/24) ═══ queue ── tunRead, tunWrite
 *   └────────────────── one namespace ──────────────────────┘
 */
import { readdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { Arena, type Descriptor } from './arena.ts'
import { addNamespace, closeTracked, type Namespace, removeNamespaces, track } from './namespace.ts'
import { udpPacket } from './packets.ts'

const VNET = 10
const IP_UDP = 28
/** Every packet that is read: virtio_net_hdr, IPv4, UDP. */
const HEADERS = VNET + IP_UDP
const LARGE = 70_000

// Arena layout.
const SMALL_LIST = 0
const LARGE_LIST = 1024
const OUT = 2048
const META = 4096
const SMALL_FRAMES = 16_384
const LARGE_FRAMES = 131_072

let arena: Arena
let namespace: Namespace
beforeEach(() => {
  arena = new Arena(1 << 20)
  namespace = addNamespace()
})
afterEach(removeNamespaces)

/** A TUN of `queues` queues that is up, has an address, and carries whole UDP datagrams. */
function openTun(queues = 1): number[] {
  const fds = native.tunOpen(namespace.path, 'hwt0', queues, false).map(track)
  namespace.ip('link', 'set', 'hwt0', 'up', 'mtu', '65535')
  namespace.ip('address', 'add', '10.9.0.1/24', 'dev', 'hwt0')
  return fds
}

/** Sends payloads of these lengths, byte i of packet n being n + i, to 10.9.0.2 through the TUN. */
function sendThrough(lengths: number[], port = 4000): Buffer[] {
  const fd = track(native.udpOpen(namespace.path, '10.9.0.1', port, false, false, 1 << 20))
  const payloads = lengths.map((length, n) => Buffer.from(Array.from({ length }, (_, i) => n + i)))
  for (const payload of payloads) {
    arena.bytes.set(payload, LARGE_FRAMES)
    arena.putDescriptors(OUT, [{ offset: LARGE_FRAMES, length: payload.length }])
    arena.bytes.set([4, 0, 0, 0, 0x88, 0x13, 0, 0, 10, 9, 0, 2], META)
    expect(native.udpSend(fd, OUT, META, 1, 1)).toBe(1)
  }
  return payloads
}

interface Frames {
  small: number[]
  smallCap: number
  large: number[]
  largeCap: number
}

const frames: Frames = {
  small: Array.from({ length: 16 }, (_, i) => SMALL_FRAMES + i * 4096),
  smallCap: 2048,
  large: [LARGE_FRAMES, LARGE_FRAMES + LARGE + 2, LARGE_FRAMES + 2 * LARGE + 4],
  largeCap: LARGE,
}

function read(fd: number, count: number, { small, smallCap, large, largeCap }: Frames): number {
  arena.put(SMALL_LIST, small)
  arena.put(LARGE_LIST, large)
  return native.tunRead(
    fd,
    count,
    SMALL_LIST,
    small.length,
    smallCap,
    LARGE_LIST,
    large.length,
    largeCap,
    OUT,
  )
}

/** Blocks until the queue has a packet. */
function awaitPacket(fd: number): void {
  const epfd = native.epollCreate()
  native.epollAdd(epfd, fd, 0, 1)
  const ready = native.epollWait(epfd, OUT, 1, 5000)
  native.close(epfd)
  expect(ready).toBe(1)
}

/** Reads and expects exactly these payloads, in order; returns the descriptors. */
function expectPayloads(fd: number, with_: Frames, expected: Buffer[]): Descriptor[] {
  awaitPacket(fd)
  expect(read(fd, 16, with_)).toBe(expected.length)
  const got = arena.descriptors(OUT, expected.length)
  got.forEach((descriptor, n) => {
    const packet = arena.packet(descriptor)
    expect(packet.length).toBe(HEADERS + expected[n]!.length)
    expect(packet.subarray(0, VNET).equals(Buffer.alloc(VNET))).toBe(true)
    expect(packet.readUInt16BE(VNET + 2)).toBe(packet.length - VNET)
    expect(packet.subarray(HEADERS).equals(expected[n]!)).toBe(true)
  })
  return got
}

function hasTun(): boolean {
  return native.interfaceIndex(namespace.path, 'hwt0') !== 0
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

describe('tunOpen', () => {
  test('makes the device in the namespace; it goes with its last queue', () => {
    const fds = native.tunOpen(namespace.path, 'hwt0', 3, false).map(track)
    expect(new Set(fds).size).toBe(3)
    expect(hasTun()).toBe(true)
    expect(native.interfaceIndex('', 'hwt0')).toBe(0)
    const link = namespace.ip('-d', 'link', 'show', 'hwt0')
    expect(link).toMatch(/tun type tun pi off vnet_hdr on.* multi_queue numqueues 3/)
    closeTracked(fds[0]!)
    closeTracked(fds[2]!)
    expect(hasTun()).toBe(true)
    closeTracked(fds[1]!)
    expect(hasTun()).toBe(false)
  })

  test('a persistent device outlives its queues, and is opened again', () => {
    for (const fd of native.tunOpen(namespace.path, 'hwt0', 2, true)) native.close(fd)
    const index = native.interfaceIndex(namespace.path, 'hwt0')
    expect(index).toBeGreaterThan(0)
    const [fd] = native.tunOpen(namespace.path, 'hwt0', 1, false).map(track)
    expect(native.interfaceIndex(namespace.path, 'hwt0')).toBe(index)
    native.tunSetPersistent(fd!, false)
    closeTracked(fd!)
    expect(hasTun()).toBe(false)
  })

  test('undoes everything when a queue is refused', () => {
    const first = native.tunOpen(namespace.path, 'hwt0', 200, false).map(track)
    const before = openDescriptors()
    expect(() => native.tunOpen(namespace.path, 'hwt0', 100, true)).toThrow(
      `TUN hwt0 in ${namespace.path}: Argument list too long (the device has 256 queues open`,
    )
    expect(openDescriptors()).toBe(before)
    // Neither is the device persistent now.
    first.forEach(closeTracked)
    expect(hasTun()).toBe(false)
  })

  test('leaves a device of another kind alone', () => {
    namespace.ip('tuntap', 'add', 'hwt0', 'mode', 'tap')
    const refused = expect.objectContaining({ code: 'EINVAL' })
    expect(() => native.tunOpen(namespace.path, 'hwt0', 1, false)).toThrow(refused)
    expect(() => native.tunOpen(namespace.path, 'lo', 1, false)).toThrow(refused)
    expect(namespace.ip('-d', 'link', 'show', 'hwt0')).toMatch(/tun type tap/)
  })

  test.each(['', '.', '..', 'a/b', 'a b', 'hw%d', 'a:1', '0123456789abcdef'])(
    'refuses the name %j',
    name => {
      expect(() => native.tunOpen(namespace.path, name, 1, false)).toThrow(/a device name has/)
    },
  )

  test('refuses counts of queues that no device has', () => {
    for (const queues of [0, -1, 257, 1.5, Number.NaN]) {
      expect(() => native.tunOpen('', 'hwt0', queues, false)).toThrow(/argument queues/)
    }
  })

  test('a descriptor that is no queue is refused', () => {
    const fd = track(native.eventfd())
    expect(() => native.tunSetPersistent(fd, true)).toThrow(/TUN queue .*not an open TUN queue/)
    expect(native.tunSetOffload(fd, 1)).toBe(-25)
  })
})

describe('tunVanish', () => {
  test('resolves when the name is gone, with all descriptors its own to close', async () => {
    const fds = native.tunOpen(namespace.path, 'hwt0', 3, true)
    native.tunSetPersistent(fds[0]!, false)
    const index = native.interfaceIndex(namespace.path, 'hwt0')
    await native.tunVanish(namespace.path, 'hwt0', index, fds)
    expect(hasTun()).toBe(false)
    // The name is free for another device at once.
    const [again] = native.tunOpen(namespace.path, 'hwt0', 1, false).map(track)
    expect(native.interfaceIndex(namespace.path, 'hwt0')).not.toBe(index)
    expect(native.tunSetOffload(again!, 0)).toBe(0)
  })

  test('many at once wait side by side', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `hwt${i}`)
    await Promise.all(
      names.map(name => {
        const fds = native.tunOpen(namespace.path, name, 1, false)
        const index = native.interfaceIndex(namespace.path, name)
        return native.tunVanish(namespace.path, name, index, fds)
      }),
    )
    expect(namespace.ip('-br', 'link')).not.toContain('hwt')
  })

  test('a name that is another device by now, and a namespace that is gone, keep nobody waiting', async () => {
    const one = native.tunOpen(namespace.path, 'hwt0', 1, false)
    await native.tunVanish(namespace.path, 'hwt0', 4711, one)
    const two = native.tunOpen(namespace.path, 'hwt1', 1, false)
    await native.tunVanish('/run/netns/hwt-none', 'hwt1', 1, two)
  })

  test('what is no list of descriptors is refused', () => {
    const call = (fds: unknown) =>
      native.tunVanish(namespace.path, 'hwt0', 1, fds as readonly number[])
    for (const fds of [undefined, 3, [-1], ['3']]) expect(() => call(fds)).toThrow('TUN hwt0')
  })
})

describe('tunRead', () => {
  test('short packets lie in small frames, long ones whole in large frames, in order', () => {
    const [fd] = openTun()
    const sent = sendThrough([100, 5000, 0, 65_507, 1200])
    const got = expectPayloads(fd!, frames, sent)
    expect(got.map(({ offset }) => offset)).toEqual([
      frames.small[0],
      frames.large[0],
      frames.small[1],
      frames.large[1],
      frames.small[2],
    ])
    expect(read(fd!, 16, frames)).toBe(0)
  })

  test('the frame changes at smallCap bytes exactly', () => {
    const [fd] = openTun()
    const fit = frames.smallCap - HEADERS
    const got = expectPayloads(fd!, frames, sendThrough([fit - 1, fit, fit + 1]))
    expect(got.map(({ offset }) => offset)).toEqual([
      frames.small[0],
      frames.small[1],
      frames.large[0],
    ])
  })

  test('a packet beyond largeCap is told by its length; the next are read', () => {
    const [fd] = openTun()
    const tight = { ...frames, largeCap: 4000 }
    const fit = tight.largeCap - HEADERS
    sendThrough([fit, fit + 1, fit - 1, 3])
    awaitPacket(fd!)
    expect(read(fd!, 16, tight)).toBe(4)
    const got = arena.descriptors(OUT, 4)
    expect(got[1]!.offset).toBe(tight.small[0])
    expect(got.map(({ length }) => length)).toEqual([4000, 4001, 3999, HEADERS + 3])
  })

  test('without large frames long packets are told by their length', () => {
    const [fd] = openTun()
    const none = { ...frames, large: [] }
    const { smallCap } = none
    sendThrough([smallCap - HEADERS + 1, 10, 60_000, smallCap - HEADERS])
    awaitPacket(fd!)
    expect(read(fd!, 16, none)).toBe(4)
    const got = arena.descriptors(OUT, 4)
    expect(got.map(({ offset }) => offset)).toEqual(none.small.slice(0, 4))
    expect(got[1]!.length).toBe(HEADERS + 10)
    expect(got[3]!.length).toBe(smallCap)
    for (const cut of [got[0]!, got[2]!]) expect(cut.length).toBe(smallCap + 1)
  })

  test('stops when frames of a kind run out, and loses nothing', () => {
    const [fd] = openTun()
    const sent = sendThrough([3000, 20, 3001, 30, 40])
    const oneLarge = { ...frames, large: frames.large.slice(0, 1) }
    expectPayloads(fd!, oneLarge, sent.slice(0, 1))
    const oneSmall = { ...frames, small: frames.small.slice(0, 1) }
    expectPayloads(fd!, oneSmall, sent.slice(1, 2))
    expect(read(fd!, 16, { ...frames, small: [] })).toBe(0)
    expectPayloads(fd!, frames, sent.slice(2))
  })

  test('takes at most `count` packets and writes nothing behind the last', () => {
    const [fd] = openTun()
    const sent = sendThrough([1, 2, 3])
    arena.put(OUT + 16, [0xdead, 0xbeef])
    awaitPacket(fd!)
    arena.put(OUT + 16, [0xdead, 0xbeef])
    expect(read(fd!, 2, frames)).toBe(2)
    expect(arena.descriptors(OUT, 3).map(({ length }) => length)).toEqual([
      HEADERS + 1,
      HEADERS + 2,
      0xbeef,
    ])
    expectPayloads(fd!, frames, sent.slice(2))
  })

  test('frames outside the arena are refused before a packet is taken', () => {
    const [fd] = openTun()
    const sent = sendThrough([9])
    awaitPacket(fd!)
    const end = arena.bytes.length
    expect(read(fd!, 1, { ...frames, small: [end - 2047] })).toBe(-14)
    expect(read(fd!, 1, { ...frames, small: [0xffff_ffff] })).toBe(-14)
    expect(read(fd!, 1, { ...frames, large: [end - LARGE + 1] })).toBe(-14)
    expect(read(fd!, 1, { ...frames, largeCap: 1000 })).toBe(-22)
    expect(read(fd!, 1, { ...frames, smallCap: 0 })).toBe(-22)
    expect(native.tunRead(fd!, 1, 0, 1, 2048, 0, 0, 0, end - 4)).toBe(-14)
    expect(native.tunRead(fd!, 1, 2, 1, 2048, 0, 0, 0, OUT)).toBe(-14)
    expectPayloads(fd!, frames, sent)
  })

  test('a queue that is gone is an answer', () => {
    const [fd] = openTun()
    namespace.ip('link', 'delete', 'hwt0')
    expect(read(fd!, 1, frames)).toBe(-77)
    expect(read(-1, 1, frames)).toBe(-9)
  })

  test('flows spread over the queues, a flow stays on one', () => {
    const fds = openTun(4)
    const ports = Array.from({ length: 24 }, (_, i) => 5000 + i)
    for (const port of ports) sendThrough([8, 8], port)
    const perQueue = fds.map(fd => {
      const seen: number[] = []
      for (let n = read(fd, 16, frames); n > 0; n = read(fd, 16, frames)) {
        for (const descriptor of arena.descriptors(OUT, n)) {
          seen.push(arena.packet(descriptor).readUInt16BE(VNET + 20))
        }
      }
      return seen
    })
    expect(perQueue.flat().sort()).toEqual(ports.flatMap(port => [port, port]))
    expect(perQueue.filter(seen => seen.length > 0).length).toBeGreaterThan(1)
    for (const seen of perQueue) {
      for (const port of seen) expect(seen.filter(other => other === port).length).toBe(2)
    }
  })
})

describe('offloads', () => {
  test('with TUN_F_CSUM the kernel leaves the checksum to us and says where it goes', () => {
    const [fd] = openTun()
    expect(native.tunSetOffload(fd!, 1)).toBe(0)
    sendThrough([64])
    awaitPacket(fd!)
    expect(read(fd!, 1, frames)).toBe(1)
    const packet = arena.packet(arena.descriptors(OUT, 1)[0]!)
    expect(packet.readUInt8(0)).toBe(1) // VIRTIO_NET_HDR_F_NEEDS_CSUM
    expect(packet.readUInt16LE(6)).toBe(20) // csum_start
    expect(packet.readUInt16LE(8)).toBe(6) // csum_offset
  })

  test('a mask that the kernel does not take is an answer', () => {
    const [fd] = openTun()
    expect(native.tunSetOffload(fd!, 0x7)).toBe(0)
    expect(native.tunSetOffload(fd!, 0x2)).toBe(-22)
    expect(native.tunSetOffload(fd!, -1)).toBe(-22)
    expect(native.tunSetOffload(fd!, 0)).toBe(0)
  })
})

describe('tunWrite', () => {
  test('packets reach a socket; each refusal stands in its descriptor', () => {
    const [fd] = openTun()
    const socket = track(native.udpOpen(namespace.path, '10.9.0.1', 6000, false, false, 1 << 20))
    const payloads = [Buffer.from('first'), Buffer.alloc(40_000, 7), Buffer.from('third')]
    const descriptors = payloads.map((payload, i) => {
      const packet = Buffer.concat([
        Buffer.alloc(VNET),
        udpPacket({
          source: '10.9.0.2',
          destination: '10.9.0.1',
          sourcePort: 7000 + i,
          destinationPort: 6000,
          tos: 0xb9,
          ttl: 33,
          payload,
        }),
      ])
      const offset = frames.large[i]!
      arena.bytes.set(packet, offset)
      return { offset, length: packet.length }
    })
    const hostile = [
      { offset: frames.large[0]!, length: 5 },
      { offset: arena.bytes.length - 10, length: 11 },
      { offset: 0xffff_ffff, length: 0xffff_ffff },
      { offset: frames.large[0]!, length: 0 },
    ]
    arena.putDescriptors(OUT, [descriptors[0]!, ...hostile, descriptors[1]!, descriptors[2]!])
    expect(native.tunWrite(fd!, OUT, 7)).toBe(3)
    expect(arena.descriptors(OUT, 7).map(({ length }) => length)).toEqual([0, 22, 14, 14, 22, 0, 0])

    awaitPacket(socket)
    arena.put(LARGE_LIST, frames.large)
    expect(native.udpReceive(socket, 3, LARGE_LIST, LARGE, 0, 0, OUT, META)).toBe(3)
    arena.descriptors(OUT, 3).forEach((descriptor, i) => {
      expect(arena.packet(descriptor).equals(payloads[i]!)).toBe(true)
      const meta = Buffer.from(arena.bytes.slice(META + 32 * i, META + 32 * i + 12))
      expect([...meta.subarray(0, 4)]).toEqual([4, 0xb9, 33, 0])
      expect(meta.readUInt16LE(4)).toBe(7000 + i)
      expect([...meta.subarray(8)]).toEqual([10, 9, 0, 2])
    })
  })

  test('a descriptor that is no queue, and a list outside the arena', () => {
    const event = track(native.eventfd())
    const closed = native.eventfd()
    native.close(closed)
    arena.putDescriptors(OUT, [{ offset: 0, length: 20 }])
    expect(native.tunWrite(closed, OUT, 1)).toBe(0)
    expect(arena.descriptors(OUT, 1)[0]!.length).toBe(9)
    expect(native.tunWrite(event, arena.bytes.length - 8, 2)).toBe(-14)
    expect(native.tunWrite(event, OUT + 2, 1)).toBe(-14)
    expect(native.tunWrite(event, OUT, -1)).toBe(-14)
    expect(native.tunWrite(event, OUT, 0)).toBe(0)
  })
})
