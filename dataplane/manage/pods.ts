/**
 * The pods of the node as the engine has them: interface, port, next hop, routes.
 *
 * Order of things: a port is served before a route names it, and a route is gone before its port
 * stops; a next hop id is free again only when every worker has seen that no route names it.
 */
import { ipWords } from '../addresses.ts'
import type { PodAttachment, PodSpec } from '../control.ts'
import { macOf, openPod, type PodDevice, verifyPod } from '../devices/pod.ts'
import { gone, quiet, setUp } from '../devices/veth.ts'
import { faultPoint } from '../fault-points.ts'
import { MAX_POD_MTU } from '../limits.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { HOP } from '../tables/next-hops.ts'
import { macWords, PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import { rateOf } from '../tables/rates.ts'
import type { Conditions } from '../weather/conditions.ts'
import { hostPrefix } from './cluster.ts'
import type { Network, Networks } from './networks.ts'
import { NO_HOP } from './next-hop-slots.ts'
import { writeXskOffsets } from './node-facts.ts'
import type { Parts } from './parts.ts'
import type { Routes } from './routes.ts'

/** What the troubles of pods with a MAC that they can't have begin with. */
const MAC_KEY = 'pod mac '

/** What a port's record says of policy; `port` -1 until it has one. Whoever gave it may change it. */
export interface PortPolicy {
  port: number
  identity: number
  ingressProgram: number
  egressProgram: number
}

/** Who knows what policy says of pods (enforce/enforcement.ts). */
export interface PodGuard {
  /** Before the pod's port, which is reserved, is opened; undefined for one that policy has nothing to do with. Rejects when there is no room. */
  enter(spec: PodSpec, port: number): Promise<PortPolicy | undefined>
  /** Its port is about to close, and may be another's before `leave`. */
  closing(id: string): void
  /** Its port is gone, and these addresses are nobody's. */
  leave(id: string, addresses: readonly string[]): Promise<void>
}

export interface Pod {
  spec: PodSpec
  device: PodDevice
  attachment: PodAttachment
  hop: number
  network: Network
}

export class Pods {
  private readonly parts: Parts
  private readonly routing: Routes
  private readonly networks: Networks
  /** Most that a pod's packets may have. */
  private readonly mtu: number
  private readonly guard: PodGuard | undefined
  private readonly byId = new Map<string, Pod>()
  /** On their way in or out. */
  private readonly pending = new Set<string>()

  constructor(
    parts: Parts,
    routing: Routes,
    networks: Networks,
    mtu: number,
    guard: PodGuard | undefined,
  ) {
    this.guard = guard
    this.parts = parts
    this.routing = routing
    this.networks = networks
    this.mtu = mtu
  }

  get size(): number {
    return this.byId.size
  }

  all(): Iterable<Pod> {
    return this.byId.values()
  }

  /** Addresses of pods in the cluster's own network. */
  addresses(): string[] {
    return [...this.byId.values()].flatMap(({ spec: { network, ip4, ip6 } }) =>
      network === undefined ? [ip4, ip6].filter(ip => ip !== undefined) : [],
    )
  }

  /** As ControlPlane.attach. */
  async attach(spec: PodSpec, adopt: boolean): Promise<PodAttachment> {
    if (this.byId.has(spec.id) || this.pending.has(spec.id)) {
      throw Object.assign(new Error(`pod ${spec.id}: it is attached already`), { code: 'EEXIST' })
    }
    if (spec.ip4 === undefined && spec.ip6 === undefined) {
      throw new RangeError(`pod ${spec.id}: it needs an address`)
    }
    // The others' packets lie in small frames.
    const most = spec.kind === 'tap' ? this.mtu : Math.min(this.mtu, MAX_POD_MTU)
    const mtu = Math.min(spec.mtu ?? most, most)
    this.pending.add(spec.id)
    const undo: (() => void | Promise<void>)[] = []
    try {
      return await this.open({ ...spec, mtu }, adopt, undo)
    } catch (error) {
      for (const step of undo.reverse()) await step()
      throw error
    } finally {
      this.pending.delete(spec.id)
    }
  }

  private async open(
    spec: PodSpec & { mtu: number },
    adopt: boolean,
    undo: (() => void | Promise<void>)[],
  ): Promise<PodAttachment> {
    const { parts, routing, networks } = this
    const { hops, ports, tables } = parts
    const port = ports.reserve()
    undo.push(() => ports.cancel(port))
    const network = networks.enter(spec.network, adopt)
    undo.push(() => networks.leave(network))
    const device = await openPod({ ...spec, ...furtherOf(spec, network) }, port, adopt, parts)
    undo.push(() => device.remove())
    faultPoint('attach.configured')
    const policy = await this.guard?.enter(spec, port)
    undo.push(() => this.guard?.leave(spec.id, addressesOf(spec)))
    let hop = 0
    const served = tables.change(() => {
      hop = hops.add({ ...NO_HOP, kind: HOP.PORT, network: network.index, port, mtu: spec.mtu })
      if (device.xskOffsets !== undefined) writeXskOffsets(parts.arena, device.xskOffsets)
      const record = recordOf(spec, device, network)
      if (policy === undefined) ports.activate(port, record)
      else {
        policy.port = port
        ports.activate(port, { ...record, ...policed(record.flags, policy) })
      }
    })
    const prefixes = prefixesOf(spec)
    undo.push(async () => {
      for (const prefix of prefixes) routing.remove(prefix, hop)
      await routing.quiesce(tables)
      tables.change(() => hops.free(hop))
      this.guard?.closing(spec.id)
      await ports.remove(port, () => device.remove())
    })
    await tables.acknowledged(served)
    device.served?.()
    faultPoint('attach.served')
    for (const prefix of prefixes) routing.insert(prefix, hop)
    faultPoint('attach.routed')
    const attachment = attachmentOf(spec, device, port)
    this.byId.set(spec.id, { spec, device, attachment, hop, network })
    return attachment
  }

  /** As ControlPlane.detach. */
  async detach(id: string): Promise<void> {
    const pod = this.byId.get(id)
    if (pod === undefined) return
    this.byId.delete(id)
    this.pending.add(id)
    const { hops, ports, tables } = this.parts
    try {
      const { spec, device, attachment, hop, network } = pod
      for (const prefix of prefixesOf(spec)) this.routing.remove(prefix, hop)
      await this.routing.quiesce(tables)
      tables.change(() => hops.free(hop))
      faultPoint('detach.unrouted')
      this.guard?.closing(id)
      await ports.remove(attachment.port, async () => {
        faultPoint('detach.closing')
        await device.remove()
        faultPoint('detach.removed')
      })
      this.networks.leave(network)
      await this.guard?.leave(id, addressesOf(spec))
    } finally {
      this.pending.delete(id)
    }
  }

  /** As ControlPlane.verify, but for what is wrong with the engine itself. */
  verify(id: string): string[] {
    const pod = this.byId.get(id)
    if (pod === undefined) return [`pod ${id} is not attached`]
    // CHECK comes behind the plugins that may have changed it.
    if (pod.attachment.mac !== undefined) {
      const mac = macOf(pod.spec)
      if (mac !== undefined && mac !== pod.attachment.mac && mac !== pod.attachment.hostMac) {
        this.followMac(pod, mac)
      }
    }
    const problems = [...verifyPod(pod.spec, pod.attachment)]
    for (const ip of [pod.spec.ip4, pod.spec.ip6]) {
      if (ip !== undefined && this.routing.lookup(ip) !== pod.hop)
        problems.push(`FIB: no route to ${ip}`)
    }
    return problems
  }

  /**
   * Puts the node's ends of pods' links right, and follows a pod's MAC: a plugin behind us in its chain
   * may give it another one (`tuning`), and nothing of it matters but that we know it.
   */
  look(conditions: Conditions): void {
    const pods = [...this.byId.values()].filter(({ attachment }) => attachment.hostDevice)
    if (pods.length === 0) return
    const ends = new Map(pods.map(pod => [pod.attachment.hostDevice!, pod.spec.id]))
    const right = new Set(setUp(new Set(ends.keys())))
    for (const device of ends.keys()) if (quiet(device)) right.add(device)
    for (const device of right) {
      const sentence = `${device}, the node's end of the link of ${ends.get(device)}, is put right`
      conditions.mended('pod links', sentence)
    }
    const lost = pods.some(({ device }) => device.gone) ? gone(new Set(ends.keys())) : new Set()
    for (const { attachment, device } of pods) {
      if (lost.has(attachment.hostDevice!)) device.gone?.()
    }
    const strange = new Set<string>()
    for (const pod of pods) {
      const mac = macOf(pod.spec)
      if (mac === undefined || mac === pod.attachment.mac) continue
      if (mac !== pod.attachment.hostMac) this.followMac(pod, mac)
      else {
        const key = `${MAC_KEY}${pod.spec.id}`
        strange.add(key)
        const sentence = `pod ${pod.spec.id}: its interface has MAC ${mac}, that of the node's end of its link`
        conditions.raise(key, sentence, { blocking: false })
      }
    }
    conditions.clearOthers(MAC_KEY, strange)
  }

  private followMac(pod: Pod, mac: string): void {
    const { ports, tables, log } = this.parts
    const { port } = pod.attachment
    const { high: peerMacHigh, low: peerMacLow } = macWords(mac)
    log('info', 'the MAC of a pod is followed', { pod: pod.spec.id, mac })
    pod.attachment = { ...pod.attachment, mac }
    pod.device.follow?.(mac)
    tables.change(() => ports.update(port, { peerMacHigh, peerMacLow }))
  }

  /** Closes every descriptor; the interfaces stay. No worker may use them any more. */
  close(): void {
    for (const { device } of this.byId.values()) device.close()
    this.byId.clear()
  }
}

function addressesOf({ ip4, ip6 }: PodSpec): string[] {
  return [ip4, ip6].filter(ip => ip !== undefined)
}

function prefixesOf(spec: PodSpec): string[] {
  return addressesOf(spec).map(hostPrefix)
}

/** A record's fields of policy. */
export function policed(
  flags: number,
  { identity, ingressProgram, egressProgram }: Omit<PortPolicy, 'port'>,
) {
  return { identity, ingressProgram, egressProgram, flags: flags | PORT_FLAG.POLICED }
}

/** Where a further interface leads. */
function furtherOf({ network, further }: PodSpec, { cidrs }: Network): Pick<PodSpec, 'further'> {
  if (network !== undefined) return { further: [...new Set([...cidrs, ...(further ?? [])])] }
  return further === undefined ? {} : { further }
}

function recordOf(
  { ip4, ip6, bandwidth, mtu }: PodSpec & { mtu: number },
  { record }: PodDevice,
  { index: network }: Network,
): Omit<PortRecord, 'state'> {
  const [a = 0, b = 0, c = 0, d = 0] = ip6 === undefined ? [] : ipWords(ip6)
  const families =
    (ip4 === undefined ? 0 : PORT_FLAG.HAS_IPV4) | (ip6 === undefined ? 0 : PORT_FLAG.HAS_IPV6)
  return {
    ...record,
    role: PORT_ROLE.POD,
    network,
    mtu,
    flags: record.flags | families,
    ip4: ip4 === undefined ? 0 : ipWords(ip4)[0]!,
    ip6: [a, b, c, d],
    ingress: rateOf(bandwidth?.ingressRate, bandwidth?.ingressBurst),
    egress: rateOf(bandwidth?.egressRate, bandwidth?.egressBurst),
  }
}

function attachmentOf(
  { id, kind, netns, ifname, ip4, ip6, network, mtu }: PodSpec & { mtu: number },
  { link, routes }: PodDevice,
  port: number,
): PodAttachment {
  return {
    id,
    kind,
    netns,
    ifname,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    ...(network === undefined ? {} : { network }),
    mtu,
    port,
    routes,
    ...link,
  }
}
