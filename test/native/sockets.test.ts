import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { addNamespace, removeNamespaces, track } from './namespace.ts'

// linux/netlink.h and linux/rtnetlink.h
const NETLINK_ROUTE = 0
const NETLINK_USERSOCK = 2
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const RTM_NEWLINK = 16
const RTM_GETLINK = 18
const NLM_F_REQUEST = 1
const NLM_F_DUMP = 0x300
const NLM_F_ACK_TLVS = 0x200
const IFLA_IFNAME = 3
const RTMGRP_LINK = 1

afterEach(removeNamespaces)

interface Message {
  type: number
  flags: number
  body: Buffer
}

/** The messages of one datagram (nlmsghdr: length u32, type u16, flags u16, sequence, port). */
function* messages(datagram: Buffer): Generator<Message> {
  for (let at = 0; at + 16 <= datagram.length; ) {
    const length = datagram.readUInt32LE(at)
    if (length < 16) return
    const body = datagram.subarray(at + 16, at + length)
    yield { type: datagram.readUInt16LE(at + 4), flags: datagram.readUInt16LE(at + 6), body }
    at += (length + 3) & ~3
  }
}

/** A request about links: nlmsghdr and ifinfomsg. */
function linkRequest(flags: number, index: number): Buffer {
  const request = Buffer.alloc(32)
  request.writeUInt32LE(32, 0)
  request.writeUInt16LE(RTM_GETLINK, 4)
  request.writeUInt16LE(NLM_F_REQUEST | flags, 6)
  request.writeUInt32LE(1, 8)
  request.writeInt32LE(index, 20)
  return request
}

/** The interface's name in an ifinfomsg with its attributes. */
function linkName(body: Buffer): string {
  for (let at = 16; at + 4 <= body.length; at += (body.readUInt16LE(at) + 3) & ~3) {
    const length = body.readUInt16LE(at)
    if (body.readUInt16LE(at + 2) === IFLA_IFNAME) {
      return body.toString('latin1', at + 4, at + length - 1)
    }
  }
  return ''
}

function receive(fd: number): Message[] {
  const into = Buffer.alloc(64 * 1024)
  const length = native.receive(fd, into, 5000)
  expect(length).toBeGreaterThan(0)
  expect(length).toBeLessThanOrEqual(into.length)
  return [...messages(into.subarray(0, length))]
}

describe('netlink', () => {
  test('a dump of links tells those of the namespace', () => {
    const namespace = addNamespace()
    namespace.ip('link', 'add', 'hwa', 'type', 'veth', 'peer', 'name', 'hwb')
    const fd = track(native.netlinkOpen(namespace.path, NETLINK_ROUTE, 0))
    const request = linkRequest(NLM_F_DUMP, 0)
    expect(native.send(fd, request)).toBe(request.length)
    const names: string[] = []
    for (let done = false; !done; ) {
      for (const { type, body } of receive(fd)) {
        if (type === NLMSG_DONE) done = true
        if (type === RTM_NEWLINK) names.push(linkName(body))
      }
    }
    expect(names).toEqual(expect.arrayContaining(['lo', 'hwa', 'hwb']))
    expect(names.filter(name => name.startsWith('eth'))).toEqual([])
  })

  test('refusals carry an extended acknowledgement', () => {
    const fd = track(native.netlinkOpen(addNamespace().path, NETLINK_ROUTE, 0))
    // RTM_NEWADDR for an interface that is not there: the kernel says so in words.
    const request = Buffer.alloc(24)
    request.writeUInt32LE(24, 0)
    request.writeUInt16LE(20, 4)
    request.writeUInt16LE(NLM_F_REQUEST, 6)
    request.writeUInt8(2, 16)
    request.writeUInt32LE(999, 20)
    native.send(fd, request)
    const [answer] = receive(fd)
    expect(answer!.type).toBe(NLMSG_ERROR)
    expect(answer!.body.readInt32LE(0)).toBeLessThan(0)
    expect(answer!.flags & NLM_F_ACK_TLVS).toBe(NLM_F_ACK_TLVS)
    expect(answer!.body.toString('latin1')).toMatch(/ipv4: [A-Z]/)
  })

  test('a socket in a group hears of changes', () => {
    const namespace = addNamespace()
    const fd = track(native.netlinkOpen(namespace.path, NETLINK_ROUTE, RTMGRP_LINK))
    expect(native.receive(fd, Buffer.alloc(64), 0)).toBe(0)
    namespace.ip('link', 'add', 'hwa', 'type', 'veth', 'peer', 'name', 'hwb')
    const heard = new Set<string>()
    while (!heard.has('hwa') || !heard.has('hwb')) {
      for (const { type, body } of receive(fd)) {
        if (type === RTM_NEWLINK) heard.add(linkName(body))
      }
    }
  })

  test('receive tells the full length of what it cut, and 0 after the timeout', () => {
    const fd = track(native.netlinkOpen('', NETLINK_ROUTE, 0))
    native.send(fd, linkRequest(0, 1))
    const into = Buffer.alloc(20, 0xee)
    expect(native.receive(fd, into.subarray(0, 16), 5000)).toBeGreaterThan(100)
    expect(into.subarray(16).equals(Buffer.alloc(4, 0xee))).toBe(true)
    const start = native.monotonic()
    expect(native.receive(fd, into, 30)).toBe(0)
    expect(native.monotonic() - start).toBeGreaterThanOrEqual(29e6)
  })

  test('errors name the socket and carry their code', () => {
    expect(() => native.netlinkOpen('', 255, 0)).toThrow(
      /netlink socket of protocol 255: Protocol not supported/,
    )
    const fd = track(native.netlinkOpen('', NETLINK_USERSOCK, 0))
    expect(() => native.send(fd, Buffer.alloc(16))).toThrow(
      expect.objectContaining({ code: 'ECONNREFUSED', message: expect.stringContaining(`${fd}`) }),
    )
    const event = track(native.eventfd())
    expect(() => native.receive(event, Buffer.alloc(16), 0)).toThrow(
      expect.objectContaining({ code: 'ENOTSOCK' }),
    )
  })
})

