/**
 * The node's trunk as the main thread keeps it: the TAP that all pods of kind `tap` and the kernel's vxlan
 * device stand behind, the tc programs, and what those are told (tc/). It is opened when it is first needed,
 * and costs a pod no descriptor.
 *
 *   pod's veth ── pod_up ──┐                     ┌── down ── pod's veth
 *                          ├── TAP ── workers ── TAP
 *   vxlan ────── peer_up ──┘                     └── down ── vxlan
 *
 * Programs stay with their devices, and the devices stay, when the process ends: without a worker the TAP has
 * no queue, and nothing passes. The next process puts its own programs in their place before it sets the TAP
 * up, so a worker never meets a tag that another process has written.
 *
 * The maps follow the tables: what a worker's frame may name is known to the programs before a worker knows
 * it. Next hops are taken over behind each change of the tables (tables/tables.ts).
 */
import { native } from '../../native/native.ts'
import { macBytes } from '../addresses.ts'
import { openTap, startTap } from '../devices/tap.ts'
import { closeTun, removeTun, type TunDevice } from '../devices/tun.ts'
import type { VethPair } from '../devices/veth.ts'
import { openVxlan, removeVxlan, startVxlan, type VxlanSpec } from '../devices/vxlan.ts'
import { TAP_DEVICE, VXLAN_DEVICE } from '../limits.ts'
import type { Arena } from '../memory/arena.ts'
import { getLink } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'
import { PORT_KIND, PORT_ROLE } from '../ports/port.ts'
import { HOP, type NextHop } from '../tables/next-hops.ts'
import { NO_PORT, type PortRecord } from '../tables/ports.ts'
import type { TableWriter } from '../tables/tables.ts'
import { attachTc } from '../tc/attach.ts'
import {
  createMaps,
  DEVICE_TAP,
  DEVICE_VXLAN,
  POD,
  POD_BYTES,
  type TcMaps,
  u32,
} from '../tc/maps.ts'
import { DOWN, down, PEER_UP, POD_UP, peerUp, podUp } from '../tc/programs.ts'
import { TAG_PEER, TAG_POD, tagValue } from '../tc/tag.ts'
import { peerKey, TUNNEL_BYTES } from '../tc/tunnel.ts'
import type { Conditions } from '../weather/conditions.ts'
import { TrunkDrops } from './drops.ts'

/** Its trouble, and what its mendings are counted by. */
const KEY = 'trunk'

/** What the trunk needs of the engine (manage/port-slots.ts, next-hop-slots.ts). */
export interface TrunkHome {
  readonly arena: Arena
  readonly tables: TableWriter
  readonly ports: {
    reserve(): number
    cancel(index: number): void
    activate(index: number, record: Omit<PortRecord, 'state'>): void
    remove(index: number, closeKernel: () => unknown): Promise<void>
    readonly counted: (() => void)[]
  }
  readonly hops: {
    takeWritten(tell: (id: number, hop: NextHop | undefined, stamp: number) => void): void
  }
  /** Queues of the TAP. */
  readonly workers: number
}

/** The node's end of the overlay. */
export interface TrunkVxlan extends Omit<VxlanSpec, 'name'> {
  vtep: string
}

interface Open {
  readonly maps: TcMaps
  readonly programs: { readonly podUp: number; readonly down: number; peerUp?: number }
  readonly drops: TrunkDrops
  device: TunDevice
  /** No earlier process had made the device. */
  readonly isNew: boolean
  port: number
}

interface Vxlan {
  spec: VxlanSpec
  ifindex: number
  /** No earlier process had made the device. */
  readonly isNew: boolean
}

export class Trunk {
  readonly name = TAP_DEVICE
  private readonly home: TrunkHome
  private open: Open | undefined
  private vxlan: Vxlan | undefined
  /** By peer and network, as the map of peers has it: the next hop that leads there. */
  private readonly peers = new Map<string, number>()
  /** By next hop: its key there. */
  private readonly keys = new Map<number, Uint8Array>()

  constructor(home: TrunkHome) {
    this.home = home
    home.tables.behind.push(() => home.hops.takeWritten((...hop) => this.followHop(...hop)))
    home.ports.counted.push(() => this.open?.drops.count(this.open.port))
  }

