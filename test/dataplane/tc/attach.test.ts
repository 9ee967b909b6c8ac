import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createDevice, deleteLink, getLink } from '../../../dataplane/netlink/link.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { attachTc } from '../../../dataplane/tc/attach.ts'
import { createMaps, type TcMaps } from '../../../dataplane/tc/maps.ts'
import { podUp } from '../../../dataplane/tc/programs.ts'
import { native } from '../../../native/native.ts'
import { Namespaces, nameOf } from '../../harness/netns.ts'
import { must } from '../../harness/processes.ts'

//  one namespace, a device without a wire in it

const namespaces = new Namespaces('tc')
const open: number[] = []
let netns: string
let nl: Netlink
let maps: TcMaps
let index: number

beforeAll(async () => {
  netns = await namespaces.add('a')
  nl = new Netlink(netns)
  maps = createMaps()
})
afterAll(async () => {
  nl?.close()
  maps?.close()
  await namespaces.removeAll()
})
beforeEach(() => {
  createDevice(nl, 'bridge', { name: 'bare0' })
  index = getLink(nl, 'bare0')!.index
})
afterEach(() => {
  deleteLink(nl, index)
  for (const fd of open.splice(0)) native.close(fd)
})

function load(name: string): number {
  open.push(native.bpfLoadTc(podUp(maps), name))
  return open.at(-1)!
}

const filters = () => must('tc', ['-n', nameOf(netns), 'filter', 'show', 'dev', 'bare0', 'ingress'])

test('TCX: a program stays, without a descriptor, and is replaced by the next of its name', () => {
  native.bpfAttachTcx(netns, load('hwt_other'), index, 'hwt_other')
  expect(attachTc(nl, load('hwt_tc'), index, 'hwt_tc')).toBe('tcx')
  for (const fd of open.splice(0)) native.close(fd)
  expect(native.bpfTcxNames(netns, index)).toEqual(['hwt_tc', 'hwt_other'])
  const last = load('hwt_tc')
  // A program in its own place is no error.
  for (let k = 0; k < 2; k++) {
    attachTc(nl, last, index, 'hwt_tc')
    expect(native.bpfTcxNames(netns, index)).toEqual(['hwt_tc', 'hwt_other'])
  }
})

test('clsact: the same before TCX', async () => {
  for (let k = 0; k < 2; k++) {
    expect(attachTc(nl, load('hwt_tc'), index, 'hwt_tc', 'clsact')).toBe('clsact')
    for (const fd of open.splice(0)) native.close(fd)
    const found = (await filters()).match(/hwt_tc direct-action/g)
    expect(found).toHaveLength(1)
  }
})

test('a device that is gone, a program that is none', () => {
  expect(() => attachTc(nl, load('hwt_tc'), 2_000_000, 'hwt_tc')).toThrow(/interface 2000000/)
  const event = native.eventfd()
  open.push(event)
  expect(() => attachTc(nl, event, index, 'hwt_tc', 'tcx')).toThrow(`interface ${index}`)
  expect(() => attachTc(nl, event, index, 'hwt_tc', 'clsact')).toThrow('filter hwt_tc of bare0')
})
