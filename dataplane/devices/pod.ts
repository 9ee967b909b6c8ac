/** A pod's interface of each kind: made, taken over, checked, removed. */
import type { XskOffsets } from '../../native/native.ts'
import type { RingSlots } from '../afxdp/ring-slots.ts'
import type { Umem } from '../afxdp/umem.ts'
import { podProgram } from '../bpf/programs.ts'
import type { PodAttachment, PodSpec } from '../control.ts'
import { faultPoint } from '../fault-points.ts'
import { POD_FILL_FRAMES, POD_GSO_BYTES } from '../limits.ts'
import { listAddresses } from '../netlink/address.ts'
import { getLink } from '../netlink/link.ts'
import { listRoutes } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'
import { PORT_KIND } from '../ports/port.ts'
import { setSwitch, writeSwitch } from '../switches.ts'
import { macWords, NO_PORT, PORT_FLAG, type PortRecord } from '../tables/ports.ts'
import { configureFurther, removeRules } from './further.ts'
import { closeTun, configurePodTun, openTun, removeTun, vanishTun } from './tun.ts'
import { openXdpQueues } from './underlay.ts'
import { configurePodVeth, openVeth, removeVeth, type VethPair, vethNames } from './veth.ts'

export interface PodDevice {
  /** Kind, link layer and descriptors; the rest is the attachment's. */
  record: Omit<PortRecord, 'state'>
  routes: readonly { dst: string; gw?: string }[]
  link: { mac?: string; hostDevice?: string; hostMac?: string }
  /** Where the kernel puts the fields of the rings; absent for TUN. */
  xskOffsets?: XskOffsets
  /** Workers serve its port now. Absent: they are all that it takes. */
  served?(): void
  /** The pod's end has this MAC now. Absent: nobody but the port has to know. */
  follow?(mac: string): void
  /** The pair is gone. Absent: the port finds that out. */
  gone?(): void
  /** Closes descriptors; the interface stays. */
  close(): void
  /** Closes descriptors and removes the interface; when it resolves nobody can see that any more. */
  remove(): Promise<void>
}

/** The node's trunk, as pods of kind `tap` need it (trunk/trunk.ts). */
export interface PodTrunk {
  start(): void
  add(port: number, pair: VethPair): void
  admit(port: number, hostIndex: number): void
  follow(port: number, pair: VethPair): void
  remove(port: number, hostIndex: number): void
}

/** What the engine has for pods' devices. */
export interface PodParts {
  readonly workers: number
  readonly umem: Umem | undefined
  readonly rings: RingSlots
  readonly trunk: PodTrunk
}

/** Makes the interface of `pod` (with its final MTU), which will have the port `port`. Undoes everything on failure. */
export async function openPod(
  pod: PodSpec & { mtu: number },
  port: number,
  adopt: boolean,
  { workers, umem, rings, trunk }: PodParts,
): Promise<PodDevice> {
  const nl = new Netlink(pod.netns)
  try {
    const taken = nl.interfaceIndex(pod.ifname) !== 0
    if (taken && !(adopt && isOurs(nl, pod))) {
      throw Object.assign(
        new Error(`${pod.ifname} in ${pod.netns}: the interface is there already`),
        { code: 'EEXIST' },
      )
    }
    try {
      const device =
        pod.kind === 'tun'
          ? openTunPod(nl, pod, workers, taken)
          : pod.kind === 'tap'
            ? await openTapPod(taken ? asItIs(nl, pod) : pod, port, taken, trunk)
            : await openVethPod(taken ? asItIs(nl, pod) : pod, workers, taken, umem, rings)
      return pod.further === undefined ? device : withoutRules(pod, device)
    } catch (error) {
      if (pod.further !== undefined && !taken) removeRules(pod)
      throw error
    }
  } finally {
    nl.close()
  }
}

/** The device, which takes its rules along when it is removed. */
function withoutRules(pod: PodSpec, device: PodDevice): PodDevice {
  const remove = async (): Promise<void> => {
    removeRules(pod)
    await device.remove()
  }
  return { ...device, remove }
}

/**
 * A pod's routes and addresses are ours, and no router's that it may hear (RFC 4861 section 6.3.4). Where
 * a sandbox has IPv6 switched off for new interfaces, this one that gets an IPv6 address, and loopback,
 * have it.
 */
