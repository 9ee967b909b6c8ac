// Networks in the cluster file: what a good one gives, every refusal, and the overlap check beside a naive one.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseCluster } from '../../../cni/cluster/file.ts'
import type { ClusterView } from '../../../cni/cluster/view.ts'
import { type Cidr, parsePodCidr } from '../../../cni/netip/cidr.ts'

const FILE = '/etc/hawser/cluster.yaml'
const A = { name: 'node-a', vtep: '192.0.2.11', podCIDRs: ['10.244.0.0/24'] }
const B = { name: 'node-b', vtep: '192.0.2.12', podCIDRs: ['10.244.1.0/24'] }
const BLUE = { name: 'blue', vni: 100 }
const RED = { name: 'red', vni: 200 }

function parse(document: object, self = 'node-a', vni?: number): ClusterView {
  return parseCluster(FILE, JSON.stringify(document), self, vni)
}

test('a good file gives the networks, and the CIDRs of each node in them', () => {
  const yaml = `
nodes:
  - name: node-a
    vtep: 192.0.2.11
    podCIDRs: [10.244.0.0/24]
    networks: { blue: [10.60.0.0/24, "FD60:0:0::/64"], red: [] }
  - name: node-b
    vtep: 192.0.2.12
    podCIDRs: [10.244.1.0/24]
networks:
  - name: blue
    vni: 16777215
    cidrs: [10.60.0.0/16, fd60::/48]
  - { name: red, vni: 1 }
`
  const view = parseCluster(FILE, yaml, 'node-a', 7)
  expect(view.self).toEqual({
    ...{ name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.244.0.0/24'] },
    networks: { blue: ['10.60.0.0/24', 'fd60::/64'], red: [] },
  })
  expect(view.peers).toEqual([{ name: 'node-b', vtep: '192.0.2.12', podCidrs: ['10.244.1.0/24'] }])
  expect(view.networks).toEqual([
    { name: 'blue', vni: 16_777_215, cidrs: ['10.60.0.0/16', 'fd60::/48'] },
    { name: 'red', vni: 1 },
  ])
})

describe('what is refused, with field and cause', () => {
  const nodes = [A, B]
  const inBlue = (node: object, ...cidrs: string[]) => ({ ...node, networks: { blue: cidrs } })
  const cases: [title: string, document: object, message: string][] = [
    [
      'a name that is no label',
      { nodes, networks: [{ ...BLUE, name: 'Blue.x' }] },
      'networks[0].name: Blue.x: not a DNS-1123 label (at most 63 lower case letters, digits and "-")',
    ],
    [
      'a name that is too long',
      { nodes, networks: [{ ...BLUE, name: 'b'.repeat(64) }] },
      `networks[0].name: ${'b'.repeat(64)}: not a DNS-1123 label (at most 63 lower case letters, digits and "-")`,
    ],
    [
      'a name twice',
      { nodes, networks: [BLUE, { ...RED, name: 'blue' }] },
      'networks[1].name: blue: also the name of networks[0]',
    ],
    [
      'a VNI twice',
      { nodes, networks: [BLUE, { ...RED, vni: 100 }] },
      'networks[1].vni: 100: also the VNI of networks[0]',
    ],
    [
      "the cluster's own VNI",
      { nodes, networks: [BLUE, { ...RED, vni: 1 }] },
      "networks[1].vni: 1: the VNI of the cluster's own network",
    ],
    [
      'a VNI out of range',
      { nodes, networks: [{ ...BLUE, vni: 2 ** 24 }] },
      'networks[0].vni: 16777216: Too big: expected number to be <=16777215',
    ],
    [
      'VNI 0',
      { nodes, networks: [{ ...BLUE, vni: 0 }] },
      'networks[0].vni: 0: Too small: expected number to be >=1',
    ],
    [
      'an unknown key',
      { nodes, networks: [{ ...BLUE, cidr: '10.60.0.0/16' }] },
      'networks[0].cidr: unknown key',
    ],
    [
      'a node in a network that is not there',
      { nodes: [{ ...A, networks: { green: ['10.60.0.0/24'] } }], networks: [BLUE] },
      'nodes[0].networks.green: green: no such network ("networks" of the file)',
    ],
    [
      'a CIDR with host bits',
      { nodes: [inBlue(A, '10.60.0.1/24')], networks: [BLUE] },
      'nodes[0].networks.blue[0]: 10.60.0.1/24: host bits are set (meant 10.60.0.0/24?)',
    ],
    [
      'two CIDRs of one family in a network',
      { nodes: [inBlue(A, '10.60.0.0/24', '10.60.1.0/24')], networks: [BLUE] },
      'nodes[0].networks.blue[1]: 10.60.1.0/24: a second IPv4 CIDR of this node in it',
    ],
    [
      'an overlap of two nodes in a network',
      { nodes: [inBlue(A, '10.60.0.0/23'), inBlue(B, '10.60.1.0/24')], networks: [BLUE] },
      'nodes[1].networks.blue[0]: 10.60.1.0/24: overlaps nodes[0].networks.blue[0], 10.60.0.0/23 of node-a',
    ],
    [
      "an overlap with the cluster's own network, on one node",
      { nodes: [inBlue(A, '10.244.0.128/25'), B], networks: [BLUE] },
      'nodes[0].networks.blue[0]: 10.244.0.128/25: overlaps nodes[0].podCIDRs[0], 10.244.0.0/24 of node-a',
    ],
    [
      'an overlap of two networks',
      {
        nodes: [inBlue(A, '10.60.0.0/24'), { ...B, networks: { red: ['10.60.0.0/25'] } }],
        networks: [BLUE, RED],
      },
      'nodes[1].networks.red[0]: 10.60.0.0/25: overlaps nodes[0].networks.blue[0], 10.60.0.0/24 of node-a',
    ],
    [
      'a VTEP inside',
      { nodes: [inBlue(A, '192.0.2.0/28'), B], networks: [BLUE] },
      'nodes[0].vtep: 192.0.2.11: inside the pod CIDR 192.0.2.0/28 of node-a; nodes[1].vtep: 192.0.2.12: inside the pod CIDR 192.0.2.0/28 of node-a',
    ],
    [
      'a CIDR outside of what covers the network',
      {
        nodes: [inBlue(A, '10.60.0.0/24'), inBlue(B, '10.61.0.0/24')],
        networks: [{ ...BLUE, cidrs: ['10.60.0.0/16', 'fd60::/48'] }],
      },
      "nodes[1].networks.blue[0]: 10.61.0.0/24: not inside the network's cidrs (10.60.0.0/16, fd60::/48)",
    ],
    [
      'a covering CIDR that is none',
      { nodes, networks: [{ ...BLUE, cidrs: ['10.60.0.0'] }] },
      'networks[0].cidrs[0]: 10.60.0.0: not a CIDR (address/length)',
    ],
    [
      "a covering CIDR over the cluster's own network",
      { nodes, networks: [{ ...BLUE, cidrs: ['10.0.0.0/8'] }] },
      'nodes[0].podCIDRs[0]: 10.244.0.0/24: overlaps networks[0].cidrs[0], 10.0.0.0/8 of blue; nodes[1].podCIDRs[0]: 10.244.1.0/24: overlaps networks[0].cidrs[0], 10.0.0.0/8 of blue',
    ],
    [
      'covering CIDRs of two networks that overlap',
      {
        nodes,
        networks: [
          { ...BLUE, cidrs: ['10.60.0.0/16'] },
          { ...RED, cidrs: ['10.60.128.0/17'] },
        ],
      },
      'networks[1].cidrs[0]: 10.60.128.0/17: overlaps networks[0].cidrs[0], 10.60.0.0/16 of blue',
    ],
    [
      'covering CIDRs of one network that overlap',
      { nodes, networks: [{ ...BLUE, cidrs: ['10.60.0.0/16', '10.60.0.0/20'] }] },
      'networks[0].cidrs[1]: 10.60.0.0/20: overlaps networks[0].cidrs[0], 10.60.0.0/16 of blue',
    ],
    [
      'a VTEP inside of what covers a network, beside a pod CIDR',
      {
        nodes: [{ ...A, vtep: '10.60.9.9' }, inBlue(B, '10.60.8.0/24')].map((node, k) =>
          k === 0 ? node : { ...node, vtep: '10.61.0.1' },
        ),
        networks: [{ ...BLUE, cidrs: ['10.60.0.0/16'] }],
      },
      'nodes[0].vtep: 10.60.9.9: inside of network 10.60.0.0/16 of blue',
    ],
  ]
  for (const [title, document, message] of cases) {
    test(title, () => {
      expect(() => parse(document)).toThrow(
        expect.objectContaining({ message: `${FILE}: ${message}` }),
      )
    })
  }

  test("which VNI is the cluster's own is the daemon's to say", () => {
    const document = { nodes, networks: [BLUE] }
    expect(parse(document).networks).toEqual([BLUE])
    expect(() => parse(document, 'node-a', 100)).toThrow("the VNI of the cluster's own network")
  })

  test('more networks than there may be', () => {
    const many = (n: number) => Array.from({ length: n }, (_, k) => ({ name: `n${k}`, vni: k + 2 }))
    expect(parse({ nodes, networks: many(64) }).networks).toHaveLength(64)
    expect(() => parse({ nodes, networks: many(65) })).toThrow(/networks: .*<=64 items/)
  })
})

/** Inside 10.0.0.0/16, the block times 4. */
const cidr = fc
  .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 25, max: 30 }))
  .map(([block, length]) => {
    const first = ((10 << 24) | (block << 3)) & (-1 << (32 - length))
    return `10.0.${(first >>> 8) & 255}.${first & 255}/${length}`
  })

