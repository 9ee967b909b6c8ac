/** What becomes of attachments that an earlier daemon, an undo that stopped or a full disk has left. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Node } from '../../../cni/pods/node.ts'
import { Pods } from '../../../cni/pods/pods.ts'
import { LOOKS } from '../../../cni/pods/restore.ts'
import { CniError, CODE } from '../../../cni/spec/errors.ts'
import { type Attachment, attachmentId, type State } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { readiness } from '../../../cni/verbs/status.ts'
import { Namespaces } from '../../harness/netns.ts'
import { fakeNode } from '../fake-node.ts'
import { FakePlane } from '../fake-plane.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/28'] }
const KEY = { network: 'net', containerId: 'c1', ifname: 'eth0' }
const ID = attachmentId(KEY)
const CONFIG = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'hawser' })

const namespaces = new Namespaces('restore')
let netns = ''
let folder = ''
let plane: FakePlane
let state: State
let node: Node
let records: Record<string, unknown>[] = []

beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-restore-'))
  plane = new FakePlane(SELF, {})
  start()
})
afterEach(() => {
  state.close()
  rmSync(folder, { recursive: true, force: true })
})

function start(): void {
  const made = fakeNode(folder, plane)
  ;({ node, state, records } = made)
}

async function call(command: string, containerId = 'c1') {
  const env = {
    ...{ CNI_COMMAND: command, CNI_CONTAINERID: containerId, CNI_NETNS: netns },
    ...{ CNI_IFNAME: 'eth0', CNI_ARGS: '', CNI_PATH: '' },
  }
  const { stdout } = await answer(node, { env, config: CONFIG })
  return stdout === '' ? undefined : JSON.parse(stdout)
}

/** What SQLite says of its file. */
function broken(message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode: 10 })
}

const errors = (): unknown[] => records.filter(each => each['level'] === 'error')

for (const again of ['could succeed', 'would fail']) {
  test(`a restore that waits behind a DEL does not revive the pod, when it ${again}`, async () => {
    await call('ADD')
    state.close()
    plane = new FakePlane(SELF, {})
    plane.refuseAttach = new Error('no frames left')
    start()
    await node.pods.restoreAll()
    expect([...node.pods.troubles.keys()]).toEqual([ID])
    if (again === 'could succeed') plane.refuseAttach = undefined
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>()
    const { promise: detaching, resolve: isDetaching } = Promise.withResolvers<void>()
    const detach = plane.detach.bind(plane)
    plane.detach = async id => {
      isDetaching()
      await gate
      await detach(id)
    }
    const del = call('DEL')
    await detaching
    const collected = node.pods.collect()
    openGate()
    expect(await del).toBeUndefined()
    await collected
    expect(state.list()).toEqual([])
    expect(plane.pods()).toEqual([])
    expect(node.pods.troubles.size).toBe(0)
    expect(readiness(node)).toEqual({ ready: true, causes: [] })
  })
}

test('a restore that waits behind a DEL and an ADD leaves the new pod as it is', async () => {
  await call('ADD')
  state.close()
  plane = new FakePlane(SELF, {})
  plane.refuseAttach = new Error('no frames left')
  start()
  await node.pods.restoreAll()
  plane.refuseAttach = undefined
  const del = call('DEL')
  const added = call('ADD')
  const collected = node.pods.collect()
  await Promise.all([del, added, collected])
  expect(plane.pods()).toMatchObject([{ id: ID, ip4: state.list()[0]!.ip4 }])
  expect(plane.calls.filter(each => each === `attach ${ID} adopt`)).toHaveLength(1)
  expect(await call('STATUS')).toBeUndefined()
})

