import { expect, test } from 'vitest'
import type { NamespaceFacts, PodFacts } from '../../../cni/model/facts.ts'
import { networkPolicySpec } from '../../../cni/model/network-policy.ts'
import { Compiler } from '../../../cni/policy/compile.ts'
import { Identities } from '../../../cni/policy/identities.ts'
import { EVERY_POD } from '../../../dataplane/policy-program.ts'

const NAMESPACES: NamespaceFacts[] = ['a', 'b'].map(name => ({ name, labels: {} }))
const pod = (namespace: string, name: string, labels = {}): PodFacts => ({
  ...{ namespace, name, labels, addresses: [], ports: [] },
  ...{ serviceAccount: 'default', hostNetwork: false },
})

test('pods that policy can not tell apart have one identity, and keep it while others come and go', () => {
  const identities = new Identities()
  const one = pod('a', 'one', { app: 'x' })
  const two = pod('a', 'two', { app: 'x' })
  const three = pod('b', 'three', { app: 'x' })
  identities.follow(NAMESPACES, [pod('a', 'first', { app: 'w' }), one, two, three])
  const before = [one, two, three].map(each => identities.of(each)!.identity)
  expect(before[0]).toBe(before[1])
  expect(before[2]).not.toBe(before[0])
  expect(before.map(identity => identity >>> 31)).toEqual([1, 1, 1])
  identities.follow(NAMESPACES, [three, two, pod('a', 'four', { app: 'y' })])
  expect([two, three].map(each => identities.of(each)!.identity)).toEqual(before.slice(1))
  expect(identities.of(one)).toBeUndefined()
  expect(new Set(identities.kinds.map(kind => kind.identity)).size).toBe(3)
})

test('a selector of everything costs one match, whatever pods there are', () => {
  const pods = Array.from({ length: 500 }, (_, i) => pod('a', `p${i}`, { n: `${i}` }))
  const identities = new Identities()
  identities.follow(NAMESPACES, pods)
  const spec = networkPolicySpec.parse({ ingress: [{ from: [{ namespaceSelector: {} }] }] })
  const policies = [{ kind: 'NetworkPolicy' as const, namespace: 'a', name: 'all', spec }]
  const compiler = new Compiler({ namespaces: NAMESPACES, pods, nodes: [], policies }, identities)
  const { ingress } = compiler.programs(identities.kinds[0]!)
  expect(ingress.tiers[0]!.rules[0]!.matches).toEqual([{ peer: EVERY_POD }])
})

test('12,500 rules of one pod compile, one match each', () => {
  const pods = [pod('a', 'p')]
  const identities = new Identities()
  identities.follow(NAMESPACES, pods)
  const ingress = Array.from({ length: 12_500 }, (_, i) => ({
    from: [{ ipBlock: { cidr: `10.${i >> 8}.${i & 255}.0/24` } }],
    ports: [{ port: 1 + i }],
  }))
  const spec = networkPolicySpec.parse({ ingress })
  const policies = [{ kind: 'NetworkPolicy' as const, namespace: 'a', name: 'big', spec }]
  const compiler = new Compiler({ namespaces: NAMESPACES, pods, nodes: [], policies }, identities)
  const program = compiler.programs(identities.kinds[0]!).ingress
  expect(program.tiers[0]!.rules).toHaveLength(12_500)
  expect(program.tiers[0]!.rules.every(({ matches }) => matches.length === 1)).toBe(true)
})
