import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { native, type XskRings } from '../../native/native.ts'

const PAGE = 4096
const UMEM = 64 * PAGE
const BYTES = UMEM + 32 * 2048
const NAME = `hwt-${process.pid}-xn`
const NETNS = `/run/netns/${NAME}`
const XDP_COPY = 2
const LO = 1

let arena: Uint8Array
let rings: XskRings

beforeAll(() => {
  execFileSync('ip', ['netns', 'add', NAME])
})
afterAll(() => {
  execFileSync('ip', ['netns', 'del', NAME])
})

beforeEach(() => {
  const buffer = new SharedArrayBuffer(BYTES + PAGE)
  const address = native.addressOf(new Uint8Array(buffer))
  const base = Number(-address & BigInt(PAGE - 1))
  arena = new Uint8Array(buffer, base, BYTES)
  native.bind(arena)
  rings = {
    fill: 4 * PAGE,
    completion: 8 * PAGE,
    rx: 12 * PAGE,
    tx: 20 * PAGE,
    fillSize: 512,
    completionSize: 1024,
    rxSize: 1024,
    txSize: 256,
  }
})

function code(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code)
    throw error
  }
  return ''
}

/** Opens a socket for `use`, and closes it. */
function withSocket(use: (fd: number) => void): void {
  const fd = native.xskOpen(NETNS)
  try {
    use(fd)
  } finally {
    native.close(fd)
  }
}

describe('rings', () => {
  test('are the kernel’s memory between map and close, and ours before and behind', () => {
    arena.fill(0xee, 0, UMEM)
    const fd = native.xskOpen(NETNS)
    const offsets = native.xskMapRings(fd, rings)
    const lengths = { fill: 512 * 8, completion: 1024 * 8, rx: 1024 * 16, tx: 256 * 16 }
    const expected = arena.slice(0, UMEM)
    for (const name of ['fill', 'completion', 'rx', 'tx'] as const) {
      const { producer, consumer, desc, flags } = offsets[name]
      expect(new Set([producer, consumer, flags]).size).toBe(3)
      expect(Math.max(producer, consumer, flags)).toBeLessThan(desc)
      const bytes = Math.ceil((desc + lengths[name]) / PAGE) * PAGE
      expected.fill(0, rings[name], rings[name] + bytes)
    }
    // The kernel asks for a wakeup from the start.
    expect(arena[rings.tx + offsets.tx.flags]).toBe(1)
    arena[rings.tx + offsets.tx.flags] = 0
    expect(Buffer.compare(arena.slice(0, UMEM), expected)).toBe(0)
    arena[rings.fill + offsets.fill.desc] = 1
    native.xskClose(fd, rings)
    expect(Buffer.compare(arena.slice(0, UMEM), expected)).toBe(0)
    expect(code(() => native.xskStatistics(fd))).toBe('EBADF')
  })

  test('a bad place or size changes nothing', () => {
    arena.fill(0xee)
    const bad: [Partial<XskRings>, string][] = [
      [{ fill: 4 * PAGE + 8 }, 'ring fill: Invalid argument (starts on a page boundary)'],
      [{ tx: BYTES }, 'ring tx: Invalid argument (lies outside the arena'],
      [{ tx: Math.floor(BYTES / PAGE) * PAGE - PAGE }, 'ring tx'],
      [{ tx: -PAGE }, 'rings.tx'],
      [{ tx: 2 ** 60 }, 'ring tx'],
      [{ tx: Number.NaN }, 'rings.tx'],
      [{ rx: 9 * PAGE }, 'ring rx: Invalid argument (overlaps the ring completion)'],
      [{ rxSize: 1000 }, 'power of two'],
      [{ rxSize: 0 }, 'power of two'],
      [{ rxSize: 2 ** 21 }, 'rings.rxSize'],
    ]
    withSocket(fd => {
      for (const [change, message] of bad) {
        expect(() => native.xskMapRings(fd, { ...rings, ...change })).toThrow(message)
      }
      expect(arena.every(byte => byte === 0xee)).toBe(true)
    })
  })

  test('a ring of no size is left out', () => {
    arena.fill(0xee, 0, UMEM)
    const fd = native.xskOpen(NETNS)
    const some = { ...rings, rx: 0, rxSize: 0 }
    native.xskMapRings(fd, some)
    expect(arena[rings.tx]).toBe(0)
    expect(arena[rings.rx]).toBe(0xee)
    native.xskClose(fd, some)
  })

  test('mapping twice fails and leaves plain memory', () => {
    const fd = native.xskOpen(NETNS)
    native.xskMapRings(fd, rings)
    expect(code(() => native.xskMapRings(fd, rings))).toBe('EINVAL')
    arena.fill(0x11, rings.fill, rings.fill + PAGE)
    native.xskClose(fd, rings)
    expect(arena[rings.fill]).toBe(0)
  })
})

