import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DROP_NO_FRAMES } from '../../../dataplane/drops.ts'
import { FRAME_HEADROOM, LARGE_FRAME_BYTES, MAX_SMALL_PACKET } from '../../../dataplane/limits.ts'
import { F_CSUM_PARTIAL, F_L2_READY, GSO_TCPV4 } from '../../../dataplane/packet/batch.ts'
import { MemPort } from '../../../dataplane/ports/mem.ts'
import { PcapPort } from '../../../dataplane/ports/pcap.ts'
import { PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { prettyFrame, prettyPacket } from '../../../dataplane/wire/index.ts'
import { bytesOf, ethernet, udp } from '../../harness/packets.ts'
import { readCapture } from '../wire/capture.ts'
import { exactly } from '../wire/inside.ts'
import { Place } from './place.ts'

const [OWN, PEER] = ['02:cc:00:00:00:01', '02:cc:00:00:00:02']
const PACKET = udp({ src: '10.0.0.1', dst: '10.0.0.2' }, new Uint8Array(40))
const PACKET6 = udp({ src: 'fd00::1', dst: 'fd00::2' }, new Uint8Array(40))

let place: Place
beforeEach(() => {
  place = new Place()
})

function port(change: Partial<ConstructorParameters<typeof MemPort>[0]> = {}): MemPort {
  const options = { index: 3, role: PORT_ROLE.POD, ...change }
  return new MemPort(options, place)
}

describe('a port in memory', () => {
  test('gives what was put in, in order, at most as many as asked', () => {
    const tun = port()
    tun.input.push(
      { bytes: PACKET },
      { bytes: PACKET6, partial: true, csumStart: 40, csumOffset: 6 },
    )
    place.batch.reset(3)
    expect(tun.receive(place.batch, 1)).toBe(1)
    expect(tun.receive(place.batch, 9)).toBe(1)
    expect(tun.receive(place.batch, 9)).toBe(0)
    expect([place.packet(0), place.packet(1)]).toEqual([PACKET, PACKET6])
    expect(place.batch.l3[0]).toBe(place.batch.frame[0]! + FRAME_HEADROOM)
    expect(place.batch.flags[1]).toBe(F_CSUM_PARTIAL)
    expect([place.batch.csumStart[1], place.batch.csumOffset[1]]).toEqual([40, 6])
    expect(place.frames.leaked()).toBe(2)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })

  test('a superframe lies in a large frame, an Ethernet header in front of l3', () => {
    const veth = port({ ethernet: true })
    const big = new Uint8Array(MAX_SMALL_PACKET + 15).fill(7)
    veth.input.push(
      { bytes: big, gsoType: GSO_TCPV4, gsoSize: 1000 },
      { bytes: big.subarray(0, MAX_SMALL_PACKET + 14) },
      { bytes: new Uint8Array(5) },
    )
    place.batch.reset(3)
    expect(veth.receive(place.batch, 8)).toBe(3)
    const { frame, l3, len } = place.batch
    expect([0, 1, 2].map(i => place.frames.isLarge(frame[i]!))).toEqual([true, false, false])
    expect(l3[0]).toBe(frame[0]! + FRAME_HEADROOM + 14)
    expect([...len.subarray(0, 3)]).toEqual([MAX_SMALL_PACKET + 1, MAX_SMALL_PACKET, 2 ** 32 - 9])
    expect(() => {
      veth.input.push({ bytes: new Uint8Array(LARGE_FRAME_BYTES) })
      veth.receive(place.batch, 1)
    }).toThrow('fits no frame')
    place.releaseAll()
  })

  test('what is sent is kept, with its Ethernet header, and its frame is free', () => {
    const veth = port({ ethernet: true, ownMac: bytesOf(OWN), peerMac: bytesOf(PEER) })
    place.put(PACKET)
    place.put(PACKET6)
    place.batch.flags[place.put(ethernet(OWN, PEER, 0x0806, PACKET), 14)] = F_L2_READY
    expect(place.sendAll(veth)).toEqual([0, 0, 0])
    expect(veth.output.map(each => each.bytes)).toEqual([
      ethernet(PEER, OWN, 0x0800, PACKET),
      ethernet(PEER, OWN, 0x86dd, PACKET6),
      ethernet(OWN, PEER, 0x0806, PACKET),
    ])
    expect(place.portCounters(3)).toMatchObject({ TX_PACKETS: 3, TX_BYTES: 82 + 102 + 82 })
    expect(place.frames.leaked()).toBe(0)
  })

  test('without superframes a large frame is refused and stays with the caller', () => {
    place.put(new Uint8Array(MAX_SMALL_PACKET + 1))
    const refuses = port()
    expect(refuses.send(place.batch, 0)).toBe(DROP_NO_FRAMES)
    expect(place.frames.leaked()).toBe(1)
    expect(place.sendAll(port({ superframes: true }))).toEqual([0])
    expect(place.frames.leaked()).toBe(0)
  })
})

describe('a port that records', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hwt-pcap-'))
  })
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  test('what passes is in two capture files, readable for the owner alone', () => {
    const inner = port({ ethernet: true, ownMac: bytesOf(OWN), peerMac: bytesOf(PEER) })
    const prefix = join(folder, 'veth')
    const recorder = new PcapPort(inner, place.arena, prefix)
    expect(recorder).toMatchObject({ index: 3, role: PORT_ROLE.POD, ethernet: true, polled: true })
    const frame = ethernet(OWN, PEER, 0x0800, PACKET)
    inner.input.push({ bytes: frame }, { bytes: frame.subarray(0, 5) })
    place.batch.reset(3)
    expect(recorder.receive(place.batch, 8)).toBe(2)
    expect(recorder.send(place.batch, 0)).toBe(0)
    place.frames.release(place.batch.frame[1]!)
    place.batch.reset(3)
    place.put(new Uint8Array(MAX_SMALL_PACKET + 1))
    // What is refused is not recorded.
    expect(recorder.send(place.batch, 0)).toBe(DROP_NO_FRAMES)
    recorder.flush()
    recorder.service()
    expect(recorder.pending()).toBe(false)
    recorder.close()
    const read = (name: string) => readCapture(readFileSync(`${prefix}.${name}.pcap`))
    expect(read('rx').map(each => each.linkType)).toEqual([1, 1])
    expect(read('rx').map(each => Uint8Array.from(each.bytes))).toEqual([frame, frame.slice(0, 5)])
    expect(read('tx').map(each => Uint8Array.from(each.bytes))).toEqual([PACKET])
    expect(read('tx')[0]!.linkType).toBe(101)
    expect(prettyFrame(exactly(read('rx')[0]!.bytes), 0, frame.length)).toContain(
      prettyPacket(exactly(PACKET), 0, PACKET.length),
    )
    expect(statSync(`${prefix}.rx.pcap`).mode & 0o777).toBe(0o600)
    place.releaseAll()
    expect(place.frames.leaked()).toBe(0)
  })
})
