/**
 * Shares of ports that always have packets: by the arithmetic, and on a worker with a TUN and an AF_XDP
 * port, which runs on this thread.
 *
 *   netns a: va 10.9.0.1 ── veth ── vb, AF_XDP :netns b      port 0 ┐
 *                                                                   ├ worker
 *   netns c: hwt0 10.9.1.1 ── TUN                            port 1 ┘
 */
import { MessageChannel } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ipBytes } from '../../../dataplane/addresses.ts'
import { RING_SLOT_BYTES, RingSlots } from '../../../dataplane/afxdp/ring-slots.ts'
import { Umem, XdpSocket } from '../../../dataplane/afxdp/umem.ts'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { podProgram } from '../../../dataplane/bpf/programs.ts'
import { configurePodTun, openTun } from '../../../dataplane/devices/tun.ts'
import { fibByName } from '../../../dataplane/fib/index.ts'
import { POD_FILL_FRAMES, ROUND_BYTES, XDP_RING_SIZE } from '../../../dataplane/limits.ts'
import { writeXskOffsets } from '../../../dataplane/manage/node-facts.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { tableIn } from '../../../dataplane/manage/routes.ts'
import { Arena, PORT_COUNTER, planArena, portCounters } from '../../../dataplane/memory/arena.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { META, META_BYTES } from '../../../dataplane/ports/udp-meta.ts'
import { NO_PORT } from '../../../dataplane/tables/ports.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { FairShares } from '../../../dataplane/worker/fair-shares.ts'
import { Worker } from '../../../dataplane/worker/worker.ts'
import { native } from '../../../native/native.ts'
import { must } from '../../harness/processes.ts'
import { addNamespace, removeNamespaces, track } from '../../native/namespace.ts'
import { Link, socketMap } from '../afxdp/link.ts'

describe('the arithmetic', () => {
  /** Rounds of ports that always have a turn's bytes, from round `from` on; what each has had. */
  function serve(turns: readonly number[], rounds: number, from: readonly number[] = []): number[] {
    const shares = new FairShares()
    const had = turns.map(() => 0)
    for (let round = 0; round < rounds; round++) {
      const since = shares.round()
      const pass = () => {
        let work = 0
        for (const [port, bytes] of turns.entries()) {
          if (round < (from[port] ?? 0) || !shares.may(port)) continue
          shares.charge(port, bytes, since)
          had[port]! += bytes
          work += bytes
        }
        return work
      }
      let work = pass()
      while (work === 0 && shares.jump()) work = pass()
      // Never idle while somebody has packets.
      expect(work).toBeGreaterThan(0)
    }
    return had
  }

  test.each([
    [[256 * 64, 64 * 64]],
    [[256 * 64, 256 * 1500]],
    [[256 * 64, 256 * 1500, 16 * 65_000, 64 * 1400]],
    [[1 << 20, 1 << 20, 100_000]],
  ])('turns of %j bytes: nobody is ahead by more than a turn', turns => {
    const had = serve(turns, 5000)
    // A turn smaller than a round's part is one that a port takes once a round.
    const full = had.filter((_, port) => turns[port]! >= ROUND_BYTES)
    const most = Math.max(...turns) + ROUND_BYTES
    expect(Math.max(...full) - Math.min(...full)).toBeLessThanOrEqual(most)
  })

  test('one port alone has a turn in every round', () => {
    expect(serve([1 << 20], 100)).toEqual([100 << 20])
  })

  test('who was silent has nothing saved', () => {
    const rounds = 2000
    const [early, late] = serve([100_000, 100_000], rounds, [0, rounds / 2])
    // From then on both have as much a round as the first had alone.
    expect(Math.abs(early! - rounds * 100_000)).toBeLessThanOrEqual(100_000)
    expect(Math.abs(late! - early! / 2)).toBeLessThanOrEqual(100_000)
  })
})

