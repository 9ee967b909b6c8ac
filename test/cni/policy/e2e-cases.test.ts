/** The truth tables of test/policy, before there are packets: what the files mean, compiled and by the naive reading. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parseManifests } from '../../../cni/base/manifests.ts'
import { qualified } from '../../../cni/model/facts.ts'
import { Explainer } from '../../../cni/policy/explain.ts'
import { policiesIn } from '../../../cni/policy/files.ts'
import type { PolicyWorld } from '../../../cni/policy/sources.ts'
import { CASES } from '../../policy/cases.ts'
import { isAllowed, manifests, PODS, pairs, type Step, type Table } from '../../policy/world.ts'
import { allowed } from './naive.ts'

const places = new Map(
  PODS.map((pod, k) => [
    pod,
    { node: k < 4 ? 'node-a' : 'node-b', ip4: `10.244.1.${k + 2}`, ip6: `fd44:0:0:1::${k + 2}` },
  ]),
)

function worldOf(step: Step): PolicyWorld {
  const items = manifests(step, places)
  return policiesIn(parseManifests('step.json', JSON.stringify({ kind: 'List', items }))).world
}

/** The naive reading: both ends, by one family. */
function naively(
  world: PolicyWorld,
  { protocol, port }: Table,
  [from, to]: readonly [string, string],
  family: 'ip4' | 'ip6',
): boolean {
  const pod = (name: string) => world.pods.find(each => qualified(each) === name)!
  const end = (direction: 'ingress' | 'egress', subject: string, peer: string) =>
    allowed(world, {
      ...{ direction, protocol, port },
      ...{ subject: pod(subject), peer: pod(peer), peerAddress: places.get(peer)![family] },
    })
  return end('egress', from, to) && end('ingress', to, from)
}

test.each(CASES)('$name', ({ steps }) => {
  for (const step of steps) {
    const world = worldOf(step)
    const explainer = new Explainer(world)
    for (const table of step.tables) {
      const { protocol, port } = table
      for (const { from, to } of pairs()) {
        const said = {
          compiled: explainer.explain({ from, to, port, protocol }).allowed,
          naive: naively(world, table, [from, to], 'ip4'),
          naive6: naively(world, table, [from, to], 'ip6'),
        }
        const it = isAllowed(table, from, to)
        const wanted = { compiled: it, naive: it, naive6: it }
        expect(said, `${from} to ${to}, ${protocol} ${port}`).toEqual(wanted)
      }
    }
  }
})

test("README lists every case, each with the suite's title", () => {
  const readme = readFileSync(new URL('../../policy/README.md', import.meta.url), 'utf8')
  const listed = [...readme.matchAll(/^\| \d+ \| ([^|]+) \|/gm)].map(([, name]) => name)
  expect(listed).toEqual(CASES.map(({ name }) => name))
  expect(listed.length).toBe(48)
})
