import { expect, test } from 'vitest'
import { checkRoom, vtepsOf } from '../../../dataplane/manage/cluster.ts'

const self = { name: 'a', vtep: '192.0.2.1', podCidrs: ['10.0.0.0/24', 'fd00::/64'] }
const peer = { name: 'b', vtep: '192.0.2.2', podCidrs: ['10.0.1.0/24'] }

test('VTEPs are four words, of one family', () => {
  expect(vtepsOf(self, [peer])).toEqual([{ family: 4, words: Uint32Array.of(0xc0000202, 0, 0, 0) }])
  expect(() => vtepsOf(self, [{ ...peer, vtep: '2001:db8::2' }])).toThrow(
    "node b: VTEP 2001:db8::2 is not of this node's family",
  )
})

test('room: the default route, own prefixes with gateways, peers, pods', () => {
  checkRoom(self, [peer], 6, 10)
  expect(() => checkRoom(self, [peer], 7, 10)).toThrow(
    '4 IPv4 routes and 7 pods: the FIB takes 10 (routes)',
  )
})
