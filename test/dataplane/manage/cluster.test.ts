import { expect, test } from 'vitest'
import { joinedBy } from '../../../dataplane/control.ts'
import { checkNetworks, checkRoom, prefixesOf, vtepsOf } from '../../../dataplane/manage/cluster.ts'

const self = { name: 'a', vtep: '192.0.2.1', podCidrs: ['10.0.0.0/24', 'fd00::/64'] }
const peer = { name: 'b', vtep: '192.0.2.2', podCidrs: ['10.0.1.0/24'] }

test('VTEPs are four words, of one family', () => {
  expect(vtepsOf(self, [peer])).toEqual([{ family: 4, words: Uint32Array.of(0xc0000202, 0, 0, 0) }])
  expect(() => vtepsOf(self, [{ ...peer, vtep: '2001:db8::2' }])).toThrow(
    "node b: VTEP 2001:db8::2 is not of this node's family",
  )
})

test('room: the default route, own prefixes with gateways, peers, pods', () => {
  const prefixes = prefixesOf(self, [peer], [])
  checkRoom(prefixes, 6, 10)
  expect(() => checkRoom(prefixes, 7, 10)).toThrow(
    '4 IPv4 routes and 7 pods: the FIB takes 10 (routes)',
  )
})

const blue = { name: 'blue', vni: 100 }
const red = { name: 'red', vni: 2 }

test('a node routes the networks that it is in, and no others', () => {
  const one = { ...self, networks: { blue: ['10.60.0.0/24'], red: [] } }
  const other = { ...peer, networks: { blue: ['10.60.1.0/24'], red: ['10.70.1.0/24'] } }
  expect(joinedBy(one, [red, blue])).toEqual([blue])
  expect(prefixesOf(one, [other], [red, blue])).toEqual([
    ...['0.0.0.0/0', '::/0', '10.0.0.1/32', 'fd00::1/128'],
    ...['10.0.0.0/24', 'fd00::/64', '10.60.0.0/24', '10.0.1.0/24', '10.60.1.0/24'],
  ])
  // Named after what every object has.
  expect(joinedBy(one, [{ name: 'constructor', vni: 3 }])).toEqual([])
})

test('networks have names and VNIs of their own, in range', () => {
  checkNetworks([blue, red], 1)
  const refused = (networks: (typeof blue)[], vni: number) => () => checkNetworks(networks, vni)
  expect(refused([blue, blue], 1)).toThrow('network blue: it is there twice')
  expect(refused([blue, { ...red, vni: 100 }], 1)).toThrow('network red: another one has VNI 100')
  expect(refused([blue, red], 2)).toThrow('network red: another one has VNI 2')
  for (const vni of [0, 1.5, 2 ** 24]) {
    expect(refused([{ ...blue, vni }], 1)).toThrow(`VNI ${vni} is not in 1..16777215`)
  }
  const many = Array.from({ length: 65 }, (_, k) => ({ name: `n${k}`, vni: k + 2 }))
  checkNetworks(many.slice(1), 1)
  expect(refused(many, 1)).toThrow('65 networks: a cluster has 64 (MAX_NETWORKS)')
})
