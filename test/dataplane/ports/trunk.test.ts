/**
 * A TAP in a namespace; the kernel's end sends frames with tags that a tc program would have written, and
 * hears what is sent. The test plays the worker.
 *
 *   netns a: hwt0 ──── trunk, port 9 │ test │ pods at ports 3 and 4, vxlan at port 5
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DROP_L2_FOREIGN, DROP_PORT_DOWN, DROP_PORT_GONE, DROPS } from '../../../dataplane/drops.ts'
import { NO_HOP } from '../../../dataplane/manage/next-hop-slots.ts'
import { COUNTER, PORT_COUNTER, portCounters } from '../../../dataplane/memory/arena.ts'
import { Batch } from '../../../dataplane/packet/batch.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { TapPort } from '../../../dataplane/ports/tap.ts'
import { TapTrunk } from '../../../dataplane/ports/trunk.ts'
import { HOP, writeNextHop } from '../../../dataplane/tables/next-hops.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { native } from '../../../native/native.ts'
import { udp as udpPacket } from '../../harness/packets.ts'
import { Ear, sendRaw } from '../../harness/raw.ts'
import { until } from '../../harness/until.ts'
import { addNamespace, type Namespace, removeNamespaces, track } from '../../native/namespace.ts'
import { NOTHING, Place } from './place.ts'

const TRUNK = 9
const VXLAN = 5
/** Indices of the node's ends of the pods' links; what a stamp has of them is 16 bits. */
const IFINDEX = { 3: 0x1_0033, 4: 0x44 } as const
const HOP_ID = 0x0102
const HOP_STAMP = 0x7777
const NETWORK = 6

let a: Namespace
let place: Place
let trunk: TapTrunk
let fd: number
beforeEach(() => {
  a = addNamespace()
  place = new Place()
  fd = track(native.tunOpen(a.path, 'hwt0', 1, false, true)[0]!)
  native.tunSetOffload(fd, 0x67)
  a.ip('link', 'set', 'hwt0', 'up')
  const tables = new TableWriter(place.arena)
  tables.change(() => {
    const hop = { ...NO_HOP, kind: HOP.VXLAN, network: NETWORK, port: VXLAN }
    writeNextHop(place.arena, HOP_ID, hop, 0, HOP_STAMP)
    writeNextHop(place.arena, HOP_ID + 1, { ...hop, kind: HOP.PORT }, 0, HOP_STAMP)
  })
  const context = place.context(TRUNK, { ...NOTHING, role: PORT_ROLE.TRUNK }, fd)
  context.tables.update()
  trunk = new TapTrunk(context)
  for (const index of [3, 4] as const) {
    const record = { ...NOTHING, kind: PORT_KIND.TAP, role: PORT_ROLE.POD }
    new TapPort(place.context(index, { ...record, ifindex: IFINDEX[index] }, -1))
  }
  const vxlan = { ...NOTHING, kind: PORT_KIND.VXLAN, role: PORT_ROLE.UNDERLAY }
  new TapPort(place.context(VXLAN, vxlan, -1))
})
afterEach(removeNamespaces)

const datagram = (data: Uint8Array) => udpPacket({ src: '10.9.0.1', dst: '10.9.0.2' }, data)
const payload = (mark: number) => new Uint8Array(30).fill(mark)

/** A frame with that tag, whose packet is told by `mark`. */
function frame(tag: string, mark: number): Uint8Array {
  const packet = datagram(payload(mark))
  return Uint8Array.from(Buffer.concat([Buffer.from(`${tag}0200000000010800`, 'hex'), packet]))
}

/** All that comes, as the worker sees it: by port, the marks of its packets in order. */
function take(count: number, look: (batch: Batch) => void = () => {}): [number, number[]][] {
  const batch = new Batch()
  const found: [number, number[]][] = []
  for (let left = count; left > 0; ) {
    place.await(fd)
    left -= trunk.gather(64)
    for (let port = trunk.next(batch); port !== undefined; port = trunk.next(batch)) {
      const marks = Array.from({ length: batch.n }, (_, i) => {
        return place.arena.view.getUint8(batch.l3[i]! + batch.len[i]! - 1)
      })
      found.push([port.index, marks])
      look(batch)
      for (let i = 0; i < batch.n; i++) place.frames.release(batch.frame[i]!)
    }
  }
  expect(place.frames.leaked()).toBe(0)
  return found
}

const drops = (reason: number) => place.counters[COUNTER.DROPS + reason]!

