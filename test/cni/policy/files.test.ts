import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { showExplanation } from '../../../cni/cli/policy.ts'
import { readExpectations, tryExpectations } from '../../../cni/policy/expectations.ts'
import { Explainer, type Flow } from '../../../cni/policy/explain.ts'
import { readPolicies, remarkText } from '../../../cni/policy/files.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-policies-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const put = (name: string, text: string) => writeFileSync(join(folder, name), text)
const WORLD = `apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
status: { podIPs: [{ ip: 10.244.1.2 }, { ip: "fd00::12" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: db, namespace: shop, labels: { app: db } }
spec: { containers: [{ name: db, ports: [{ name: pg, containerPort: 5432 }] }] }
status: { podIPs: [{ ip: 10.244.2.2 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: shop }
spec: { hostNetwork: true }
status: { podIPs: [{ ip: 192.0.2.11 }] }
`
const policy = (spec: string, name = 'db') => `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: shop }
spec: ${spec}
`
const TO_DB =
  '{ podSelector: { matchLabels: { app: db } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }], ports: [{ port: pg }] }] }'

describe('explain', () => {
  const explain = (flow: Partial<Flow>) => {
    put('world.yaml', WORLD)
    put('policy.yaml', policy(TO_DB))
    const { world } = readPolicies(folder)
    const asked: Flow = { from: 'shop/web', to: 'shop/db', port: 5432, protocol: 'TCP', ...flow }
    return showExplanation(new Explainer(world).explain(asked))
  }

  test('names the rule that allows', () => {
    expect(explain({})).toEqual([
      'allowed',
      'egress of shop/web: allowed: no policy decides about its egress',
      'ingress of shop/db: allowed by NetworkPolicy shop/db, ingress rule 0',
    ])
  })

  test('names the policy that isolates, for a default deny', () => {
    expect(explain({ port: 80 }).slice(0, 1)).toEqual(['denied'])
    expect(explain({ from: '198.51.100.7' })).toEqual([
      'denied',
      'ingress of shop/db: denied by NetworkPolicy shop/db, which isolates for ingress',
    ])
  })

  test('knows a pod by its address, and one with the network of its node as nobody', () => {
    expect(explain({ from: '10.244.1.2' })[0]).toBe('allowed')
    expect(explain({ from: 'shop/agent' })).toEqual([
      'denied',
      "egress of shop/agent: allowed: it has the node's network, and no policy selects it",
      'ingress of shop/db: denied by NetworkPolicy shop/db, which isolates for ingress',
    ])
  })

  test('refuses an end that is nothing', () => {
    expect(() => explain({ to: 'shop/none' })).toThrow(
      'shop/none: neither a pod that is there (namespace/name) nor an address',
    )
  })
})

