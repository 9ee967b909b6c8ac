/**
 * An engine on ports in memory, for packets-in/packets-out tests without a device:
 *
 *   port 0  host      TUN-like
 *   port 1  underlay  Ethernet
 *   port 2  pod       TUN-like, 10.244.1.2 and fd44:0:0:1::2, superframes
 *   port 3  pod       Ethernet, 10.244.1.3 and fd44:0:0:1::3, as veth
 *
 * A pod that is in the network `blue` (option `blue`) has 10.60.1.2 or .3 and fd60:0:0:1::2 or ::3.
 */
import { ipWords, parseCidr } from '../../dataplane/addresses.ts'
import type { PolicyLimits, PolicyState } from '../../dataplane/control.ts'
import { DROPS } from '../../dataplane/drops.ts'
import { Enforcement } from '../../dataplane/enforce/enforcement.ts'
import { Engine } from '../../dataplane/engine/engine.ts'
import { run } from '../../dataplane/engine/path.ts'
import { fibByName } from '../../dataplane/fib/index.ts'
import { NextHopSlots } from '../../dataplane/manage/next-hop-slots.ts'
import { outerHeader } from '../../dataplane/manage/outer-header.ts'
import type { Parts } from '../../dataplane/manage/parts.ts'
import { PortSlots } from '../../dataplane/manage/port-slots.ts'
import { Arena, COUNTER, HEADER, planArena } from '../../dataplane/memory/arena.ts'
import { Frames } from '../../dataplane/memory/frames.ts'
import { Batch } from '../../dataplane/packet/batch.ts'
import { pathOfRole } from '../../dataplane/pipeline.ts'
import { Judge } from '../../dataplane/policy/judge.ts'
import { type MemPacket, MemPort } from '../../dataplane/ports/mem.ts'
import { PORT_KIND, PORT_ROLE } from '../../dataplane/ports/port.ts'
import { writeNetworks } from '../../dataplane/tables/networks.ts'
import { HOP } from '../../dataplane/tables/next-hops.ts'
import { macWords, PORT_FLAG } from '../../dataplane/tables/ports.ts'
import { NO_RATE, type Rate } from '../../dataplane/tables/rates.ts'
import { TableWriter } from '../../dataplane/tables/tables.ts'
import { vtepTable, writeVteps } from '../../dataplane/tables/vteps.ts'
import { native } from '../../native/native.ts'
import { bytesOf } from './packets.ts'

export const HOST = 0
export const UNDERLAY = 1
export const TUN_POD = 2
export const VETH_POD = 3

export const VTEP = '192.0.2.1'
/** A node of the cluster that has no pods. */
export const OTHER_PEER = '192.0.2.9'
export const PEER = '192.0.2.2'
export const VTEP6 = '2001:db8::1'
export const PEER6 = '2001:db8::2'
export const OWN_VTEP_MAC = '02:aa:00:00:00:01'
export const PEER_VTEP_MAC = '02:aa:00:00:00:02'
export const UNDERLAY_MAC = '02:bb:00:00:00:01'
export const UNDERLAY_PEER_MAC = '02:bb:00:00:00:02'
export const VETH_MAC = '02:cc:00:00:00:01'
export const POD_MAC = '02:cc:00:00:00:02'
export const MTU = 1450
/** VNI and index of the network beside the cluster's own. */
export const BLUE_VNI = 100
export const BLUE = 7

export interface TestEngine {
  engine: Engine
  ports: MemPort[]
  /** Sends packets in by a port, through the whole pipeline. Returns what each port sent. */
  send(port: number, ...packets: (Uint8Array | MemPacket)[]): MemPacket[][]
  /** Counters by reason, since the start. */
  drops(): Record<string, number>
  counter(index: number): number
  /** Frames without an owner. */
  leaked(): number
  /** Puts policy in force (option `policy`); the pods are called `tun` and `veth`. */
  setPolicy(policy: PolicyState): Promise<void>
  enforcement: Enforcement | undefined
  slots: PortSlots
  hops: NextHopSlots
  /** Routes a prefix by a next hop; flows that are routed are left alone. */
  route(prefix: string, hop: number): void
}

export interface TestEngineOptions {
  /** Family of the underlay. */
  underlay?: 4 | 6
  /** What the underlay and the veth pod can do. */
  superframes?: boolean
  partialChecksums?: boolean
  smallFrames?: number
  largeFrames?: number
  /** Packets that a port gives at once; 64. */
  burst?: number
  /** The node is in a second network, and so is this pod. */
  blue?: 'tun' | 'veth' | 'both'
  /** What either pod may receive and send, and monotonic nanoseconds to measure it by. */
  rates?: { ingress?: Rate; egress?: Rate }
  clock?: () => number
  /** Policy is switched on. */
  policy?: boolean | Pick<PolicyLimits, 'halfOpenOfPod' | 'resumeSeconds'>
  /** Whose answers names are learned from (option `policy`). */
  resolvers?: readonly string[]
}

