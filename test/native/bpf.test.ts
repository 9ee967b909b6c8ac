import { afterEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'

const ARRAY = 2
const PERCPU_ARRAY = 6
const XSKMAP = 17

const open: number[] = []
function keep(fd: number): number {
  open.push(fd)
  return fd
}
afterEach(() => {
  for (const fd of open.splice(0)) native.close(fd)
})

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer)
/** r0 = 2; exit */
const pass = Uint8Array.from(Buffer.from('b7000000020000009500000000000000', 'hex'))

/** What a call throws. */
function thrown(call: () => unknown): Error & { code?: string; errno?: number } {
  try {
    call()
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('nothing was thrown')
}

describe('BPF maps', () => {
  test('an array keeps what it is given', () => {
    const map = keep(native.bpfMapCreate(ARRAY, 4, 8, 4, 'hwt_array'))
    const value = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    native.bpfMapUpdate(map, u32(3), value)
    const back = new Uint8Array(8)
    expect(native.bpfMapLookup(map, u32(3), back)).toBe(true)
    expect(back).toEqual(value)
    expect(native.bpfMapLookup(map, u32(4), back)).toBe(false)
    expect(thrown(() => native.bpfMapUpdate(map, u32(4), value)).code).toBe('E2BIG')
    expect(thrown(() => native.bpfMapDelete(map, u32(0))).code).toBe('EINVAL') // Arrays keep all.
  })

  test('a per-CPU array has a value for every possible CPU', () => {
    const cpus = native.possibleCpus()
    expect(cpus).toBeGreaterThanOrEqual(1)
    const map = keep(native.bpfMapCreate(PERCPU_ARRAY, 4, 4, 1, 'hwt_percpu'))
    const values = new Uint32Array(2 * cpus)
    for (let cpu = 0; cpu < cpus; cpu++) values[2 * cpu] = cpu + 7
    native.bpfMapUpdate(map, u32(0), new Uint8Array(values.buffer))
    const back = new Uint32Array(2 * cpus)
    expect(native.bpfMapLookup(map, u32(0), new Uint8Array(back.buffer))).toBe(true)
    expect(back).toEqual(values)
  })

  test('buffers of another length never reach the kernel', () => {
    const map = keep(native.bpfMapCreate(ARRAY, 4, 8, 4, 'hwt_array'))
    const percpu = keep(native.bpfMapCreate(PERCPU_ARRAY, 4, 8, 1, 'hwt_percpu'))
    expect(() => native.bpfMapLookup(map, u32(0), new Uint8Array(4))).toThrow('takes 8 bytes')
    expect(() => native.bpfMapLookup(map, new Uint8Array(2), new Uint8Array(8))).toThrow('key')
    const bytes = 8 * native.possibleCpus()
    expect(() => native.bpfMapLookup(percpu, u32(0), new Uint8Array(bytes - 1))).toThrow(
      `takes ${bytes} bytes`,
    )
    expect(() => native.bpfMapUpdate(map, u32(0), new Uint8Array(9))).toThrow('takes 8 bytes')
  })

  test('errors name the object', () => {
    expect(() => native.bpfMapCreate(XSKMAP, 3, 4, 1, 'hwt')).toThrow('BPF map hwt: Invalid')
    expect(() => native.bpfMapCreate(ARRAY, 4, 4, 1, 'a name with spaces')).toThrow('at most 15')
    expect(() => native.bpfMapCreate(ARRAY, 4, 4, 1, 'sixteen_letters_')).toThrow('at most 15')
    const socket = keep(native.xskOpen(''))
    expect(thrown(() => native.bpfMapLookup(socket, u32(0), u32(0))).code).toBe('EINVAL')
    const map = keep(native.bpfMapCreate(XSKMAP, 4, 4, 2, 'hwt_xsks'))
    const event = keep(native.eventfd())
    expect(thrown(() => native.bpfMapUpdate(map, u32(0), u32(event))).code).toBe('ENOTSOCK')
    expect(thrown(() => native.bpfMapUpdate(map, u32(2), u32(socket))).code).toBe('E2BIG')
  })
})

describe('XDP programs', () => {
  test('a good one loads', () => {
    expect(keep(native.bpfLoadXdp(pass, 'hwt_pass'))).toBeGreaterThan(2)
  })

  test('a refused one carries the verifier log', () => {
    // r0 = *(u32 *)(r1 + 0); r0 = *(u8 *)(r0 + 0); exit: reads the packet unproven.
    const bad = Buffer.from('611000000000000071000000000000009500000000000000', 'hex')
    const error = thrown(() => native.bpfLoadXdp(Uint8Array.from(bad), 'hwt_bad'))
    expect(error.code).toBe('EACCES')
    expect(error.errno).toBe(13)
    expect(error.message).toContain('XDP program hwt_bad: Permission denied')
    expect(error.message).toContain('invalid access to packet')
  })

  test('what is no program', () => {
    expect(() => native.bpfLoadXdp(new Uint8Array(0), 'hwt')).toThrow('instructions')
    expect(() => native.bpfLoadXdp(new Uint8Array(12), 'hwt')).toThrow('instructions')
    expect(() => native.bpfLoadXdp(pass, 'no spaces')).toThrow('BPF name')
  })

  test('a device or namespace that is not there', () => {
    const program = keep(native.bpfLoadXdp(pass, 'hwt_pass'))
    const gone = thrown(() => native.bpfAttachXdp('', program, 2_000_000_000, 4))
    expect(gone.code).toBe('EINVAL') // Not ENODEV.
    expect(gone.message).toContain('interface 2000000000')
    expect(() => native.bpfAttachXdp('/dev/null', program, 1, 4)).toThrow('/dev/null')
  })
})