describe('a folder', () => {
  test.each([
    ['an unknown field', '{ podSelecto: {} }', ':4: spec.podSelecto: unknown key'],
    [
      'no CIDR',
      '\n  egress:\n    - to: [{ ipBlock: { cidr: 10.0.0.0/33 } }]',
      ':6: spec.egress[0].to[0].ipBlock.cidr: 10.0.0.0/33: the prefix length is not 0 .. 32',
    ],
    [
      'endPort below port',
      '\n  ingress:\n    - ports:\n        - { port: 80, endPort: 79 }',
      ':7: spec.ingress[0].ports[0].endPort: endPort is less than port 80',
    ],
    [
      'In without values',
      '{ podSelector: { matchExpressions: [{ key: a, operator: In }] } }',
      ':4: spec.podSelector.matchExpressions[0].values: In needs values',
    ],
  ])('is refused for %s, with file, line and field', (_what, spec, message) => {
    put('a.yaml', policy(spec))
    expect(() => readPolicies(folder)).toThrow(`${join(folder, 'a.yaml')}${message}`)
  })

  test('is refused for a policy that is there twice', () => {
    put('a.yaml', policy(TO_DB))
    put('b.yaml', policy(TO_DB))
    expect(() => readPolicies(folder)).toThrow(
      `b.yaml:3: metadata.name: NetworkPolicy shop/db is in ${join(folder, 'a.yaml')}:1, too`,
    )
  })

  test('may hold lists, JSON, and objects of other kinds', () => {
    const items = [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } }]
    put('list.json', JSON.stringify({ apiVersion: 'v1', kind: 'NamespaceList', items }))
    put('other.yml', 'apiVersion: v1\nkind: Secret\nmetadata: { name: x }\n---\n')
    put('.hidden.yaml', 'no: manifest')
    expect(readPolicies(folder).world.namespaces).toEqual([
      { name: 'a', labels: { 'kubernetes.io/metadata.name': 'a' } },
    ])
  })

  test('gets remarks about what its author can not have meant', () => {
    put('world.yaml', WORLD)
    put(
      'a.yaml',
      policy('\n  podSelector: { matchLabels: { app: cache } }\n  policyTypes: [Ingress]'),
    )
    put(
      'b.yaml',
      policy('\n  podSelector: {}\n  egress: [{ to: [{ ipBlock: { cidr: 10.1.2.3/8 } }] }]', 'b'),
    )
    const cluster = (name: string) =>
      `apiVersion: policy.networking.k8s.io/v1beta1\nkind: ClusterNetworkPolicy\nmetadata: { name: ${name} }\nspec:\n  tier: Admin\n  priority: 7\n  subject: { namespaces: {} }\n  egress: [{ action: Accept, to: [{ domainNames: [example.org] }] }]\n`
    put('c.yaml', `${cluster('c')}---\n${cluster('d')}`)
    const at = (file: string) => join(folder, file)
    expect(readPolicies(folder).remarks.map(remarkText)).toEqual([
      `${at('a.yaml')}:5: spec.podSelector: it selects no pod that is there`,
      `${at('b.yaml')}:6: spec.egress[0].to[0].ipBlock.cidr: 10.1.2.3/8: host bits are set and don't count`,
      `${at('c.yaml')}:8: spec.egress[0].to[0].domainNames: names are learned from the resolvers that policy.dns.resolvers of the daemon's configuration names: without any this peer matches nothing`,
      `${at('c.yaml')}:17: spec.egress[0].to[0].domainNames: names are learned from the resolvers that policy.dns.resolvers of the daemon's configuration names: without any this peer matches nothing`,
      `${at('c.yaml')}:15: spec.priority: priority 7 of tier Admin is that of ClusterNetworkPolicy c, too: where both match, the first by name decides`,
    ])
  })

  test('that speaks of domain names is told whether any is learned on the node', () => {
    put(
      'a.yaml',
      `apiVersion: hawser.dev/v1\nkind: GlobalPolicy\nmetadata: { name: web }\nspec:\n  egress:\n    - { action: Allow, peer: { domainNames: ['*.Example.org'] } }\n`,
    )
    expect(readPolicies(folder, { resolvers: true }).remarks).toEqual([])
    expect(readPolicies(folder, { resolvers: false }).remarks.map(remarkText)).toEqual([
      `${join(folder, 'a.yaml')}:6: spec.egress[0].peer.domainNames: no resolver is named (policy.dns.resolvers of the daemon's configuration), so no name is learned: this peer matches nothing`,
    ])
  })

  test('can be held to expectations', () => {
    put('world.yaml', WORLD)
    put('policy.yaml', policy(TO_DB))
    const file = join(folder, 'expectations')
    writeFileSync(
      file,
      'expectations:\n  - { from: shop/web, to: shop/db, port: 5432, allowed: true }\n  - { from: shop/web, to: shop/db, port: 80, allowed: true }\n',
    )
    const { world } = readPolicies(folder)
    expect(tryExpectations(world, readExpectations(file)).map(({ met }) => met)).toEqual([
      true,
      false,
    ])
  })
})

