import { expect, test } from 'vitest'
import { networkPolicySpec } from '../../../cni/model/network-policy.ts'
import { Compiler } from '../../../cni/policy/compile.ts'
import { Identities } from '../../../cni/policy/identities.ts'
import { PROTOCOL_NUMBER } from '../../../cni/policy/matches.ts'
import { originText, type PolicyWorld } from '../../../cni/policy/sources.ts'
import { ipWords } from '../../../dataplane/addresses.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import { IDENTITY, VERDICT } from '../../../dataplane/policy-program.ts'
import { type Ask, allowed } from './naive.ts'
import { LEARNED, OUTSIDE, PORTS, randomWorld } from './worlds.ts'

/** Worlds of one run; `HAWSER_WORLDS` for more. */
const WORLDS = Number(process.env['HAWSER_WORLDS'] ?? 60)

/** Every question that can be asked in a world: each pod, each peer, each port, both directions. */
function* questions(world: PolicyWorld): Generator<Ask> {
  const peers = [
    ...world.pods.flatMap(pod => pod.addresses.map(address => ({ pod, address }))),
    ...OUTSIDE.map(address => ({ pod: undefined, address })),
  ]
  let count = 0
  for (const subject of world.pods) {
    for (const { pod: peer, address: peerAddress } of peers) {
      for (const direction of ['ingress', 'egress'] as const) {
        for (const protocol of ['TCP', 'UDP', 'SCTP', 'ICMP'] as const) {
          for (const port of protocol === 'ICMP' ? [0, 3, 8, 128] : [...PORTS, 9000]) {
            const names = LEARNED.filter((_, n) => count % (n + 3) === 0)
            count++
            yield { direction, subject, peer, peerAddress, protocol, port, names }
          }
        }
      }
    }
  }
}

function protocolNumber(protocol: Ask['protocol'], address: string): number {
  if (protocol === 'ICMP') return address.includes(':') ? 58 : 1
  return PROTOCOL_NUMBER[protocol]
}

test(`${WORLDS} random worlds: every question is answered as the documentation says`, () => {
  let asked = 0
  for (let seed = 1; seed <= WORLDS; seed++) {
    const world = randomWorld(seed)
    const identities = new Identities()
    identities.follow(world.namespaces, world.pods)
    const compiler = new Compiler(world, identities)
    const programs = new Map(
      identities.kinds.map(kind => [kind.identity, compiler.programs(kind)] as const),
    )
    for (const ask of questions(world)) {
      const { direction, subject, peer, peerAddress, protocol, port, names = [] } = ask
      const program = programs.get(identities.of(subject)!.identity)![direction]
      const question = {
        identity: peer === undefined ? IDENTITY.WORLD : identities.of(peer)!.identity,
        address: ipWords(peerAddress),
        protocol: protocolNumber(protocol, peerAddress),
        port: protocol === 'ICMP' ? port << 16 : port,
        ...(direction === 'egress' ? { names } : {}),
      }
      const { verdict, origin } = evaluate(program, question)
      const tried = evaluate({ tiers: program.staged ?? program.tiers }, question).verdict
      asked++
      expect(tried === VERDICT.ALLOW, `world ${seed}, staged`).toBe(allowed(world, ask, true))
      if ((verdict === VERDICT.ALLOW) === allowed(world, ask)) continue
      const whose = compiler.origin(origin)
      expect.fail(
        `world ${seed}: ${direction} ${subject.name} <> ${peer?.name ?? ''} ${peerAddress} ${protocol} ${port}: ` +
          `${verdict} by ${whose === undefined ? 'nobody' : originText(whose)}`,
      )
    }
  }
  expect(asked).toBeGreaterThan(WORLDS * 100)
})

test('a port by name to a network is that of the pods in it', () => {
  const web = { name: 'web', protocol: 'TCP' as const, port: 8080 }
  const pod = {
    ...{ namespace: 'n', name: 'p', labels: {}, addresses: ['10.0.0.2'], ports: [web] },
    ...{ serviceAccount: 'default', hostNetwork: false },
  }
  const spec = networkPolicySpec.parse({
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8' } }], ports: [{ port: 'web' }] }],
  })
  const namespaces = [{ name: 'n', labels: {} }]
  const policies = [{ kind: 'NetworkPolicy' as const, namespace: 'n', name: 'np', spec }]
  const world: PolicyWorld = { namespaces, nodes: [], pods: [pod], policies }
  const identities = new Identities()
  identities.follow(world.namespaces, world.pods)
  const kind = identities.of(pod)!
  const { egress } = new Compiler(world, identities).programs(kind)
  const may = (address: string, identity: number, port: number): boolean =>
    evaluate(egress, { identity, address: ipWords(address), protocol: 6, port }).verdict ===
    VERDICT.ALLOW
  expect(may('10.0.0.2', kind.identity, 8080)).toBe(true)
  expect(may('10.0.0.2', kind.identity, 80)).toBe(false)
  expect(may('192.0.2.2', kind.identity, 8080)).toBe(false)
  expect(may('10.0.0.3', IDENTITY.WORLD, 8080)).toBe(false)
})