describe('sendInBackground', () => {
  test('has the kernel carry the request out; its answer waits on the socket', async () => {
    const namespace = addNamespace()
    const fd = track(native.netlinkOpen(namespace.path, NETLINK_ROUTE, 0))
    const request = linkRequest(0, 1)
    const sent = native.sendInBackground(fd, request)
    request.fill(0xff)
    await sent
    expect(linkName(receive(fd)[0]!.body)).toBe('lo')
  })

  test('rejects as send throws', async () => {
    const fd = track(native.netlinkOpen('', NETLINK_USERSOCK, 0))
    await expect(native.sendInBackground(fd, Buffer.alloc(16))).rejects.toThrow(
      expect.objectContaining({ code: 'ECONNREFUSED', message: expect.stringContaining(`${fd}`) }),
    )
  })
})

describe('socketInterface', () => {
  test("is that of the socket's namespace", () => {
    const namespace = addNamespace()
    namespace.ip('link', 'add', 'hwa', 'index', '77', 'type', 'veth', 'peer', 'name', 'hwb')
    const fd = track(native.netlinkOpen(namespace.path, NETLINK_ROUTE, 0))
    expect(native.socketInterface(fd, 'hwa')).toBe(77)
    for (const name of ['hwc', '', 'a-name-that-is-too-long', 'hwaXXXXXXXXXXXXXXX']) {
      expect(native.socketInterface(fd, name), name).toBe(0)
    }
    expect(() => native.socketInterface(track(native.eventfd()), 'lo')).toThrow('interface lo')
  })
})

describe('interfaceIndex', () => {
  test('is that of the namespace, and 0 when there is none', () => {
    const namespace = addNamespace()
    namespace.ip('link', 'add', 'hwa', 'index', '77', 'type', 'veth', 'peer', 'name', 'hwb')
    expect(native.interfaceIndex(namespace.path, 'hwa')).toBe(77)
    expect(native.interfaceIndex(namespace.path, 'lo')).toBe(1)
    for (const name of ['hwa', '', 'a-name-that-is-too-long', 'hwaXXXXXXXXXXXXXXX']) {
      expect(native.interfaceIndex('', name), name).toBe(0)
    }
  })
})

/** The descriptor below a socket of Node. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd
}

describe('peerCredentials', () => {
  test('tells who is at the other end of a unix socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hwt-peer-'))
    const server = createServer()
    try {
      server.listen(join(folder, 'socket'))
      await once(server, 'listening')
      const client = connect(join(folder, 'socket'))
      const [accepted] = (await once(server, 'connection')) as [Socket]
      const self = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() }
      expect(native.peerCredentials(descriptorOf(accepted))).toEqual(self)
      client.destroy()
      accepted.destroy()
    } finally {
      server.close()
      rmSync(folder, { recursive: true })
    }
  })

  test('refuses other descriptors: no stranger becomes root by it', () => {
    const udp = track(native.udpOpen('', '127.0.0.1', 0, false, false, 0))
    expect(() => native.peerCredentials(udp)).toThrow(/not a unix socket/)
    const event = track(native.eventfd())
    expect(() => native.peerCredentials(event)).toThrow(
      expect.objectContaining({ code: 'ENOTSOCK' }),
    )
  })
})
