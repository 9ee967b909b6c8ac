/**
 * The node's own port as the engine has it: its device, port and next hop, and what the kernel must have
 * for it. Others may touch the device: restart the network, flush it, delete it. `look` finds that out
 * and mends it; a device that was deleted is made anew, under a new port. The next hop stays the same, so
 * no route of the engine changes.
 */
import { native } from '../../native/native.ts'
import { type HostRoutes, openHost, routeCluster } from '../devices/host.ts'
import { closeTun, removeTun, type TunDevice } from '../devices/tun.ts'
import { NO_HOP } from '../manage/next-hop-slots.ts'
import type { Parts } from '../manage/parts.ts'
import { getLink, type Link, setLink } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { HOP } from '../tables/next-hops.ts'
import { NO_PORT } from '../tables/ports.ts'
import type { Conditions } from '../weather/conditions.ts'
import { Switches } from './switches.ts'

/** Its trouble, and what its mendings are counted by. */
const KEY = 'host device'
/**
 * The kernel tells of most switches (RTM_NEWNETCONF). For the rest attaches look, but no burst of pods at each:
 * where a node has hundreds of namespaces a look takes a millisecond.
 */
const SWITCHES_MS = 1000
/** Words of what was lacking that a line of the log has. */
const MAX_NAMED = 5

export class HostPort {
  readonly name: string
  /** Index of its port. */
  port = -1
  /** Its next hop. */
  hop = 0
  /** Whether ports of 127.0.0.1 lead to pods. */
  localnet = false
  private readonly parts: Parts
  private readonly mtu: number
  private readonly conditions: Conditions
  private readonly moved: () => void
  private readonly switches = new Switches()
  /** When they were looked at last, ms of performance.now(). */
  private mendedAt = Number.NEGATIVE_INFINITY
  private device: TunDevice | undefined
  /** No earlier process had made the device. */
  private isNew = false
  private wanted: HostRoutes = { addresses: [], destinations: [] }

  /** `moved` is called inside a change of the tables when `port` has become another one. */
  constructor(
    parts: Parts,
    { name, mtu, conditions }: { name: string; mtu: number; conditions: Conditions },
    moved: () => void,
  ) {
    this.parts = parts
    this.name = name
    this.mtu = mtu
    this.conditions = conditions
    this.moved = moved
  }

  open(): void {
    const { hops, tables } = this.parts
    this.isNew = native.interfaceIndex('', this.name) === 0
    this.device = openHost(this.name, this.parts.workers, this.mtu)
    this.port = this.parts.ports.reserve()
    tables.change(() => {
      this.activate()
      const { port, mtu } = this
      this.hop = hops.add({ ...NO_HOP, kind: HOP.PORT, port, mtu })
    })
    this.switches.mend(this.facts())
  }

  /** The device has these, and nothing else. Returns when the kernel has them. */
  follow(wanted: HostRoutes): void {
    this.wanted = wanted
    // While somebody has taken the device away `look` makes it anew, with all of it.
    const link = this.link()
    if (link === undefined) return
    this.mendSwitches()
    routeCluster(link.index, wanted, true)
  }

  /** Puts right what others have changed, or raises a trouble that blocks. */
  async look(): Promise<void> {
    const { conditions, name } = this
    try {
      const link = this.link()
      if (link === undefined) await this.remake()
      else this.mend(link)
      conditions.clear(KEY)
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error)
      const sentence = `${name}, the node's own port, is not as it should be: ${cause}`
      conditions.raise(KEY, sentence, { blocking: true })
    }
  }

  /** As `mendSwitches`, unless that was less than SWITCHES_MS ago: for each attach. */
  mendSwitchesAgain(): boolean {
    return performance.now() - this.mendedAt >= SWITCHES_MS && this.mendSwitches()
  }

  /** The kernel's switches alone. Returns whether any was wrong. */
  mendSwitches(): boolean {
    this.mendedAt = performance.now()
    const changed = this.switches.mend(this.facts())
    if (changed.length === 0) return false
    this.conditions.mended('switches', `the kernel's switches are put right: ${changed.join(', ')}`)
    return true
  }

  private facts() {
    const six = this.wanted.addresses.some(address => address.includes(':'))
    return { device: this.name, six, localnet: this.localnet }
  }

  private mend(link: Link): void {
    const { name, mtu } = this
    const lacking: string[] = []
    const nl = new Netlink('')
    try {
      if (link.name !== name) {
        // Kernels before 6.2 rename no device that is up.
        setLink(nl, link.index, { up: false })
        setLink(nl, link.index, { name })
        lacking.push(`it was called ${link.name}`)
      }
      if (!link.up) lacking.push('it was down')
      if (link.mtu !== mtu) lacking.push(`its MTU was ${link.mtu}`)
      if (lacking.length > 0) setLink(nl, link.index, { mtu, up: true })
    } finally {
      nl.close()
    }
    this.mendSwitches()
    lacking.push(...routeCluster(link.index, this.wanted, false))
    if (lacking.length === 0) return
    const more = lacking.length > MAX_NAMED ? ` and ${lacking.length - MAX_NAMED} more` : ''
    this.conditions.mended(
      KEY,
      `${name} has its state, addresses and routes again: ${lacking.slice(0, MAX_NAMED).join(', ')}${more}`,
    )
  }

  private async remake(): Promise<void> {
    const { name, conditions, parts } = this
    conditions.raise(KEY, `${name}, the node's own port, is gone`, { blocking: true })
    const old = { device: this.device!, port: this.port }
    // A device of that name that is not ours makes this fail; the next look tries again.
    const device = openHost(name, parts.workers, this.mtu)
    try {
      this.port = parts.ports.reserve()
    } catch (error) {
      closeTun(device)
      throw error
    }
    this.device = device
    parts.tables.change(() => {
      this.activate()
      const { port, mtu } = this
      parts.hops.update(this.hop, { ...NO_HOP, kind: HOP.PORT, port, mtu })
      this.moved()
    })
    this.switches.mend(this.facts())
    routeCluster(device.ifindex, this.wanted, true)
    conditions.mended(KEY, `${name} was deleted and is made anew`)
    await parts.ports.remove(old.port, () => removeTun(old.device))
  }

  private activate(): void {
    const { fds, ifindex } = this.device!
    const record = { ...NO_PORT, kind: PORT_KIND.TUN, role: PORT_ROLE.HOST, ifindex }
    this.parts.ports.activate(this.port, { ...record, mtu: this.mtu, fds })
  }

  private link(): Link | undefined {
    const nl = new Netlink('')
    try {
      const link = getLink(nl, this.device!.ifindex)
      return link?.kind === 'tun' ? link : undefined
    } finally {
      nl.close()
    }
  }

  /** Closes the descriptors; the device stays, unless `undo` is given and this process has made it. */
  close({ undo = false } = {}): void {
    const { device } = this
    this.device = undefined
    if (device === undefined) return
    if (undo && this.isNew) removeTun(device)
    else closeTun(device)
  }
}
