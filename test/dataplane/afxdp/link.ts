/**
 * A veth pair between two namespaces of its own, and AF_XDP ends on it, for the tests of this folder.
 *
 *   netns a: va ───── vb (10.9.0.2; fd09::2 when asked for) :netns b
 */
import { execFileSync } from 'node:child_process'
import {
  CompletionRing,
  FillRing,
  RxRing,
  ringBytes,
  TxRing,
} from '../../../dataplane/afxdp/rings.ts'
import { ROOT_RING_BYTES, Umem, XdpSocket } from '../../../dataplane/afxdp/umem.ts'
import { DEFAULT_ROUTES } from '../../../dataplane/limits.ts'
import { Arena, planArena } from '../../../dataplane/memory/arena.ts'
import { Frames } from '../../../dataplane/memory/frames.ts'
import { native } from '../../../native/native.ts'

export const SIZE = 256
const EPOLLIN = 1
const TIMEOUT_MS = 5000
const XSKMAP = 17

let made = 0

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

export class Link {
  readonly a: string
  readonly b: string
  readonly indexA: number
  readonly indexB: number
  readonly macA: Uint8Array
  readonly macB: Uint8Array
  private readonly names: string[]

  constructor(queues = 1) {
    const stem = `hwt-${process.pid}-x${made++}`
    this.names = [`${stem}a`, `${stem}b`]
    const [a, b] = this.names as [string, string]
    this.a = `/run/netns/${a}`
    this.b = `/run/netns/${b}`
    this.macA = Uint8Array.of(2, 9, 0, 0, 0, 1)
    this.macB = Uint8Array.of(2, 9, 0, 0, 0, 2)
    const count = ['numrxqueues', `${queues}`, 'numtxqueues', `${queues}`]
    try {
      ip('netns', 'add', a)
      ip('netns', 'add', b)
      ip(
        '-n',
        a,
        'link',
        'add',
        'va',
        'address',
        '02:09:00:00:00:01',
        ...count,
        'type',
        'veth',
        'peer',
        'name',
        'vb',
        'address',
        '02:09:00:00:00:02',
        'netns',
        b,
        ...count,
      )
      // Neither end sends packets of its own: no IPv6 until asked for, no address at all on va.
      for (const netns of [this.a, this.b]) {
        native.sysctlWrite(netns, 'ipv6/conf/all/disable_ipv6', '1')
      }
      ip('-n', b, 'addr', 'add', '10.9.0.2/24', 'dev', 'vb')
      ip('-n', a, 'link', 'set', 'va', 'up')
      ip('-n', b, 'link', 'set', 'vb', 'up')
      // Nobody asks for a MAC address.
      ip('-n', b, 'neigh', 'add', '10.9.0.1', 'lladdr', '02:09:00:00:00:01', 'dev', 'vb')
      this.indexA = native.interfaceIndex(this.a, 'va')
      this.indexB = native.interfaceIndex(this.b, 'vb')
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Gives vb the address fd09::2. From now on the kernel may send multicast reports to va. */
  addIpv6(): void {
    const name = this.names[1]!
    ip('-n', name, 'link', 'set', 'vb', 'addrgenmode', 'none')
    native.sysctlWrite(this.b, 'ipv6/conf/all/disable_ipv6', '0')
    ip('-n', name, 'addr', 'add', 'fd09::2/64', 'dev', 'vb', 'nodad')
  }

  close(): void {
    for (const name of this.names) {
      try {
        ip('netns', 'del', name)
      } catch {
        // Never made.
      }
    }
  }
}

/** An arena, its frames and a UMEM whose root sits in `netns`. */
export class Memory {
  readonly arena: Arena
  readonly frames: Frames
  readonly umem: Umem
  private sockets = 0

  private constructor(arena: Arena, umem: Umem) {
    this.arena = arena
    this.umem = umem
    this.frames = new Frames(arena, 0)
  }

  static async create(netns: string, root = true): Promise<Memory> {
    const arena = testArena()
    native.bind(arena.bytes)
    const umem = await Umem.create(arena, arena.layout.rings.offset, root ? netns : '')
    return new Memory(arena, umem)
  }

  /** A part of the rings region for the next socket. */
  ringsOffset(): number {
    return this.arena.layout.rings.offset + ROOT_RING_BYTES + this.sockets++ * ringBytes(SIZE)
  }

  async open(netns: string, ifindex: number, queue = 0): Promise<End> {
    const at = this.ringsOffset()
    return new End(this, await XdpSocket.open(this.umem, netns, ifindex, queue, at, SIZE))
  }
}

export function testArena(): Arena {
  return Arena.create(
    planArena({
      workers: 1,
      smallFrames: 1024,
      largeFrames: 1,
      xdpSockets: 8,
      xdpSocketBytes: ringBytes(SIZE),
      fib4Bytes: DEFAULT_ROUTES,
      fib6Bytes: DEFAULT_ROUTES,
    }),
  )
}

/** One socket with the worker's view of its rings. */
export class End {
  readonly memory: Memory
  readonly socket: XdpSocket
  readonly fill: FillRing
  readonly completion: CompletionRing
  readonly rx: RxRing
  readonly tx: TxRing
  private readonly epoll: number
  private closed = false

  constructor(memory: Memory, socket: XdpSocket) {
    const { arena } = memory
    const { ringsOffset, size, offsets } = socket
    this.memory = memory
    this.socket = socket
    this.fill = new FillRing(arena, ringsOffset, size, offsets.fill)
    this.completion = new CompletionRing(arena, ringsOffset, size, offsets.completion)
    this.rx = new RxRing(arena, ringsOffset, size, offsets.rx)
    this.tx = new TxRing(arena, ringsOffset, size, offsets.tx)
    this.epoll = native.epollCreate()
    native.epollAdd(this.epoll, socket.fd, 1, EPOLLIN)
  }

  /** Puts `n` free frames into the fill ring. */
  feed(n: number): void {
    for (let i = 0; i < n; i++) this.fill.put(this.memory.frames.small.take())
    this.fill.submit()
  }

  /** Copies `packet` into a free frame at offset 256 and queues it; with `checksum` [start, offset] as metadata. */
  put(packet: Uint8Array, checksum?: [number, number]): number {
    const { arena, frames } = this.memory
    const at = frames.small.take() + 256
    arena.bytes.set(packet, at)
    if (checksum !== undefined) {
      arena.view.setBigUint64(at - 16, 2n, true)
      arena.view.setUint16(at - 8, checksum[0], true)
      arena.view.setUint16(at - 6, checksum[1], true)
      arena.view.setUint32(at - 4, 0, true)
    }
    this.tx.put(at, packet.length, checksum === undefined ? 0 : 2)
    return at
  }

  /** Gives everything queued to the kernel; completed frames go to the free list. Returns how many came back. */
  flush(): number {
    this.tx.submit()
    let back = this.reap()
    for (let kicks = 0; this.tx.queued() > 0 && kicks < 100; kicks++) {
      const result = native.xskKick(this.socket.fd)
      if (result < 0) throw new Error(`kick: errno ${-result}`)
      back += this.reap()
    }
    return back
  }

  reap(): number {
    const n = this.completion.available()
    for (let k = 0; k < n; k++) this.memory.frames.release(this.completion.peek(k))
    this.completion.release(n)
    return n
  }

  send(packet: Uint8Array, checksum?: [number, number]): void {
    this.put(packet, checksum)
    this.flush()
  }

  /** Returns when a packet is there. Throws when none comes. */
  wait(): void {
    if (this.rx.available() > 0) return
    const { scratch } = this.memory.arena.layout
    const ready = native.epollWait(this.epoll, scratch.offset, 1, TIMEOUT_MS)
    if (ready !== 1 || this.rx.available() === 0) throw new Error('no packet came')
  }

  /** The next packet, copied; its frame is free again. */
  receive(): Buffer {
    this.wait()
    const at = this.rx.addr(0)
    const packet = Buffer.from(this.memory.arena.bytes.slice(at, at + this.rx.len(0)))
    this.rx.release(1)
    this.memory.frames.release(at)
    return packet
  }

  /** Once or more often. */
  close(): void {
    if (!this.closed) native.close(this.epoll)
    this.closed = true
    this.socket.close()
  }
}

/** An XSKMAP with `fds` at the indices 0, 1, .. */
export function socketMap(...fds: number[]): number {
  const map = native.bpfMapCreate(XSKMAP, 4, 4, 8, 'hwt_xsks')
  fds.forEach((fd, queue) => {
    native.bpfMapUpdate(map, u32(queue), u32(fd))
  })
  return map
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

/** A UDP socket of the kernel in a namespace, read through the arena. */
export class Listener {
  readonly fd: number
  private readonly memory: Memory
  private readonly epoll: number

  constructor(memory: Memory, netns: string, address: string, port: number) {
    this.memory = memory
    this.fd = native.udpOpen(netns, address, port, false, false, 65_536)
    this.epoll = native.epollCreate()
    native.epollAdd(this.epoll, this.fd, 1, EPOLLIN)
  }

  /** The next datagram's payload as text. Throws when none comes. */
  receive(): string {
    const { arena, frames } = this.memory
    const at = arena.layout.scratch.offset
    if (native.epollWait(this.epoll, at, 1, TIMEOUT_MS) !== 1) throw new Error('no datagram came')
    const frame = frames.small.take()
    arena.view.setUint32(at, frame, true)
    if (native.udpReceive(this.fd, 1, at, 2048, 0, 0, at + 64, at + 128) !== 1) {
      throw new Error('no datagram came')
    }
    const from = arena.view.getUint32(at + 64, true)
    const length = arena.view.getUint32(at + 68, true)
    const text = Buffer.from(arena.bytes.slice(from, from + length)).toString()
    frames.release(frame)
    return text
  }

  close(): void {
    native.close(this.epoll)
    native.close(this.fd)
  }
}
