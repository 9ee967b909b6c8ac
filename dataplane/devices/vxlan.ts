/**
 * The kernel's vxlan device in external mode: each packet says where it goes (bpf_skb_set_tunnel_key), and
 * what comes in says where from. It has no VNI, neighbour or forwarding table of its own. It takes the UDP
 * port for itself, over both families.
 */
import { MAX_TUNNELLED_BYTES } from '../limits.ts'
import { createExternalVxlan, deleteLink, getLink, type Link, setLink } from '../netlink/link.ts'
import { Netlink, NetlinkError } from '../netlink/socket.ts'
import { quiet } from './veth.ts'

/** What the device says of itself, with its port: how a later process knows it as ours. */
const ALIAS = 'hawser vxlan '

export interface VxlanSpec {
  name: string
  /** UDP port. */
  port: number
  /** The node's inner MAC. */
  mac: string
}

/** Finds the device that an earlier process has made for this port, or makes it, down until `startVxlan`. Throws with cause and remedy; one of that name that is not ours stays. */
export function openVxlan({ name, port, mac }: VxlanSpec): Link {
  const nl = new Netlink('')
  try {
    const there = getLink(nl, name)
    if (there?.kind === 'vxlan' && there.alias === `${ALIAS}${port}`) return there
    removeOurs(nl, name)
    createExternalVxlan(nl, { name, port, mac, mtu: MAX_TUNNELLED_BYTES })
    const link = getLink(nl, name)
    if (link === undefined) throw new Error(`vxlan device ${name}: it vanished at once`)
    setLink(nl, link.index, { alias: `${ALIAS}${port}` })
    return link
  } catch (error) {
    throw explain(error, name, port)
  } finally {
    nl.close()
  }
}

/** Sets the device up, or right again; returns what was wrong with it, in words. */
export function startVxlan(ifindex: number, { name, port, mac }: VxlanSpec): string[] {
  const nl = new Netlink('')
  try {
    const link = getLink(nl, ifindex)
    if (link === undefined) throw new Error(`vxlan device ${name}: it is gone`)
    const wrong: string[] = []
    if (link.name !== name) {
      setLink(nl, ifindex, { up: false })
      setLink(nl, ifindex, { name })
      wrong.push(`it was called ${link.name}`)
    }
    if (quiet(name)) wrong.push('the node spoke on it')
    if (link.mac !== mac) wrong.push(`it had MAC ${link.mac}`)
    if (link.mtu !== MAX_TUNNELLED_BYTES) wrong.push(`it had MTU ${link.mtu}`)
    if (!link.up) wrong.push('it was down')
    if (wrong.length > 0) setLink(nl, ifindex, { mac, mtu: MAX_TUNNELLED_BYTES, up: true })
    return wrong
  } catch (error) {
    throw explain(error, name, port)
  } finally {
    nl.close()
  }
}

/** Removes the device of that name if an engine has made it: its UDP port is free then. */
export function removeVxlan(name: string): void {
  const nl = new Netlink('')
  try {
    removeOurs(nl, name)
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error
  } finally {
    nl.close()
  }
}

/** Whether a device of that name is one that an engine has made. */
export function isOurVxlan({ kind, alias }: Link): boolean {
  return kind === 'vxlan' && alias?.startsWith(ALIAS) === true
}

function removeOurs(nl: Netlink, name: string): void {
  const link = getLink(nl, name)
  if (link === undefined) return
  if (!isOurVxlan(link)) {
    throw Object.assign(
      new Error(`${name}: a device of that name, not ours, is on this node; rename or remove it`),
      { code: 'EEXIST' },
    )
  }
  deleteLink(nl, link.index)
}

/** Says what to do where the kernel's errno alone doesn't (vxlan_newlink and vxlan_open in drivers/net/vxlan). */
function explain(error: unknown, name: string, port: number): unknown {
  if (!(error instanceof NetlinkError)) return error
  const hint: Record<string, string> = {
    EADDRINUSE: `UDP port ${port} is in use: another vxlan device or program has it; choose another vxlanPort, or remove that`,
    EEXIST: `another external vxlan device has UDP port ${port}; choose another vxlanPort, or remove that`,
    EOPNOTSUPP: 'this kernel has no vxlan devices (CONFIG_VXLAN); use another underlay.mode',
  }
  const help = hint[error.code]
  if (help === undefined) return error
  return Object.assign(new Error(`vxlan device ${name}: ${help}`, { cause: error }), {
    code: error.code,
  })
}
