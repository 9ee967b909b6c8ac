import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ringBytes } from '../../../dataplane/afxdp/rings.ts'
import { ROOT_RING_BYTES, Umem, XdpSocket } from '../../../dataplane/afxdp/umem.ts'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { passProgram, podProgram } from '../../../dataplane/bpf/programs.ts'
import { PAGE } from '../../../dataplane/memory/arena.ts'
import { native } from '../../../native/native.ts'
import { End, Link, Listener, Memory, SIZE, socketMap, testArena } from './link.ts'
import { plain, textOf, udp4, udp6 } from './packets.ts'

//  root socket: lo of a      a: va, one socket ───── b: vb, another socket of the same UMEM

let link: Link
let memory: Memory
let left: End
let right: End
const open = new Set<number>()

function keep(fd: number): number {
  open.add(fd)
  return fd
}

/** The pod program on vb with `right` behind it. */
function receiveOnRight(): void {
  const program = keep(native.bpfLoadXdp(podProgram(keep(socketMap(right.socket.fd))), 'hwt_pod'))
  keep(attachXdp(link.b, program, link.indexB).linkFd)
}

beforeEach(async () => {
  link = new Link()
  memory = await Memory.create(link.a)
  left = await memory.open(link.a, link.indexA)
  right = await memory.open(link.b, link.indexB)
})

afterEach(() => {
  // First: whatever fails below, no namespace stays behind.
  link?.close()
  for (const fd of open) native.close(fd)
  open.clear()
  left?.close()
  right?.close()
  memory?.umem.close()
})

describe('one UMEM in two namespaces', () => {
  test('packets arrive whole and in order, and no frame is lost', () => {
    const total = memory.frames.small.free
    receiveOnRight()
    right.feed(SIZE / 2)
    for (let round = 0; round < 40; round++) {
      for (let i = 0; i < 64; i++) left.put(plain(`packet ${round}.${i}`, 60 + ((i * 29) % 1450)))
      expect(left.flush()).toBeLessThanOrEqual(SIZE)
      for (let i = 0; i < 64; i++) {
        const packet = right.receive()
        expect(textOf(packet)).toBe(`packet ${round}.${i}`)
        expect(packet.length).toBe(60 + ((i * 29) % 1450))
      }
      right.feed(64)
    }
    left.reap()
    expect(left.tx.queued()).toBe(0)
    expect(left.tx.free()).toBe(SIZE)
    expect(memory.frames.small.free).toBe(total - SIZE / 2)
  })

  test('received data starts 256 bytes into its frame', () => {
    receiveOnRight()
    const frame = memory.frames.small.take()
    right.fill.put(frame)
    right.fill.submit()
    left.send(plain('where?'))
    right.receive()
    right.fill.put(frame + 700) // Any byte of a frame names it.
    right.fill.submit()
    left.put(plain('and now?'))
    left.flush()
    expect(textOf(right.receive())).toBe('and now?')
    const at = frame + 256
    expect(Buffer.from(memory.arena.bytes.slice(at + 14, at + 22)).toString()).toBe('and now?')
  })

  test('a received frame is sent on without a copy', () => {
    receiveOnRight()
    right.feed(1)
    left.send(plain('there'))
    // Not `receive`: the frame stays ours.
    right.wait()
    const at = right.rx.addr(0)
    const length = right.rx.len(0)
    right.rx.release(1)
    memory.arena.bytes.set(Buffer.from('back!'), at + 14)
    const program = keep(native.bpfLoadXdp(podProgram(keep(socketMap(left.socket.fd))), 'hwt_pod'))
    keep(attachXdp(link.a, program, link.indexA).linkFd)
    left.feed(1)
    right.tx.put(at, length, 0)
    right.flush()
    expect(textOf(left.receive())).toBe('back!')
  })

  test('a worker thread uses rings that the main thread mapped', async () => {
    receiveOnRight()
    right.feed(8)
    const at = memory.frames.small.take() + 256
    memory.arena.bytes.set(plain('from a thread'), at)
    const { fd, ringsOffset, offsets } = left.socket
    const workerData = { handle: memory.arena.handle(), fd, ringsOffset, offsets, size: SIZE, at }
    const worker = new Worker(new URL('./sender.ts', import.meta.url), { workerData, execArgv: [] })
    const failed = await new Promise<string>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    expect(failed).toBe('sent')
    expect(textOf(right.receive())).toBe('from a thread')
    await worker.terminate()
  })
})

describe('queues and bursts', () => {
  test('one kick sends more than the 32 frames of old kernels', () => {
    for (let i = 0; i < 200; i++) left.put(plain(`${i}`))
    left.tx.submit()
    expect(left.tx.queued()).toBe(200)
    expect(native.xskKick(left.socket.fd)).toBe(0)
    expect(left.tx.queued()).toBe(0)
  })

  test('each queue has its socket', async () => {
    const wide = new Link(2)
    const ends: End[] = []
    try {
      for (const queue of [0, 1]) {
        ends.push(await memory.open(wide.a, wide.indexA, queue))
        ends.push(await memory.open(wide.b, wide.indexB, queue))
      }
      const [a0, b0, a1, b1] = ends as [End, End, End, End]
      const map = keep(socketMap(b0.socket.fd, b1.socket.fd))
      const program = keep(native.bpfLoadXdp(podProgram(map), 'hwt_pod'))
      keep(attachXdp(wide.b, program, wide.indexB).linkFd)
      b0.feed(2)
      b1.feed(2)
      a1.send(plain('one'))
      a0.send(plain('zero'))
      expect(textOf(b0.receive())).toBe('zero')
      expect(textOf(b1.receive())).toBe('one')
    } finally {
      for (const end of ends) end.close()
      wide.close()
    }
  })
})

