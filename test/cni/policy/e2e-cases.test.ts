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
  NODES,
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

/** The naive reading: both ends, where they are pods, by one family. */
function naively(
  world: PolicyWorld,
  { protocol, port }: Table,
  [from, to]: readonly [string, string],
  family: 'ip4' | 'ip6',
): boolean {
  const pod = (name: string) => world.pods.find(each => qualified(each) === name)
  const address = (name: string): string =>
    NODES.get(name)?.[family] ?? pod(name)!.addresses[family === 'ip4' ? 0 : 1]!
  const end = (direction: 'ingress' | 'egress', name: string, peer: string): boolean => {
    const subject = pod(name)
    if (subject === undefined) return true
    const peerAddress = address(peer)
    return allowed(world, { direction, subject, peer: pod(peer), peerAddress, protocol, port })
  }
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
        for (const { from, to } of pairs(table, pods)) {
          const compiled = (target: string) =>
            explainer.explain({ from, to: target, port, protocol }).allowed
          const { ip4, ip6 } = NODES.get(to) ?? { ip4: to, ip6: to }
          const said = [
            ...[compiled(ip4), compiled(ip6)],
            ...[naively(world, table, [from, to], 'ip4'), naively(world, table, [from, to], 'ip6')],
          ]
          const it = isAllowed(table, from, to)
          const wanted = [it, it, it, it]
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
