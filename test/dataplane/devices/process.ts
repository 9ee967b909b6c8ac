/**
 * A process in the network namespace of a node: the functions of dataplane/devices work in their
 * process's own namespace. One call a line comes in as JSON, one answer a line goes out:
 *
 *   {id, name, args}            calls a function of CALLS
 *   {id, on, name, args}        calls a method of what call `on` returned
 *
 * An argument {kept: id} stands for what that call returned.
 */
import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'
import { RING_SLOT_BYTES, RingSlots } from '../../../dataplane/afxdp/ring-slots.ts'
import { Umem } from '../../../dataplane/afxdp/umem.ts'
import * as host from '../../../dataplane/devices/host.ts'
import * as pod from '../../../dataplane/devices/pod.ts'
import * as tun from '../../../dataplane/devices/tun.ts'
import * as underlay from '../../../dataplane/devices/underlay.ts'
import * as veth from '../../../dataplane/devices/veth.ts'
import { Ways } from '../../../dataplane/devices/ways.ts'
import { NextHopSlots } from '../../../dataplane/manage/next-hop-slots.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { Arena } from '../../../dataplane/memory/arena.ts'
import { setMasquerade } from '../../../dataplane/nft/masquerade.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { Trunk } from '../../../dataplane/trunk/trunk.ts'
import { native } from '../../../native/native.ts'
import { smallArena } from '../memory/plan.ts'

let arena: Arena | undefined
let trunk: Trunk | undefined

function newTrunk(workers: number): Trunk {
  const tables = new TableWriter(arena!)
  const ports = new PortSlots(arena!, tables)
  return new Trunk({ arena: arena!, tables, ports, hops: new NextHopSlots(arena!), workers })
}

const CALLS = {
  ...host,
  ...tun,
  ...underlay,
  ...veth,
  setMasquerade,
  /** As openPod, of a pod that will have port 1. */
  openPod(
    spec: Parameters<typeof pod.openPod>[0],
    workers: number,
    adopt: boolean,
    umem: Umem | undefined,
    rings: RingSlots,
  ): Promise<pod.PodDevice> {
    trunk ??= newTrunk(workers)
    return pod.openPod(spec, 1, adopt, { workers, umem, rings, trunk })
  },
  /** Makes the arena with room for `sockets` AF_XDP sockets. */
  slots(sockets: number): RingSlots {
    arena = smallArena({ xdpSockets: sockets, xdpSocketBytes: RING_SLOT_BYTES })
    native.bind(arena.bytes)
    return new RingSlots(arena)
  },
  umem(slots: RingSlots): Promise<Umem> {
    return Umem.create(arena!, slots.root)
  },
  /** Those of `served` are devices whose neighbours must be known. */
  ways(source: string, port: number, served: readonly number[]): Ways {
    const ways = new Ways(source, port)
    for (const index of served) ways.served.add(index)
    return ways
  },
  /** Binds a UDP port as any program would that shares it with nobody. */
  occupy: (address: string, port: number) =>
    new Promise<void>((resolve, reject) => {
      const socket = createSocket({ type: 'udp4', reuseAddr: false }).on('error', reject)
      socket.bind({ address, port, exclusive: true }, resolve)
    }),
  identity: () => String(native.netnsIdentity('').ino),
}

interface Call {
  id: number
  name: string
  on?: number
  args: unknown[]
}

const kept = new Map<number, unknown>()

function say(answer: object): void {
  // Memory and what holds it stay here.
  const plain = (_: string, value: unknown) =>
    ArrayBuffer.isView(value) || value instanceof Arena || value instanceof Ways ? undefined : value
  console.log(JSON.stringify(answer, plain))
}

async function run({ id, name, on, args }: Call): Promise<void> {
  try {
    const target = on === undefined ? CALLS : kept.get(on)
    const call = (target as Record<string, (...args: unknown[]) => unknown>)[name]!
    const given = args.map(each => {
      const reference = (each as { kept?: number } | null)?.kept
      return reference === undefined ? (each ?? undefined) : kept.get(reference)
    })
    const value = await call.apply(target, given)
    kept.set(id, value)
    say({ id, value: value ?? null })
  } catch (error) {
    const { message, code } = error as { message: string; code?: string }
    say({ id, error: message, code })
  }
}

createInterface({ input: process.stdin }).on('line', line => {
  void run(JSON.parse(line) as Call)
})
