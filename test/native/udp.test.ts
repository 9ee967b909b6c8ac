import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SENT } from '../../dataplane/ports/udp-meta.ts'
import { native } from '../../native/native.ts'
import { Arena, type Descriptor } from './arena.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from './namespace.ts'

const CAP = 2048
const COUNT = 512
const SEGMENTS = 64

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
  return native.udpSend(fd, OUT, META, payloads.length, SEGMENTS)
}

/** Waits for a datagram and receives up to `count`. */
function receive(fd: number, count: number, cap = CAP): Descriptor[] {
  const epfd = native.epollCreate()
  native.epollAdd(epfd, fd, 0, 1)
  const ready = native.epollWait(epfd, OUT, 1, 5000)
  native.close(epfd)
  expect(ready).toBe(1)
  const list = Array.from({ length: count }, (_, i) => frame(i))
  const got = native.udpReceive(fd, count, arena.put(FRAME_LIST, list), cap, 0, 0, OUT, META)
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
    expect(native.udpReceive(b, 8, FRAME_LIST, CAP, 0, 0, OUT, META)).toBe(0)
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
      expect(native.udpReceive(fd, 8, FRAME_LIST, CAP, 0, 0, OUT, META)).toBe(0)
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
    expect(native.udpSend(a, OUT, META, 7, SEGMENTS)).toBe(3)
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
    expect(taken).toBeLessThan(100)
    expect(results(count)).toEqual([...Array(taken).fill(0), ...Array(count - taken).fill(11)])
    expect(native.udpSend(fd, OUT, META, 0, SEGMENTS)).toBe(0)
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

  describe('segments', () => {
    /** Receives with large frames: what each datagram had, its segment size, and whether it was cut. */
    function wholes(fd: number, count: number, cap: number, largeCap = 65_507) {
      const epfd = native.epollCreate()
      native.epollAdd(epfd, fd, 0, 1)
      expect(native.epollWait(epfd, OUT, 1, 5000)).toBe(1)
      native.close(epfd)
      const small = arena.put(
        FRAME_LIST,
        Array.from({ length: count }, (_, i) => frame(i)),
      )
      const larges = arena.put(
        FRAME_LIST + 1024,
        Array.from({ length: count }, (_, i) => frame(128) + i * 65_536),
      )
      const got = native.udpReceive(fd, count, small, cap, larges, largeCap, OUT, META)
      return arena.descriptors(OUT, got).map((descriptor, i) => ({
        data: arena.packet(descriptor),
        large: descriptor.offset >= frame(128),
        size: arena.bytes[META + 32 * i + 6]! | (arena.bytes[META + 32 * i + 7]! << 8),
        truncated: arena.bytes[META + 32 * i + 3],
      }))
    }
    /** SENT of dataplane/ports/udp-meta.ts. */
    const told = () => arena.bytes[META + 3]
    const some = (...lengths: number[]) =>
      lengths.map((length, i) => Buffer.alloc(length, 65 + (i % 26)))

    test.each([
      ['IPv4', '127.0.0.1', home],
      ['IPv6', '::1', home6],
    ])('%s: neighbours of one length are one datagram to a socket that takes it', (_, at, peer) => {
      const [a, b] = [open(at, 4001), open(at, 4002)]
      expect(native.udpSegments(b)).toBe(true)
      const list = some(100, 100, 100, 40, 100, 30, 101, 0, 7, 7)
      const peers = list.map(() => peer(4002, 0x02))
      expect(send(a, list, peers)).toBe(10)
      expect(results(10)).toEqual(Array(10).fill(0))
      expect(told()).toBe(SENT.SEGMENTS_TAKEN)
      const got = wholes(b, 8, 300)
      expect(got.map(({ data, size }) => [data.length, size])).toEqual([
        [340, 100],
        [130, 100],
        [101, 0],
        [0, 0],
        [14, 7],
      ])
      expect(Buffer.concat(got.map(({ data }) => data))).toEqual(Buffer.concat(list))
      expect(got.map(({ large }) => large)).toEqual([true, false, false, false, false])
      expect(getMeta(0)).toEqual({ ...peer(4001, 0x02), ttl: 64, truncated: 0 })
    })

    test('they come apart at a socket that does not', () => {
      const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
      const list = some(9, 9, 9, 3)
      expect(
        send(
          a,
          list,
          list.map(() => home(4002)),
        ),
      ).toBe(4)
      arena.bytes.fill(0, FRAMES)
      expect(receive(b, 8).map(each => arena.packet(each))).toEqual(list)
    })

    test('another place or tos, 64 packets and 65,507 bytes end a message', () => {
      const [a, b, c] = [4001, 4002, 4003].map(port => open('127.0.0.1', port)) as [
        number,
        number,
        number,
      ]
      for (const fd of [b, c]) native.udpSegments(fd)
      const mixed = some(8, 8, 8, 8)
      expect(send(a, mixed, [home(4002), home(4002, 4), home(4002, 4), home(4003, 4)])).toBe(4)
      expect(wholes(b, 8, 99).map(({ data }) => data.length)).toEqual([8, 16])
      expect(wholes(c, 8, 99).map(({ data }) => data.length)).toEqual([8])
      const many = some(...Array(100).fill(5))
      const peers = many.map(() => home(4002))
      expect(send(a, many, peers)).toBe(100)
      expect(wholes(b, 8, 999).map(({ data }) => data.length)).toEqual([320, 180])
      const long = some(...Array(64).fill(1500))
      expect(send(a, long, peers)).toBe(64)
      expect(wholes(b, 8, 1500).map(({ data }) => data.length)).toEqual([64_500, 31_500])
      // And asked for one at a time, they go so.
      for (const i of [0, 1, 2]) putMeta(i, home(4002))
      arena.putDescriptors(
        OUT,
        many.slice(0, 3).map((_, i) => ({ offset: frame(i), length: 5 })),
      )
      expect(native.udpSend(a, OUT, META, 3, 1)).toBe(3)
      expect(wholes(b, 8, 999).map(({ data, size }) => [data.length, size])).toEqual(
        Array(3).fill([5, 0]),
      )
    })

    test('what is refused as segments is sent packet by packet, and told', () => {
      // Segments need checksums.
      const a = track(native.udpOpen(namespace.path, '127.0.0.1', 4001, false, true, 1 << 20))
      const b = open('127.0.0.1', 4002)
      const list = some(9, 9, 3, 20)
      expect(
        send(
          a,
          list,
          list.map(() => home(4002)),
        ),
      ).toBe(4)
      expect(results(4)).toEqual([0, 0, 0, 0])
      expect(told()).toBe(SENT.SEGMENTS_REFUSED)
      arena.bytes.fill(0, FRAMES)
      expect(receive(b, 8).map(each => arena.packet(each))).toEqual(list)
      // A place that none of them can go to is no matter of segments.
      const nowhere = { ...home(4002), address: [203, 0, 113, 1] }
      expect(send(open('127.0.0.1', 4003), list.slice(0, 2), [nowhere, nowhere])).toBe(0)
      expect(results(2)).toEqual([101, 101])
      expect(told()).toBe(0)
    })

    test('a trial tells whether segments go from socket to socket', () => {
      expect(native.udpTrySegments(namespace.path, '127.0.0.1')).toBe(0)
      expect(native.udpTrySegments(namespace.path, '::1')).toBe(0)
      // EADDRNOTAVAIL: nobody has the address. ENOENT: no such namespace.
      expect(native.udpTrySegments(namespace.path, '203.0.113.1')).toBe(-99)
      expect(native.udpTrySegments('/run/netns/none', '127.0.0.1')).toBe(-2)
    })

    test('packets longer than the way to one peer lets are sent packet by packet, which tells nothing of segments', () => {
      namespace.ip('route', 'add', 'local', '127.0.0.3', 'dev', 'lo', 'mtu', 'lock', '600')
      const [a, b] = [open('127.0.0.1', 4001), open('0.0.0.0', 4002)]
      const list = some(1000, 1000, 10)
      const narrow = { ...home(4002), address: [127, 0, 0, 3] }
      expect(send(a, list, [narrow, narrow, narrow])).toBe(3)
      expect(told()).toBe(0)
      arena.bytes.fill(0, FRAMES)
      expect(receive(b, 8).map(each => arena.packet(each))).toEqual(list)
      // Others go in segments in the same burst.
      expect(send(a, some(9, 9, 9, 9), [narrow, narrow, home(4002), home(4002)])).toBe(4)
      expect(told()).toBe(SENT.SEGMENTS_TAKEN)
    })

    test('a packet outside the arena is refused alone', () => {
      const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
      const list = some(4, 4, 4)
      for (const [i, payload] of list.entries()) {
        arena.bytes.set(payload, frame(i))
        putMeta(i, home(4002))
      }
      const end = arena.bytes.length
      arena.putDescriptors(OUT, [
        { offset: frame(0), length: 4 },
        { offset: end - 3, length: 4 },
        { offset: frame(2), length: 4 },
      ])
      expect(native.udpSend(a, OUT, META, 3, SEGMENTS)).toBe(2)
      expect(results(3)).toEqual([0, 14, 0])
      expect(receive(b, 8)).toHaveLength(2)
    })

    test('a datagram longer than the large frame is cut, and says so', () => {
      const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
      expect(send(a, some(1001, 1000), [home(4002), home(4002)])).toBe(2)
      const got = wholes(b, 2, 100, 1000)
      expect(got.map(({ data, truncated }) => [data.length, truncated])).toEqual([
        [1000, 1],
        [1000, 0],
      ])
      expect(arena.bytes[frame(128) + 1000]).toBe(0)
    })

    test('scatter deals out a datagram, and nothing beyond the places and the arena', () => {
      const from = frame(128)
      arena.bytes.set(Buffer.from('abcdefghij'), from)
      const list = arena.put(FRAME_LIST, [frame(3), frame(1), frame(2)])
      expect(native.scatter(from, 10, 4, list, 3)).toBe(3)
      const at = (i: number, length: number) =>
        `${arena.packet({ offset: frame(i), length: length + 1 })}`
      expect([at(3, 4), at(1, 4), at(2, 2)]).toEqual(['abcd\0', 'efgh\0', 'ij\0'])
      expect(native.scatter(from, 10, 1, list, 2)).toBe(2)
      expect(at(1, 4)).toBe('bfgh\0')
      expect(native.scatter(from, 0, 1, list, 3)).toBe(0)
      const end = arena.bytes.length
      expect(native.scatter(from, 10, 0, list, 3)).toBe(-22)
      expect(native.scatter(end - 9, 10, 4, list, 3)).toBe(-14)
      expect(native.scatter(from, 10, 4, end - 8, 3)).toBe(-14)
      arena.put(FRAME_LIST, [frame(3), end - 3])
      expect(native.scatter(from, 10, 4, list, 2)).toBe(1)
    })

    test('lists of large frames outside the arena are refused', () => {
      const fd = open('127.0.0.1', 4001)
      const end = arena.bytes.length
      const list = arena.put(FRAME_LIST, [frame(0)])
      expect(native.udpReceive(fd, 1, list, 16, end - 3, 99, OUT, META)).toBe(-14)
      const larges = arena.put(FRAME_LIST + 1024, [end - 98])
      expect(native.udpReceive(fd, 1, list, 16, larges, 99, OUT, META)).toBe(-14)
      expect(native.udpReceive(fd, 1, list, 16, larges, 15, OUT, META)).toBe(-22)
      expect(native.udpSend(fd, OUT, META, 1, 0)).toBe(-22)
    })
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
    expect(native.udpReceive(fd, 1, list, CAP, 0, 0, OUT, META)).toBe(-14)
    expect(native.udpReceive(fd, 1, end - 3, CAP, 0, 0, OUT, META)).toBe(-14)
    expect(native.udpReceive(fd, 2, list, 16, 0, 0, end - 8, META)).toBe(-14)
    expect(native.udpReceive(fd, 1, list, 16, 0, 0, OUT, end - 31)).toBe(-14)
    expect(native.udpReceive(fd, 1, list, -1, 0, 0, OUT, META)).toBe(-22)
    expect(native.udpSend(fd, end - 7, META, 1, SEGMENTS)).toBe(-14)
    expect(native.udpSend(fd, OUT, end - 31, 1, SEGMENTS)).toBe(-14)
    expect(native.udpSend(fd, OUT, META, -1, SEGMENTS)).toBe(-14)
    expect(native.udpReceive(-1, 1, list, 16, 0, 0, OUT, META)).toBe(-9)
  })

  test('a frame outside the arena ends a burst in front of it', () => {
    const [a, b] = [open('127.0.0.1', 4001), open('127.0.0.1', 4002)]
    expect(send(a, [Buffer.from('x'), Buffer.from('y')], [home(4002), home(4002)])).toBe(2)
    arena.put(FRAME_LIST, [frame(0), 0xffff_ffff])
    expect(native.udpReceive(b, 2, FRAME_LIST, CAP, 0, 0, OUT, META)).toBe(1)
    expect(native.udpReceive(b, 2, FRAME_LIST, CAP, 0, 0, OUT, META)).toBe(1)
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
