/**
 * TUN queues of pods in namespaces; the test plays the worker between them.
 *
 *   netns a: hwt0 10.9.0.1, fd09::1 ──── port 0 │ test │ port 1 ──── hwt0 10.9.0.2, fd09::2 :netns b
 */
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ipBytes } from '../../../dataplane/addresses.ts'
import { configurePodTun, openTun } from '../../../dataplane/devices/tun.ts'
import { DROP_PORT_DOWN, DROP_PORT_GONE, DROP_TX_ERROR } from '../../../dataplane/drops.ts'
import { FRAME_HEADROOM, PORT_RETRY_MS, RECEIVE_BURST } from '../../../dataplane/limits.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { F_CSUM_PARTIAL, GSO_NONE, GSO_TCPV4, GSO_TCPV6 } from '../../../dataplane/packet/batch.ts'
import { DEVICE } from '../../../dataplane/ports/device-state.ts'
import { LARGE_BURST } from '../../../dataplane/ports/scratch.ts'
import { TunPort } from '../../../dataplane/ports/tun.ts'
import { ipv4, OK, udp } from '../../../dataplane/wire/index.ts'
import { native } from '../../../native/native.ts'
import { udp as udpPacket } from '../../harness/packets.ts'
import { transfer } from '../../harness/traffic.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from '../../native/namespace.ts'
import { NOTHING, Place } from './place.ts'

let a: Namespace
let place: Place
beforeEach(() => {
  a = addNamespace()
  place = new Place()
})
afterEach(removeNamespaces)

function openPort(index: number, namespace: Namespace, last: number): TunPort {
  native.sysctlWrite(namespace.path, 'ipv6/conf/default/disable_ipv6', '0')
  const nl = new Netlink(namespace.path)
  const device = openTun(nl, 'hwt0', 1)
  for (const fd of device.fds) track(fd)
  // No router solicitations of its own.
  native.sysctlWrite(namespace.path, 'ipv6/conf/hwt0/router_solicitations', '0')
  configurePodTun(nl, device, 1500, `10.9.0.${last}`, `fd09::${last}`)
  nl.close()
  const record = { ...NOTHING, fds: device.fds }
  return new TunPort(place.context(index, record, device.fds[0]!))
}

/** Receives until a packet for `port` is there, which stays in the batch as packet 0. */
function awaitUdp(tun: TunPort, port: number): void {
  for (;;) {
    place.receive(tun, 1)
    place.parse(0)
    const { view } = place.arena
    const [l3, l4] = [place.batch.l3[0]!, place.batch.l4[0]!]
    if (
      ipv4.check(view, l3, place.batch.len[0]!) === OK &&
      udp.destinationPort(view, l4) === port
    ) {
      return
    }
    // The kernel's own multicast.
    place.releaseAll()
  }
}

describe('receive', () => {
  test("a pod's packet: in a small frame, with what the device says of its checksum", () => {
    const tun = openPort(0, a, 1)
    const socket = track(native.udpOpen(a.path, '10.9.0.1', 4000, false, false, 0))
    const data = new Uint8Array(1472).fill(5)
    place.sendDatagram(socket, data, ipBytes('198.51.100.7'), 5000)
    awaitUdp(tun, 5000)
    const { batch } = place
    const { view } = place.arena
    const l3 = batch.l3[0]!
    expect(l3).toBe(batch.frame[0]! + FRAME_HEADROOM)
    expect(batch.len[0]).toBe(1500)
    expect(ipv4.verifyChecksum(view, l3)).toBe(true)
    // The checksum is left to us: the field holds the pseudo-header's sum.
    expect(batch.flags[0]! & F_CSUM_PARTIAL).toBe(F_CSUM_PARTIAL)
    expect([batch.csumStart[0], batch.csumOffset[0]]).toEqual([20, 6])
    expect(udp.checksum(view, l3 + 20)).toBe(ipv4.pseudoHeader(view, l3, 17, 1480))
    expect(batch.gsoType[0]).toBe(GSO_NONE)
    expect(place.frames.isLarge(batch.frame[0]!)).toBe(false)
    expect(place.packet(0).slice(28)).toEqual(data)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
    expect(tun.receive(batch, 64)).toBe(0)
    expect(place.frames.leaked()).toBe(0)
  })

  test('without free frames nothing is taken; the packet waits in the queue', () => {
    const tun = openPort(0, a, 1)
    const socket = track(native.udpOpen(a.path, '10.9.0.1', 4000, false, false, 0))
    place.sendDatagram(socket, Uint8Array.of(1), ipBytes('198.51.100.7'), 5000)
    place.await(tun.fd)
    const taken: number[] = []
    for (let f = place.frames.small.take(); f !== 0; f = place.frames.small.take()) taken.push(f)
    expect(tun.receive(place.batch, 64)).toBe(0)
    for (const frame of taken) place.frames.release(frame)
    awaitUdp(tun, 5000)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })
})

