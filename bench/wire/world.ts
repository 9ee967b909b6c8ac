/**
 * An engine without devices: a pod on one side, VXLAN on the other, both ends of it this node's.
 *
 *   port 0  pod       IP packets as from a TUN
 *   port 1  underlay  Ethernet frames
 *
 * What is sent stays where it is, so that a batch of frames can go down the pipeline again.
 */
import { ipWords, parseCidr } from '../../dataplane/addresses.ts'
import { RingSlots } from '../../dataplane/afxdp/ring-slots.ts'
import { Engine } from '../../dataplane/engine/engine.ts'
import { defaultFib, fibByName } from '../../dataplane/fib/index.ts'
import { NextHopSlots } from '../../dataplane/manage/next-hop-slots.ts'
import { outerHeader } from '../../dataplane/manage/outer-header.ts'
import type { Parts } from '../../dataplane/manage/parts.ts'
import { PortSlots } from '../../dataplane/manage/port-slots.ts'
import { Arena, HEADER, PAGE, planArena } from '../../dataplane/memory/arena.ts'
import { Frames } from '../../dataplane/memory/frames.ts'
import { PORT_KIND, PORT_ROLE, type Port } from '../../dataplane/ports/port.ts'
import { HOP } from '../../dataplane/tables/next-hops.ts'
import { macWords, NO_PORT, PORT_FLAG } from '../../dataplane/tables/ports.ts'
import { TableWriter } from '../../dataplane/tables/tables.ts'
import { vtepTable, writeVteps } from '../../dataplane/tables/vteps.ts'
import { Trunk } from '../../dataplane/trunk/trunk.ts'
import { native } from '../../native/native.ts'

export const POD = 0
export const UNDERLAY = 1
/** Where the pod is, and whom it talks to behind the tunnel. */
export const ADDRESSES = {
  4: { pod: '10.244.1.2', remote: '10.244.2.9' },
  6: { pod: 'fd44:0:0:1::2', remote: 'fd44:0:0:2::9' },
} as const
const VTEPS = { 4: '192.0.2.1', 6: '2001:db8::1' } as const
const PEERS = { 4: '192.0.2.2', 6: '2001:db8::2' } as const
const VTEP_MAC = '02:aa:00:00:00:01'
export const UNDERLAY_MAC = '02:bb:00:00:00:01'
const PEER_MAC = '02:bb:00:00:00:02'
export const VNI = 1
export const VXLAN_PORT = 4789
const MTU = 1450
const ROUTES = 16_384

/** `underlay`: family of the tunnel. */
export function makeEngine(underlay: 4 | 6): Engine {
  return makeWorld(underlay).engine
}

