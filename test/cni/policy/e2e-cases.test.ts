/** The truth tables of test/policy, before there are packets: what the files mean, compiled and by the naive reading. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseManifests } from '../../../cni/base/manifests.ts'
import { qualified } from '../../../cni/model/facts.ts'
import { Explainer } from '../../../cni/policy/explain.ts'
import { policiesIn } from '../../../cni/policy/files.ts'
import type { PolicyWorld } from '../../../cni/policy/sources.ts'
import { SUITES } from '../../policy/cases.ts'
import {
  isAllowed,
  manifests,
  type Place,
  type Places,
  pairs,
  type Step,
  type Table,
} from '../../policy/world.ts'
import { allowed } from './naive.ts'

function placesOf(pods: readonly string[]): Places {
  const place = (k: number): Place => ({
    ...{ node: 'node-a', ip4: `10.244.1.${k + 2}`, ip6: `fd44:0:0:1::${k + 2}` },
  })
  return new Map(pods.map((pod, k) => [pod, place(k)]))
}

function worldOf(step: Step, places: Places): PolicyWorld {
  const items = manifests(step, places)
  return policiesIn(parseManifests('step.json', JSON.stringify({ kind: 'List', items }))).world
}

/** The naive reading: both ends, by one family. */
function naively(
  world: PolicyWorld,
  { protocol, port }: Table,
  [from, to]: readonly [string, string],
  family: 0 | 1,
): boolean {
  const pod = (name: string) => world.pods.find(each => qualified(each) === name)!
  const end = (direction: 'ingress' | 'egress', subject: string, peer: string) =>
    allowed(world, {
      ...{ direction, protocol, port },
      ...{ subject: pod(subject), peer: pod(peer), peerAddress: pod(peer).addresses[family] ?? '' },
    })
  return end('egress', from, to) && end('ingress', to, from)
}

describe.each(SUITES)('$kind', ({ pods, cases }) => {
  const places = placesOf(pods)
  test.each(cases)('$name', ({ steps }) => {
    for (const [k, step] of steps.entries()) {
      const world = worldOf(step, places)
      const explainer = new Explainer(world)
      for (const table of step.tables) {
        const { protocol, port } = table
        for (const { from, to } of pairs(pods)) {
          const said = {
            compiled: explainer.explain({ from, to, port, protocol }).allowed,
            naive: naively(world, table, [from, to], 0),
            naive6: naively(world, table, [from, to], 1),
          }
          const it = isAllowed(table, from, to)
          const wanted = { compiled: it, naive: it, naive6: it }
          expect(said, `step ${k}: ${from} to ${to}, ${protocol} ${port}`).toEqual(wanted)
        }
      }
    }
  })
})

test('README lists every case, each with its title there', () => {
  const readme = readFileSync(new URL('../../policy/README.md', import.meta.url), 'utf8')
  const listed = [...readme.matchAll(/^\| \d+ \| ([^|]+) \|/gm)].map(([, name]) => name)
  expect(listed).toEqual(SUITES.flatMap(({ cases }) => cases.map(({ name }) => name)))
})