describe('what an ADD that was not undone whole has left', () => {
  test('is collected like the rest', async () => {
    plane.refuseDetach = new Error('the worker does not let go')
    const markAttached = state.markAttached.bind(state)
    state.markAttached = () => {
      throw new Error('no')
    }
    expect(await call('ADD')).toMatchObject({ code: CODE.internal })
    state.markAttached = markAttached
    expect(state.list()).toMatchObject([{ phase: 'reserved' }])
    plane.refuseDetach = undefined
    await node.pods.collect()
    expect(state.list()).toEqual([])
    expect(plane.pods()).toEqual([])
  })

  test('is not taken for what an ADD under way has reserved', async () => {
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>()
    plane.gate = gate
    const added = call('ADD')
    await expect.poll(() => state.list().map(each => each.phase)).toEqual(['reserved'])
    const collected = node.pods.collect()
    openGate()
    expect(await added).toMatchObject({ ips: [{ address: '10.0.0.2/32' }] })
    await collected
    expect(state.list()).toMatchObject([{ phase: 'attached' }])
    expect(plane.pods()).toHaveLength(1)
  })
})

describe('a state that can not be read or written', () => {
  for (const method of ['list', 'allSecondaries', 'delegations', 'get'] as const) {
    test(`does not end the daemon: ${method}`, async () => {
      await call('ADD')
      const lost = await namespaces.add(`lost-${method.toLowerCase()}`)
      const row = state.list()[0]!
      state.insert({ ...row, containerId: 'c2', ip4: '10.0.0.9', netns: lost, netnsIno: '1' })
      for (let k = 1; k < LOOKS; k++) await node.pods.collect()
      state[method] = () => {
        throw broken('disk I/O error')
      }
      await node.pods.collect()
      expect(errors()).not.toEqual([])
    })
  }

  test('DEL succeeds, the address stays reserved, and the row goes when it can', async () => {
    await call('ADD')
    const release = state.release.bind(state)
    state.release = () => {
      throw broken('database or disk is full')
    }
    expect(await call('DEL')).toBeUndefined()
    expect(plane.pods()).toEqual([])
    expect(state.list()).toMatchObject([{ ip4: '10.0.0.2' }])
    expect(errors()).toMatchObject([{ attachment: ID, cause: 'database or disk is full' }])
    expect(await call('DEL')).toBeUndefined()
    await node.pods.collect()
    expect(state.list()).toHaveLength(1)
    state.release = release
    await node.pods.collect()
    expect(state.list()).toEqual([])
  })

  test('an ADD behind such a DEL is another attachment', async () => {
    await call('ADD')
    const release = state.release.bind(state)
    state.release = () => {
      throw broken('database or disk is full')
    }
    await call('DEL')
    state.release = release
    expect(await call('ADD')).toMatchObject({ ips: [{}] })
    await node.pods.collect()
    expect(state.list()).toHaveLength(1)
    expect(plane.pods()).toHaveLength(1)
  })
})

describe('the gate', () => {
  const passed: string[] = []
  const withGate = (work: () => Promise<void>): void => {
    const gate = async (attachment: Attachment): Promise<void> => {
      passed.push(`${attachmentId(attachment)} ${plane.pods().length}`)
      await work()
    }
    node = { ...node, pods: new Pods({ ...node, gate }) }
  }

  test('is passed before packets flow, at the ADD and when a pod is restored', async () => {
    withGate(async () => {})
    await call('ADD')
    expect(passed.splice(0)).toEqual([`${ID} 0`])
    state.close()
    plane = new FakePlane(SELF, {})
    start()
    withGate(async () => {})
    await node.pods.restoreAll()
    expect(passed.splice(0)).toEqual([`${ID} 0`])
    expect(plane.pods()).toHaveLength(1)
  })

  test('that does not open leaves nothing of an ADD', async () => {
    withGate(() => Promise.reject(new CniError(CODE.tryAgain, 'its policy is not compiled yet')))
    expect(await call('ADD')).toMatchObject({ code: 11, msg: 'its policy is not compiled yet' })
    expect(state.list()).toEqual([])
    expect(plane.calls).toEqual([])
  })
})
