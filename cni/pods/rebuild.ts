/**
 * A new state file is filled with the pods that run: after a damaged one was set aside, or a lost
 * one. What says so are the labels (label.ts) of interfaces in the network namespaces that runtimes
 * have mounted.
 *
 * Theory of operation. A pod may be hostile and may change its own interface, so labels are looked
 * at as if anybody had written them:
 *
 *     veth    what counts is the node's end, which no pod reaches: its name, MAC and label must
 *             follow from each other, and the pod's end must be its other one
 *     TUN     has no end on the node. Its label must name the interface that it is on
 *     both    the addresses are this node's, the interface has them, and nobody else claims them or
 *             the same attachment. Of a veth and a TUN that claim the same the TUN is refused, of two
 *             TUNs both: which is the liar is not known, and a wrong pod must get no other's packets
 *
 * What is refused is told and left as it is: it has no network until its pod is made anew. What a
 * label doesn't say is lost for the pods that run (labels by annotation, port mappings, bandwidth, the calls of IPAM plugins
 * and of further interfaces): a DEL still brings the runtime's own configuration for those.
 */

import { readdirSync } from 'node:fs'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import type { AttachKind } from '../../dataplane/control.ts'
import {
  type Link,
  leadsToTap,
  listAddresses,
  listLinks,
  Netlink,
  namespaceId,
  readFurther,
  vethNames,
} from '../../dataplane/kernel.ts'
import { netnsIdentity, ownNetns } from '../../dataplane/netns.ts'
import { clean } from '../base/document.ts'
import { path } from '../base/fields.ts'
import type { Logger } from '../base/logger.ts'
import { poolsOf } from '../ipam/ranges.ts'
import { parseAddress, storedAddress } from '../netip/cidr.ts'
import { inSpans } from '../netip/spans.ts'
import { type Attachment, attachmentId, type State } from '../state/state.ts'
import { labelOf, ourLabels, parseLabel } from './label.ts'

/** Where runtimes mount network namespaces; the daemon's configuration may name others. */
export const NAMESPACE_FOLDERS = ['/run/netns', '/var/run/netns', '/run/docker/netns'] as const
/** Folders that a configuration may name besides. */
const MAX_NAMESPACE_FOLDERS = 16
/** Files in these folders that are looked at. */
const MAX_NAMESPACES = 4096
/** Interfaces of one namespace that are looked at, and networks that one of them leads to. */
const MAX_LINKS = 256
const MAX_FURTHER = 256

/** `namespaces` of the daemon's configuration: folders. */
export const namespacesSection = z.array(path).max(MAX_NAMESPACE_FOLDERS)

export interface RebuildParts {
  state: State
  log: Logger
  /** Folders besides NAMESPACE_FOLDERS. */
  folders: readonly string[]
  /** The CIDRs out of which pods of an overlay (absent: the cluster's own) have their addresses; undefined: no such overlay. */
  cidrs: (overlay: string | undefined) => readonly string[] | undefined
}

/** A network namespace, and which one it is. */
interface Namespace {
  path: string
  dev: bigint
  ino: bigint
}

/** An interface that says that it is ours. */
interface Claim {
  namespace: Namespace
  link: Link
  attachment: Attachment
}

/** Fills a new state file; does nothing for another one. Never throws for what lies in a namespace. */
export function rebuildState(parts: RebuildParts): void {
  const { state, log } = parts
  if (!state.rebuildDue) return
  const own = ownNetns()
  const host = linksOf('', log)
  const created = bootTime()
  const claims = namespaces(parts, own.ino).flatMap(each => claimsIn(each, host, parts, created))
  const good = withoutConflicts(claims, log)
  state.rebuilt(good.map(({ attachment }) => attachment))
  for (const { name, alias } of host.filter(link => isOurs(link))) {
    if (good.some(({ attachment }) => labelOf(attachment) === alias)) continue
    const facts = { device: name, label: clean(alias, 255) }
    log.warn(
      facts,
      "a pod's link without its pod: it is not in any folder of namespaces, or refused",
    )
  }
  if (good.length === 0) return
  log.warn(
    { attachments: good.map(({ attachment }) => attachmentId(attachment)) },
    'the state is made anew from the interfaces of pods; their labels by annotation, port mappings, bandwidth, further interfaces and the calls of their IPAM plugins are not known any more',
  )
}

/** All namespaces in the folders but the node's own, each once. */
function namespaces({ folders, log }: RebuildParts, own: bigint): Namespace[] {
  const found = new Map<bigint, Namespace>([[own, { path: '', dev: 0n, ino: own }]])
  let looked = 0
  for (const folder of [...NAMESPACE_FOLDERS, ...folders]) {
    for (const name of namesIn(folder, log)) {
      if (++looked > MAX_NAMESPACES) {
        log.error({ folder, limit: MAX_NAMESPACES }, 'more namespaces than are looked at')
        break
      }
      const path = join(folder, name)
      try {
        const { dev, ino } = netnsIdentity(path)
        if (!found.has(ino)) found.set(ino, { path, dev, ino })
      } catch {
        // Another kind of file, or not mounted yet, or gone again.
      }
    }
  }
  found.delete(own)
  return [...found.values()]
}

function namesIn(folder: string, log: Logger): string[] {
  try {
    return readdirSync(folder).sort()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR') log.error({ folder, cause: message }, 'not read')
    return []
  }
}

/** Interfaces of a namespace that bear a label of this node. */
function linksOf(netns: string, log: Logger): Link[] {
  try {
    const nl = new Netlink(netns)
    try {
      const ours = ourLabels()
      const links = listLinks(nl).filter(each => each.alias?.startsWith(ours))
      if (netns === '' || links.length <= MAX_LINKS) return links
      log.error({ netns, limit: MAX_LINKS }, 'more interfaces with labels than are looked at')
      return []
    } finally {
      nl.close()
    }
  } catch (error) {
    log.error({ netns, cause: (error as Error).message }, 'its interfaces are not known')
    return []
  }
}

