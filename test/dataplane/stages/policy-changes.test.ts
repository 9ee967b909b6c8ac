// Random policies, one after another, under live flows: after each change every flow is judged as a fresh engine
// would judge its first packet, whichever end speaks next.
import { expect, test } from 'vitest'
import { ipWords, parseCidr } from '../../../dataplane/addresses.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import {
  IDENTITY,
  type Match,
  OPEN,
  type Program,
  podIdentity,
  type Tier,
  VERDICT,
} from '../../../dataplane/policy-program.ts'
import { Dice } from '../../cni/policy/worlds.ts'
import {
  HOST,
  OWN_VTEP_MAC,
  PEER,
  PEER_VTEP_MAC,
  POD_MAC,
  TUN_POD,
  testEngine,
  UNDERLAY,
  UNDERLAY_MAC,
  UNDERLAY_PEER_MAC,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { ethernet, tcp, udp, vxlan } from '../../harness/packets.ts'
import { SEEDS } from '../../runner/tiers.ts'

const ROUNDS = 60
const FLOWS = 40

interface End {
  name: 'tun' | 'veth' | 'far' | 'world'
  port: number
  identity: number
  addresses: { 4: string; 6?: string }
}

const ENDS: End[] = [
  {
    ...{ name: 'tun', port: TUN_POD, identity: podIdentity(1, 1) },
    addresses: { 4: '10.244.1.2', 6: 'fd44:0:0:1::2' },
  },
  {
    ...{ name: 'veth', port: VETH_POD, identity: podIdentity(1, 2) },
    addresses: { 4: '10.244.1.3', 6: 'fd44:0:0:1::3' },
  },
  {
    ...{ name: 'far', port: UNDERLAY, identity: podIdentity(2, 1) },
    addresses: { 4: '10.244.2.9', 6: 'fd44:0:0:2::9' },
  },
  {
    ...{ name: 'world', port: HOST, identity: IDENTITY.WORLD },
    addresses: { 4: '198.51.100.7' },
  },
]

interface Flow {
  from: End
  to: End
  family: 4 | 6
  protocol: 6 | 17
  sport: number
  dport: number
}

const match = (dice: Dice): Match => ({
  ...(dice.chance(0.6) && {
    peer: dice.one([
      { value: 0x8000_0000, bits: 1 },
      { value: podIdentity(1, 0), bits: 16 },
      ...ENDS.map(({ identity }) => ({ value: identity, bits: 32 })),
    ]),
  }),
  ...(dice.chance(0.3) && {
    network: parseCidr(
      dice.one(['198.51.100.0/24', '10.244.0.0/16', 'fd44::/32', '10.244.1.2/32', '0.0.0.0/0']),
    ),
  }),
  ...(dice.chance(0.7) && {
    protocol: dice.one([6, 17]),
    ...(dice.chance(0.8) && {
      ports: dice.one([
        { first: 80, last: 80 },
        { first: 0, last: 81 },
      ]),
    }),
  }),
})

const tier = (dice: Dice, last: boolean): Tier => ({
  rules: dice.some(4, () => ({
    verdict: dice.one([VERDICT.ALLOW, VERDICT.ALLOW, VERDICT.DENY, VERDICT.PASS]),
    matches: dice.some(3, () => match(dice), 1),
    origin: 0,
  })),
  otherwise: last && dice.chance(0.7) ? VERDICT.DENY : VERDICT.PASS,
  origin: 1,
})

function program(dice: Dice): Program {
  if (dice.chance(0.2)) return OPEN
  const tiers = dice.some(3, k => tier(dice, k === 2), 1)
  return { tiers }
}

for (let seed = 1; seed <= SEEDS * 5; seed++) {
  test(`seed ${seed}: ${ROUNDS} policies under ${FLOWS} flows`, async () => {
    const dice = new Dice(seed)
    const now = 1e15
    const world = testEngine({ policy: true, clock: () => now })
    let programs = new Map<string, { ingress: Program; egress: Program }>()
    let next = 1024

    const expected = ({ from, to, family, protocol, dport }: Flow): boolean => {
      const ask = (who: End, direction: 'ingress' | 'egress', peer: End): boolean => {
        const own = programs.get(who.name)
        if (own === undefined) return true
        const { verdict } = evaluate(own[direction], {
          identity: peer.identity,
          address: ipWords(peer.addresses[family]!),
          protocol,
          port: dport,
        })
        return verdict === VERDICT.ALLOW
      }
      return ask(from, 'egress', to) && ask(to, 'ingress', from)
    }

    const passes = (flow: Flow, back: boolean, flags: number): boolean => {
      const [from, to] = back ? [flow.to, flow.from] : [flow.from, flow.to]
      const [sport, dport] = back ? [flow.dport, flow.sport] : [flow.sport, flow.dport]
      const ends = { src: from.addresses[flow.family]!, dst: to.addresses[flow.family]! }
      const data = new Uint8Array(8)
      const inner =
        flow.protocol === 6
          ? tcp({ ...ends, sport, dport, flags }, data)
          : udp({ ...ends, sport, dport }, data)
      const type = flow.family === 6 ? 0x86dd : 0x0800
      const packet =
        from.name === 'veth'
          ? ethernet(VETH_MAC, POD_MAC, type, inner)
          : from.name !== 'far'
            ? inner
            : ethernet(
                UNDERLAY_MAC,
                UNDERLAY_PEER_MAC,
                0x0800,
                vxlan({
                  ...{ src: PEER, dst: VTEP, inner },
                  ...{ innerDst: OWN_VTEP_MAC, innerSrc: PEER_VTEP_MAC },
                }),
              )
      return world.send(from.port, packet)[to.port]!.length > 0
    }

    const begin = (): Flow => {
      const from = dice.one(ENDS)
      const own = from.name === 'tun' || from.name === 'veth'
      const to = dice.one(
        ENDS.filter(end => end !== from && (own || end.name === 'tun' || end.name === 'veth')),
      )
      const six = from.addresses[6] !== undefined && to.addresses[6] !== undefined
      return {
        ...{ from, to, family: six && dice.chance(0.4) ? 6 : 4 },
        ...{ protocol: dice.one([6, 17] as const), sport: next++, dport: dice.one([80, 81, 443]) },
      }
    }

    let live: Flow[] = []
    let died = 0
    for (let round = 0; round < ROUNDS; round++) {
      programs = new Map(
        ['tun', 'veth'].map(name => [name, { ingress: program(dice), egress: program(dice) }]),
      )
      await world.setPolicy({
        identities: ENDS.filter(({ name }) => name !== 'world').flatMap(end =>
          Object.values(end.addresses).map(address => ({
            ...{ address, identity: end.identity },
            vtep: end.name === 'far' ? PEER : VTEP,
          })),
        ),
        pods: new Map(
          ENDS.slice(0, 2).map(end => [
            end.name,
            { identity: end.identity, ...programs.get(end.name)! },
          ]),
        ),
      })
      const say = (flow: Flow): string =>
        `round ${round}: ${flow.from.name} > ${flow.to.name} IPv${flow.family} ${flow.protocol}/${flow.dport}`
      const still = live.filter(flow => {
        const right = expected(flow)
        expect(passes(flow, dice.chance(0.5), 16), say(flow)).toBe(right)
        if (right) expect(passes(flow, true, 16), `${say(flow)}, back`).toBe(true)
        return right
      })
      died += live.length - still.length
      live = still
      while (live.length < FLOWS && dice.chance(0.97)) {
        const flow = begin()
        const right = expected(flow)
        expect(passes(flow, false, 2), say(flow)).toBe(right)
        if (!right) continue
        expect(passes(flow, true, 18), `${say(flow)}, answered`).toBe(true)
        live.push(flow)
      }
    }
    expect(died).toBeGreaterThan(FLOWS)
    expect(world.leaked()).toBe(0)
  })
}
