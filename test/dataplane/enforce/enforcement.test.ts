// Policy that changes while ports come and go.
import { beforeEach, expect, test } from 'vitest'
import type { PodPolicy } from '../../../dataplane/control.ts'
import { OPEN, type Program, podIdentity, VERDICT } from '../../../dataplane/policy-program.ts'
import { PORT_STATE } from '../../../dataplane/tables/ports.ts'
import { type TestEngine, TUN_POD, testEngine, VETH_POD } from '../../harness/engine.ts'

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