describe('GlobalPolicy', () => {
  const global = (spec: string, name = 'all') =>
    `---\napiVersion: hawser.dev/v1\nkind: GlobalPolicy\nmetadata: { name: ${name} }\nspec: ${spec}\n`
  const ask = (flow: Partial<Flow> = {}) =>
    new Explainer(readPolicies(folder).world).explain({
      ...{ from: 'shop/web', to: 'shop/db', port: 5432, protocol: 'TCP' as const },
      ...flow,
    })

  test('by order, before NetworkPolicies; the rule that decides has a name', () => {
    put('world.yaml', WORLD)
    put(
      'policies.yaml',
      global('{ order: 2, ingress: [{ action: Allow }] }', 'second') +
        global(
          '{ order: 1, subject: { podSelector: { matchLabels: { app: db } } }, ingress: [{ name: pg, action: Deny, protocol: TCP, notPorts: [5432] }] }',
          'first',
        ),
    )
    expect(ask().allowed).toBe(true)
    expect(ask({ port: 80 }).ends.at(-1)).toMatchObject({
      ...{ direction: 'ingress', allowed: false },
      by: 'GlobalPolicy first, ingress rule 0 "pg"',
    })
    expect(ask({ protocol: 'UDP', port: 80 }).allowed).toBe(true)
  })

  test('rules of the node for what pods send to it; they are no pod’s', () => {
    const node = (name: string, labels: string) =>
      `---\napiVersion: v1\nkind: Node\nmetadata: { name: ${name}, labels: ${labels} }\n`
    put('world.yaml', `${WORLD}${node('node-a', '{ edge: "yes" }')}${node('node-b', '{}')}`)
    const dns = '{ name: dns, action: Allow, protocol: UDP, ports: [53] }'
    put(
      'policies.yaml',
      global(`{ subject: { host: {} }, ingress: [${dns}] }`, 'a') +
        global(
          '{ subject: { host: { nodeSelector: { matchLabels: { edge: "yes" } } } }, ingress: [{ action: Deny, peer: { namespaceSelector: {}, podSelector: { matchLabels: { app: web } } } }] }',
          'b',
        ),
    )
    expect(ask({ to: 'node/node-a', protocol: 'UDP', port: 53 })).toEqual({
      allowed: true,
      ends: [
        {
          direction: 'egress',
          pod: 'shop/web',
          allowed: true,
          why: expect.stringMatching('rule node'),
        },
        {
          direction: 'ingress',
          pod: 'node/node-a',
          allowed: true,
          by: 'GlobalPolicy a, ingress rule 0 "dns"',
        },
      ],
    })
    expect(ask({ to: 'node/node-a', port: 22 }).ends[1]).toMatchObject({
      allowed: false,
      by: 'GlobalPolicy b, ingress rule 0',
    })
    expect(ask({ from: 'shop/db', to: 'node/node-a', port: 22 }).allowed).toBe(true)
    expect(ask({ to: 'node/node-b', port: 22 }).allowed).toBe(true)
    expect(ask({ to: 'node', port: 22 }).ends[1]!.why).toBe('no GlobalPolicy for hosts decides')
    expect(ask({ from: 'node', port: 22 }).allowed).toBe(true)
    expect(ask({ port: 22 }).ends.map(({ by }) => by)).toEqual([undefined, undefined])
    expect(() => ask({ to: 'node/nobody' })).toThrow('node nobody: it is not there')
    expect(() => ask({ from: '192.0.2.7', to: 'node' })).toThrow('not a pod that is there')
  })

  test.each([
    ['{ subject: { host: {}, podSelector: {} } }', 'host stands alone'],
    ['{ subject: { host: {} }, egress: [{ action: Deny }] }', 'a host has ingress rules only'],
    [
      '{ subject: { host: {} }, ingress: [{ action: Deny, protocol: TCP, ports: [pg] }] }',
      'spec.ingress[0].ports: a host has no named ports',
    ],
    ['{ subject: { host: { pods: {} } } }', 'unknown key'],
  ])('rules of the node that can not be carried out: %s', (spec, cause) => {
    put('policies.yaml', global(spec))
    expect(() => readPolicies(folder)).toThrow(cause)
  })

  test('ICMP types, and what is only tried', () => {
    put('world.yaml', WORLD)
    put(
      'policies.yaml',
      global(
        '{ ingress: [{ action: Allow, protocol: ICMP, icmp: { type: 8 } }, { action: Deny }] }',
      ),
    )
    expect(ask({ protocol: 'ICMP' }).allowed).toBe(true)
    expect(ask().allowed).toBe(false)
    put('policies.yaml', global('{ staged: true, ingress: [{ action: Deny }] }'))
    expect(ask().allowed).toBe(true)
  })

  test('a name opens what rules about it allow, where no rule before it denies', () => {
    put('world.yaml', WORLD)
    const rule =
      '{ name: api, action: Allow, protocol: TCP, ports: [443], peer: { domainNames: ["*.example.org"] } }'
    put('policies.yaml', global(`{ egress: [${rule}, { action: Deny }] }`))
    const asked = { to: '192.0.2.80', port: 443 }
    const first = { by: 'GlobalPolicy all, egress rule 0 "api"' }
    expect(ask({ ...asked, toName: 'api.Example.org.' })).toMatchObject({
      allowed: true,
      ends: [first],
    })
    expect(ask({ ...asked, toName: 'example.org' }).allowed).toBe(false)
    expect(ask(asked).allowed).toBe(false)
    put('policies.yaml', global(`{ egress: [{ action: Deny, protocol: TCP }, ${rule}] }`))
    expect(ask({ ...asked, toName: 'api.example.org' }).allowed).toBe(false)
  })

  test.each([
    [
      '{ egress: [{ action: Deny, peer: { domainNames: [a.org] } }] }',
      'domainNames are for Allow rules only',
    ],
    [
      '{ ingress: [{ action: Allow, peer: { domainNames: [a.org] } }] }',
      'domainNames are for egress rules only',
    ],
    [
      '{ egress: [{ action: Allow, peer: { domainNames: [a.org], podSelector: {} } }] }',
      'not beside what names pods',
    ],
    ['{ egress: [{ action: Allow, peer: { domainNames: ["a.*.org"] } }] }', 'not a domain name'],
    [
      `{ egress: [{ action: Allow, peer: { domainNames: [${'a'.repeat(64)}.org] } }] }`,
      'at most 63 characters',
    ],
    ['{ ingress: [{ action: Drop }] }', 'spec.ingress[0].action'],
    ['{ ingress: [{ action: Deny, ports: [80] }] }', 'needs protocol TCP, UDP or SCTP'],
    ['{ ingress: [{ action: Deny, protocol: TCP, ports: ["90-80"] }] }', 'spec.ingress[0].ports'],
    [
      '{ ingress: [{ action: Deny, protocol: TCP, icmp: { type: 8 } }] }',
      'needs protocol ICMP or ICMPv6',
    ],
    [
      '{ egress: [{ action: Deny, peer: { notNetworks: [10.0.0.0/40] } }] }',
      'spec.egress[0].peer.notNetworks[0]',
    ],
    ['{ orders: 1 }', 'orders'],
  ])('%s is refused', (spec, cause) => {
    put('world.yaml', WORLD)
    put('policies.yaml', global(spec))
    expect(() => readPolicies(folder)).toThrow(cause)
  })
})
