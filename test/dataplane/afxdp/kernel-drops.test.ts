/**
 * What the kernel dropped in front of an AF_XDP socket, among the drops that people see.
 *
 *   netns a: va, a bare socket ───── vb, a socket with the pod's program :netns b
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { attachXdp } from '../../../dataplane/bpf/attach.ts'
import { podProgram } from '../../../dataplane/bpf/programs.ts'
import { PortSlots } from '../../../dataplane/manage/port-slots.ts'
import { readDrops, readPorts } from '../../../dataplane/manage/status.ts'
import { PORT_KIND, PORT_ROLE } from '../../../dataplane/ports/port.ts'
import { NO_PORT } from '../../../dataplane/tables/ports.ts'
import { TableWriter } from '../../../dataplane/tables/tables.ts'
import { native } from '../../../native/native.ts'
import { type End, Link, Memory, SIZE, socketMap } from './link.ts'
import { plain } from './packets.ts'

let link: Link
let memory: Memory
let left: End
let right: End
let slots: PortSlots
const open: number[] = []
beforeEach(async () => {
  link = new Link()
  memory = await Memory.create(link.a)
  left = await memory.open(link.a, link.indexA)
  right = await memory.open(link.b, link.indexB)
  const map = socketMap(right.socket.fd)
  const program = native.bpfLoadXdp(podProgram(map), 'hwt_pod')
  open.push(map, program, attachXdp(link.b, program, link.indexB).linkFd)
  const tables = new TableWriter(memory.arena)
  slots = new PortSlots(memory.arena, tables)
  const record = { ...NO_PORT, kind: PORT_KIND.XDP, role: PORT_ROLE.POD, fds: [right.socket.fd] }
  tables.change(() => slots.activate(slots.reserve(), record))
})
afterEach(() => {
  link?.close()
  for (const fd of open.splice(0)) native.close(fd)
  left?.close()
  right?.close()
  memory?.umem.close()
})

const drops = () =>
  Object.fromEntries(readDrops(memory.arena).map(({ reason, count }) => [reason, count]))
const status = () => readPorts(memory.arena, slots, new Map(), 'vb')[0]

function burst(packets: number): void {
  for (let k = 0; k < packets; k++) left.put(plain(`${k}`))
  left.flush()
}

test('a burst that finds no frames is counted once, by worker, reason and port', async () => {
  right.feed(20)
  burst(50)
  expect(status()).toMatchObject({ rxDrops: 30, device: 'up' })
  expect(drops()).toEqual({ 'fill-empty': 30 })
  expect(status()).toMatchObject({ rxDrops: 30 })
  burst(5)
  slots.countKernelDrops()
  expect(drops()).toEqual({ 'fill-empty': 35 })
  // What comes until the port is closed counts, too, and stays when it is gone.
  burst(7)
  await slots.remove(0, () => right.close())
  slots.countKernelDrops()
  expect(drops()).toEqual({ 'fill-empty': 42 })
  expect(status()).toBeUndefined()
})

test('a receive ring that nobody empties', () => {
  right.feed(SIZE)
  burst(SIZE)
  right.feed(10)
  burst(10)
  slots.countKernelDrops()
  expect(drops()).toEqual({ 'rx-full': 10 })
  expect(status()).toMatchObject({ rxDrops: 10 })
})

test('sockets that were closed with the engine are no error', () => {
  right.close()
  expect(status()).toMatchObject({ rxDrops: 0 })
})