export function testEngine(options: TestEngineOptions = {}): TestEngine {
  const limits = { routes: 64 }
  const fib4 = fibByName('linear4', 4)
  const fib6 = fibByName('linear6', 6)
  const layout = planArena({
    workers: 1,
    smallFrames: options.smallFrames ?? 512,
    largeFrames: options.largeFrames ?? 8,
    xdpSockets: 1,
    xdpSocketBytes: 4096,
    fib4Bytes: fib4.bytes(limits),
    fib6Bytes: fib6.bytes(limits),
  })
  const arena = Arena.create(layout)
  native.bind(arena.bytes)
  const tables = new TableWriter(arena)
  const slots = new PortSlots(arena, tables)
  const hops = new NextHopSlots(arena)
  const writer4 = fib4.writer(arena.slice(layout.fib4), limits)
  const writer6 = fib6.writer(arena.slice(layout.fib6), limits)
  const six = options.underlay === 6
  const record = (role: number) => ({
    kind: PORT_KIND.MEM,
    role,
    flags: 0,
    ifindex: 0,
    mtu: MTU,
    macHigh: 0,
    macLow: 0,
    peerMacHigh: 0,
    peerMacLow: 0,
    ip4: 0,
    ip6: [0, 0, 0, 0] as [number, number, number, number],
    fillFrames: 0,
    fds: [],
    rings: [],
    moreFds: [],
    ingress: NO_RATE,
    egress: NO_RATE,
    network: 0,
    identity: 0,
    ingressProgram: 0,
    egressProgram: 0,
  })
  const pods = [
    podOf(TUN_POD, 2, options.blue === 'tun' || options.blue === 'both'),
    podOf(VETH_POD, 3, options.blue === 'veth' || options.blue === 'both'),
  ] as const
  const pod = ({ network, ip4, ip6 }: (typeof pods)[number]) => ({
    ...record(PORT_ROLE.POD),
    ...options.rates,
    network,
    flags: PORT_FLAG.HAS_IPV4 | PORT_FLAG.HAS_IPV6,
    ip4: ipWords(ip4)[0]!,
    ip6: [...ipWords(ip6)] as [number, number, number, number],
  })
  const mac = (own: string, peer: string) => ({
    macHigh: macWords(own).high,
    macLow: macWords(own).low,
    peerMacHigh: macWords(peer).high,
    peerMacLow: macWords(peer).low,
  })
  const add = (prefix: string, id: number) => {
    const { family, words: network, prefix: length } = parseCidr(prefix)
    const writer = family === 4 ? writer4 : writer6
    writer.insert(network, length, id)
  }
  tables.change(() => {
    const header = arena.header()
    header[HEADER.VNI] = 1
    header[HEADER.VXLAN_PORT] = 4789
    header[HEADER.VTEP4] = ipWords(VTEP)[0]!
    header.set(ipWords(VTEP6), HEADER.VTEP6)
    header[HEADER.GATEWAY4] = ipWords('10.244.1.1')[0]!
    header.set(ipWords('fd44:0:0:1::1'), HEADER.GATEWAY6)
    header[HEADER.VTEP_MAC_HIGH] = macWords(OWN_VTEP_MAC).high
    header[HEADER.VTEP_MAC_LOW] = macWords(OWN_VTEP_MAC).low
    header[HEADER.HOST_PORT] = HOST + 1
    for (let port = 0; port < 4; port++) slots.reserve()
    slots.activate(HOST, record(PORT_ROLE.HOST))
    slots.activate(UNDERLAY, {
      ...record(PORT_ROLE.UNDERLAY),
      ...mac(UNDERLAY_MAC, UNDERLAY_PEER_MAC),
    })
    slots.activate(TUN_POD, pod(pods[0]))
    slots.activate(VETH_POD, { ...pod(pods[1]), ...mac(VETH_MAC, POD_MAC) })
    const words = (text: string) => {
      const four = new Uint32Array(4)
      four.set(ipWords(text))
      return four
    }
    writeVteps(
      arena,
      vtepTable([
        { family: 4, words: words(PEER) },
        { family: 4, words: words(OTHER_PEER) },
        { family: 6, words: words(PEER6) },
      ]),
    )
    if (options.blue !== undefined) {
      writeNetworks(arena, [
        {
          ...{ vni: BLUE_VNI, index: BLUE, gateway4: ipWords('10.60.1.1')[0]! },
          gateway6: ipWords('fd60:0:0:1::1'),
        },
      ])
    }
    const hop = (kind: number, port: number, network = 0) => ({
      kind,
      network,
      port,
      mtu: MTU,
      header: new Uint8Array(0),
      macHigh: 0,
      macLow: 0,
      macKnown: false,
    })
    const peer = (network: number, vni: number) =>
      hops.add({
        ...hop(HOP.VXLAN, UNDERLAY, network),
        header: outerHeader({
          source: six ? VTEP6 : VTEP,
          destination: six ? PEER6 : PEER,
          vxlanPort: 4789,
          vni,
          sourceMac: OWN_VTEP_MAC,
          destinationMac: PEER_VTEP_MAC,
        }),
        macHigh: macWords(UNDERLAY_PEER_MAC).high,
        macLow: macWords(UNDERLAY_PEER_MAC).low,
        macKnown: true,
      })
    const host = hops.add(hop(HOP.PORT, HOST))
    const both = (four: string, six: string, id: number) => {
      add(four, id)
      add(six, id)
    }
    both('10.244.2.0/24', 'fd44:0:0:2::/64', peer(0, 1))
    both('10.244.1.0/24', 'fd44:0:0:1::/64', hops.add(hop(HOP.REJECT, 0)))
    if (options.blue !== undefined) {
      both('10.60.2.0/24', 'fd60:0:0:2::/64', peer(BLUE, BLUE_VNI))
      both('10.60.1.0/24', 'fd60:0:0:1::/64', hops.add(hop(HOP.REJECT, 0, BLUE)))
    }
    for (const { port, network, ip4, ip6 } of pods) {
      both(`${ip4}/32`, `${ip6}/128`, hops.add(hop(HOP.PORT, port, network)))
    }
    add('10.244.1.1/32', host)
    add('fd44:0:0:1::1/128', host)
    add('198.51.100.0/24', host)
    // A next hop whose port is not there.
    add('203.0.113.0/24', hops.add(hop(HOP.PORT, 9)))
  })
  const frames = new Frames(arena, 0)
  const counters = arena.counters(0)
  const engine = new Engine(
    arena,
    frames,
    counters,
    fib4.reader(arena.slice(layout.fib4), limits),
    fib6.reader(arena.slice(layout.fib6), limits),
  )
  if (options.clock !== undefined) engine.clock = options.clock
  engine.update()
  const able = {
    superframes: options.superframes ?? false,
    partialChecksums: options.partialChecksums ?? false,
  }
  const ports = [
    new MemPort(
      { index: HOST, role: PORT_ROLE.HOST, superframes: true, partialChecksums: true },
      { arena, frames, counters },
    ),
    new MemPort(
      {
        index: UNDERLAY,
        role: PORT_ROLE.UNDERLAY,
        ethernet: true,
        hiddenPartial: true,
        ownMac: bytesOf(UNDERLAY_MAC),
        peerMac: bytesOf(UNDERLAY_PEER_MAC),
        ...able,
      },
      { arena, frames, counters },
    ),
    new MemPort(
      { index: TUN_POD, role: PORT_ROLE.POD, superframes: true, partialChecksums: true },
      { arena, frames, counters },
    ),
    new MemPort(
      {
        index: VETH_POD,
        role: PORT_ROLE.POD,
        ethernet: true,
        hiddenPartial: true,
        ownMac: bytesOf(VETH_MAC),
        peerMac: bytesOf(POD_MAC),
        ...able,
      },
      { arena, frames, counters },
    ),
  ]
  for (const port of ports) {
    engine.ports[port.index] = port
    engine.records[port.index] = engine.record(port.index)
  }
  let enforcement: Enforcement | undefined
  const { policy = false, resolvers = [] } = options
  if (policy !== false) {
    const log = () => {}
    const parts = { arena, tables, ports: slots, hops, workers: 1, log } as Partial<Parts> as Parts
    const limits = policy === true ? {} : policy
    enforcement = new Enforcement(
      parts,
      { matches: 1024, addresses: 256, flows: 1024, resumeSeconds: 0, resolvers, ...limits },
      () => undefined,
    )
    engine.judge = new Judge(enforcement.memory, 0)
  }
  const entered = Promise.all(
    [['tun', TUN_POD] as const, ['veth', VETH_POD] as const].map(async ([id, port]) => {
      const spec = { id, kind: 'tun', netns: '', ifname: 'eth0' } as const
      const entry = await enforcement?.enter(spec, port)
      if (entry !== undefined) entry.port = port
    }),
  )
  const batch = new Batch()
  const paths = ports.map(port => pathOfRole(port.role))
  return {
    engine,
    ports,
    send(index, ...packets) {
      // A test may have several engines.
      native.bind(arena.bytes)
      const port = ports[index]!
      port.input.push(...packets.map(each => ('bytes' in each ? each : { bytes: each })))
      while (port.input.length > 0) {
        batch.reset(index)
        if (port.receive(batch, options.burst ?? 64) === 0) break
        engine.countReceived(port, batch)
        run(engine, paths[index]!, batch)
        engine.flush()
      }
      return ports.map(each => each.output.splice(0))
    },
    drops() {
      const found: Record<string, number> = {}
      for (const [id, [name]] of DROPS.entries()) {
        const count = counters[COUNTER.DROPS + id]!
        if (count > 0) found[name] = count
      }
      return found
    },
    counter: index => counters[index]!,
    leaked: () => frames.leaked(),
    enforcement,
    slots,
    hops,
    route: (prefix, hop) => void tables.change(() => add(prefix, hop)),
    async setPolicy(policy) {
      await entered
      await enforcement!.set(policy)
      engine.update()
      for (const port of ports) engine.records[port.index] = engine.record(port.index)
    },
  }
}

function podOf(port: number, last: number, blue: boolean) {
  return {
    port,
    network: blue ? BLUE : 0,
    ip4: blue ? `10.60.1.${last}` : `10.244.1.${last}`,
    ip6: blue ? `fd60:0:0:1::${last}` : `fd44:0:0:1::${last}`,
  }
}