  /** Index of its port; -1 before it is opened. */
  get port(): number {
    return this.open?.port ?? -1
  }

  /** Makes the TAP and attaches the programs, unless that is done. Throws with cause and remedy; then nothing of it stays. */
  start(): void {
    if (this.open !== undefined) return
    try {
      this.make()
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error)
      throw Object.assign(
        new Error(`TAP ${this.name}: ${cause}; pods can be attached by "tun"`, { cause: error }),
        { code: (error as { code?: string }).code },
      )
    }
  }

  private make(): void {
    const undo: (() => void)[] = []
    try {
      const maps = createMaps()
      undo.push(() => maps.close())
      const program = (instructions: Uint8Array, name: string): number => {
        const fd = native.bpfLoadTc(instructions, name)
        undo.push(() => native.close(fd))
        return fd
      }
      const programs = { podUp: program(podUp(maps), POD_UP), down: program(down(maps), DOWN) }
      const isNew = native.interfaceIndex('', this.name) === 0
      const device = openTap(this.name, this.home.workers)
      undo.push(() => (isNew ? removeTun(device) : closeTun(device)))
      const drops = new TrunkDrops(this.home.arena, maps, device.ifindex)
      this.open = { maps, programs, drops, device, isNew, port: -1 }
      this.serve(this.open)
    } catch (error) {
      this.open = undefined
      for (const step of undo.reverse()) step()
      throw error
    }
  }

  /** Its programs first, then the device, then the workers. */
  private serve(open: Open): void {
    const { ports, tables } = this.home
    const { maps, programs, device } = open
    attach(programs.down, device.ifindex, DOWN)
    native.bpfMapUpdate(maps.devices, u32(DEVICE_TAP), u32(device.ifindex))
    startTap(device.ifindex, this.name)
    const port = ports.reserve()
    const record = { ...NO_PORT, kind: PORT_KIND.TRUNK, role: PORT_ROLE.TRUNK }
    tables.change(() =>
      ports.activate(port, { ...record, ifindex: device.ifindex, fds: device.fds }),
    )
    open.port = port
  }

  /** What workers send by `port` goes to this pod; what it sends by the node's end of its veth goes nowhere until `admit`. */
  add(port: number, pair: VethPair): void {
    this.start()
    this.follow(port, pair)
    attach(this.open!.programs.podUp, pair.hostIndex, POD_UP)
  }

  /** Workers serve the port: what the pod sends goes up. */
  admit(port: number, hostIndex: number): void {
    if (this.open === undefined) return
    const tag = tagValue(TAG_POD, port, hostIndex)
    native.bpfMapUpdate(this.open.maps.senders, u32(hostIndex), tag)
  }

  /** The MACs of its link are these now. */
  follow(port: number, { hostIndex, hostMac, podMac }: VethPair): void {
    if (this.open === undefined) return
    const value = new Uint8Array(POD_BYTES)
    value.set(u32(hostIndex), POD.IFINDEX)
    value.set(macBytes(podMac), POD.MACS)
    value.set(macBytes(hostMac), POD.MACS + 6)
    native.bpfMapUpdate(this.open.maps.pods, u32(port), value)
  }

  /** Nothing goes to that port, or comes from it, any more. */
  remove(port: number, hostIndex: number): void {
    if (this.open === undefined) return
    const { maps } = this.open
    deleteKey(maps.senders, u32(hostIndex))
    native.bpfMapUpdate(maps.pods, u32(port), new Uint8Array(POD_BYTES))
  }

  /**
   * Opens the vxlan device: what next hops with a tunnel lead to goes out by it, and what their peers send
   * comes in. Throws with cause and remedy; then nothing of it stays.
   */
  startVxlan({ vtep, port, mac }: TrunkVxlan): void {
    this.start()
    const { maps, programs } = this.open!
    programs.peerUp ??= native.bpfLoadTc(peerUp(maps, vtep), PEER_UP)
    this.serveVxlan({ name: VXLAN_DEVICE, port, mac })
  }

  private serveVxlan(spec: VxlanSpec): void {
    const { maps, programs } = this.open!
    const { index, up } = openVxlan(spec)
    try {
      attach(programs.peerUp!, index, PEER_UP)
      startVxlan(index, spec)
    } catch (error) {
      if (!up) removeVxlan(spec.name)
      throw error
    }
    native.bpfMapUpdate(maps.devices, u32(DEVICE_VXLAN), u32(index))
    this.vxlan = { spec, ifindex: index, isNew: !up }
  }

  /** This node's inner MAC is this now. */
  setMac(mac: string): void {
    if (this.vxlan === undefined || this.vxlan.spec.mac === mac) return
    this.vxlan.spec = { ...this.vxlan.spec, mac }
    startVxlan(this.vxlan.ifindex, this.vxlan.spec)
  }

  /** A next hop is this now. */
  private followHop(id: number, hop: NextHop | undefined, stamp: number): void {
    const tunnel = hop?.kind === HOP.VXLAN ? hop.tunnel : undefined
    const before = this.keys.get(id)
    if (this.open === undefined || (tunnel === undefined && before === undefined)) return
    const { maps } = this.open
    const key = tunnel === undefined ? undefined : peerKey(tunnel)
    native.bpfMapUpdate(maps.tunnels, u32(id), tunnel ?? new Uint8Array(TUNNEL_BYTES))
    if (key !== undefined) {
      native.bpfMapUpdate(maps.peers, key, tagValue(TAG_PEER, id, stamp))
      this.peers.set(textOf(key), id)
      this.keys.set(id, key)
    } else this.keys.delete(id)
    if (before === undefined || (key !== undefined && textOf(before) === textOf(key))) return
    // Another peer may have its VTEP by now.
    if (this.peers.get(textOf(before)) !== id) return
    deleteKey(maps.peers, before)
    this.peers.delete(textOf(before))
  }

  /** Puts right what others have done to the devices, or raises a trouble that blocks. */
  async look(conditions: Conditions): Promise<void> {
    if (this.open === undefined) return
    try {
      await this.mendTap(this.open, conditions)
      if (this.vxlan !== undefined) this.mendVxlan(this.vxlan, conditions)
      conditions.clear(KEY)
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error)
      conditions.raise(KEY, `pods of kind "tap" or the overlay are cut off: ${cause}`, {
        blocking: true,
      })
    }
  }

  private async mendTap(open: Open, conditions: Conditions): Promise<void> {
    if (isThere(open.device.ifindex, 'tun')) {
      const wrong = startTap(open.device.ifindex, this.name)
      if (wrong.length > 0) conditions.mended(KEY, `${this.name} is put right: ${wrong.join(', ')}`)
      return
    }
    const old = { device: open.device, port: open.port }
    open.device = openTap(this.name, this.home.workers)
    open.drops.follow(open.device.ifindex)
    this.serve(open)
    conditions.mended(KEY, `${this.name} was deleted and is made anew`)
    await this.home.ports.remove(old.port, () => closeTun(old.device))
  }

  private mendVxlan({ ifindex, spec }: Vxlan, conditions: Conditions): void {
    if (isThere(ifindex, 'vxlan')) {
      const wrong = startVxlan(ifindex, spec)
      if (wrong.length > 0) conditions.mended(KEY, `${spec.name} is put right: ${wrong.join(', ')}`)
      return
    }
    this.serveVxlan(spec)
    conditions.mended(KEY, `${spec.name} was deleted and is made anew`)
  }

  /** Closes every descriptor; devices and programs stay, unless `undo` is given and this process has made them. */
  close({ undo = false } = {}): void {
    const { open, vxlan } = this
    this.open = undefined
    this.vxlan = undefined
    if (undo && vxlan?.isNew === true) removeVxlan(vxlan.spec.name)
    if (open === undefined) return
    const { device, maps, programs, isNew } = open
    if (undo && isNew) removeTun(device)
    else closeTun(device)
    for (const fd of Object.values(programs)) native.close(fd)
    maps.close()
  }
}

function attach(program: number, ifindex: number, name: string): void {
  const nl = new Netlink('')
  try {
    attachTc(nl, program, ifindex, name)
  } finally {
    nl.close()
  }
}

function isThere(ifindex: number, kind: string): boolean {
  const nl = new Netlink('')
  try {
    return getLink(nl, ifindex)?.kind === kind
  } finally {
    nl.close()
  }
}

/** It may be gone. */
function deleteKey(map: number, key: Uint8Array): void {
  try {
    native.bpfMapDelete(map, key)
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error
  }
}

function textOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('hex')
}