describe('receive', () => {
  test('a burst comes port by port, each in its order', async () => {
    const tags = { 3: '020000030033', 4: '020000040044', 5: '060001027777' }
    const order = [3, 4, 3, 5, 4, 3, 5] as const
    await sendRaw(a.path, 'hwt0', ...order.map((port, k) => frame(tags[port], k + 1)))
    const seen: number[][] = []
    const found = take(order.length, batch => {
      seen.push([batch.inPort, batch.source[0]!, batch.network[0]!, batch.drop[0]!])
    })
    expect(found).toEqual([
      [3, [1, 3, 6]],
      [4, [2, 5]],
      [5, [4, 7]],
    ])
    expect(seen[2]).toEqual([5, HOP_ID, NETWORK, 0])
    expect(drops(DROP_PORT_GONE)).toBe(0)
  })

  test('what names nothing, or what is something else by now, is dropped and counted', async () => {
    const tags = [
      ...['020000030034', '0200000300b3', '020000070033', '02000fff0033', '020000050000'],
      ...['060001027776', '060001037777', '060080027777', '0600ffff7777', 'ffffffffffff'],
      ...['000000030033', '333300030033'],
    ]
    const good = '020000040044'
    await sendRaw(a.path, 'hwt0', ...tags.map((tag, k) => frame(tag, k)), frame(good, 99))
    expect(take(tags.length + 1)).toEqual([[4, [99]]])
    expect(drops(DROP_PORT_GONE)).toBe(tags.length)
    expect(place.counters[portCounters(TRUNK) + PORT_COUNTER.RX_DROPS]).toBe(tags.length)
  })

  test('what a pod has addressed to another MAC than its gateway’s says so', async () => {
    await sendRaw(a.path, 'hwt0', frame('020300030033', 1))
    const reasons: number[] = []
    take(1, batch => reasons.push(batch.drop[0]!))
    expect(reasons).toEqual([DROP_L2_FOREIGN])
  })

  test('a port that has gone takes nothing any more', async () => {
    place.members.ports[3]!.close()
    await sendRaw(a.path, 'hwt0', frame('020000030033', 1), frame('020000040044', 2))
    expect(take(2)).toEqual([[4, [2]]])
    expect(drops(DROP_PORT_GONE)).toBe(1)
  })

  test('a frame that fits no small frame is read into a large one', async () => {
    a.ip('link', 'set', 'hwt0', 'mtu', '9000')
    const packet = datagram(new Uint8Array(8000).fill(7))
    const head = Buffer.from('0200000300330200000000010800', 'hex')
    await sendRaw(a.path, 'hwt0', Uint8Array.from(Buffer.concat([head, packet])))
    take(1, batch => {
      expect(batch.len[0]).toBe(8028)
      expect(place.frames.isLarge(batch.frame[0]!)).toBe(true)
    })
  })
})

describe('send', () => {
  test('the tag says which pod, or which next hop', async () => {
    const ear = await Ear.at(a.path, 'hwt0')
    const packet = datagram(payload(1))
    const { batch, members } = place
    batch.reset(0)
    for (const port of [3, VXLAN]) {
      const i = place.put(packet)
      batch.nextHop[i] = HOP_ID
      expect(members.ports[port]!.send(batch, i)).toBe(0)
    }
    trunk.flush()
    for (const tag of ['020000030000', '060001020000']) {
      await until(`a frame with the tag ${tag}`, () =>
        ear.heard.some(each => {
          const hex = Buffer.from(each).toString('hex')
          return hex.startsWith(tag) && hex.endsWith(`0800${Buffer.from(packet).toString('hex')}`)
        }),
      )
    }
    await ear.close()
    for (const port of [3, VXLAN]) {
      expect(place.counters[portCounters(port) + PORT_COUNTER.TX_PACKETS]).toBe(1)
      expect(place.counters[portCounters(port) + PORT_COUNTER.TX_BYTES]).toBe(packet.length + 14)
    }
    expect(place.frames.leaked()).toBe(0)
  })

  test('a device that is down or gone: nothing is leaked, all is counted at its port', () => {
    const { members } = place
    const send = (): number => {
      const reasons = [place.put(datagram(payload(0)))].map(i => {
        const reason = members.ports[3]!.send(place.batch, i)
        if (reason !== 0) place.frames.release(place.batch.frame[i]!)
        return reason
      })
      trunk.flush()
      place.batch.reset(0)
      return reasons[0]!
    }
    a.ip('link', 'set', 'hwt0', 'down')
    expect(send()).toBe(0)
    expect(drops(DROP_PORT_DOWN)).toBe(1)
    expect(place.counters[portCounters(3) + PORT_COUNTER.TX_DROPS]).toBe(1)
    // Not asked again at once.
    expect(DROPS[send()]![0]).toBe('port-down')
    a.ip('link', 'delete', 'hwt0')
    trunk.gather(64)
    expect(trunk.gone()).toBe(true)
    expect(DROPS[send()]![0]).toBe('port-gone')
    trunk.close()
    expect(members.ports[4]!.send(place.batch, place.put(datagram(payload(0))))).toBe(
      DROP_PORT_GONE,
    )
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })
})
