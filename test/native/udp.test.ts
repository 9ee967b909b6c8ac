import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { Arena, type Descriptor } from './arena.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from './namespace.ts'

const CAP = 2048
const COUNT = 512

// Arena layout.
const FRAME_LIST = 0
const OUT = 4096
const META = 16_384
const FRAMES = 65_536

let arena: Arena
let namespace: Namespace
beforeEach(() => {
  arena = new Arena(FRAMES + COUNT * CAP)
  namespace = addNamespace()
})
afterEach(removeNamespaces)

function open(address: string, port: number, bufferBytes = 4 << 20): number {
  return track(native.udpOpen(namespace.path, address, port, false, false, bufferBytes))
}

interface Peer {
  family: number
  tos: number
  ttl?: number
  truncated?: number
  port: number
  address: number[]
}

const home = (port: number, tos = 0): Peer => ({ family: 4, tos, port, address: [127, 0, 0, 1] })
const home6 = (port: number, tos = 0): Peer => ({
  family: 6,
  tos,
  port,
  address: [...Array(15).fill(0), 1],
})

function putMeta(index: number, peer: Peer): void {
  const meta = Buffer.alloc(32, 0xee)
  meta.set([peer.family, peer.tos], 0)
  meta.writeUInt16LE(peer.port, 4)
  meta.set(peer.address, 8)
  arena.bytes.set(meta, META + 32 * index)
}

function getMeta(index: number): Peer {
  const meta = Buffer.from(arena.bytes.slice(META + 32 * index, META + 32 * index + 32))
  const [family, tos, ttl, truncated] = meta
  const address = [...meta.subarray(8, family === 4 ? 12 : 24)]
  return {
    family: family!,
    tos: tos!,
    ttl: ttl!,
    truncated: truncated!,
    port: meta.readUInt16LE(4),
    address,
  }
}

const frame = (i: number): number => FRAMES + i * CAP

/** Writes `payloads` for these peers and sends them; returns what udpSend said. */
function send(fd: number, payloads: Buffer[], peers: Peer[]): number {
  const descriptors = payloads.map((payload, i) => {
    arena.bytes.set(payload, frame(i))
    putMeta(i, peers[i]!)
    return { offset: frame(i), length: payload.length }
  })
  arena.putDescriptors(OUT, descriptors)
  return native.udpSend(fd, OUT, META, payloads.length)
}

/** Waits for a datagram and receives up to `count`. */
function receive(fd: number, count: number, cap = CAP): Descriptor[] {
  const epfd = native.epollCreate()
  native.epollAdd(epfd, fd, 0, 1)
  const ready = native.epollWait(epfd, OUT, 1, 5000)
  native.close(epfd)
  expect(ready).toBe(1)
  const list = Array.from({ length: count }, (_, i) => frame(i))
  const got = native.udpReceive(fd, count, arena.put(FRAME_LIST, list), cap, OUT, META)
  return arena.descriptors(OUT, got)
}

function results(count: number): number[] {
  return arena.descriptors(OUT, count).map(({ length }) => length)
}

