/**
 * The ways to the peers' VTEPs, as the kernel knows them: it has routes, rules, ARP and neighbour
 * discovery with their timers; we ask it, and are told when to ask again (netlink/watch.ts).
 *
 * A way is asked for with our source address, protocol and port, so that rules count. It has a
 * neighbour: the gateway, or the VTEP itself. Its MAC is looked up by neighbour, not by peer: when a
 * gateway fails over, all its peers follow at once. Only frames that we write ourselves need a MAC, so
 * the kernel is made to resolve neighbours only on the devices that we serve by AF_XDP: it sees nothing
 * of that traffic, so we also have it confirm those that have gone stale.
 *
 * A neighbour that went silent keeps its last MAC: it may be back before the kernel knows.
 */
import { getLink, type Link } from '../netlink/link.ts'
import { listNeighbours, type Neighbour, useNeighbour } from '../netlink/neighbour.ts'
import { lookupRoute } from '../netlink/route.ts'
import { Netlink } from '../netlink/socket.ts'
import { PROTO_UDP } from '../wire/numbers.ts'

/** Milliseconds between two looks while a neighbour is not resolved, and when all are. */
export const UNRESOLVED_MS = 1000
export const RESOLVED_MS = 2_000
/** Ways that are asked for again at each of these looks: each end of a way learns its path MTU in one of them. */
const SOME = 64
/** Ways that are asked for before other work has its turn. */
const SLICE = 256

export interface Way {
  /** Undefined: there is none. */
  device: Link | undefined
  /** Address of the gateway, or of the peer. */
  neighbour: string
  /** Undefined: not known yet, or not needed. */
  mac: string | undefined
  /** Largest outer packet: the device's MTU, or what the route says if that is less. */
  mtu: number
  /** Why nothing gets there. */
  problem: string | undefined
}

interface Hop {
  ifindex: number
  address: string
  mac: string | undefined
}

interface Route {
  hop: Hop | undefined
  mtu: number | undefined
  problem: string | undefined
}

export class Ways {
  /** Devices whose neighbours must be known, by index. */
  readonly served = new Set<number>()
  private socket: Netlink | undefined
  private readonly source: string
  private readonly port: number
  private readonly routes = new Map<string, Route>()
  private readonly hops = new Map<string, Hop>()
  private readonly devices = new Map<number, Link | undefined>()
  /** Where `lookAtSome` goes on. */
  private next = 0

  /** `source`: this node's VTEP; `port`: VXLAN's. */
  constructor(source: string, port: number) {
    this.source = source
    this.port = port
  }

  /** As of the last look; undefined for who is no peer. */
  to(vtep: string): Way | undefined {
    const route = this.routes.get(vtep)
    if (route === undefined) return undefined
    const { hop, problem, mtu } = route
    const device = hop === undefined ? undefined : this.devices.get(hop.ifindex)
    const most = device?.mtu ?? Number.POSITIVE_INFINITY
    return {
      device,
      neighbour: hop?.address ?? vtep,
      mac: hop?.mac,
      mtu: Math.min(most, mtu ?? Number.POSITIVE_INFINITY),
      problem: problem ?? deviceProblem(device),
    }
  }

  get vteps(): string[] {
    return [...this.routes.keys()]
  }

  /** These are the peers now. Asks for the ways to those that are new; `look` gives what is known of the rest. */
  async follow(vteps: readonly string[]): Promise<void> {
    const wanted = new Set(vteps)
    for (const vtep of this.routes.keys()) if (!wanted.has(vtep)) this.routes.delete(vtep)
    const added = vteps.filter(vtep => !this.routes.has(vtep))
    await this.inSlices(added, vtep => this.routes.set(vtep, this.ask(vtep)))
    this.lookAtDevices()
    this.lookAtNeighbours()
  }

  /** Asks for all again. */
  async look(): Promise<void> {
    await this.inSlices(this.vteps, vtep => {
      // It may be gone since.
      if (this.routes.has(vtep)) this.routes.set(vtep, this.ask(vtep))
    })
    this.lookAtDevices()
    this.lookAtNeighbours()
  }

