/**
 * hawser's own packet path between two devices that are already there: receive from the pod's veth,
 * all stages, FIB, VXLAN, send on the underlay's veth. The packet engine as a library, one worker.
 *
 *   hawser-forwarder.ts --pod-device D --underlay-device D --node-address A --peer-address A
 *                       --peer-mac M --pod-address A --pod-mac M --remote-cidr C [--cpu N]
 *                       [--rules N --flows N]
 *
 * With `--rules` what the pod sends is judged by so many (rules.ts), and `--flows` flows are kept.
 *
 * Prints "ready", then {"packets":N,"cpuNs":N,"idleNs":N,"ns":N} for each line on stdin: totals of
 * the worker's thread; with `--rules` also {"denied":N,"live":N,"refused":N} of packets and flows. Ends by SIGTERM
 * or at the end of stdin.
 */
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { ipWords, parseCidr } from '../../dataplane/addresses.ts'
import { RING_SLOT_BYTES, RingSlots } from '../../dataplane/afxdp/ring-slots.ts'
import { Umem } from '../../dataplane/afxdp/umem.ts'
import { podProgram } from '../../dataplane/bpf/programs.ts'
import { vtepMac } from '../../dataplane/control.ts'
import { openXdpQueues, openXdpUnderlay } from '../../dataplane/devices/underlay.ts'
import { Enforcement } from '../../dataplane/enforce/enforcement.ts'
import { defaultFib, fibByName } from '../../dataplane/fib/index.ts'
import { UNDERLAY_FILL_FRAMES } from '../../dataplane/limits.ts'
import { NextHopSlots, NO_HOP } from '../../dataplane/manage/next-hop-slots.ts'
import { writeXskOffsets } from '../../dataplane/manage/node-facts.ts'
import { outerHeader } from '../../dataplane/manage/outer-header.ts'
import { policed } from '../../dataplane/manage/pods.ts'
import { PortSlots } from '../../dataplane/manage/port-slots.ts'
import { tableIn } from '../../dataplane/manage/routes.ts'
import { readDrops } from '../../dataplane/manage/status.ts'
import { Arena, COUNTER, HEADER, planArena } from '../../dataplane/memory/arena.ts'
import { getLink } from '../../dataplane/netlink/link.ts'
import { Netlink } from '../../dataplane/netlink/socket.ts'
import { OPEN, podIdentity } from '../../dataplane/policy-program.ts'
import { PORT_KIND, PORT_ROLE } from '../../dataplane/ports/port.ts'
import { HOP } from '../../dataplane/tables/next-hops.ts'
import { macWords, NO_PORT, PORT_FLAG } from '../../dataplane/tables/ports.ts'
import { TableWriter } from '../../dataplane/tables/tables.ts'
import { vtepTable, writeVteps } from '../../dataplane/tables/vteps.ts'
import { Trunk } from '../../dataplane/trunk/trunk.ts'
import { WorkerPool } from '../../dataplane/worker/pool.ts'
import { native } from '../../native/native.ts'
import { identitiesOf, programOf, rulesOf } from './rules.ts'

const VXLAN_PORT = 4789
const VNI = 1
const ROUTES = 16_384

const { values } = parseArgs({
  options: {
    'pod-device': { type: 'string' },
    'underlay-device': { type: 'string' },
    'node-address': { type: 'string' },
    'node-mac': { type: 'string' },
    'peer-address': { type: 'string' },
    'peer-mac': { type: 'string' },
    'pod-address': { type: 'string' },
    'pod-mac': { type: 'string' },
    'remote-cidr': { type: 'string' },
    cpu: { type: 'string' },
    rules: { type: 'string' },
    flows: { type: 'string' },
  },
})

function option(name: keyof typeof values): string {
  const value = values[name]
  if (value === undefined) throw new Error(`--${name} is missing`)
  return value
}

function device(name: string) {
  const link = getLink(nl, name)
  if (link?.mac === undefined) throw new Error(`${name}: no such Ethernet device`)
  return { ...link, mac: link.mac }
}

const POD = 'pod'
const rules = values.rules === undefined ? undefined : rulesOf(Number(values.rules))
const flows = Number(values.flows)

const limits = { routes: ROUTES }
const fib4 = fibByName(defaultFib(4), 4)
const fib6 = fibByName(defaultFib(6), 6)
const layout = planArena({
  workers: 1,
  smallFrames: 16_384,
  largeFrames: 8,
  xdpSockets: 4,
  xdpSocketBytes: RING_SLOT_BYTES,
  fib4Bytes: fib4.bytes(limits),
  fib6Bytes: fib6.bytes(limits),
})
const arena = Arena.create(layout)
native.bind(arena.bytes)
const tables = new TableWriter(arena)
const ports = new PortSlots(arena, tables)
const hops = new NextHopSlots(arena)
const slots = new RingSlots(arena)
const routes = fib4.writer(arena.slice(layout.fib4), limits)
fib6.writer(arena.slice(layout.fib6), limits)

const nl = new Netlink('')
const pod = device(option('pod-device'))
const underlay = device(option('underlay-device'))
nl.close()

const umem = await Umem.create(arena, slots.root)
const podQueues = await openXdpQueues(umem, slots, pod.index, 1, podProgram, 'bench_pod')
const node = option('node-address')
const facts = { vtep: node, vxlanPort: VXLAN_PORT, vni: VNI }
const underlayQueues = await openXdpUnderlay(umem, slots, underlay.index, facts)

