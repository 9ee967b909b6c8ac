// Truth tables through real nodes, with the pods spread over both:
//
//   node a  x/a x/b x/c y/a ─── underlay ─── node b  y/b y/c z/a z/b z/c
//   node a  w/a w/b x/a x/b                  node b  y/a y/b z/a z/b
//
// Both daemons read one folder of policy files; it is one file, replaced at each step.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AttachKind, DropCount } from '../../dataplane/control.ts'
import { addPod, type NodeOptions, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { dropsOf, expectSound, tellLogsOnFailure } from '../netns/expect.ts'
import { SUITES, type Suite } from './cases.ts'
import { Prober } from './prober.ts'
import { type Manifest, manifests, NODES, ON_A, type Place, type Step } from './world.ts'

type UnderlayMode = NonNullable<NodeOptions['underlayMode']>

/** Declares a test for each case of each suite, with pods of this kind. */
export function truthTables(attach: AttachKind, underlayMode: UnderlayMode = 'auto'): void {
  for (const suite of SUITES) {
    describe(suite.kind, () => truthTablesOf(suite, attach, underlayMode))
  }
}

function truthTablesOf(
  { pods: names, cases }: Suite,
  attach: AttachKind,
  underlayMode: UnderlayMode,
): void {
  let folder = ''
  const pods = new Map<string, TestPod>()
  let nodes: TwoNodes | undefined
  let prober: Prober | undefined
  let steps = 0

  function write(items: Manifest[]): void {
    const file = join(folder, 'all.json')
    writeFileSync(`${file}.new`, JSON.stringify({ kind: 'List', items }))
    renameSync(`${file}.new`, file)
  }

  /** Puts a step's files in force on both nodes. Each step has one more pod of nobody: by the addresses a log tells it. */
  async function enforce(step: Step): Promise<void> {
    const places = new Map<string, Place>(
      [...pods].map(([name, { node, ip4, ip6 }]) => [name, { node: node.name, ip4, ip6 }]),
    )
    const strangers = Array.from({ length: ++steps }, (_, k) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'strangers', name: `stranger-${k}` },
      status: { podIPs: [{ ip: `203.0.113.${k + 1}` }] },
    }))
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'strangers' } }
    write([...manifests(step, places), namespace, ...strangers])
    const addresses = 2 * names.length + strangers.length
    const words = ['"msg":"policy is in force"', `"addresses":${addresses}`]
    for (const node of [nodes!.a, nodes!.b]) {
      await until(`the policy of step ${steps} is in force on ${node.name}`, () =>
        node.log.some(line => words.every(word => line.includes(word))),
      )
    }
  }

  /** Packets that policy has dropped on both nodes. */
  async function denied(): Promise<number> {
    const drops = await Promise.all(
      [nodes!.a, nodes!.b].map(node => node.ask<DropCount[]>('drops')),
    )
    return drops
      .flat()
      .filter(({ reason }) => reason === 'policy-egress' || reason === 'policy-ingress')
      .reduce((sum, { count }) => sum + count, 0)
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'hawser-policy-'))
    write([])
    nodes = await twoNodes(`pol${attach}`, { underlayMode, config: { policy: { folder } } })
    for (const [k, name] of names.entries()) {
      const node = k < ON_A ? nodes.a : nodes.b
      const netns = name.replace('/', '-')
      pods.set(name, await addPod(nodes.namespaces, node, netns, attach, {}, name))
    }
    const { netns } = nodes.b
    const ofNode = new Map([['node/b', { netns, ...NODES.get('node/b')! }]])
    prober = new Prober(pods, ofNode, denied)
  })
  afterAll(async () => {
    await prober?.close()
    await nodes?.close()
    rmSync(folder, { recursive: true, force: true })
  })
  tellLogsOnFailure(() => [nodes?.a, nodes?.b])

  test.each(cases)('$name', async each => {
    for (const step of each.steps) {
      await enforce(step)
      const { answered, expected } = await prober!.observe(step.tables)
      expect(answered, `step ${steps}`).toEqual(expected)
    }
  })

  test('both ends deny: senders at their node, receivers at theirs', async () => {
    const [a, b] = await Promise.all([dropsOf(nodes!.a), dropsOf(nodes!.b)])
    for (const reason of ['policy-egress', 'policy-ingress']) {
      expect(a[reason], `${reason} of node a`).toBeGreaterThan(0)
    }
    expect(b['policy-ingress'], 'policy-ingress of node b').toBeGreaterThan(0)
  })

  test('no frame is without an owner', async () => {
    for (const node of [nodes!.a, nodes!.b]) await expectSound(node)
  })
}