describe('a worker', () => {
  const limits = { routes: 16 }
  const fibs = [fibByName('linear4', 4), fibByName('linear6', 6)] as const
  let link: Link
  let arena: Arena
  let worker: Worker
  let umem: Umem
  let socket: XdpSocket
  let senders: { fd: number; to: Uint8Array }[]
  const open: number[] = []
  let orders: MessageChannel

  beforeEach(async () => {
    link = new Link()
    await must('ip', ['address', 'add', '10.9.0.1/24', 'dev', 'va'], { netns: link.a })
    const neighbour = ['10.9.0.2', 'lladdr', '02:09:00:00:00:02', 'dev', 'va']
    await must('ip', ['neighbour', 'add', ...neighbour], { netns: link.a })
    const layout = planArena({
      ...{ workers: 1, smallFrames: 4096, largeFrames: 64 },
      ...{ xdpSockets: 2, xdpSocketBytes: RING_SLOT_BYTES },
      ...{ fib4Bytes: fibs[0].bytes(limits), fib6Bytes: fibs[1].bytes(limits) },
    })
    arena = Arena.create(layout)
    native.bind(arena.bytes)
    const [reader4, reader6] = [
      fibs[0].writer(arena.slice(layout.fib4), limits) &&
        fibs[0].reader(arena.slice(layout.fib4), limits),
      fibs[1].writer(arena.slice(layout.fib6), limits) &&
        fibs[1].reader(arena.slice(layout.fib6), limits),
    ]
    const rings = new RingSlots(arena)
    umem = await Umem.create(arena, rings.root, link.b)
    socket = await XdpSocket.open(umem, link.b, link.indexB, 0, rings.take(), XDP_RING_SIZE)
    const map = socketMap(socket.fd)
    const program = native.bpfLoadXdp(podProgram(map), 'hwt_pod')
    const wakeFd = native.eventfd()
    open.push(map, program, attachXdp(link.b, program, link.indexB).linkFd, wakeFd)
    const c = addNamespace()
    const nl = new Netlink(c.path)
    const tun = openTun(nl, 'hwt0', 1)
    for (const fd of tun.fds) track(fd)
    configurePodTun(nl, tun, 1500, '10.9.1.1', undefined)
    nl.close()
    c.ip('link', 'set', 'hwt0', 'txqueuelen', '4000')
    const tables = new TableWriter(arena)
    const slots = new PortSlots(arena, tables)
    const pod = { ...NO_PORT, role: PORT_ROLE.POD, mtu: 1500 }
    tables.change(() => {
      writeXskOffsets(arena, socket.offsets)
      slots.activate(slots.reserve(), {
        ...{ ...pod, kind: PORT_KIND.XDP, fillFrames: POD_FILL_FRAMES },
        ...{ fds: [socket.fd], rings: [socket.ringsOffset] },
      })
      slots.activate(slots.reserve(), { ...pod, kind: PORT_KIND.TUN, fds: tun.fds })
    })
    orders = new MessageChannel()
    worker = new Worker(
      {
        ...{ arena: arena.handle(), worker: 0, wakeFd, orders: orders.port2 },
        fib4: tableIn(arena, { family: 4, name: 'linear4' }, layout.fib4.bytes, limits),
        fib6: tableIn(arena, { family: 6, name: 'linear6' }, layout.fib6.bytes, limits),
      },
      reader4,
      reader6,
    )
    senders = [
      {
        fd: track(native.udpOpen(link.a, '10.9.0.1', 4000, false, false, 4 << 20)),
        to: ipBytes('10.9.0.2'),
      },
      {
        fd: track(native.udpOpen(c.path, '10.9.1.1', 4000, false, false, 4 << 20)),
        to: ipBytes('203.0.113.1'),
      },
    ]
  })
  afterEach(() => {
    link?.close()
    for (const fd of open.splice(0)) native.close(fd)
    socket?.close()
    umem?.close()
    orders?.port1.close()
    removeNamespaces()
  })

  /** Sends `count` datagrams of 1,400 bytes, `segments` in a message, by a pod. */
  function feed(pod: number, count: number, segments: number): void {
    const { fd, to } = senders[pod]!
    const { scratch, large } = arena.layout
    // The worker's scratch memory is nobody's between two rounds; its descriptors take 64 packets.
    const [descriptors, metas] = [scratch.offset + 8192, scratch.offset + 16_384]
    for (let done = 0; done < count; done += 64) {
      for (let k = 0; k < 64; k++) {
        arena.view.setUint32(descriptors + k * 8, large.offset + large.bytes - 2048, true)
        arena.view.setUint32(descriptors + k * 8 + 4, 1400, true)
        const meta = metas + k * META_BYTES
        arena.bytes.fill(0, meta, meta + META_BYTES)
        arena.view.setUint8(meta + META.FAMILY, 4)
        arena.view.setUint16(meta + META.PORT, 5000, true)
        arena.bytes.set(to, meta + META.ADDRESS)
      }
      native.udpSend(fd, descriptors, metas, 64, segments)
    }
  }

  const received = () =>
    [0, 1].map(port => arena.counters(0)[portCounters(port) + PORT_COUNTER.RX_BYTES]!)

  test.each([
    ['single packets', 1],
    ['superframes', 32],
  ])('an AF_XDP port and a TUN port with %s have the same bytes', (_, segments) => {
    worker.round()
    for (let round = 0; round < 100; round++) {
      feed(0, 256, 1)
      feed(1, round === 0 ? 2048 : 512, segments)
      worker.round()
    }
    const [xdp, tun] = received() as [number, number]
    expect(xdp).toBeGreaterThan(2e6)
    expect(tun / xdp).toBeGreaterThan(0.8)
    expect(tun / xdp).toBeLessThan(1.25)
  })
})