function setSwitches({ netns, ifname, ip6 }: PodSpec): void {
  writeSwitch(netns, `ipv6/conf/${ifname}/accept_ra`, '0')
  if (ip6 === undefined) return
  for (const device of [ifname, 'lo']) setSwitch(netns, `ipv6/conf/${device}/disable_ipv6`, '0')
}

/**
 * Whether the interface that is there is what an earlier process made for this pod: of a veth the other
 * end is known by its name and MAC. The pod's end may have got another MAC since (`tuning`).
 */
function isOurs(nl: Netlink, pod: PodSpec): boolean {
  const link = getLink(nl, pod.ifname)
  if (pod.kind === 'tun') return link?.kind === 'tun'
  if (link?.kind !== 'veth') return false
  const { hostDevice, hostMac } = vethNames(pod.id)
  const host = new Netlink('')
  try {
    const end = getLink(host, hostDevice)
    return end?.kind === 'veth' && end.mac === hostMac && end.index === link.peerIndex
  } finally {
    host.close()
  }
}

/** Its interface, which is there, may have got another MAC than it asked for. */
function asItIs<T extends PodSpec>(nl: Netlink, pod: T): T {
  const mac = getLink(nl, pod.ifname)?.mac
  return mac === undefined ? pod : { ...pod, mac }
}

/** The MAC of a pod's interface as it is now; undefined when it can't be told. */
export function macOf({ netns, ifname }: PodSpec): string | undefined {
  try {
    const nl = new Netlink(netns)
    try {
      return getLink(nl, ifname)?.mac
    } finally {
      nl.close()
    }
  } catch {
    // The namespace or the interface has gone; its DEL is to come.
    return undefined
  }
}

/** `adopt`: the device is there and stays on failure. */
function openTunPod(
  nl: Netlink,
  pod: PodSpec & { mtu: number },
  queues: number,
  adopt: boolean,
): PodDevice {
  if (pod.mac !== undefined) throw new Error(`pod ${pod.id}: a TUN device has no MAC`)
  const device = openTun(nl, pod.ifname, queues)
  try {
    faultPoint('attach.device')
    setSwitches(pod)
    const routes =
      pod.further === undefined
        ? configurePodTun(nl, device, pod.mtu, pod.ip4, pod.ip6, pod.label)
        : configureFurther(pod, pod.further)
    return {
      record: {
        ...NO_PORT,
        kind: PORT_KIND.TUN,
        ifindex: device.ifindex,
        mtu: pod.mtu,
        fds: device.fds,
      },
      routes,
      link: {},
      ...once(
        () => closeTun(device),
        () => vanishTun(pod.netns, pod.ifname, device),
      ),
    }
  } catch (error) {
    if (adopt) closeTun(device)
    else removeTun(device)
    throw error
  }
}

/** Gives the pod's end of a veth its switches, addresses and routes; returns the latter. */
function configureVeth(pod: PodSpec & { mtu: number }): PodDevice['routes'] {
  setSwitches(pod)
  if (pod.further !== undefined) return configureFurther(pod, pod.further)
  return configurePodVeth(pod.netns, pod.ifname, pod.ip4, pod.ip6, pod.label)
}

/** MACs of both ends as a port's record has them. */
function macsOf({ hostMac, podMac }: { hostMac: string; podMac: string }) {
  const [own, peer] = [macWords(hostMac), macWords(podMac)]
  return {
    ...{ macHigh: own.high, macLow: own.low },
    ...{ peerMacHigh: peer.high, peerMacLow: peer.low },
  }
}