/** The same, with what its main thread would have. */
export function makeWorld(underlay: 4 | 6): { engine: Engine; parts: Parts } {
  const limits = { routes: ROUTES }
  const fib4 = fibByName(defaultFib(4), 4)
  const fib6 = fibByName(defaultFib(6), 6)
  const layout = planArena({
    workers: 1,
    smallFrames: 512,
    largeFrames: 1,
    xdpSockets: 1,
    xdpSocketBytes: PAGE,
    fib4Bytes: fib4.bytes(limits),
    fib6Bytes: fib6.bytes(limits),
  })
  const arena = Arena.create(layout)
  native.bind(arena.bytes)
  const tables = new TableWriter(arena)
  const slots = new PortSlots(arena, tables)
  const hops = new NextHopSlots(arena)
  const writers = {
    4: fib4.writer(arena.slice(layout.fib4), limits),
    6: fib6.writer(arena.slice(layout.fib6), limits),
  }
  tables.change(() => {
    writeFacts(arena)
    slots.reserve()
    slots.reserve()
    const own = macWords(UNDERLAY_MAC)
    const none = { kind: PORT_KIND.MEM, ifindex: 0, mtu: MTU, fillFrames: 0, fds: [], rings: [] }
    slots.activate(POD, {
      ...NO_PORT,
      ...none,
      role: PORT_ROLE.POD,
      flags: PORT_FLAG.HAS_IPV4 | PORT_FLAG.HAS_IPV6,
      macHigh: 0,
      macLow: 0,
      peerMacHigh: 0,
      peerMacLow: 0,
      ip4: ipWords(ADDRESSES[4].pod)[0]!,
      ip6: [...ipWords(ADDRESSES[6].pod)] as [number, number, number, number],
    })
    slots.activate(UNDERLAY, {
      ...NO_PORT,
      ...none,
      role: PORT_ROLE.UNDERLAY,
      flags: 0,
      macHigh: own.high,
      macLow: own.low,
      peerMacHigh: 0,
      peerMacLow: 0,
      ip4: 0,
    })
    const toPod = hops.add({ ...hop(HOP.PORT, POD), header: new Uint8Array(0) })
    const peerMac = macWords(PEER_MAC)
    const toPeer = hops.add({
      ...hop(HOP.VXLAN, UNDERLAY),
      // Addressed to this node, so that `decap` takes what `encap` made.
      header: outerHeader({
        source: PEERS[underlay],
        destination: VTEPS[underlay],
        vxlanPort: VXLAN_PORT,
        vni: VNI,
        sourceMac: PEER_MAC,
        destinationMac: VTEP_MAC,
      }),
      macHigh: peerMac.high,
      macLow: peerMac.low,
      macKnown: true,
    })
    for (const [cidr, id] of [
      [`${ADDRESSES[4].pod}/32`, toPod],
      [`${ADDRESSES[6].pod}/128`, toPod],
      ['10.244.2.0/24', toPeer],
      ['fd44:0:0:2::/64', toPeer],
    ] as const) {
      const { family, words, prefix } = parseCidr(cidr)
      writers[family].insert(words, prefix, id)
    }
  })
  const engine = new Engine(
    arena,
    new Frames(arena, 0),
    arena.counters(0),
    fib4.reader(arena.slice(layout.fib4), limits),
    fib6.reader(arena.slice(layout.fib6), limits),
  )
  engine.update()
  for (const port of [new Still(POD, PORT_ROLE.POD), new Still(UNDERLAY, PORT_ROLE.UNDERLAY)]) {
    engine.ports[port.index] = port
    engine.records[port.index] = engine.record(port.index)
  }
  const rings = new RingSlots(arena)
  const log = () => {}
  const trunk = new Trunk({ arena, tables, ports: slots, hops, workers: 1 })
  return {
    engine,
    parts: { arena, tables, ports: slots, hops, trunk, rings, workers: 1, umem: undefined, log },
  }
}

function writeFacts(arena: Arena): void {
  const header = arena.header()
  const mac = macWords(VTEP_MAC)
  header[HEADER.VNI] = VNI
  header[HEADER.VXLAN_PORT] = VXLAN_PORT
  header[HEADER.VTEP4] = ipWords(VTEPS[4])[0]!
  header.set(ipWords(VTEPS[6]), HEADER.VTEP6)
  header[HEADER.VTEP_MAC_HIGH] = mac.high
  header[HEADER.VTEP_MAC_LOW] = mac.low
  const words = (text: string) => {
    const four = new Uint32Array(4)
    four.set(ipWords(text))
    return four
  }
  writeVteps(
    arena,
    vtepTable([
      { family: 4, words: words(PEERS[4]) },
      { family: 6, words: words(PEERS[6]) },
    ]),
  )
}

function hop(kind: number, port: number) {
  return { kind, network: 0, port, mtu: MTU, macHigh: 0, macLow: 0, macKnown: false }
}

/** A port that takes every packet and leaves its frame alone. */
class Still implements Port {
  readonly index: number
  readonly kind = PORT_KIND.MEM
  readonly role: number
  readonly ethernet: boolean
  readonly hiddenPartial: boolean
  readonly superframes = true
  readonly partialChecksums = false
  readonly fd = -1
  readonly polled = true

  constructor(index: number, role: number) {
    this.index = index
    this.role = role
    this.ethernet = role === PORT_ROLE.UNDERLAY
    this.hiddenPartial = this.ethernet
  }

  receive(): number {
    return 0
  }

  send(): number {
    return 0
  }

  flush(): void {}

  service(): void {}

  pending(): boolean {
    return false
  }

  gone(): boolean {
    return false
  }

  look(): boolean {
    return false
  }

  close(): void {}
}