describe('send', () => {
  test('complete and partial packets of both families reach sockets', () => {
    const tun = openPort(0, a, 1)
    for (const [source, destination] of [
      ['198.51.100.7', '10.9.0.1'],
      ['2001:db8::7', 'fd09::1'],
    ] as const) {
      const socket = track(native.udpOpen(a.path, destination, 6000, false, false, 0))
      for (const partial of [false, true]) {
        const flow = { src: source, dst: destination, sport: 777, dport: 6000, tos: 8 }
        const i = place.put(udpPacket({ ...flow, partial }, Uint8Array.of(1, 2, 3)))
        if (partial) place.batch.flags[i]! |= F_CSUM_PARTIAL
      }
      // A wrong checksum is not ours to find; the socket never gets it.
      const wrong = udpPacket({ src: source, dst: destination, dport: 6000 }, Uint8Array.of(9))
      wrong[wrong.length - 1]! ^= 1
      place.put(wrong)
      expect(place.sendAll(tun)).toEqual([0, 0, 0])
      for (let k = 0; k < 2; k++) {
        const { data, port, tos } = place.datagram(socket)
        expect([[...data], port, tos]).toEqual([[1, 2, 3], 777, 8])
      }
      expect(native.udpReceive(socket, 1, place.scratch.small, 1, 0, 0, 0, 0)).toBe(0)
    }
    expect(place.portCounters(0)).toMatchObject({ TX_PACKETS: 6, TX_DROPS: 0 })
    expect(place.frames.leaked()).toBe(0)
  })

  test('more packets than the queue gathers are sent in between', () => {
    const tun = openPort(0, a, 1)
    const socket = track(native.udpOpen(a.path, '10.9.0.1', 6000, false, false, 1 << 20))
    for (let i = 0; i < 200; i++) {
      place.put(udpPacket({ src: '198.51.100.7', dst: '10.9.0.1', dport: 6000 }, Uint8Array.of(i)))
    }
    place.sendAll(tun)
    for (let i = 0; i < 200; i++) expect(place.datagram(socket).data[0]).toBe(i)
    expect(place.frames.leaked()).toBe(0)
  })

  test('what the kernel refuses is counted, and its frame is free', () => {
    const tun = openPort(0, a, 1)
    const packet = udpPacket({ src: '198.51.100.7', dst: '10.9.0.1' }, Uint8Array.of(1))
    place.put(packet.with(0, 0x05))
    place.put(packet)
    expect(place.sendAll(tun)).toEqual([0, 0])
    expect(place.portCounters(0)).toMatchObject({ TX_PACKETS: 1, TX_BYTES: 29, TX_DROPS: 1 })
    expect(place.drops(DROP_TX_ERROR)).toBe(1)
    expect(place.frames.leaked()).toBe(0)
  })
})

/** Bursts of 32 packets by the port; what became of them, and how many calls could send none. */
function flood(tun: TunPort, packets: number): { reasons: Set<number>; failed: number } {
  const write = vi.spyOn(native, 'tunWrite')
  const reasons = new Set<number>()
  try {
    for (let sent = 0; sent < packets; sent += 32) {
      for (let k = 0; k < 32; k++) {
        place.put(udpPacket({ src: '198.51.100.7', dst: '10.9.0.1' }, Uint8Array.of(1)))
      }
      for (const reason of place.sendAll(tun)) reasons.add(reason)
    }
    return { reasons, failed: write.mock.results.filter(each => each.value === 0).length }
  } finally {
    write.mockRestore()
  }
}

describe('a device that fails', () => {
  test('deleted by the pod: it is asked once, and loses no frame', () => {
    const tun = openPort(0, a, 1)
    expect(tun.receive(place.batch, 64)).toBeGreaterThanOrEqual(0)
    place.releaseAll()
    expect(tun.gone()).toBe(false)
    a.ip('link', 'delete', 'hwt0')
    const { reasons, failed } = flood(tun, 320)
    expect([...reasons]).toEqual([0, DROP_PORT_GONE])
    expect(failed).toBe(1)
    expect(tun.receive(place.batch, 64)).toBe(0)
    expect([tun.gone(), tun.look()]).toEqual([true, true])
    expect(place.portCounters(0)).toMatchObject({ TX_DROPS: 32, DEVICE: DEVICE.GONE })
    expect(place.drops(DROP_PORT_GONE)).toBe(32)
    tun.close()
    expect([place.frames.small.free, place.frames.large.free]).toEqual([512, 32])
  })

  test('deleted while nothing is sent: a read finds it out', () => {
    const tun = openPort(0, a, 1)
    a.ip('link', 'delete', 'hwt0')
    expect(tun.receive(place.batch, 64)).toBe(0)
    expect(tun.gone()).toBe(true)
  })

  test('down: it is asked now and then, and the rest dropped by its reason; up again: it works', () => {
    const tun = openPort(0, a, 1)
    a.ip('link', 'set', 'hwt0', 'down')
    const started = performance.now()
    const { reasons, failed } = flood(tun, 320)
    expect([...reasons]).toEqual([0, DROP_PORT_DOWN])
    expect(failed).toBeLessThanOrEqual(2 + (performance.now() - started) / PORT_RETRY_MS)
    expect(place.portCounters(0).DEVICE).toBe(DEVICE.DOWN)
    expect(place.frames.leaked()).toBe(0)
    a.ip('link', 'set', 'hwt0', 'up')
    const socket = track(native.udpOpen(a.path, '10.9.0.1', 6000, false, false, 0))
    for (let sent = false; !sent; ) {
      place.put(udpPacket({ src: '198.51.100.7', dst: '10.9.0.1', dport: 6000 }, Uint8Array.of(7)))
      sent = place.sendAll(tun)[0] === 0
    }
    expect([...place.datagram(socket).data]).toEqual([7])
    expect(place.portCounters(0).DEVICE).toBe(DEVICE.UP)
  })
})

