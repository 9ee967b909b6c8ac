// Policy that changes while ports come and go.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PodPolicy, PolicyState } from '../../../dataplane/control.ts'
import { CLOCK } from '../../../dataplane/policy/memory.ts'
import { GROUP } from '../../../dataplane/policy/tables.ts'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import { PORT_FLAG, PORT_STATE } from '../../../dataplane/tables/ports.ts'
import {
  PEER,
  POD_MAC,
  type TestEngine,
  TUN_POD,
  testEngine,
  VETH_MAC,
  VETH_POD,
  VTEP,
} from '../../harness/engine.ts'
import { ethernet, tcp } from '../../harness/packets.ts'

const only = (port: number): Program => ({
  tiers: [
    {
      rules: [
        {
          verdict: VERDICT.ALLOW,
          matches: [{ protocol: 6, ports: { first: port, last: port } }],
          origin: port,
        },
      ],
      otherwise: VERDICT.DENY,
      origin: 0,
    },
  ],
})

let world: TestEngine
beforeEach(() => {
  world = testEngine({ policy: true })
})

function inForce(port: number): Promise<void> {
  const policy: PodPolicy = { identity: podIdentity(1, 1), ingress: only(port), egress: OPEN }
  const pods = new Map(['tun', 'veth'].map(id => [id, policy]))
  return world.setPolicy({ identities: [], pods })
}

const program = (port: number): number => world.slots.record(port)!.ingressProgram

test('a port that closes stays closed', async () => {
  await inForce(80)
  const before = program(VETH_POD)
  let seen: number | undefined
  await world.slots.remove(TUN_POD, async () => {
    await inForce(81)
    seen = world.slots.record(TUN_POD)!.state
  })
  expect(seen).toBe(PORT_STATE.CLOSING)
  expect(program(VETH_POD)).not.toBe(before)
  expect(world.slots.record(TUN_POD)).toBeUndefined()
})

test('a port that another pod has by now keeps what that one has', async () => {
  await inForce(80)
  const { slots, enforcement } = world
  const record = slots.record(TUN_POD)!
  enforcement!.closing('tun')
  await slots.remove(TUN_POD, () => {})
  expect(slots.reserve()).toBe(TUN_POD)
  slots.activate(TUN_POD, { ...record, ingressProgram: 77 })
  await inForce(81)
  expect(program(TUN_POD)).toBe(77)
  await enforcement!.leave('tun', [])
})

describe('an audit', () => {
  const tun = '10.244.1.2'
  const segment = tcp(
    { src: '10.244.1.3', dst: tun, sport: 4000, dport: 80, flags: 2 },
    new Uint8Array(8),
  )
  const passes = (): boolean =>
    world.send(VETH_POD, ethernet(VETH_MAC, POD_MAC, 0x0800, segment))[TUN_POD]!.length > 0
  const state = (node?: Program): PolicyState => ({
    identities: [
      { address: tun, identity: podIdentity(1, 1), vtep: VTEP },
      { address: 'fd44::9', identity: podIdentity(2, 1), vtep: PEER },
    ],
    pods: new Map([
      ['tun', { identity: podIdentity(1, 1), ingress: only(81), egress: OPEN }],
      ['veth', { identity: podIdentity(1, 2), ingress: OPEN, egress: only(80) }],
    ]),
    ...(node === undefined ? {} : { node }),
  })
  const audited = async (): Promise<readonly string[]> => {
    const found = await world.enforcement!.audit()
    world.engine.update()
    for (const port of world.ports)
      world.engine.records[port.index] = world.engine.record(port.index)
    return found
  }
  beforeEach(() => world.setPolicy(state(only(53))))
  afterEach(async () => {
    expect(await audited()).toEqual([])
    expect(passes()).toBe(false)
  })

  test('of what is as it should be finds nothing, and changes nothing', async () => {
    const before = [program(TUN_POD), world.engine.judge!.nodeProgram]
    expect(await audited()).toEqual([])
    expect([program(TUN_POD), world.engine.judge!.nodeProgram]).toEqual(before)
  })

  test('finds and mends a rule’s verdict that is another one, and judges again what has passed by it', async () => {
    const { facts } = world.enforcement!.memory
    const wrong = program(TUN_POD)
    // What the group says when no rule matches: DENY becomes PASS.
    const at = facts.groups.findIndex((_, k) => k === wrong * GROUP.WORDS + GROUP.OTHERWISE)
    facts.groups[at] = VERDICT.PASS
    expect(passes()).toBe(true)
    expect(await audited()).toEqual([`program ${wrong} is not what policy says`])
    expect(program(TUN_POD)).not.toBe(wrong)
  })

  test('finds and mends rules that are gone from the classifier', async () => {
    const { facts } = world.enforcement!.memory
    const rule = facts.origins.indexOf(80)
    facts.verdicts[rule] = VERDICT.DENY
    expect((await audited()).length).toBe(1)
    expect(
      world.enforcement!.ask({
        pod: 'veth',
        direction: 'egress',
        peer: tun,
        protocol: 6,
        port: 80,
      }),
    ).toMatchObject({ allowed: true })
  })

  test('finds and mends an address that is somebody else’s', async () => {
    const { who } = world.enforcement!.memory
    who[who.indexOf(podIdentity(2, 1))] = podIdentity(1, 1)
    expect(await audited()).toEqual(['fd44::9 is taken for somebody else'])
  })

  test('finds and mends a port that has another program, or is not judged at all, and the node’s', async () => {
    const { slots, enforcement } = world
    world.engine.tables.update()
    const { flags } = slots.record(TUN_POD)!
    slots.update(TUN_POD, { ingressProgram: 0, flags: flags & ~PORT_FLAG.POLICED })
    Atomics.store(enforcement!.memory.clock, CLOCK.NODE_PROGRAM, 0)
    expect(await audited()).toEqual([
      'the port of tun has another policy',
      'the port of the node has another policy',
    ])
    expect(world.engine.judge!.nodeProgram).toBe(0)
    passes()
    expect(world.engine.judge!.nodeProgram).toBeGreaterThan(0)
  })
})

test('a program that is given again is the same, also when it had gone in between', async () => {
  const pods = (ingress: Program) =>
    new Map(['tun', 'veth'].map(id => [id, { identity: 1, ingress, egress: OPEN }]))
  const [first, second] = [only(80), only(81)]
  await world.setPolicy({ identities: [], pods: pods(first) })
  const number = program(TUN_POD)
  await world.setPolicy({ identities: [], pods: pods(only(80)) })
  expect([program(TUN_POD), program(VETH_POD)]).toEqual([number, number])
  await world.setPolicy({ identities: [], pods: pods(second) })
  await world.setPolicy({ identities: [], pods: pods(first) })
  expect(program(VETH_POD)).toBe(program(TUN_POD))
  expect(program(TUN_POD)).toBeGreaterThan(0)
})
