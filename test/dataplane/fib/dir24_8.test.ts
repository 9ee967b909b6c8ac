/** What only dir24_8 has: groups, their end, and the default route beside the tables. */
import { beforeAll, describe, expect, test } from 'vitest'
import { MAX_GROUPS } from '../../../dataplane/fib/dir24_8/dir24_8.ts'
import { lookUp, type Table, table } from './tables.ts'

const ROUTES = MAX_GROUPS + 8

let fib: Table
const found = (address: number) => lookUp(fib.reader, Uint32Array.of(address), 1)[0]
/** The last address of /24 number `i` of 10.0.0.0/8 and on. */
const host = (i: number) => (0x0a00_00ff + i * 256) >>> 0

describe('groups', () => {
  beforeAll(() => {
    fib = table('dir24_8', 4, ROUTES)
  })

  test(`at most ${MAX_GROUPS} /24s with longer routes; the next one is refused, nothing changed`, () => {
    for (let i = 0; i < MAX_GROUPS; i++) fib.writer.insert([host(i)], 32, 1 + (i % 1000))
    const more = () => fib.writer.insert([host(MAX_GROUPS)], 32, 9)
    expect(more).toThrow(RangeError)
    expect(more).toThrow('32768 groups for prefixes longer than /24, 0 of them wait')
    expect(fib.writer.size).toBe(MAX_GROUPS)
    expect(found(host(MAX_GROUPS))).toBe(0)
    // What needs no group of its own still fits.
    fib.writer.insert([host(0) & ~1], 31, 5)
    fib.writer.insert([host(MAX_GROUPS) & ~255], 24, 6)
    expect([host(0) - 1, host(0), host(MAX_GROUPS)].map(found)).toEqual([5, 1, 6])
  })

  test('a group that lost its routes serves again after quiesced, not before', () => {
    const more = () => fib.writer.insert([host(MAX_GROUPS)], 32, 9)
    expect(fib.writer.remove([host(7)], 32)).toBe(true)
    expect(more).toThrow('1 of them wait for quiesced()')
    expect(found(host(7))).toBe(0)
    fib.writer.quiesced()
    more()
    expect(found(host(MAX_GROUPS))).toBe(9)
    // The group was 10.0.7.0/24's; what lies beside the new route is the /24's.
    expect(found(host(MAX_GROUPS) - 1)).toBe(6)
    expect(found(host(7))).toBe(0)
  })
})

test('a /24 goes back to one level with its last longer route, and shows what changed meanwhile', () => {
  fib = table('dir24_8', 4, 16)
  const at = 0x0a01_0200
  fib.writer.insert([0x0a00_0000], 8, 1)
  fib.writer.insert([at | 128], 25, 2)
  fib.writer.insert([at | 192], 26, 3)
  fib.writer.insert([0x0a01_0000], 16, 4)
  expect([at, at | 128, at | 192].map(found)).toEqual([4, 2, 3])
  fib.writer.insert([at], 24, 5)
  expect([at, at | 128, at | 192].map(found)).toEqual([5, 2, 3])
  fib.writer.remove([at | 128], 25)
  expect([at, at | 128, at | 192].map(found)).toEqual([5, 5, 3])
  fib.writer.remove([at], 24)
  fib.writer.remove([at | 192], 26)
  expect([at, at | 128, at | 192].map(found)).toEqual([4, 4, 4])
  // Were the /24 still a group's, this would have to be painted there.
  fib.writer.remove([0x0a01_0000], 16)
  expect([at, at | 128, at | 192].map(found)).toEqual([1, 1, 1])
})

test('a /16 that is painted at once keeps no trace of longer routes that are gone', () => {
  fib = table('dir24_8', 4, 16)
  fib.writer.insert([0x0a01_8000], 17, 2)
  fib.writer.insert([0x0a01_ff00], 24, 3)
  fib.writer.insert([0x0a01_ffff], 32, 4)
  fib.writer.insert([0x0a00_0000], 8, 1)
  const probes = [0x0a01_0000, 0x0a01_8000, 0x0a01_ff00, 0x0a01_ffff, 0x0a02_0000]
  expect(probes.map(found)).toEqual([1, 2, 3, 4, 1])
  fib.writer.remove([0x0a01_8000], 17)
  fib.writer.remove([0x0a01_ff00], 24)
  fib.writer.remove([0x0a01_ffff], 32)
  expect(probes.map(found)).toEqual([1, 1, 1, 1, 1])
  fib.writer.remove([0x0a00_0000], 8)
  expect(probes.map(found)).toEqual([0, 0, 0, 0, 0])
})

test('the default route answers exactly where no other does', () => {
  fib = table('dir24_8', 4, 16)
  fib.writer.insert([0], 0, 7)
  fib.writer.insert([0], 1, 1)
  fib.writer.insert([0xffff_ffff], 32, 2)
  const probes = [0, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]
  expect(probes.map(found)).toEqual([1, 1, 7, 7, 2])
  fib.writer.insert([0], 0, 8)
  expect(probes.map(found)).toEqual([1, 1, 8, 8, 2])
  fib.writer.remove([0], 0)
  expect(probes.map(found)).toEqual([1, 1, 0, 0, 2])
})
