/**
 * What was dropped behind the workers' backs: by the tc programs, which count it themselves, and by the TAP
 * when its queues were full. What is new goes into the counters of worker 0, under reasons and fields that no
 * worker writes.
 */
import { DROP_RX_FULL, DROP_TAP_GONE, DROP_VXLAN_DEVICE, DROP_VXLAN_PEER } from '../drops.ts'
import { type Arena, COUNTER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import { droppedBy } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'
import { countOf, type TcMaps } from '../tc/maps.ts'

const REASONS = [DROP_VXLAN_PEER, DROP_VXLAN_DEVICE, DROP_TAP_GONE] as const

export class TrunkDrops {
  private readonly arena: Arena
  private readonly maps: TcMaps
  private ifindex: number
  /** By reason, at the last look. */
  private readonly seen = new Map<number, number>()

  constructor(arena: Arena, maps: TcMaps, ifindex: number) {
    this.arena = arena
    this.maps = maps
    // What the TAP of an earlier process has dropped is not ours.
    this.ifindex = ifindex
    this.seen.set(DROP_RX_FULL, full(ifindex))
  }

  /** Another TAP has come. */
  follow(ifindex: number): void {
    this.ifindex = ifindex
    this.seen.set(DROP_RX_FULL, 0)
  }

  /** `port`: the trunk's. */
  count(port: number): void {
    for (const reason of REASONS) this.add(reason, countOf(this.maps, reason), port)
    this.add(DROP_RX_FULL, full(this.ifindex), port)
  }

  private add(reason: number, now: number, port: number): void {
    const fresh = Math.max(0, now - (this.seen.get(reason) ?? 0))
    this.seen.set(reason, now)
    const counters = this.arena.counters(0)
    counters[COUNTER.DROPS + reason]! += fresh
    if (port >= 0) counters[portCounters(port) + PORT_COUNTER.KERNEL_DROPS]! += fresh
  }
}

/** Frames that found a queue of the TAP full. */
function full(ifindex: number): number {
  const nl = new Netlink('')
  try {
    return droppedBy(nl, ifindex)
  } finally {
    nl.close()
  }
}
