/**
 * The node and the pods that a plugin is tried in: network namespaces of the runner's own.
 *
 *     node namespace   under0 192.168.77.1/24 ── veth ── under1 192.168.77.2/24
 *                      fd77::1/64                        fd77::2/64
 *                      the plugin, its daemon
 *     pod namespaces   one for each attachment, loopback up
 *
 * What is in them is asked from iproute2, as an administrator would.
 */
import { randomBytes } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import { SocketAddress } from 'node:net'
import { tool } from './process.ts'

const NETNS_FOLDER = '/run/netns'
/** A device of the node that plugins may use as their master. */
export const UNDERLAY = { device: 'under0', addresses: ['192.168.77.1/24', 'fd77::1/64'] } as const
const PEER = { device: 'under1', addresses: ['192.168.77.2/24', 'fd77::2/64'] } as const

export interface Interface {
  name: string
  index: number
  /** Empty when the device has none. */
  mac: string
  mtu: number
  up: boolean
  /** Canonical text, and prefix length. Link-local ones are left out. */
  addresses: { address: string; prefix: number; tentative: boolean }[]
}

export interface Route {
  /** CIDR, canonical. */
  dst: string
  gateway: string | undefined
  device: string
}

export interface Namespaces {
  /** Path of the node's namespace. */
  readonly node: string
  /** A new pod's namespace; its path. */
  pod(): Promise<string>
  remove(path: string): Promise<void>
  removeAll(): Promise<void>
}

/** Makes the node's namespace, or takes that of the process `daemonPid` as the node's. Throws when that is the runner's own. */
export async function makeNamespaces(daemonPid?: number): Promise<Namespaces> {
  const prefix = `hwc-${process.pid.toString(36)}${randomBytes(2).toString('hex')}`
  const names = new Set<string>()
  let serial = 0
  const make = async (label: string): Promise<string> => {
    const name = `${prefix}-${label}`
    await tool('ip', ['netns', 'add', name])
    names.add(name)
    const path = `${NETNS_FOLDER}/${name}`
    await tool('ip', ['link', 'set', 'lo', 'up'], path)
    return path
  }
  const remove = async (path: string): Promise<void> => {
    const name = path.slice(NETNS_FOLDER.length + 1)
    if (names.delete(name)) await tool('ip', ['netns', 'delete', name])
  }
  const removeAll = async (): Promise<void> => {
    for (const name of names) await remove(`${NETNS_FOLDER}/${name}`).catch(() => {})
  }
  if (daemonPid !== undefined) {
    const node = `/proc/${daemonPid}/ns/net`
    if (readlinkSync(node) === readlinkSync('/proc/self/ns/net')) {
      throw new Error(
        `process ${daemonPid} is in the runner's own network namespace: start the daemon in one of its own, so that the host's network is not touched`,
      )
    }
    return { node, pod: () => make(String(++serial)), remove, removeAll }
  }
  try {
    const node = await make('node')
    await makeUnderlay(node)
    return { node, pod: () => make(String(++serial)), remove, removeAll }
  } catch (error) {
    await removeAll()
    throw error
  }
}

async function makeUnderlay(node: string): Promise<void> {
  const pair = ['type', 'veth', 'peer', 'name', PEER.device]
  await tool('ip', ['link', 'add', UNDERLAY.device, ...pair], node)
  for (const { device, addresses } of [UNDERLAY, PEER]) {
    for (const address of addresses) {
      const noDad = address.includes(':') ? ['nodad'] : []
      await tool('ip', ['addr', 'add', address, 'dev', device, ...noDad], node)
    }
    await tool('ip', ['link', 'set', device, 'up'], node)
  }
}

interface IpAddress {
  local?: string
  prefixlen?: number
  scope?: string
  tentative?: boolean
}
interface IpLink {
  ifname?: string
  ifindex: number
  address?: string
  mtu: number
  flags: string[]
  link_type?: string
  addr_info?: IpAddress[]
}

/** The interfaces of a namespace, loopback too. */
export async function interfaces(netns: string): Promise<Interface[]> {
  const links = JSON.parse((await tool('ip', ['-j', 'addr'], netns)) || '[]') as IpLink[]
  return links
    .filter(link => link.ifname !== undefined)
    .map(link => ({
      name: link.ifname!,
      index: link.ifindex,
      mac: link.link_type === 'none' ? '' : (link.address ?? ''),
      mtu: link.mtu,
      up: link.flags.includes('UP'),
      addresses: (link.addr_info ?? [])
        .filter(each => each.local !== undefined && each.scope !== 'link')
        .map(({ local, prefixlen, tentative }) => ({
          address: canonical(local!) ?? local!,
          prefix: prefixlen ?? 0,
          tentative: tentative === true,
        })),
    }))
}

interface IpRoute {
  dst: string
  gateway?: string
  dev?: string
  type?: string
}

/** Routes of the main table, without those that the kernel makes for link-local and multicast. */
export async function routes(netns: string): Promise<Route[]> {
  const found: Route[] = []
  for (const family of ['-4', '-6']) {
    const text = await tool('ip', ['-j', family, 'route', 'show'], netns)
    for (const { dst, gateway, dev } of JSON.parse(text.trim() || '[]') as IpRoute[]) {
      const cidr = canonicalCidr(dst === 'default' ? (family === '-4' ? '0/0' : '::/0') : dst)
      if (cidr === undefined || /^(fe80|ff)/.test(cidr)) continue
      found.push({ dst: cidr, gateway, device: dev ?? '' })
    }
  }
  return found
}

/** What the node has that an attachment could leave behind, one line each. */
export async function inventory(netns: string): Promise<Set<string>> {
  const [links, ways] = [await interfaces(netns), await routes(netns)]
  return new Set([
    ...links.map(link => `link ${link.name}`),
    ...ways.map(way => `route ${way.dst} dev ${way.device}`),
  ])
}

/** Canonical text of an address; undefined when `text` is none. */
export function canonical(text: string): string | undefined {
  const family = text.includes(':') ? 'ipv6' : 'ipv4'
  try {
    return new SocketAddress({ address: text, family }).address
  } catch {
    return undefined
  }
}

/** Canonical text of a CIDR, or of an address as the CIDR that holds it alone. */
export function canonicalCidr(text: string): string | undefined {
  const [base = '', length] = text === '0/0' ? ['0.0.0.0', '0'] : text.split('/')
  const address = canonical(base)
  if (address === undefined) return undefined
  const bits = address.includes(':') ? 128 : 32
  if (length === undefined) return `${address}/${bits}`
  return /^\d{1,3}$/.test(length) && Number(length) <= bits ? `${address}/${length}` : undefined
}
