import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { passProgram, podProgram } from '../../../dataplane/bpf/programs.ts'
import { native } from '../../../native/native.ts'
import { type End, Link, Memory, socketMap } from '../afxdp/link.ts'
import { plain, textOf } from '../afxdp/packets.ts'

let link: Link
let program: number
const LO = 1

beforeEach(() => {
  link = new Link()
  program = native.bpfLoadXdp(passProgram(), 'hwt_pass')
})
afterEach(() => {
  link.close()
  native.close(program)
})

/** The mode that the kernel reports for `device`: xdp (native), xdpgeneric, or ''. */
function modeOf(netns: string, device: string): string {
  const name = netns.split('/').at(-1)!
  const text = execFileSync('ip', ['-n', name, 'link', 'show', 'dev', device], { encoding: 'utf8' })
  return /\b(xdp\w*)\b/.exec(text)?.[1] ?? ''
}

test('native first; closing the link takes the program away', () => {
  const made = attachXdp(link.b, program, link.indexB)
  expect(made.mode).toBe('native')
  expect(modeOf(link.b, 'vb')).toBe('xdp')
  native.close(made.linkFd)
  expect(modeOf(link.b, 'vb')).toBe('')
})

test('generic when the device has no native mode, and why', () => {
  const made = attachXdp(link.b, program, LO)
  expect(made.mode).toBe('generic')
  expect(made.nativeRefused).toContain(`interface ${LO} in ${link.b}`)
  expect(modeOf(link.b, 'lo')).toBe('xdpgeneric')
  native.close(made.linkFd)
})

test('generic when the peer has too large an MTU', () => {
  execFileSync('ip', ['-n', link.a.split('/').at(-1)!, 'link', 'set', 'va', 'mtu', '9000'])
  const made = attachXdp(link.b, program, link.indexB)
  expect(made.mode).toBe('generic')
  expect(made.nativeRefused).toContain('MTU above 3506')
  native.close(made.linkFd)
})

test('native alone, generic alone', () => {
  expect(() => attachXdp(link.b, program, LO, 'native')).toThrow('the driver has no XDP')
  const made = attachXdp(link.b, program, link.indexB, 'generic')
  expect(made.mode).toBe('generic')
  expect(made.nativeRefused).toBeUndefined()
  expect(modeOf(link.b, 'vb')).toBe('xdpgeneric')
  native.close(made.linkFd)
})

test('another program is never pushed out', () => {
  const made = attachXdp(link.b, program, link.indexB)
  for (const wanted of [undefined, 'native', 'generic'] as const) {
    expect(() => attachXdp(link.b, program, link.indexB, wanted)).toThrow('another XDP program')
  }
  native.close(made.linkFd)
})

test('a device that is not there', () => {
  expect(() => attachXdp(link.b, program, 9999)).toThrow(
    `generic XDP on interface 9999 in ${link.b}: Invalid argument`,
  )
})

test('sockets work behind a generic program too', async () => {
  const memory = await Memory.create(link.a)
  const ends: End[] = []
  try {
    const a = await memory.open(link.a, link.indexA)
    ends.push(a)
    const b = await memory.open(link.b, link.indexB)
    ends.push(b)
    const map = socketMap(b.socket.fd)
    const pod = native.bpfLoadXdp(podProgram(map), 'hwt_pod')
    const made = attachXdp(link.b, pod, link.indexB, 'generic')
    b.feed(2)
    a.send(plain('generic'))
    expect(textOf(b.receive())).toBe('generic')
    for (const fd of [made.linkFd, pod, map]) native.close(fd)
  } finally {
    for (const end of ends) end.close()
    memory.umem.close()
  }
})