/** `adopt`: the pod's end is there and stays on failure. */
async function openVethPod(
  pod: PodSpec & { mtu: number },
  workers: number,
  adopt: boolean,
  umem: Umem | undefined,
  rings: RingSlots,
): Promise<PodDevice> {
  if (umem === undefined) {
    throw new Error(
      `pod ${pod.id}: attach "xdp" needs AF_XDP, which is not available here; use "tun"`,
    )
  }
  const pair = openVeth(pod, { queues: workers }, adopt)
  try {
    faultPoint('attach.device')
    const routes = configureVeth(pod)
    const queues = await openXdpQueues(
      umem,
      rings,
      pair.hostIndex,
      workers,
      podProgram,
      'hawser_pod',
    )
    return {
      record: {
        ...NO_PORT,
        kind: PORT_KIND.XDP,
        flags: umem.txMetadata ? PORT_FLAG.TX_METADATA : 0,
        ifindex: pair.hostIndex,
        mtu: pod.mtu,
        ...macsOf(pair),
        fillFrames: POD_FILL_FRAMES,
        fds: queues.sockets.map(socket => socket.fd),
        rings: queues.sockets.map(socket => socket.ringsOffset),
      },
      routes,
      link: { mac: pair.podMac, hostDevice: pair.hostDevice, hostMac: pair.hostMac },
      xskOffsets: queues.sockets[0]!.offsets,
      ...once(
        () => queues.close(),
        async () => {
          queues.close()
          await removeVeth(pair.hostDevice)
        },
      ),
    }
  } catch (error) {
    if (!adopt) await removeVeth(pair.hostDevice)
    throw error
  }
}

/** An ordinary veth, whose node's end leads to the trunk. `adopt`: the pod's end is there and stays on failure. */
async function openTapPod(
  pod: PodSpec & { mtu: number },
  port: number,
  adopt: boolean,
  trunk: PodTrunk,
): Promise<PodDevice> {
  // Before anything is made: it tells why it can't be.
  trunk.start()
  const pair = openVeth(pod, { queues: 1, peer: { gsoMaxSize: POD_GSO_BYTES } }, adopt)
  const remove = async (): Promise<void> => {
    trunk.remove(port, pair.hostIndex)
    await removeVeth(pair.hostDevice)
  }
  try {
    faultPoint('attach.device')
    const routes = configureVeth(pod)
    trunk.add(port, pair)
    return {
      record: {
        ...{ ...NO_PORT, kind: PORT_KIND.TAP, ifindex: pair.hostIndex, mtu: pod.mtu },
        ...macsOf(pair),
      },
      routes,
      link: { mac: pair.podMac, hostDevice: pair.hostDevice, hostMac: pair.hostMac },
      served: () => trunk.admit(port, pair.hostIndex),
      gone: () => trunk.remove(port, pair.hostIndex),
      follow: mac => trunk.follow(port, { ...pair, podMac: mac }),
      // It has no descriptors: the pair and its program stay.
      ...once(() => {}, remove),
    }
  } catch (error) {
    if (adopt) trunk.remove(port, pair.hostIndex)
    else await remove()
    throw error
  }
}

/** Either end of a device happens once: a descriptor closed twice might be another one by then. */
function once(
  close: () => void,
  remove: () => void | Promise<void>,
): { close(): void; remove(): Promise<void> } {
  let open = true
  const first = (): boolean => {
    const was = open
    open = false
    return was
  }
  return {
    close: () => {
      if (first()) close()
    },
    remove: async () => {
      if (first()) await remove()
    },
  }
}

/** What differs between a pod's interface and its attachment. */
export function verifyPod(spec: PodSpec, attachment: PodAttachment): readonly string[] {
  const { netns, ifname } = spec
  let nl: Netlink
  try {
    nl = new Netlink(netns)
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
  try {
    const link = getLink(nl, ifname)
    if (link === undefined) return [`${ifname} in ${netns} is not there`]
    const problems: string[] = []
    if (!link.up) problems.push(`${ifname} in ${netns} is down`)
    // A plugin behind us in the chain may have made it smaller.
    if (link.mtu > attachment.mtu) {
      problems.push(`${ifname} in ${netns} has MTU ${link.mtu}, more than ${attachment.mtu}`)
    }
    if (attachment.mac !== undefined && link.mac !== attachment.mac) {
      problems.push(`${ifname} in ${netns} has MAC ${link.mac}, not ${attachment.mac}`)
    }
    const addresses = listAddresses(nl, link.index).map(each => each.address)
    for (const ip of [spec.ip4, spec.ip6]) {
      if (ip !== undefined && !addresses.includes(ip)) {
        problems.push(`${ifname} in ${netns} lacks the address ${ip}`)
      }
    }
    const routes = ([4, 6] as const).flatMap(family =>
      listRoutes(nl, { family, ifindex: link.index }),
    )
    for (const { dst } of attachment.routes) {
      if (!routes.some(route => route.destination === dst)) {
        problems.push(`${netns} lacks the route ${dst} by ${ifname}`)
      }
    }
    return problems
  } finally {
    nl.close()
  }
}
