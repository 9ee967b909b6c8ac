/**
 * MAC addresses of the underlay's next hops. The kernel resolves and watches them (it has ARP,
 * neighbour discovery and their timers); we ask it to, and copy the answer into the next hop table.
 */
import { getNeighbour, useNeighbour } from '../netlink/neighbour.ts'
import { lookupRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'

/** Milliseconds between two looks at a VTEP that is not resolved yet, and at one that is. */
const UNRESOLVED_MS = 25
const RESOLVED_MS = 10_000
/** Looks at an unresolved VTEP before it is asked for as rarely as a resolved one, in between once a second. */
const EAGER_LOOKS = 80
const PATIENT_MS = 1000

interface Wanted {
  mac: string | undefined
  looks: number
  due: number
}

export class Neighbours {
  private readonly ifindex: number
  private readonly nl = new Netlink('')
  private readonly wanted = new Map<string, Wanted>()
  private readonly changed: (vtep: string, mac: string | undefined) => void
  private timer: NodeJS.Timeout | undefined

  /** `changed` is called whenever the MAC behind a VTEP becomes known or another one. */
  constructor(ifindex: number, changed: (vtep: string, mac: string | undefined) => void) {
    this.ifindex = ifindex
    this.changed = changed
  }

  /** The MAC behind `vtep`, if it is known already; from now on it is watched. */
  watch(vtep: string): string | undefined {
    const known = this.wanted.get(vtep)
    if (known !== undefined) return known.mac
    const entry: Wanted = { mac: undefined, looks: 0, due: 0 }
    this.wanted.set(vtep, entry)
    this.look(vtep, entry, false)
    this.schedule()
    return entry.mac
  }

  forget(vtep: string): void {
    this.wanted.delete(vtep)
  }

  close(): void {
    clearTimeout(this.timer)
    this.wanted.clear()
    this.nl.close()
  }

  private schedule(): void {
    clearTimeout(this.timer)
    if (this.wanted.size === 0) return
    let due = Number.POSITIVE_INFINITY
    for (const entry of this.wanted.values()) due = Math.min(due, entry.due)
    this.timer = setTimeout(() => this.round(), Math.max(1, due - performance.now()))
    this.timer.unref()
  }

  private round(): void {
    const now = performance.now()
    for (const [vtep, entry] of this.wanted) if (entry.due <= now) this.look(vtep, entry, true)
    this.schedule()
  }

  private look(vtep: string, entry: Wanted, tell: boolean): void {
    const mac = this.resolve(vtep)
    entry.looks = mac === undefined ? entry.looks + 1 : 0
    const pause =
      mac !== undefined ? RESOLVED_MS : entry.looks < EAGER_LOOKS ? UNRESOLVED_MS : PATIENT_MS
    entry.due = performance.now() + pause
    // A neighbour that went silent keeps its last MAC: the peer may be back before the kernel knows.
    if (mac === undefined || mac === entry.mac) return
    entry.mac = mac
    if (tell) this.changed(vtep, mac)
  }

  /** Looks into the kernel's tables, and has it confirm or find the neighbour. */
  private resolve(vtep: string): string | undefined {
    try {
      const route = lookupRoute(this.nl, vtep)
      if (route.ifindex !== this.ifindex) return undefined
      const address = route.gateway ?? vtep
      const found = getNeighbour(this.nl, this.ifindex, address)
      useNeighbour(this.nl, { ifindex: this.ifindex, address })
      return found?.mac
    } catch {
      // No route, or the device is down: asked again later.
      return undefined
    }
  }
}
