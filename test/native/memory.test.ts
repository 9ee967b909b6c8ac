import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'

const EFAULT = 14

/** Sum of a run of bytes, for even lengths. */
function sum(bytes: Uint8Array): number {
  let total = 0
  for (let i = 0; i < bytes.length; i += 2) total += bytes[i]! * 256 + bytes[i + 1]!
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

describe('memory', () => {
  test('the page size is a power of two', () => {
    const bytes = native.pageSize()
    expect(bytes).toBeGreaterThanOrEqual(4096)
    expect(Math.log2(bytes) % 1).toBe(0)
  })

  test('addresses follow the offsets of views, shared or not', () => {
    for (const buffer of [new SharedArrayBuffer(4096), new ArrayBuffer(4096)]) {
      const start = native.addressOf(new Uint8Array(buffer))
      expect(start).toBeGreaterThan(0n)
      expect(native.addressOf(new Uint8Array(buffer, 100, 8))).toBe(start + 100n)
    }
  })

  test('burst functions stay inside the arena that was bound last', () => {
    const whole = new Uint8Array(new SharedArrayBuffer(4096))
    whole.fill(1)
    native.bind(whole.subarray(1024, 2048))
    whole.fill(2, 1024, 2048)
    expect(native.checksum(0, 1024, 0)).toBe(sum(whole.subarray(1024, 2048)))
    expect(native.checksum(0, 1025, 0)).toBe(-EFAULT)
    expect(native.checksum(1024, 0, 0)).toBe(0)
    expect(native.checksum(1025, 0, 0)).toBe(-EFAULT)
    expect(native.checksum(-1, 2, 0)).toBe(-EFAULT)
    expect(native.checksum(0, -1, 0)).toBe(-EFAULT)
    expect(native.checksum(2 ** 53, 2 ** 53, 0)).toBe(-EFAULT)
    native.bind(whole)
    expect(native.checksum(0, 4096, 0)).toBe(sum(whole))
  })

  test('the bound arena is kept alive, an earlier one is not', async () => {
    setFlagsFromString('--expose-gc')
    const collect: () => void = runInNewContext('gc')
    const bindNew = (value: number): WeakRef<Uint8Array> => {
      const arena = new Uint8Array(4096).fill(value)
      native.bind(arena)
      return new WeakRef(arena)
    }
    const [first, second] = [bindNew(3), bindNew(4)]
    // A WeakRef holds what it points at until the turn of the event loop that made it has ended.
    await setImmediate()
    collect()
    expect(first.deref()).toBeUndefined()
    expect(second.deref()).toBeInstanceOf(Uint8Array)
    expect(native.checksum(0, 4096, 0)).toBe(sum(new Uint8Array(4096).fill(4)))
  })

  test('arguments of another kind are refused by name', () => {
    expect(() => native.bind(new Uint8Array(0))).toThrow(/argument arena: .*empty/)
    const words = new Uint16Array(4) as unknown as Uint8Array
    expect(() => native.bind(words)).toThrow(/argument arena: .*a Uint8Array/)
    expect(() => native.addressOf({} as Uint8Array)).toThrow(/argument view/)
  })

  test('burst functions answer wrong arguments with -EINVAL and never throw', () => {
    const bare = native as unknown as Record<string, (...args: unknown[]) => unknown>
    for (const name of [
      'eventfdSignal',
      'eventfdDrain',
      'epollWait',
      'tunRead',
      'tunWrite',
      'tunSetOffload',
      'udpReceive',
      'udpSend',
      'checksum',
      'checksumScalar',
      'copyChecksum',
      'pinThread',
    ]) {
      const call = bare[name]!
      expect(call(), name).toBe(-22)
      expect(call({}, 'x', null, undefined, [], Symbol('x'), 1n, 1, 1), name).toBe(-22)
    }
  })
})