function read(text: string): Cidr {
  const parsed = parsePodCidr(text)
  if (!parsed.ok) throw new Error(parsed.cause)
  return parsed.value
}

test('CIDRs of all networks, and what covers them: as comparing every pair says', () => {
  const some = fc.array(cidr, { maxLength: 1 })
  const covers = fc.option(fc.array(cidr, { minLength: 1, maxLength: 2 }), { nil: undefined })
  const nodes = fc.array(fc.record({ own: cidr, blue: some, red: some }), {
    ...{ minLength: 1, maxLength: 3 },
  })
  let taken = 0
  fc.assert(
    fc.property(nodes, covers, covers, (given, blue, red) => {
      const ranges = given.flatMap(node => [
        { network: 'own', range: read(node.own) },
        ...node.blue.map(text => ({ network: 'blue', range: read(text) })),
        ...node.red.map(text => ({ network: 'red', range: read(text) })),
      ])
      const over = [
        ...(blue ?? []).map(text => ({ network: 'blue', range: read(text) })),
        ...(red ?? []).map(text => ({ network: 'red', range: read(text) })),
      ]
      const meet = (a: Cidr, b: Cidr) => a.first <= b.last && b.first <= a.last
      const apart = [ranges, over].every(list =>
        list.every((a, i) => list.every((b, j) => i >= j || !meet(a.range, b.range))),
      )
      const good =
        apart &&
        over.every(a => ranges.every(b => a.network === b.network || !meet(a.range, b.range))) &&
        ranges.every(({ network, range }) => {
          const own = over.filter(each => each.network === network)
          const holds = (c: Cidr) => c.first <= range.first && range.last <= c.last
          return own.length === 0 || own.some(each => holds(each.range))
        })
      const document = {
        nodes: given.map((node, k) => ({
          ...{ name: `n${k}`, vtep: `192.0.2.${k + 1}`, podCIDRs: [node.own] },
          networks: { blue: node.blue, red: node.red },
        })),
        networks: [
          { ...BLUE, ...(blue === undefined ? {} : { cidrs: blue }) },
          { ...RED, ...(red === undefined ? {} : { cidrs: red }) },
        ],
      }
      let refused = false
      try {
        parse(document, 'n0')
        taken++
      } catch {
        refused = true
      }
      expect(refused).toBe(!good)
    }),
    { numRuns: 3000 },
  )
  expect(taken).toBeGreaterThan(100)
})