function claimsIn(
  namespace: Namespace,
  host: readonly Link[],
  parts: RebuildParts,
  created: number,
): Claim[] {
  const { path } = namespace
  return linksOf(path, parts.log).flatMap(link => {
    const attachment = examine(namespace, link, host, parts, created)
    if (typeof attachment !== 'string') return [{ namespace, link, attachment }]
    refuse(parts.log, { namespace, link }, attachment)
    return []
  })
}

function refuse(log: Logger, { namespace, link }: Omit<Claim, 'attachment'>, cause: string): void {
  const facts = { netns: clean(namespace.path, 255), ifname: clean(link.name), cause }
  log.error(
    { ...facts, label: clean(link.alias, 255) },
    'an interface that says it is ours is refused',
  )
}

/** The attachment that an interface is of; or why it is none. */
function examine(
  { path, dev, ino }: Namespace,
  link: Link,
  host: readonly Link[],
  { cidrs }: RebuildParts,
  created: number,
): Attachment | string {
  const label = parseLabel(link.alias ?? '')
  if ('problem' in label) return label.problem
  if (label.ifname !== link.name) return `its name is ${clean(link.name)}`
  const id = attachmentId(label)
  const names = vethNames(id)
  if (link.kind === 'veth') {
    const end = host.find(each => each.name === names.hostDevice)
    if (end === undefined || !isOtherEnd(end, path, link, names.hostMac)) {
      return `${names.hostDevice} of the node is not its other end`
    }
    if (end.alias !== link.alias) return `${end.name} of the node says otherwise`
  } else if (link.kind !== 'tun') return `a device of kind ${clean(link.kind ?? 'unknown')}`
  const pools = cidrs(label.overlay)
  if (pools === undefined) return 'this node has no such overlay'
  const seen = look(path, link.index)
  if (typeof seen === 'string') return seen
  const { addresses, further } = seen
  if ((further?.length ?? 0) > MAX_FURTHER) return 'it leads to more networks than one may'
  for (const ip of [label.ip4, label.ip6]) {
    if (ip === undefined) continue
    const { family, value } = storedAddress(ip)
    const inside = poolsOf(pools).some(each => each.family === family && inSpans(each.spans, value))
    if (!inside) return `${ip} is not an address of this node's pods`
    if (!addresses.includes(ip)) return `it does not have ${ip}`
  }
  const asked = link.kind === 'veth' && link.mac !== undefined && link.mac !== names.podMac
  const runtime = {
    ...(asked ? { mac: link.mac! } : {}),
    ...(further === undefined ? {} : { further }),
  }
  return {
    ...label,
    phase: 'attached',
    netns: path,
    netnsDev: String(dev),
    netnsIno: String(ino),
    kind: kindOf(link, host, names.hostDevice),
    mtu: link.mtu,
    pod: '',
    created,
    ...(asked || further !== undefined ? { runtime } : {}),
  }
}

function kindOf({ kind }: Link, host: readonly Link[], hostDevice: string): AttachKind {
  if (kind !== 'veth') return 'tun'
  const end = host.find(({ name }) => name === hostDevice)
  return end !== undefined && leadsToTap(end.index) ? 'tap' : 'xdp'
}

/** Whether `end`, of the node, is the other end of `link` in the namespace at `path`. */
function isOtherEnd(end: Link, path: string, link: Link, mac: string): boolean {
  if (end.kind !== 'veth' || end.mac !== mac || end.peerIndex !== link.index) return false
  try {
    const nl = new Netlink('')
    try {
      return end.linkNetnsid !== undefined && end.linkNetnsid === namespaceId(nl, path)
    } finally {
      nl.close()
    }
  } catch {
    return false
  }
}

/** Its addresses, canonical, and the networks that a further interface leads to; or why they can't be had. */
function look(
  netns: string,
  ifindex: number,
): { addresses: readonly string[]; further: string[] | undefined } | string {
  try {
    const nl = new Netlink(netns)
    try {
      const addresses = listAddresses(nl, ifindex).map(({ address }) => {
        const parsed = parseAddress(address)
        return parsed.ok ? parsed.value.text : address
      })
      return { addresses, further: readFurther(nl, ifindex) }
    } finally {
      nl.close()
    }
  } catch (error) {
    return (error as Error).message
  }
}

/** No attachment is older, and no DEL that waits in the queue. */
function bootTime(): number {
  return Math.floor(Date.now() - uptime() * 1000)
}

/** Those of which nobody has to be doubted. */
function withoutConflicts(claims: readonly Claim[], log: Logger): Claim[] {
  const claimants = new Map<string, Claim[]>()
  const wants = ({ attachment }: Claim): string[] =>
    [attachmentId(attachment), attachment.ip4, attachment.ip6].filter(each => each !== undefined)
  for (const claim of claims) {
    for (const want of wants(claim)) claimants.set(want, [...(claimants.get(want) ?? []), claim])
  }
  return claims.filter(claim => {
    const others = wants(claim).flatMap(want => claimants.get(want)!.filter(each => each !== claim))
    const other = others.find(
      each => each.attachment.kind !== 'tun' || claim.attachment.kind === 'tun',
    )
    if (other === undefined) return true
    const { path } = other.namespace
    refuse(log, claim, `${clean(other.link.name)} in ${clean(path, 255)} claims the same`)
    return false
  })
}

function isOurs({ kind, name }: Link): boolean {
  return kind === 'veth' && /^hw[0-9a-f]{12}$/.test(name)
}
