import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import {
  passProgram,
  podProgram,
  sinkProgram,
  underlayProgram,
  vniKey,
} from '../../../dataplane/bpf/programs.ts'
import { native } from '../../../native/native.ts'
import { type End, Link, Listener, Memory, socketMap, u32 } from '../afxdp/link.ts'
import { plain, textOf, udp4, udp6 } from '../afxdp/packets.ts'

//  a: va, AF_XDP sends ───── b: vb with the program under test, AF_XDP or the kernel receives

const VXLAN = 4789
const OTHER = 5000
const HASH = 1
const PERCPU_ARRAY = 6

let link: Link
let memory: Memory
let sender: End
const open = new Set<number>()

/** Keeps `fd` until the test ends. */
function keep(fd: number): number {
  open.add(fd)
  return fd
}

function attach(instructions: Uint8Array): number {
  const program = keep(native.bpfLoadXdp(instructions, 'hwt'))
  const made = attachXdp(link.b, program, link.indexB)
  expect(made.mode).toBe('native')
  return keep(made.linkFd)
}

function detach(fd: number): void {
  open.delete(fd)
  native.close(fd)
}

beforeEach(async () => {
  link = new Link()
  memory = await Memory.create(link.a)
  sender = await memory.open(link.a, link.indexA)
})

afterEach(() => {
  // First: whatever fails below, no namespace stays behind.
  link?.close()
  for (const fd of open) native.close(fd)
  open.clear()
  sender?.close()
  memory?.umem.close()
})

describe('pod program', () => {
  test('gives packets to the socket', async () => {
    const receiver = await memory.open(link.b, link.indexB)
    attach(podProgram(keep(socketMap(receiver.socket.fd))))
    receiver.feed(4)
    sender.send(plain('for the socket'))
    expect(textOf(receiver.receive())).toBe('for the socket')
    receiver.close()
  })

  test('drops when no socket is there: nothing leaks to the kernel', () => {
    const kernel = new Listener(memory, link.b, '10.9.0.2', OTHER)
    const pod = attach(podProgram(keep(socketMap())))
    sender.send(udp4({ port: OTHER, payload: 'leak' }).bytes)
    detach(pod)
    attach(passProgram())
    sender.send(udp4({ port: OTHER, payload: 'passed' }).bytes)
    expect(kernel.receive()).toBe('passed')
    kernel.close()
  })
})

