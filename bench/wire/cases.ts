/**
 * One batch of frames on its way through the stages, stopped in front of each: what a stage works
 * on, how that is made again after it, and the proof that what comes out is right.
 */

import type { Engine } from '../../dataplane/engine/engine.ts'
import { run as runPath, type Stage } from '../../dataplane/engine/path.ts'
import { BATCH_SIZE, FRAME_HEADROOM } from '../../dataplane/limits.ts'
import { Batch } from '../../dataplane/packet/batch.ts'
import { pathOfRole } from '../../dataplane/pipeline.ts'
import { PORT_ROLE } from '../../dataplane/ports/port.ts'
import { antiSpoof } from '../../dataplane/stages/anti-spoof.ts'
import { decap } from '../../dataplane/stages/decap.ts'
import { encap } from '../../dataplane/stages/encap.ts'
import { parse } from '../../dataplane/stages/parse.ts'
import { route } from '../../dataplane/stages/route.ts'
import { macWords } from '../../dataplane/tables/ports.ts'
import { ethernet, ipv4, ipv6, OK, udp, vxlan } from '../../dataplane/wire/index.ts'
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from '../../dataplane/wire/numbers.ts'
import { native } from '../../native/native.ts'
import { type Protocol, writePacket } from './packets.ts'
import { makeEngine, POD, UNDERLAY, UNDERLAY_MAC, VNI, VXLAN_PORT } from './world.ts'

/** The stage without its native twin. */
function untwinned(stage: Stage): Stage {
  return (e, b) => {
    e.twins = false
    stage(e, b)
    e.twins = true
  }
}

/** A stage, or several, on a batch that `restore` makes what it was. */
export interface Case {
  stage: string
  engine: Engine
  batch: Batch
  restore(): void
  run(): void
}

const IPV6_OUTER = 70
const IPV4_OUTER = 50

/** The cases of one kind of packet: inner family and protocol, in a tunnel over `underlay`. Throws when a packet does not come out as it should. */
export function cases(underlay: 4 | 6, family: 4 | 6, protocol: Protocol): Case[] {
  const engine = makeEngine(underlay)
  const batch = new Batch()
  const found: Case[] = []
  const put = (stage: string, restore: () => void, work: Stage) => {
    found.push({ stage, engine, batch, restore, run: () => work(engine, batch) })
  }
  const path = (role: number): Stage => {
    const whole = pathOfRole(role)
    return (e, b) => runPath(e, whole, b)
  }
  native.bind(engine.bytes)

  const out = new Packets(engine, family, protocol, 'out')
  const receive = () => out.receive(batch, POD, 0)
  receive()
  put('parse', receive, parse)
  put('parse in TypeScript', receive, untwinned(parse))
  parse(engine, batch)
  const parsed = saved(batch)
  put('antiSpoof', parsed, antiSpoof)
  const unrouted = () => {
    parsed()
    out.rewind()
  }
  put('route', unrouted, route)
  route(engine, batch)
  put(`encap in IPv${underlay}`, saved(batch), encap)
  if (underlay === 4) put('encap in IPv4 in TypeScript', saved(batch), untwinned(encap))
  encap(engine, batch)
  checkOuter(engine, batch, underlay, family)
  const tunnel = batch.nextHop[0]!

  const back = new Packets(engine, family, protocol, 'in')
  back.receive(batch, POD, 0)
  parse(engine, batch)
  batch.nextHop.fill(tunnel)
  encap(engine, batch)
  writeEthernet(engine, batch, underlay)
  const overhead = underlay === 4 ? IPV4_OUTER : IPV6_OUTER
  const receiveOuter = () => back.receive(batch, UNDERLAY, overhead)
  receiveOuter()
  parse(engine, batch)
  const outer = saved(batch)
  const unopened = () => {
    outer()
    back.rewind()
  }
  put(`decap in IPv${underlay}`, unopened, decap)
  decap(engine, batch)
  back.check(batch)

  const whole = (of: Packets, from: () => void) => () => {
    from()
    of.rewind()
  }
  put(`pod to IPv${underlay}`, whole(out, receive), path(PORT_ROLE.POD))
  put(`IPv${underlay} to pod`, whole(back, receiveOuter), path(PORT_ROLE.UNDERLAY))
  for (const each of found) {
    each.restore()
    each.run()
    const drop = batch.drop.find(reason => reason !== 0)
    if (drop !== undefined)
      throw new Error(`${each.stage}: a packet was dropped for reason ${drop}`)
  }
  return found
}

