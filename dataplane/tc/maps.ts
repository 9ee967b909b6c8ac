/** The maps of the tc programs: what the main thread tells them, and what they count. */
import { native } from '../../native/native.ts'
import { DROP_SLOTS } from '../drops.ts'
import { MAX_NEXT_HOPS, MAX_PORTS } from '../limits.ts'
import { TAG_VALUE_BYTES } from './tag.ts'
import { PEER_KEY_BYTES, TUNNEL_BYTES } from './tunnel.ts'

const BPF_MAP_TYPE_HASH = 1
const BPF_MAP_TYPE_ARRAY = 2
const BPF_MAP_TYPE_PERCPU_ARRAY = 6

/** Index in the map of devices. */
export const DEVICE_TAP = 0
export const DEVICE_VXLAN = 1

/** Bytes of what is known of a pod's port: index of the node's end of its veth, MACs of the pod's end and the node's. */
export const POD_BYTES = 16
export const POD = { IFINDEX: 0, MACS: 4 } as const

export interface TcMaps {
  /** By DEVICE_*: index of the interface. */
  readonly devices: number
  /** By index of the node's end of a pod's veth: its tag. */
  readonly senders: number
  /** By port: POD. */
  readonly pods: number
  /** By VNI and VTEP (tunnel.ts, `peerKey`): the peer's tag. */
  readonly peers: number
  /** By next hop: a tunnel. */
  readonly tunnels: number
  /** By number of the reason (drops.ts), of each CPU. */
  readonly drops: number
  close(): void
}

/** Throws with cause and remedy; then none of them stays. */
export function createMaps(): TcMaps {
  const open: number[] = []
  const close = (): void => {
    for (const fd of open.splice(0)) native.close(fd)
  }
  const create = (type: number, key: number, value: number, entries: number, name: string) => {
    open.push(native.bpfMapCreate(type, key, value, entries, name))
    return open.at(-1)!
  }
  try {
    return {
      devices: create(BPF_MAP_TYPE_ARRAY, 4, 4, 2, 'hawser_devices'),
      senders: create(BPF_MAP_TYPE_HASH, 4, TAG_VALUE_BYTES, MAX_PORTS, 'hawser_senders'),
      pods: create(BPF_MAP_TYPE_ARRAY, 4, POD_BYTES, MAX_PORTS, 'hawser_pods'),
      peers: create(
        ...([BPF_MAP_TYPE_HASH, PEER_KEY_BYTES, TAG_VALUE_BYTES] as const),
        ...([MAX_NEXT_HOPS, 'hawser_peers'] as const),
      ),
      tunnels: create(BPF_MAP_TYPE_ARRAY, 4, TUNNEL_BYTES, MAX_NEXT_HOPS, 'hawser_tunnels'),
      drops: create(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, DROP_SLOTS, 'hawser_drops'),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/** A key or value of one word. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

/** What the programs have dropped for `reason`, on all CPUs. */
export function countOf(maps: TcMaps, reason: number): number {
  const bytes = new Uint8Array(8 * native.possibleCpus())
  native.bpfMapLookup(maps.drops, u32(reason), bytes)
  const view = new DataView(bytes.buffer)
  let sum = 0
  for (let at = 0; at < bytes.length; at += 8) sum += Number(view.getBigUint64(at, true))
  return sum
}