describe('checksum metadata', () => {
  test('the kernel takes packets that carry only the pseudo-header sum', () => {
    expect(memory.umem.txMetadata).toBe(true) // Kernel 6.8 and newer.
    link.addIpv6()
    const four = new Listener(memory, link.b, '10.9.0.2', 5000)
    const six = new Listener(memory, link.b, 'fd09::2', 5000)
    for (const program of [undefined, passProgram()]) {
      if (program !== undefined) {
        keep(attachXdp(link.b, keep(native.bpfLoadXdp(program, 'hwt_pass')), link.indexB).linkFd)
      }
      for (const [listener, build] of [
        [four, udp4],
        [six, udp6],
      ] as const) {
        // Without metadata the same packet is refused, so the second one comes first.
        const { bytes, udp } = build({ port: 5000, payload: 'completed', checksum: 'pseudo' })
        left.send(build({ port: 5000, payload: 'refused', checksum: 'pseudo' }).bytes)
        left.send(bytes, [udp, 6])
        expect(listener.receive()).toBe('completed')
      }
    }
    four.close()
    six.close()
  })
})

describe('statistics', () => {
  test('a descriptor over the end of its frame is counted and not sent', () => {
    receiveOnRight()
    right.feed(2)
    left.tx.put(memory.frames.small.take() + 2000, 60, 0)
    left.send(plain('good'))
    expect(textOf(right.receive())).toBe('good')
    expect(left.socket.statistics().txInvalidDescs).toBe(1)
  })

  test('a packet without a frame to go to is counted', () => {
    receiveOnRight()
    left.send(plain('lost'))
    right.feed(1)
    left.send(plain('kept'))
    expect(textOf(right.receive())).toBe('kept')
    const { rxDropped, rxFillRingEmpty, rxRingFull } = right.socket.statistics()
    expect({ rxDropped, rxFillRingEmpty, rxRingFull }).toEqual({
      rxDropped: 1,
      rxFillRingEmpty: 1,
      rxRingFull: 0,
    })
  })
})

describe('closing', () => {
  test('the same queue and ring memory serve again, many times', async () => {
    receiveOnRight()
    const { ringsOffset } = left.socket
    for (let i = 0; i < 10; i++) {
      right.feed(1)
      left.send(plain(`life ${i}`))
      expect(textOf(right.receive())).toBe(`life ${i}`)
      left.close()
      // Plain memory again, zeroed, and ours to write.
      const rings = memory.arena.bytes.subarray(ringsOffset, ringsOffset + ringBytes(SIZE))
      expect(rings.every(byte => byte === 0)).toBe(true)
      rings.fill(0xff)
      const again = await XdpSocket.open(memory.umem, link.a, link.indexA, 0, ringsOffset, SIZE)
      left = new End(memory, again)
      expect(left.tx.free()).toBe(SIZE)
      expect(left.rx.available()).toBe(0)
    }
  })

  test('frames of a closed socket come back, and nothing arrives in them', async () => {
    receiveOnRight()
    const held = memory.frames.small.take()
    right.fill.put(held)
    right.fill.submit()
    right.close()
    memory.arena.bytes.fill(0x5a, held, held + 2048)
    left.send(plain('too late'))
    expect(memory.arena.bytes.subarray(held, held + 2048).every(byte => byte === 0x5a)).toBe(true)
    expect(() => right.socket.statistics()).toThrow('AF_XDP socket')
  })

  test('a second close does nothing', () => {
    left.socket.close()
    left.socket.close()
    memory.umem.close()
    memory.umem.close()
  })
})

describe('errors', () => {
  test('a queue that stays busy', async () => {
    const started = performance.now()
    await expect(memory.open(link.a, link.indexA)).rejects.toThrow(
      `AF_XDP socket on interface ${link.indexA} queue 0 in ${link.a}: EBUSY`,
    )
    expect(performance.now() - started).toBeGreaterThan(1000)
  })

  test('a queue or a device that is not there', async () => {
    await expect(memory.open(link.a, link.indexA, 7)).rejects.toThrow('queue 7')
    await expect(memory.open(link.a, 9999)).rejects.toThrow('ENODEV')
    await expect(memory.open('/run/netns/hwt-none', 1)).rejects.toThrow('/run/netns/hwt-none')
  })

  test('a UMEM that is closed', async () => {
    left.close()
    memory.umem.close()
    await expect(memory.open(link.a, link.indexA)).rejects.toThrow('EBADF (the UMEM is closed)')
  })

  test('a frame longer than the MTU is dropped, and its frame comes back', () => {
    const free = memory.frames.small.free
    left.put(plain('long', 1700))
    left.tx.submit()
    expect(native.xskKick(left.socket.fd)).toBe(-16)
    expect(left.tx.queued()).toBe(0)
    expect(left.reap()).toBe(1)
    expect(memory.frames.small.free).toBe(free)
  })

  test('lo that carries another UMEM', async () => {
    const other = testArena()
    const at = other.layout.rings.offset
    native.bind(other.bytes)
    try {
      await expect(Umem.create(other, at, link.a)).rejects.toThrow(
        `root socket of the UMEM on lo in ${link.a}: EBUSY`,
      )
    } finally {
      native.bind(memory.arena.bytes)
    }
  })
})

test('ring bytes are whole pages', () => {
  for (const size of [64, 256, 2048, 4096]) expect(ringBytes(size) % PAGE).toBe(0)
  expect(ringBytes(2048)).toBe((5 + 5 + 9 + 9) * PAGE)
  expect(ROOT_RING_BYTES % PAGE).toBe(0)
})