/** A batch of packets in frames of their own. */
class Packets {
  private readonly engine: Engine
  private readonly frames = new Uint32Array(BATCH_SIZE)
  private readonly lengths = new Uint32Array(BATCH_SIZE)
  private readonly originals: Uint8Array[] = []
  /** The word that holds TTL and header checksum, or the hop limit: where, and as it was. */
  private readonly ttlAt = new Uint32Array(BATCH_SIZE)
  private readonly ttls = new Uint32Array(BATCH_SIZE)

  constructor(engine: Engine, family: 4 | 6, protocol: Protocol, way: 'in' | 'out') {
    this.engine = engine
    const { bytes, frames, view } = engine
    for (let i = 0; i < BATCH_SIZE; i++) {
      const frame = frames.small.take()
      const at = frame + FRAME_HEADROOM
      const length = writePacket(view, at, family, protocol, way, i)
      this.frames[i] = frame
      this.lengths[i] = length
      this.originals.push(bytes.slice(at, at + length))
      this.ttlAt[i] = at + (family === 4 ? 8 : 4)
      this.ttls[i] = view.getUint32(this.ttlAt[i]!)
    }
  }

  /** As a port would: `overhead` bytes in front of the inner packet belong to what is received. */
  receive(batch: Batch, port: number, overhead: number): void {
    batch.reset(port)
    for (let i = 0; i < BATCH_SIZE; i++) {
      const l3 = this.frames[i]! + FRAME_HEADROOM - overhead
      batch.push(this.frames[i]!, l3, this.lengths[i]! + overhead)
    }
  }

  /** Undoes what `route` does to the packets. */
  rewind(): void {
    const { view } = this.engine
    for (let i = 0; i < BATCH_SIZE; i++) view.setUint32(this.ttlAt[i]!, this.ttls[i]!)
  }

  /** Throws unless the batch has the packets that were made. */
  check(batch: Batch): void {
    for (let i = 0; i < BATCH_SIZE; i++) {
      const l3 = batch.l3[i]!
      const packet = this.engine.bytes.subarray(l3, l3 + batch.len[i]!)
      if (batch.drop[i] !== 0 || Buffer.compare(packet, this.originals[i]!) !== 0) {
        throw new Error(`decap: packet ${i} is not what was sent (drop ${batch.drop[i]})`)
      }
    }
  }
}

/** A function that makes the columns which stages change what they are now. */
function saved(batch: Batch): () => void {
  const { n, n4, n6, l3, len, l4, flags, proto, nextHop, outPort, drop, error } = batch
  const columns = [l3, len, l4, flags, proto, nextHop, outPort, drop, error]
  const copies = columns.map(column => column.slice())
  const { inPort, src4, dst4, dst6 } = batch
  const addresses = [src4, dst4, dst6]
  const addressCopies = addresses.map(column => column.slice())
  return () => {
    batch.n = n
    batch.n4 = n4
    batch.n6 = n6
    batch.inPort = inPort
    for (let c = 0; c < columns.length; c++) columns[c]!.set(copies[c]!)
    for (let c = 0; c < addresses.length; c++) addresses[c]!.set(addressCopies[c]!)
  }
}

/** Throws unless every packet is VXLAN with our numbers, by the reading of dataplane/wire. */
function checkOuter({ view }: Engine, batch: Batch, underlay: 4 | 6, family: 4 | 6): void {
  for (let i = 0; i < BATCH_SIZE; i++) {
    const l3 = batch.l3[i]!
    const module = underlay === 4 ? ipv4 : ipv6
    const header = underlay === 4 ? 20 : 40
    const l4 = l3 + header
    const right =
      batch.drop[i] === 0 &&
      module.check(view, l3, batch.len[i]!) === OK &&
      udp.destinationPort(view, l4) === VXLAN_PORT &&
      udp.verifyChecksum(view, l4, module.pseudoHeader(view, l3, 17, udp.udpLength(view, l4))) &&
      vxlan.vni(view, l4 + 8) === VNI &&
      view.getUint16(l4 + 28) === (family === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6)
    if (!right) throw new Error(`encap in IPv${underlay}: packet ${i} is wrong`)
  }
}

/** Puts the Ethernet header of a frame to this node in front of each outer packet. */
function writeEthernet({ view }: Engine, batch: Batch, underlay: 4 | 6): void {
  const own = macWords(UNDERLAY_MAC)
  for (let i = 0; i < BATCH_SIZE; i++) {
    ethernet.emit(view, batch.l3[i]! - ethernet.ETHERNET.BYTES, {
      destinationHigh: own.high,
      destinationLow: own.low,
      sourceHigh: own.high,
      sourceLow: own.low,
      type: underlay === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6,
    })
  }
}