const trunk = new Trunk({ arena, tables, ports, hops, workers: 1 })
const podPort = ports.reserve()
const enforcement =
  rules === undefined
    ? undefined
    : new Enforcement(
        { arena, tables, ports, hops, trunk, rings: slots, workers: 1, umem, log: () => {} },
        { flows },
        () => undefined,
      )
const policy = { identity: podIdentity(1, 1), ingress: OPEN, egress: programOf(rules ?? []) }
const judged = await enforcement?.enter(
  { ...{ id: POD, kind: 'xdp', netns: '', ifname: '' }, policy },
  podPort,
)
if (judged !== undefined) judged.port = podPort
// One pod has the room of all.
enforcement?.table.setQuota(podPort, flows)
const underlayPort = ports.reserve()
const metadata = umem.txMetadata ? PORT_FLAG.TX_METADATA : 0
tables.change(() => {
  const header = arena.header()
  writeXskOffsets(arena, podQueues.sockets[0]!.offsets)
  header[HEADER.VNI] = VNI
  header[HEADER.VXLAN_PORT] = VXLAN_PORT
  header[HEADER.VTEP4] = ipWords(node)[0]!
  const own = macWords(pod.mac)
  const peer = macWords(option('pod-mac'))
  ports.activate(podPort, {
    ...NO_PORT,
    kind: PORT_KIND.XDP,
    role: PORT_ROLE.POD,
    flags: metadata | PORT_FLAG.HAS_IPV4,
    ifindex: pod.index,
    mtu: 1450,
    macHigh: own.high,
    macLow: own.low,
    peerMacHigh: peer.high,
    peerMacLow: peer.low,
    ip4: ipWords(option('pod-address'))[0]!,
    fillFrames: UNDERLAY_FILL_FRAMES,
    fds: [podQueues.sockets[0]!.fd],
    rings: [podQueues.sockets[0]!.ringsOffset],
    ...(judged === undefined ? {} : policed(metadata | PORT_FLAG.HAS_IPV4, judged)),
  })
  const mac = macWords(underlay.mac)
  ports.activate(underlayPort, {
    ...NO_PORT,
    kind: PORT_KIND.XDP,
    role: PORT_ROLE.UNDERLAY,
    flags: metadata,
    ifindex: underlay.index,
    mtu: underlay.mtu,
    macHigh: mac.high,
    macLow: mac.low,
    peerMacHigh: 0,
    peerMacLow: 0,
    ip4: 0,
    fillFrames: UNDERLAY_FILL_FRAMES,
    fds: [underlayQueues.sockets[0]!.fd],
    rings: [underlayQueues.sockets[0]!.ringsOffset],
  })
  const peerMac = macWords(option('peer-mac'))
  const hop = hops.add({
    kind: HOP.VXLAN,
    network: 0,
    port: underlayPort,
    mtu: 1450,
    header: outerHeader({
      source: node,
      destination: option('peer-address'),
      vxlanPort: VXLAN_PORT,
      vni: VNI,
      sourceMac: vtepMac('bench-node'),
      destinationMac: vtepMac('bench-peer'),
    }),
    macHigh: peerMac.high,
    macLow: peerMac.low,
    macKnown: true,
  })
  const remote = parseCidr(option('remote-cidr'))
  routes.insert(remote.words, remote.prefix, hop)
  // The way back: answers make a flow established.
  const podHop = hops.add({ ...NO_HOP, kind: HOP.PORT, port: podPort, mtu: 1450 })
  routes.insert(ipWords(option('pod-address')), 32, podHop)
  const vtep = new Uint32Array(4)
  vtep.set(ipWords(option('peer-address')))
  writeVteps(arena, vtepTable([{ family: 4, words: vtep }]))
})

const pool = new WorkerPool({
  arena,
  fib4: tableIn(arena, { family: 4, name: defaultFib(4) }, fib4.bytes(limits), limits),
  fib6: tableIn(arena, { family: 6, name: defaultFib(6) }, fib6.bytes(limits), limits),
  ...(enforcement === undefined ? {} : { policy: enforcement.memory }),
  ...(values.cpu === undefined ? {} : { cpus: [Number(values.cpu)] }),
  onFailure: (_, error) => {
    process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  },
})
await pool.start()
if (rules !== undefined) {
  await enforcement!.set({ identities: identitiesOf(rules), pods: new Map([[POD, policy]]) })
}
const started = native.monotonic()
process.stdout.write('ready\n')

/** A change of the tables makes the worker publish its counters. */
async function report(): Promise<string> {
  await tables.acknowledged(tables.change(() => {}))
  const counters = arena.counters(0)
  const drops = Object.fromEntries(readDrops(arena).map(({ reason, count }) => [reason, count]))
  return JSON.stringify({
    packets: counters[COUNTER.ENCAPSULATED],
    cpuNs: counters[COUNTER.CPU_NS],
    idleNs: 0,
    ns: native.monotonic() - started,
    kicks: counters[COUNTER.KICKS],
    batches: counters[COUNTER.BATCHES],
    drops,
    ...(enforcement === undefined ? {} : policyFacts(enforcement, drops)),
  })
}

function policyFacts({ table }: Enforcement, drops: Record<string, number>) {
  const { live, refusedQuota, refusedFull, refusedBusy } = table.counters()
  const refused = refusedQuota + refusedFull + refusedBusy
  return { denied: drops['policy-egress'] ?? 0, live, refused }
}

async function end(): Promise<never> {
  await pool.stop()
  underlayQueues.close()
  podQueues.close()
  umem.close()
  process.exit(0)
}

process.on('SIGTERM', () => void end())
for await (const _ of createInterface({ input: process.stdin })) {
  process.stdout.write(`${await report()}\n`)
}
await end()
