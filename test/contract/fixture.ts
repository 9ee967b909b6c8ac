/**
 * What the tests of the contract share: one node with a daemon for a file, and the cases of
 * `hawser conformance` that try an item already, run once for a file.
 */

import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect } from 'vitest'
import { conformance, type Outcome } from '../../cni/conformance/runner.ts'
import type { AttachKind, PodAttachment } from '../../dataplane/control.ts'
import { expectGreen, hawserFiles } from '../conformance/hawser-daemon.ts'
import { ip } from '../harness/netns.ts'
import {
  addPod,
  type CniAnswer,
  type CniCall,
  type NodeOptions,
  type TestNode,
  type TestPod,
} from '../harness/node.ts'
import { type OneNode, oneNode } from '../harness/topology.ts'
import { tellLogsOnFailure } from '../netns/expect.ts'

export interface ContractNode {
  readonly node: TestNode
  /** A pod's namespace without a pod. */
  netns(): Promise<string>
  newId(): string
  add(attach: AttachKind, extra?: Record<string, unknown>): Promise<TestPod>
  /** A call with a new id where none is given. */
  cni(command: string, call?: Partial<CniCall>): Promise<CniAnswer>
  check(pod: TestPod, prevResult?: unknown): Promise<CniAnswer>
  /** Removes a namespace, or whatever lies at its path. */
  lose(netns: string): Promise<void>
  /** Ids of the attachments that are served. */
  attached(): Promise<string[]>
}

/** A node for the tests of this file, its daemon started. */
export function contractNode(label: string, options: Partial<NodeOptions> = {}): ContractNode {
  let world: OneNode | undefined
  let serial = 0
  beforeAll(async () => {
    world = await oneNode(label, options)
    await world.node.start()
  })
  afterAll(() => world?.close())
  tellLogsOnFailure(() => [world?.node])
  const newId = () => `c${process.pid}x${++serial}`
  const cni: ContractNode['cni'] = (command, call = {}) =>
    world!.node.cni({ command, containerId: newId(), ...call })
  return {
    get node() {
      return world!.node
    },
    newId,
    cni,
    netns: () => world!.namespaces.add(`p${++serial}`),
    add: (attach, extra) => addPod(world!.namespaces, world!.node, `p${++serial}`, attach, extra),
    check: ({ containerId, netns, attach, result }, prevResult = result) =>
      cni('CHECK', { containerId, netns, config: world!.node.config({ attach, prevResult }) }),
    lose: netns => world!.namespaces.remove(netns),
    attached: async () => (await world!.node.ask<PodAttachment[]>('pods')).map(each => each.id),
  }
}

/** Rows of a table of a node's state file. */
export function rows(node: TestNode, table = 'attachments'): Record<string, unknown>[] {
  const database = new DatabaseSync(node.state, { readOnly: true })
  try {
    return database.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[]
  } finally {
    database.close()
  }
}

/** Changes the state file of a node whose daemon does not run, or that shall find out. */
export function changeState(node: TestNode, sql: string): void {
  const database = new DatabaseSync(node.state)
  try {
    database.exec(sql)
  } finally {
    database.close()
  }
}

export async function links(netns: string): Promise<string[]> {
  const found = JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[]
  return found.map(each => each.ifname).sort()
}

export function expectError(answer: CniAnswer, code: number, text = /./): void {
  expect(answer.exit).not.toBe(0)
  expect(answer.json).toMatchObject({ code, msg: expect.stringMatching(text) })
}

/** Of DEL, CHECK, STATUS and GC: exit 0 and not a byte on stdout. */
export function expectSuccess(answer: CniAnswer): void {
  expect([answer.exit, answer.json]).toEqual([0, {}])
}

export interface Conformed {
  /** Of the cases of this number that were run none failed, and those that are named passed. */
  expectPassed(number: string, ...ids: string[]): void
}

/**
 * Runs the conformance cases that `only` names and `skip` doesn't (cni/conformance/case.ts) before the
 * tests of this file, for pods that hang on the node by `attach`. `more`: further keys of the configuration.
 */
export function conformed(
  only: string,
  skip: string,
  attach: AttachKind = 'tun',
  more = {},
): Conformed {
  let cases: readonly Outcome[] = []
  beforeAll(async () => {
    const files = hawserFiles(attach, more)
    try {
      cases = (await conformance({ ...files.options, only, skip: `*hung*,${skip}` })).cases
    } finally {
      files.remove()
    }
  })
  return {
    expectPassed: (number, ...ids) => {
      const own = cases.filter(each => each.id.startsWith(`${number}-`))
      expectGreen({ cases: own })
      const passed = own.filter(each => each.verdict === 'passed').map(each => each.id)
      expect(passed.length, `cases of ${number}`).toBeGreaterThan(0)
      expect(passed).toEqual(expect.arrayContaining(ids))
    },
  }
}
