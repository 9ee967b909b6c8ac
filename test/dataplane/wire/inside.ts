/**
 * The promise of `check`, held against one protocol file: over a view of exactly the bytes given, in
 * which every read outside throws, either the check refuses or every accessor stays inside.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { OK } from '../../../dataplane/wire/reason.ts'

type Read = (view: DataView, at: number) => unknown

export interface Protocol {
  check(view: DataView, at: number, length: number): number
  pretty(view: DataView, at: number, length: number): string
}

/** A view of a copy that begins and ends with `bytes`. */
export function exactly(bytes: ArrayLike<number>): DataView {
  return new DataView(Uint8Array.from(bytes).buffer)
}

export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'))
}

/** Everything that the file exports and that takes (view, at): its getters. */
export function gettersOf(protocol: object): [name: string, read: Read][] {
  return Object.entries(protocol).filter(
    ([name, value]) =>
      typeof value === 'function' && value.length === 2 && !/^(set|fill|emit)/.test(name),
  )
}

export interface PromiseOptions {
  /** What takes more than (view, at). */
  further?: (view: DataView, at: number, length: number) => void
  /** Getters that only some messages have. */
  except?: readonly string[]
}

/** Tests of the promise: truncations of `valid`, the same with changed bytes, and any bytes. */
export function keepsInside(
  protocol: Protocol,
  valid: readonly Uint8Array[],
  options: PromiseOptions = {},
): void {
  const getters = gettersOf(protocol).filter(([name]) => !options.except?.includes(name))
  const look = (bytes: ArrayLike<number>): number => {
    const view = exactly(bytes)
    const reason = protocol.check(view, 0, bytes.length)
    if (reason === OK) {
      for (const [, read] of getters) read(view, 0)
      options.further?.(view, 0, bytes.length)
    }
    expect(protocol.pretty(view, 0, bytes.length).length).toBeGreaterThan(0)
    return reason
  }

  test('every truncation is refused, or read inside', () => {
    expect(getters.length).toBeGreaterThan(0)
    for (const bytes of valid) {
      expect(look(bytes)).toBe(OK)
      for (let n = 0; n < bytes.length; n++) look(bytes.subarray(0, n))
      expect(look([])).not.toBe(OK)
    }
  })

  test('any bytes are refused, or read inside', () => {
    const change = fc.record({ at: fc.nat(200), to: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(
        fc.constantFrom(...valid),
        fc.array(change, { maxLength: 4 }),
        fc.nat(200),
        (bytes, changes, cut) => {
          const copy = bytes.slice(0, cut)
          for (const { at, to } of changes) if (at < copy.length) copy[at] = to
          look(copy)
        },
      ),
      { numRuns: 300 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), bytes => {
        look(bytes)
      }),
      { numRuns: 300 },
    )
  })
}

export const u8 = fc.integer({ min: 0, max: 0xff })
export const u16 = fc.integer({ min: 0, max: 0xffff })
export const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
export const address6 = fc.tuple(u32, u32, u32, u32)
/** Option bytes: any, a multiple of four, at most 40. */
export const options = fc
  .nat(10)
  .chain(words => fc.uint8Array({ minLength: words * 4, maxLength: words * 4 }))
