// The rules of port mappings: what nft is told, and that it takes it.
import { execFileSync } from 'node:child_process'
import { afterEach, describe, expect, test } from 'vitest'
import type { PodPorts, PortMapping } from '../../../dataplane/control.ts'
import { lackingRules, portMappingRules } from '../../../dataplane/nft/port-mappings.ts'
import { noNft } from '../../harness/needs.ts'
import { addNamespace, removeNamespaces } from '../../native/namespace.ts'

afterEach(removeNamespaces)

const CLUSTER = ['10.244.0.0/16', 'fd44::/48']
const NONE = 'table inet hawser_ports {}\ndelete table inet hawser_ports\n'
const web: PodPorts = {
  ip4: '10.244.1.2',
  ip6: 'fd44::2',
  mappings: [{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }],
}
const one = (mapping: Partial<PortMapping>): PodPorts => ({
  ...web,
  mappings: [{ ...web.mappings[0]!, ...mapping }],
})
const rules = (...pods: PodPorts[]): string => portMappingRules('hawser0', CLUSTER, pods)

describe('the rules', () => {
  test('without mappings there is no table', () => {
    expect(rules()).toBe(NONE)
    expect(rules({ ...web, mappings: [] })).toBe(NONE)
  })

  test('a mapping is of each family that the pod has', () => {
    expect(rules(web).startsWith(NONE)).toBe(true)
    expect(rules(web)).toContain('elements = { tcp . 8080 : 10.244.1.2 . 80 }')
    expect(rules(web)).toContain('elements = { tcp . 8080 : fd44::2 . 80 }')
    const { ip6: _, ...four } = web
    expect(rules(four)).not.toContain('dnat ip6')
  })

  test('with an address it is of that one, or of all of its family', () => {
    const some = rules(one({ hostIP: '192.0.2.1' }))
    expect(some).toContain('elements = { tcp . 192.0.2.1 . 8080 : 10.244.1.2 . 80 }')
    expect(some).not.toContain('dnat ip6')
    const six = rules(one({ hostIP: '2001:DB8::0:1' }))
    expect(six).toContain('elements = { tcp . 2001:db8::1 . 8080 : fd44::2 . 80 }')
    expect(six).not.toContain('dnat ip to')
    expect(rules(one({ hostIP: '::' }))).toContain('elements = { tcp . 8080 : fd44::2 . 80 }')
    expect(rules(one({ hostIP: '0.0.0.0' }))).not.toContain('dnat ip6')
  })

  test('nothing but names, addresses, ports and protocols gets into them', () => {
    for (const mapping of [
      { hostPort: 0 },
      { hostPort: 65_536 },
      { containerPort: 1.5 },
      { protocol: 'icmp' as 'tcp' },
      { hostIP: '192.0.2.1 }' },
      { hostIP: '' },
    ]) {
      expect(() => rules(one(mapping)), JSON.stringify(mapping)).toThrow(RangeError)
    }
    expect(() => rules({ ...web, ip4: '10.244.1.2; drop' })).toThrow(RangeError)
    expect(() => portMappingRules('a"b', CLUSTER, [web])).toThrow(RangeError)
    expect(() => portMappingRules('hawser0', ['10.0.0.0/8 }'], [web])).toThrow(RangeError)
  })
})

test('nft takes them, one table in the place of the one before', () => {
  const namespace = addNamespace()
  const nft = (words: string[], input = '') =>
    execFileSync('nsenter', [`--net=${namespace.path}`, '--', 'nft', ...words], {
      input,
      encoding: 'utf8',
    })
  if (noNft('its answer to rules') !== undefined) return
  const all = [
    web,
    one({ protocol: 'sctp', hostPort: 9 }),
    one({ protocol: 'udp', hostIP: '192.0.2.1' }),
    one({ protocol: 'udp', hostIP: '2001:db8::1' }),
  ]
  for (let twice = 0; twice < 2; twice++) nft(['-f', '-'], rules(...all))
  const listed = nft(['list', 'ruleset'])
  expect(listed.match(/^table /gm)).toHaveLength(1)
  for (const part of [
    /elements = \{ [^}]*\btcp \. 8080 : 10\.244\.1\.2 \. 80\b/,
    /elements = \{ [^}]*\bsctp \. 9 : fd44::2 \. 80\b/,
    /elements = \{ udp \. 192\.0\.2\.1 \. 8080 : 10\.244\.1\.2 \. 80 \}/,
    /elements = \{ udp \. 2001:db8::1 \. 8080 : fd44::2 \. 80 \}/,
    /l4proto \{ tcp, udp, sctp \} dnat ip to meta l4proto \. th dport map @any4/,
    /iifname "hawser0" ip daddr 127\.0\.0\.0\/8 drop/,
  ]) {
    expect(listed).toMatch(part)
  }
  expect(lackingRules(listed, all)).toEqual([])
  const says = (change: string[], lacks: string[]): void => {
    nft(['-f', '-'], rules(...all))
    nft(change)
    const left = nft(['list', 'ruleset'])
    const sentences = lacks.map(
      each => `port mappings: the nft table inet hawser_ports lacks ${each}`,
    )
    expect(lackingRules(left, all)).toEqual(sentences)
    expect(lackingRules(left, [])).toEqual([])
  }
  const table = ['inet', 'hawser_ports']
  says(
    ['delete', 'element', ...table, 'one4', '{ udp . 192.0.2.1 . 8080 : 10.244.1.2 . 80 }'],
    ['udp . 192.0.2.1 . 8080 : 10.244.1.2 . 80'],
  )
  says(
    ['flush', 'chain', ...table, 'translate'],
    ['map @any4', 'map @any6', 'map @one4', 'map @one6'],
  )
  says(['delete', 'chain', ...table, 'output'], ['type nat hook output'])
  expect(lackingRules('', all)).toEqual([
    'port mappings: the nft table inet hawser_ports is not there',
  ])
  expect(lackingRules('', [{ ...web, mappings: [] }])).toEqual([])
  nft(['-f', '-'], rules())
  expect(nft(['list', 'ruleset'])).toBe('')
})