describe('udp', () => {
  test('IPv4: payloads, addresses, TOS with both ECN bits, TTL', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    native.sysctlWrite(namespace.path, 'ipv4/ip_default_ttl', '77')
    const payloads = [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(CAP, 3)]
    const tos = [0, 0xb8, 0x03]
    expect(
      send(
        a,
        payloads,
        tos.map(value => home(4002, value)),
      ),
    ).toBe(3)
    expect(results(3)).toEqual([0, 0, 0])
    arena.bytes.fill(0, FRAMES)
    const got = receive(b, 8)
    expect(got.map(descriptor => arena.packet(descriptor))).toEqual(payloads)
    expect(got.map(({ offset }) => offset)).toEqual([frame(0), frame(1), frame(2)])
    tos.forEach((value, i) => {
      expect(getMeta(i)).toEqual({ ...home(4001, value), ttl: 77, truncated: 0 })
    })
    expect(native.udpReceive(b, 8, FRAME_LIST, CAP, OUT, META)).toBe(0)
  })

  test('IPv6: payloads, addresses, traffic class, hop limit; no IPv4 on the same socket', () => {
    const [a, b] = [open('::1', 4001), open('::', 4002)]
    const four = open('0.0.0.0', 4002)
    expect(send(a, [Buffer.from('six')], [home6(4002, 0xb9)])).toBe(1)
    const got = receive(b, 8)
    expect(got.map(descriptor => `${arena.packet(descriptor)}`)).toEqual(['six'])
    expect(getMeta(0)).toEqual({ ...home6(4001, 0xb9), ttl: 64, truncated: 0 })
    // No IPv4 socket has this port: without V6ONLY the datagram would come in as ::ffff:127.0.0.1.
    const six = open('::', 4003)
    expect(send(four, [Buffer.from('four'), Buffer.from('more')], [home(4002), home(4003)])).toBe(2)
    expect(receive(four, 8).length).toBe(1)
    for (const fd of [b, six]) {
      expect(native.udpReceive(fd, 8, FRAME_LIST, CAP, OUT, META)).toBe(0)
    }
  })

  test('a datagram longer than the frame is cut, and says so', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    expect(send(a, [Buffer.alloc(101, 5), Buffer.alloc(100, 6)], [home(4002), home(4002)])).toBe(2)
    arena.bytes.fill(0xee, FRAMES)
    const got = receive(b, 2, 100)
    expect(got.map(({ length }) => length)).toEqual([100, 100])
    expect([getMeta(0).truncated, getMeta(1).truncated]).toEqual([1, 0])
    expect(arena.bytes[frame(0) + 100]).toBe(0xee)
  })

  test('bursts longer than a system call takes', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    const payloads = Array.from({ length: COUNT }, (_, i) => Buffer.from(`packet ${i}`))
    const peers = payloads.map((_, i) => home(4002, i & 0xfc))
    expect(send(a, payloads, peers)).toBe(COUNT)
    expect(results(COUNT)).toEqual(Array(COUNT).fill(0))
    arena.bytes.fill(0, FRAMES)
    const got = receive(b, COUNT)
    expect(got.map(descriptor => `${arena.packet(descriptor)}`)).toEqual(payloads.map(String))
    got.forEach((_, i) => {
      expect(getMeta(i).tos).toBe(i & 0xfc)
    })
  })

  test('each refusal stands in its descriptor; the packets around it are sent', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    const payloads = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(text => Buffer.from(text))
    const peers = payloads.map(() => home(4002))
    peers[1] = { ...home(4002), address: [203, 0, 113, 1] }
    peers[2] = { ...home(4002), family: 5 }
    peers[5] = home6(4002)
    payloads.forEach((payload, i) => {
      arena.bytes.set(payload, frame(i))
      putMeta(i, peers[i]!)
    })
    const list = payloads.map((payload, i) => ({ offset: frame(i), length: payload.length }))
    list[3] = { offset: arena.bytes.length - 1, length: 2 }
    arena.putDescriptors(OUT, list)
    expect(native.udpSend(a, OUT, META, 7)).toBe(3)
    // ENETUNREACH, EAFNOSUPPORT, EFAULT; an IPv6 address on an IPv4 socket is EAFNOSUPPORT too.
    expect(results(7)).toEqual([0, 101, 97, 14, 0, 97, 0])
    const got = receive(b, 8)
    expect(got.map(descriptor => `${arena.packet(descriptor)}`)).toEqual(['a', 'e', 'g'])
  })

  test('when the socket is full the rest has EAGAIN', () => {
    const [tun] = native.tunOpen(namespace.path, 'hwt0', 1, false).map(track)
    expect(tun).toBeGreaterThan(0)
    namespace.ip('link', 'set', 'hwt0', 'up')
    namespace.ip('address', 'add', '10.9.0.1/24', 'dev', 'hwt0')
    // Packets wait in this queue, at a byte a millisecond, and are charged to their socket.
    const tbf = ['rate', '8kbit', 'burst', '1600', 'limit', '10mb']
    namespace.tc('qdisc', 'add', 'dev', 'hwt0', 'root', 'tbf', ...tbf)
    const fd = open('10.9.0.1', 4001, 8192)
    const count = 300
    const payloads = Array.from({ length: count }, () => Buffer.alloc(1400))
    const peers = payloads.map(() => ({ ...home(4002), address: [10, 9, 0, 2] }))
    const taken = send(fd, payloads, peers)
    expect(taken).toBeGreaterThan(0)
    expect(taken).toBeLessThan(30)
    expect(results(count)).toEqual([...Array(taken).fill(0), ...Array(count - taken).fill(11)])
    expect(native.udpSend(fd, OUT, META, 0)).toBe(0)
  })

  test('noChecksum sends IPv4 without a UDP checksum', () => {
    const [tun] = native.tunOpen(namespace.path, 'hwt0', 1, false).map(track)
    namespace.ip('link', 'set', 'hwt0', 'up')
    namespace.ip('address', 'add', '10.9.0.1/24', 'dev', 'hwt0')
    const fields = [true, false].map((noChecksum, i) => {
      const fd = track(native.udpOpen(namespace.path, '10.9.0.1', 4001 + i, false, noChecksum, 0))
      expect(send(fd, [Buffer.from('x')], [{ ...home(9), address: [10, 9, 0, 2] }])).toBe(1)
      arena.put(FRAME_LIST, [frame(0)])
      expect(native.tunRead(tun!, 1, FRAME_LIST, 1, CAP, 0, 0, 0, OUT)).toBe(1)
      return arena.packet(arena.descriptors(OUT, 1)[0]!).readUInt16BE(10 + 20 + 6)
    })
    expect(fields[0]).toBe(0)
    expect(fields[1]).not.toBe(0)
  })

  test('with reusePort the flows to one port are shared among its sockets', () => {
    const shared = [0, 1].map(() =>
      track(native.udpOpen(namespace.path, '127.0.0.1', 4789, true, false, 1 << 20)),
    )
    for (let i = 0; i < 32; i++) {
      expect(send(open('127.0.0.1', 5000 + i, 0), [Buffer.from('x')], [home(4789)])).toBe(1)
    }
    const counts = shared.map(fd => receive(fd, 64).length)
    expect(counts[0]! + counts[1]!).toBe(32)
  })

  test('ranges outside the arena are refused', () => {
    const fd = open('127.0.0.1', 4001)
    const end = arena.bytes.length
    const list = arena.put(FRAME_LIST, [end - CAP + 1])
    expect(native.udpReceive(fd, 1, list, CAP, OUT, META)).toBe(-14)
    expect(native.udpReceive(fd, 1, end - 3, CAP, OUT, META)).toBe(-14)
    expect(native.udpReceive(fd, 2, list, 16, end - 8, META)).toBe(-14)
    expect(native.udpReceive(fd, 1, list, 16, OUT, end - 31)).toBe(-14)
    expect(native.udpReceive(fd, 1, list, -1, OUT, META)).toBe(-22)
    expect(native.udpSend(fd, end - 7, META, 1)).toBe(-14)
    expect(native.udpSend(fd, OUT, end - 31, 1)).toBe(-14)
    expect(native.udpSend(fd, OUT, META, -1)).toBe(-14)
    expect(native.udpReceive(-1, 1, list, 16, OUT, META)).toBe(-9)
  })

  test('a frame outside the arena ends a burst in front of it', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    expect(send(a, [Buffer.from('x'), Buffer.from('y')], [home(4002), home(4002)])).toBe(2)
    arena.put(FRAME_LIST, [frame(0), 0xffff_ffff])
    expect(native.udpReceive(b, 2, FRAME_LIST, CAP, OUT, META)).toBe(1)
    expect(native.udpReceive(b, 2, FRAME_LIST, CAP, OUT, META)).toBe(1)
    expect(`${arena.packet(arena.descriptors(OUT, 1)[0]!)}`).toBe('y')
  })

  test('errors name the address, the namespace and the remedy', () => {
    expect(() => open('192.0.2.1', 4789)).toThrow(
      `UDP socket 192.0.2.1 port 4789 in ${namespace.path}: Cannot assign requested address (give the address`,
    )
    for (const address of ['', 'localhost', '1.2.3', 'fe80::1%lo', '::1/64']) {
      expect(() => open(address, 1), address).toThrow(/an IPv4 or IPv6 address without scope/)
    }
    for (const port of [-1, 65_536, 1.5]) {
      expect(() => open('127.0.0.1', port), `${port}`).toThrow(/argument port/)
    }
  })
})