describe('UMEM', () => {
  test('lies on whole pages inside the arena', () => {
    withSocket(fd => {
      const register = (offset: number, bytes: number) =>
        native.xskRegisterUmem(fd, offset, bytes, 2048, 0, 0)
      expect(() => register(UMEM, 33 * 2048)).toThrow('outside the arena')
      expect(() => register(2 ** 50, 2048)).toThrow('outside the arena')
      expect(() => register(8, 2048)).toThrow('page boundary')
      expect(native.xskRegisterUmem(fd, UMEM, 4096, 1000, 0, 0)).toBe(-22)
      expect(register(UMEM, 32 * 2048)).toBe(0)
      expect(register(UMEM, 32 * 2048)).toBe(-16) // Once a socket.
    })
  })

  test('metadata must hold a whole request', () => {
    withSocket(fd => {
      expect(native.xskRegisterUmem(fd, UMEM, 32 * 2048, 2048, 0, 7)).toBe(-22)
      expect(native.xskRegisterUmem(fd, UMEM, 32 * 2048, 2048, 0, 16)).toBe(0)
    })
  })
})

describe('bind', () => {
  test('answers with the errno', () => {
    withSocket(fd => {
      expect(native.xskBind(fd, LO, 0, XDP_COPY, -1)).toBe(-22) // No rings.
      expect(native.xskBind(fd, 2_000_000_000, 0, XDP_COPY, -1)).toBe(-19)
      expect(() => native.xskBind(fd, LO, 0, 1, -1)).toThrow('sharedFd')
      expect(() => native.xskBind(fd, 0, 0, 0, -1)).toThrow('ifindex')
    })
  })

  test('works with a UMEM and rings, on a loopback device that is down', () => {
    const fd = native.xskOpen(NETNS)
    expect(native.xskRegisterUmem(fd, UMEM, 32 * 2048, 2048, 0, 0)).toBe(0)
    native.xskMapRings(fd, rings)
    expect(native.xskBind(fd, LO, 0, XDP_COPY, -1)).toBe(0)
    expect(native.xskStatistics(fd)).toEqual({
      rxDropped: 0,
      rxInvalidDescs: 0,
      txInvalidDescs: 0,
      rxRingFull: 0,
      rxFillRingEmpty: expect.any(Number),
      txRingEmpty: 0,
    })
    native.xskClose(fd, rings)
  })
})

test('burst calls answer errors as numbers', () => {
  expect(native.xskKick(-1)).toBe(-9)
  expect(native.xskWakeRx(2_000_000_000)).toBe(-9)
  withSocket(fd => {
    expect(native.xskKick(fd)).toBe(-6) // ENXIO: not bound
    expect(native.xskWakeRx(fd)).toBe(-6)
  })
})

test('a namespace that is none', () => {
  expect(() => native.xskOpen('/run/netns/hwt-none')).toThrow('the namespace is gone')
  expect(code(() => native.xskOpen('/dev/null'))).toBe('EINVAL')
})