  /** Asks for some again, others than the last time: nothing tells of a path MTU that the kernel has learnt. */
  lookAtSome(): void {
    const vteps = this.vteps
    for (let k = 0; k < Math.min(SOME, vteps.length); k++) {
      const vtep = vteps[this.next++ % vteps.length]!
      this.routes.set(vtep, this.ask(vtep))
    }
    this.lookAtDevices()
    this.lookAtNeighbours()
  }

  /** Reads the kernel's neighbours, and has it find or confirm those that are wanted. */
  lookAtNeighbours(): void {
    const used = new Set([...this.routes.values()].map(({ hop }) => hop))
    for (const [key, hop] of this.hops) if (!used.has(hop)) this.hops.delete(key)
    const wanted = [...this.hops.values()].filter(({ ifindex }) => this.served.has(ifindex))
    if (wanted.length === 0) return
    const known = new Map<string, Neighbour>()
    for (const each of listNeighbours(this.netlink))
      known.set(keyOf(each.ifindex, each.address), each)
    for (const hop of wanted) {
      const found = known.get(keyOf(hop.ifindex, hop.address))
      if (found?.valid === true && found.mac !== undefined) hop.mac = found.mac
      if (found === undefined || !found.valid || found.state === 'stale') this.use(hop)
    }
  }

  /** Whether a neighbour that is needed is not known. */
  get unresolved(): boolean {
    return [...this.hops.values()].some(
      ({ ifindex, mac }) => mac === undefined && this.served.has(ifindex),
    )
  }

  /** The device of that index, as it is now; undefined when it is gone. */
  device(index: number): Link | undefined {
    return getLink(this.netlink, index)
  }

  /** Opened when it is first needed. */
  get netlink(): Netlink {
    this.socket ??= new Netlink('')
    return this.socket
  }

  close(): void {
    this.socket?.close()
  }

  private use({ ifindex, address }: Hop): void {
    try {
      useNeighbour(this.netlink, { ifindex, address })
    } catch {
      // The device is down or gone: its own look says so.
    }
  }

  private ask(vtep: string): Route {
    try {
      const key = { source: this.source, protocol: PROTO_UDP, port: this.port }
      const { ifindex, gateway, mtu, type } = lookupRoute(this.netlink, vtep, key)
      if (type !== 'unicast') return refused(`the route to ${vtep} is of type ${type}`)
      return { hop: this.hop(ifindex, gateway ?? vtep), mtu, problem: undefined }
    } catch (error) {
      return refused(error instanceof Error ? error.message : String(error))
    }
  }

  private hop(ifindex: number, address: string): Hop {
    const key = keyOf(ifindex, address)
    const known = this.hops.get(key)
    if (known !== undefined) return known
    const hop = { ifindex, address, mac: undefined }
    this.hops.set(key, hop)
    return hop
  }

  private lookAtDevices(): void {
    const indices = new Set([...this.routes.values()].flatMap(({ hop }) => hop?.ifindex ?? []))
    this.devices.clear()
    for (const index of indices) this.devices.set(index, getLink(this.netlink, index))
  }

  private async inSlices(vteps: readonly string[], work: (vtep: string) => void): Promise<void> {
    for (let first = 0; first < vteps.length; first += SLICE) {
      if (first > 0) await new Promise(resolve => setImmediate(resolve))
      for (const vtep of vteps.slice(first, first + SLICE)) work(vtep)
    }
  }
}

/** Why nothing leaves by a device. */
export function deviceProblem(device: Link | undefined): string | undefined {
  if (device === undefined) return 'its device is gone'
  if (!device.up) return `device ${device.name} is down`
  return device.running ? undefined : `device ${device.name} has no carrier`
}

function refused(problem: string): Route {
  return { hop: undefined, mtu: undefined, problem }
}

function keyOf(ifindex: number, address: string): string {
  return `${ifindex} ${address}`
}
