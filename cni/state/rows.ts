/** What the state file (state.ts) holds, and its rows. */

import type { AttachKind } from '../../dataplane/control.ts'
import { parseAddress } from '../netip/cidr.ts'
import type { AttachmentKey, Delegation } from '../spec/attachment.ts'
import type { Runtime } from '../spec/runtime-config.ts'

export interface Attachment extends AttachmentKey {
  phase: 'reserved' | 'attached'
  /** Path of the namespace, and which namespace it was: device and inode, decimal. */
  netns: string
  netnsDev: string
  netnsIno: string
  kind: AttachKind
  /** What the configuration asked for while reserved; what the interface has once attached. */
  mtu?: number
  ip4?: string
  ip6?: string
  /** Namespace and name of the pod, for people; empty when the runtime didn't say. */
  pod: string
  /** Milliseconds since 1970. */
  created: number
  /** What the runtime asked for beside addresses; JSON in the row. */
  runtime?: Runtime
  /** Name of the overlay network that it is in; absent: the cluster's own. */
  overlay?: string
}

/** A further interface of an attachment's pod, and what its plugins were called with (secondaries.ts). */
export interface Secondary extends Omit<Delegation, 'type'> {
  /** From 0, in the order in which they are made. */
  position: number
  /** What the last of its plugins answered, as JSON; absent: they haven't all done so. */
  result?: string
}

export type Row = Record<string, string | number | null>

export function words(key: AttachmentKey): [string, string, string] {
  return [key.network, key.containerId, key.ifname]
}

export function keyOf(row: Row): AttachmentKey {
  return {
    network: String(row['network']),
    containerId: String(row['container']),
    ifname: String(row['ifname']),
  }
}

export function secondaryOf(row: Row): Secondary {
  const text = (name: string): string => String(row[name])
  return {
    position: Number(row['position']),
    netns: text('netns'),
    args: text('args'),
    path: text('path'),
    config: text('config'),
    ...(row['result'] == null ? {} : { result: text('result') }),
    created: Number(row['created']),
  }
}

export function addressesOf({ ip4, ip6 }: Attachment): [family: 4 | 6, address: string][] {
  const found: [4 | 6, string][] = []
  if (ip4 !== undefined) found.push([4, ip4])
  if (ip6 !== undefined) found.push([6, ip6])
  return found
}

export function value(address: unknown): bigint {
  const parsed = parseAddress(String(address))
  if (!parsed.ok) throw new Error(`address ${JSON.stringify(address)}: ${parsed.cause}`)
  return parsed.value.value
}

export function fromRow(row: Row): Attachment {
  const text = (name: string): string => String(row[name])
  return {
    network: text('network'),
    containerId: text('container'),
    ifname: text('ifname'),
    phase: text('phase') as Attachment['phase'],
    netns: text('netns'),
    netnsDev: text('netnsDev'),
    netnsIno: text('netnsIno'),
    kind: text('kind') as AttachKind,
    ...(row['mtu'] == null ? {} : { mtu: Number(row['mtu']) }),
    ...(row['ip4'] == null ? {} : { ip4: text('ip4') }),
    ...(row['ip6'] == null ? {} : { ip6: text('ip6') }),
    pod: text('pod'),
    created: Number(row['created']),
    ...(row['runtime'] == null ? {} : { runtime: JSON.parse(text('runtime')) as Runtime }),
    ...(row['overlay'] == null ? {} : { overlay: text('overlay') }),
  }
}
