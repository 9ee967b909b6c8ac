import { beforeEach, describe, expect, test } from 'vitest'
import {
  CompletionRing,
  FillRing,
  RxRing,
  ringLayout,
  TxRing,
} from '../../../dataplane/afxdp/rings.ts'
import type { Arena } from '../../../dataplane/memory/arena.ts'
import type { XskRingOffsets } from '../../../native/native.ts'
import { testArena } from './link.ts'

// The test plays the kernel: it reads and writes the shared indices itself.
const OFFSETS: XskRingOffsets = { producer: 0, consumer: 128, flags: 196, desc: 320 }
const SIZE = 8

let arena: Arena
let rings: number
let umem: number

beforeEach(() => {
  arena = testArena()
  rings = arena.layout.rings.offset
  umem = arena.layout.small.offset
})

/** Starts both indices of the ring at `at` at `index`. */
function startAt(at: number, index: number): void {
  arena.view.setUint32(at + OFFSETS.producer, index, true)
  arena.view.setUint32(at + OFFSETS.consumer, index, true)
}

// Indices run freely: over the sign bit, and over the end of 32 bits.
describe.each([0, 0x7ffffffc, 0xfffffffc])('indices from %i', start => {
  test('fill', () => {
    const at = ringLayout(rings, SIZE).fill
    startAt(at, start)
    arena.bytes.fill(0xff, at + OFFSETS.desc, at + OFFSETS.desc + SIZE * 8)
    const fill = new FillRing(arena, rings, SIZE, OFFSETS)
    for (let round = 0; round < 4; round++) {
      expect(fill.free()).toBe(SIZE)
      for (let i = 0; i < SIZE; i++) fill.put(umem + i * 2048)
      expect(fill.free()).toBe(0)
      // Nothing is the kernel's before `submit`.
      const before = (start + round * SIZE) >>> 0
      expect(arena.view.getUint32(at + OFFSETS.producer, true)).toBe(before)
      fill.submit()
      const producer = arena.view.getUint32(at + OFFSETS.producer, true)
      expect(producer).toBe((before + SIZE) >>> 0)
      for (let i = 0; i < SIZE; i++) {
        const entry = at + OFFSETS.desc + ((before + i) % SIZE) * 8
        expect(arena.view.getBigUint64(entry, true)).toBe(BigInt(i * 2048))
      }
      arena.view.setUint32(at + OFFSETS.consumer, producer, true)
    }
  })

  test('tx', () => {
    const at = ringLayout(rings, SIZE).tx
    startAt(at, start)
    arena.bytes.fill(0xff, at + OFFSETS.desc, at + OFFSETS.desc + SIZE * 16)
    const tx = new TxRing(arena, rings, SIZE, OFFSETS)
    for (let round = 0; round < 4; round++) {
      const before = (start + round * 5) >>> 0
      for (let i = 0; i < 5; i++) tx.put(umem + i * 2048 + 256, 60 + i, i & 2)
      expect(tx.queued()).toBe(5)
      expect(tx.free()).toBe(SIZE - 5)
      expect(tx.full()).toBe(false)
      tx.submit()
      for (let i = 0; i < 5; i++) {
        const entry = at + OFFSETS.desc + ((before + i) % SIZE) * 16
        expect(arena.view.getBigUint64(entry, true)).toBe(BigInt(i * 2048 + 256))
        expect(arena.view.getUint32(entry + 8, true)).toBe(60 + i)
        expect(arena.view.getUint32(entry + 12, true)).toBe(i & 2)
      }
      arena.view.setUint32(at + OFFSETS.consumer, (before + 3) >>> 0, true)
      expect(tx.queued()).toBe(2)
      arena.view.setUint32(at + OFFSETS.consumer, (before + 5) >>> 0, true)
      expect(tx.queued()).toBe(0)
    }
  })

  test('completion', () => {
    const at = ringLayout(rings, SIZE).completion
    startAt(at, start)
    const completion = new CompletionRing(arena, rings, SIZE, OFFSETS)
    expect(completion.available()).toBe(0)
    for (let round = 0; round < 4; round++) {
      const before = (start + round * 5) >>> 0
      for (let i = 0; i < 5; i++) {
        const entry = at + OFFSETS.desc + ((before + i) % SIZE) * 8
        arena.view.setBigUint64(entry, BigInt((round * 5 + i) * 2048 + 100), true)
      }
      arena.view.setUint32(at + OFFSETS.producer, (before + 5) >>> 0, true)
      expect(completion.available()).toBe(5)
      for (let i = 0; i < 5; i++) {
        expect(completion.peek(i)).toBe(umem + (round * 5 + i) * 2048 + 100)
      }
      completion.release(5)
      expect(completion.available()).toBe(0)
      expect(arena.view.getUint32(at + OFFSETS.consumer, true)).toBe((before + 5) >>> 0)
    }
  })

  test('rx', () => {
    const at = ringLayout(rings, SIZE).rx
    startAt(at, start)
    const rx = new RxRing(arena, rings, SIZE, OFFSETS)
    for (let round = 0; round < 4; round++) {
      const before = (start + round * 7) >>> 0
      for (let i = 0; i < 7; i++) {
        const entry = at + OFFSETS.desc + ((before + i) % SIZE) * 16
        arena.view.setBigUint64(entry, BigInt(i * 2048 + 256), true)
        arena.view.setUint32(entry + 8, 1500 + i, true)
      }
      arena.view.setUint32(at + OFFSETS.producer, (before + 7) >>> 0, true)
      expect(rx.available()).toBe(7)
      // Part of a burst may stay.
      expect([rx.addr(6), rx.len(6)]).toEqual([umem + 6 * 2048 + 256, 1506])
      rx.release(3)
      expect(rx.available()).toBe(4)
      expect([rx.addr(0), rx.len(0)]).toEqual([umem + 3 * 2048 + 256, 1503])
      rx.release(4)
      expect(arena.view.getUint32(at + OFFSETS.consumer, true)).toBe((before + 7) >>> 0)
    }
  })
})

test('wakeups are asked for by a flag', () => {
  const { fill, tx } = ringLayout(rings, SIZE)
  const fillRing = new FillRing(arena, rings, SIZE, OFFSETS)
  const txRing = new TxRing(arena, rings, SIZE, OFFSETS)
  expect([fillRing.needWakeup(), txRing.needWakeup()]).toEqual([false, false])
  arena.view.setUint32(fill + OFFSETS.flags, 1, true)
  expect([fillRing.needWakeup(), txRing.needWakeup()]).toEqual([true, false])
  arena.view.setUint32(tx + OFFSETS.flags, 1, true)
  expect(txRing.needWakeup()).toBe(true)
})

test('an address above 2 GiB comes back unsigned', () => {
  const at = ringLayout(rings, SIZE).rx
  const rx = new RxRing(arena, rings, SIZE, OFFSETS)
  arena.view.setUint32(at + OFFSETS.desc, 0xfffff100, true)
  arena.view.setUint32(at + OFFSETS.producer, 1, true)
  expect(rx.addr(0)).toBe(0xfffff100 + umem)
})
