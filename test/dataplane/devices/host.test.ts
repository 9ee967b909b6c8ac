// The node's own port: a TUN device, the cluster's routes, and masquerading.
import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { TunDevice } from '../../../dataplane/devices/tun.ts'
import { masqueradeRules } from '../../../dataplane/nft/masquerade.ts'
import { native } from '../../../native/native.ts'
import { noNft } from '../../harness/needs.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'
import { addresses, link, links, routes } from './kernel.ts'
import { type Kept, NodeProcess } from './node-process.ts'

let node: Namespace
let process: NodeProcess
beforeEach(() => {
  node = addNamespace()
  native.sysctlWrite(node.path, 'ipv6/conf/default/disable_ipv6', '0')
  process = new NodeProcess(node.path)
})
afterEach(async () => {
  await process.stop()
  removeNamespaces()
})

const OWN = ['10.244.1.0/24', 'fd44:0:0:1::/64']
const CLUSTER = [...OWN, '10.244.2.0/24', 'fd44:0:0:2::/64']
const FACTS = { hostDevice: 'hawser0', own: OWN, cluster: CLUSTER, vxlanPort: 4789 }
const WANTED = { addresses: ['10.244.1.1', 'fd44:0:0:1::1'], destinations: CLUSTER }

function openHost(): Promise<Kept<TunDevice>> {
  return process.call<TunDevice>('openHost', 'hawser0', 2, 1450)
}

describe('the host device', () => {
  test('is up with its MTU', async () => {
    const { value } = await openHost()
    expect(link(node, 'hawser0')).toMatchObject({ mtu: 1450, ifindex: value.ifindex })
    expect(link(node, 'hawser0')!.flags).toContain('UP')
  })

  test('has the gateways of its own prefixes, and routes to all of the cluster', async () => {
    const { value } = await openHost()
    for (let twice = 0; twice < 2; twice++) {
      await process.call('routeCluster', value.ifindex, WANTED, true)
      expect(addresses(node, 'hawser0')).toEqual(['10.244.1.1/32', 'fd44:0:0:1::1/128'])
      expect(routes(node, 4, 'hawser0')).toEqual([
        { dst: '10.244.1.0/24', scope: 'link', prefsrc: '10.244.1.1' },
        { dst: '10.244.2.0/24', scope: 'link', prefsrc: '10.244.1.1' },
      ])
      expect(routes(node, 6, 'hawser0')).toEqual([
        { dst: 'fd44:0:0:1::/64', prefsrc: 'fd44:0:0:1::1' },
        { dst: 'fd44:0:0:2::/64', prefsrc: 'fd44:0:0:1::1' },
      ])
    }
  })

  test('follows the cluster: what is gone from it goes, what others made stays', async () => {
    const { value } = await openHost()
    node.ip('link', 'add', 'other0', 'type', 'bridge')
    node.ip('address', 'add', '10.9.0.1/24', 'dev', 'other0')
    node.ip('link', 'set', 'other0', 'up')
    node.ip('route', 'add', '10.244.9.0/24', 'dev', 'other0')
    await process.call('routeCluster', value.ifindex, WANTED, true)
    const other = { addresses: ['10.244.7.1'], destinations: ['10.244.7.0/24'] }
    await process.call('routeCluster', value.ifindex, other, true)
    expect(addresses(node, 'hawser0')).toEqual(['10.244.7.1/32'])
    expect(routes(node, 4, 'hawser0')).toEqual([
      { dst: '10.244.7.0/24', scope: 'link', prefsrc: '10.244.7.1' },
    ])
    expect(routes(node, 6, 'hawser0')).toEqual([])
    expect(routes(node, 4, 'other0')).toEqual([{ dst: '10.244.9.0/24', scope: 'link' }])
    expect(addresses(node, 'other0')).toEqual(['10.9.0.1/24'])
  })

  test('takes its addresses and routes with it', async () => {
    const device = await openHost()
    await process.call('routeCluster', device.value.ifindex, WANTED, true)
    await process.call('removeTun', device)
    expect(links(node).map(each => each.ifname)).toEqual(['lo'])
    expect(node.ip('route', 'show')).toBe('')
  })
})

describe('masquerading', () => {
  test('one table a family, of what leaves the cluster by another device', () => {
    const rules = masqueradeRules(FACTS)
    for (const [word, own, other] of [
      ['ip', OWN[0], CLUSTER[2]],
      ['ip6', OWN[1], CLUSTER[3]],
    ]) {
      // Made and deleted first, so that the whole is one replacement.
      expect(rules).toContain(
        `table ${word} hawser {}\ndelete table ${word} hawser\ntable ${word} hawser {`,
      )
      expect(rules).toContain(
        `${word} saddr { ${own} } ${word} daddr != { ${own}, ${other} } masquerade`,
      )
    }
    expect(rules.match(/oifname "hawser0" return/g)).toHaveLength(2)
    // The node speaks to pods of others by its address in the overlay.
    expect(rules).toContain(
      `oifname "hawser0" ip saddr != { ${OWN[0]}, ${CLUSTER[2]} } ip daddr != { ${OWN[0]} } fib saddr type local masquerade`,
    )
    // No pod speaks VXLAN in the node's name.
    expect(rules.match(/udp dport 4789 return/g)).toHaveLength(2)
    // A family without pods has no table left.
    const four = masqueradeRules({
      ...FACTS,
      own: ['10.244.1.0/24'],
      cluster: ['10.244.0.0/16'],
    })
    expect(four).toMatch(/table ip6 hawser \{\}\ndelete table ip6 hawser\n$/)
  })

  test('nothing but names and prefixes gets into the rules', () => {
    for (const name of ['', 'a"b', 'x'.repeat(16), 'a b', 'a;b', 'a\nb']) {
      expect(() => masqueradeRules({ ...FACTS, hostDevice: name }), name).toThrow(RangeError)
    }
    for (const prefix of ['10.244.1.0/24 }', '10.244.1.1/24', '', '10.244.1.0']) {
      expect(() => masqueradeRules({ ...FACTS, own: [prefix] }), prefix).toThrow(RangeError)
      expect(() => masqueradeRules({ ...FACTS, cluster: [prefix] }), prefix).toThrow(RangeError)
    }
  })

  test('the rules are in the kernel, or the error says what is missing', async () => {
    const nft = noNft('only its absence is tested') === undefined
    const set = process.call('setMasquerade', FACTS)
    if (nft) {
      await set
      await process.call('setMasquerade', FACTS)
      const words = [`--net=${node.path}`, '--', 'nft', 'list', 'ruleset']
      const ruleset = execFileSync('nsenter', words, { encoding: 'utf8' })
      expect(ruleset.match(/table ip6? hawser/g)).toHaveLength(2)
      expect(ruleset.match(/masquerade/g)).toHaveLength(4)
    } else {
      await expect(set).rejects.toThrow(/masquerade: nft: .*ENOENT.* \(install nftables/)
    }
  })
})