describe('frames to read into', () => {
  test('are taken once, and a read replaces what it has used', () => {
    const ports = [openPort(0, a, 1), openPort(1, addNamespace(), 2)]
    const taken = {
      small: vi.spyOn(place.frames.small, 'takeFor'),
      large: vi.spyOn(place.frames.large, 'takeFor'),
    }
    const counts = () => [taken.small.mock.calls.length, taken.large.mock.calls.length]
    for (const port of ports) port.receive(place.batch, 64)
    place.releaseAll()
    expect(counts()).toEqual([RECEIVE_BURST, LARGE_BURST])
    expect(place.frames.leaked()).toBe(0)
    const socket = track(native.udpOpen(a.path, '10.9.0.1', 4000, false, false, 0))
    for (let k = 0; k < 3; k++) {
      place.sendDatagram(socket, Uint8Array.of(k), ipBytes('198.51.100.7'), 5000)
      awaitUdp(ports[0]!, 5000)
      expect(place.batch.l3[0]).toBe(place.batch.frame[0]! + FRAME_HEADROOM)
      place.releaseAll()
    }
    // What else the kernel sent (a report of its own) took one each, too.
    expect(counts()[0]).toBeLessThan(RECEIVE_BURST + 16)
    expect(counts()[1]).toBe(LARGE_BURST)
    ports[0]!.close()
    expect(place.frames.small.free).toBe(512 - RECEIVE_BURST)
    ports[1]!.close()
    expect([place.frames.small.free, place.frames.large.free]).toEqual([512, 32])
    expect(place.frames.doubleReleases).toBe(0)
  })
})

describe('superframes', () => {
  test.each([
    [4, '10.9.0.2', GSO_TCPV4],
    [6, 'fd09::2', GSO_TCPV6],
  ] as const)(
    'a TCP stream over IPv%i goes from queue to queue in them, whole',
    async (_, address, gso) => {
      const b = addNamespace()
      const ports = [openPort(0, a, 1), openPort(1, b, 2)] as const
      const seen = { packets: 0, superframes: 0, largest: 0, wrong: 0 }
      const epoll = track(native.epollCreate())
      for (const port of ports) native.epollAdd(epoll, port.fd, port.index, 1)
      let running = true
      const pump = async () => {
        while (running) {
          native.epollWait(epoll, place.scratch.events, 2, 5)
          for (const [i, port] of ports.entries()) {
            place.batch.reset(port.index)
            const n = port.receive(place.batch, 64)
            for (let k = 0; k < n; k++) {
              place.parse(k)
              const { gsoType, gsoSize, len } = place.batch
              seen.packets++
              seen.largest = Math.max(seen.largest, len[k]!)
              if (gsoType[k] === GSO_NONE) continue
              seen.superframes++
              if (gsoType[k] !== gso || gsoSize[k]! > 1460 || len[k]! <= gsoSize[k]!) seen.wrong++
            }
            place.sendAll(ports[1 - i]!)
          }
          await setImmediate()
        }
      }
      const pumping = pump()
      try {
        const result = await transfer('tcp', a.path, b.path, address, { bytes: 8_000_000 })
        expect(result).toMatchObject({ intact: true, receivedBytes: 8_000_000 })
      } finally {
        running = false
        await pumping
      }
      expect(seen.wrong).toBe(0)
      expect(seen.superframes).toBeGreaterThan(50)
      expect(seen.largest).toBeGreaterThan(20_000)
      expect(seen.packets).toBeLessThan(8_000_000 / 1460)
      expect(place.portCounters(0).TX_DROPS + place.portCounters(1).TX_DROPS).toBe(0)
      expect(place.frames.leaked()).toBe(0)
      for (const port of ports) port.close()
      expect([place.frames.small.free, place.frames.large.free]).toEqual([512, 32])
    },
  )
})