describe('underlay program', () => {
  let receiver: End
  let marker: () => ReturnType<typeof udp4>

  beforeEach(async () => {
    marker = () => udp4({ port: VXLAN, payload: 'marker' })
    receiver = await memory.open(link.b, link.indexB)
    receiver.feed(8)
  })
  afterEach(() => receiver.close())

  /** Whether the socket gets `bytes`; a packet behind it, which it does get, ends the wait. */
  function taken(bytes: Uint8Array): boolean {
    receiver.feed(2)
    sender.put(bytes)
    sender.send(marker().bytes)
    const first = receiver.receive()
    if (first.equals(marker().bytes)) return false
    expect(first.equals(bytes)).toBe(true)
    expect(receiver.receive().equals(marker().bytes)).toBe(true)
    return true
  }

  test('takes VXLAN and nothing else', () => {
    attach(underlayProgram(keep(socketMap(receiver.socket.fd)), { port: VXLAN }))
    expect(taken(udp4({ port: VXLAN }).bytes)).toBe(true)
    expect(taken(udp4({ port: VXLAN, options: 4 }).bytes)).toBe(true)
    expect(taken(udp4({ port: VXLAN, options: 40 }).bytes)).toBe(true)
    expect(taken(udp4({ port: VXLAN, fragment: 0x4000 }).bytes)).toBe(true) // don't fragment
    expect(taken(udp4({ port: VXLAN, payload: '' }).bytes)).toBe(true)
    expect(taken(udp6({ port: VXLAN }).bytes)).toBe(true)
    expect(taken(udp6({ port: VXLAN, payload: '' }).bytes)).toBe(true)

    expect(taken(udp4({ port: OTHER }).bytes)).toBe(false)
    expect(taken(udp6({ port: OTHER }).bytes)).toBe(false)
    expect(taken(udp4({ port: VXLAN, protocol: 6 }).bytes)).toBe(false)
    expect(taken(udp6({ port: VXLAN, protocol: 6 }).bytes)).toBe(false)
    expect(taken(udp4({ port: VXLAN, fragment: 0x2000 }).bytes)).toBe(false) // first fragment
    expect(taken(udp4({ port: VXLAN, fragment: 0x0001 }).bytes)).toBe(false) // second one
    expect(taken(plain('no IP'))).toBe(false)
  })

  test("takes VXLAN of our networks, and leaves somebody else's to the kernel", () => {
    const [own, further, foreign] = [0x010203, 0x000077, 0x000078]
    const map = keep(native.bpfMapCreate(HASH, 4, 4, 4, 'hwt_vnis'))
    const vnis = { own, map }
    attach(underlayProgram(keep(socketMap(receiver.socket.fd)), { port: VXLAN, vnis }))
    const vxlan = (vni: number, flags = 0x08) =>
      Buffer.from([flags, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0]).toString('latin1')
    marker = () => udp4({ port: VXLAN, payload: `${vxlan(own)}marker` })
    for (const udp of [udp4, udp6]) {
      const given = (payload: string) => taken(udp({ port: VXLAN, payload }).bytes)
      expect(given(vxlan(own))).toBe(true)
      expect(given(vxlan(further))).toBe(false)
      native.bpfMapUpdate(map, vniKey(further), u32(1))
      expect(given(vxlan(further))).toBe(true)
      expect(given(vxlan(foreign))).toBe(false)
      expect(given(vxlan(own, 0))).toBe(false) // the VNI is not said to be valid
      expect(given(vxlan(own).slice(0, 7))).toBe(false)
      expect(given('')).toBe(false)
      native.bpfMapDelete(map, vniKey(further))
      expect(given(vxlan(further))).toBe(false)
    }
  })

  test('reads nothing behind the end of a packet', () => {
    attach(underlayProgram(keep(socketMap(receiver.socket.fd)), { port: VXLAN }))
    for (const { bytes, udp } of [
      udp4({ port: VXLAN }),
      udp4({ port: VXLAN, options: 40 }),
      udp6({ port: VXLAN }),
    ]) {
      for (let length = 14; length < udp + 8; length += 3) {
        expect(taken(bytes.subarray(0, length))).toBe(false)
      }
      const lying = Buffer.from(bytes)
      lying[14] = udp === 54 ? 0x50 : 0x54 // IP version 5; IPv4 with a header of 16 bytes
      expect(taken(lying)).toBe(false)
      lying[14] = 0x44
      expect(taken(lying)).toBe(false)
    }
  })

  test('takes only what is for the given addresses', () => {
    const ipv4 = Uint8Array.of(10, 9, 0, 200) // The word has its top bit set.
    const ipv6 = Uint8Array.from(Buffer.from(`fd09${'0'.repeat(24)}00f2`, 'hex'))
    const map = keep(socketMap(receiver.socket.fd))
    const first = attach(underlayProgram(map, { port: VXLAN, ipv4, ipv6 }))
    const markers = [
      udp4({ port: VXLAN, host: 200, payload: 'mine' }).bytes,
      udp6({ port: VXLAN, host: 0xf2, payload: 'mine' }).bytes,
    ]
    for (const bytes of markers) {
      sender.put(udp4({ port: VXLAN }).bytes)
      sender.put(udp6({ port: VXLAN }).bytes)
      sender.send(bytes)
      expect(receiver.receive().equals(bytes)).toBe(true)
    }
    detach(first)
  })

  test('passes the rest to the kernel, and VXLAN too when the socket is gone', () => {
    attach(underlayProgram(keep(socketMap(receiver.socket.fd)), { port: VXLAN }))
    link.addIpv6()
    const other = new Listener(memory, link.b, '10.9.0.2', OTHER)
    const other6 = new Listener(memory, link.b, 'fd09::2', OTHER)
    const vxlan = new Listener(memory, link.b, '10.9.0.2', VXLAN)
    sender.send(udp4({ port: OTHER, payload: 'four' }).bytes)
    expect(other.receive()).toBe('four')
    sender.send(udp6({ port: OTHER, payload: 'six' }).bytes)
    expect(other6.receive()).toBe('six')
    receiver.close()
    sender.send(udp4({ port: VXLAN, payload: 'fallback' }).bytes)
    expect(vxlan.receive()).toBe('fallback')
    for (const listener of [other, other6, vxlan]) listener.close()
  })
})

test('sink program counts and drops', () => {
  const counts = keep(native.bpfMapCreate(PERCPU_ARRAY, 4, 8, 1, 'hwt_count'))
  const kernel = new Listener(memory, link.b, '10.9.0.2', OTHER)
  const sink = attach(sinkProgram(counts))
  for (let i = 0; i < 100; i++) sender.put(udp4({ port: OTHER, payload: 'sunk' }).bytes)
  sender.flush()
  detach(sink)
  // The kernel's queue is in order: when this one arrives, the sink has seen the others.
  sender.send(udp4({ port: OTHER, payload: 'through' }).bytes)
  expect(kernel.receive()).toBe('through')
  const values = new Uint8Array(8 * native.possibleCpus())
  expect(native.bpfMapLookup(counts, u32(0), values)).toBe(true)
  const total = new BigUint64Array(values.buffer).reduce((a, b) => a + b, 0n)
  expect(total).toBe(100n)
  kernel.close()
})
