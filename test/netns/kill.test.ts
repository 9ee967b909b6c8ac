// A daemon that is killed at every step of ADD, of DEL and of its start (cni/base/fault-points.ts): what the
// next one makes of it, as the runtime sees it, and that nothing is left. The same with steps that fail.
//
//   lane tun                    lane xdp                    lane tap
//   node ┬ hawser0              node ┬ hawser0              node ┬ hawser0, hawser-tap, hawser-vxlan
//        │ under0 192.168.77.1       │ under0 192.168.77.1       │ under0 192.168.77.1
//        └ pods on TUN               └ pods on AF_XDP            └ pods behind the TAP
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { FAULT_POINTS, FAULT_VARIABLE, type FaultPoint } from '../../cni/base/fault-points.ts'
import { query } from '../../cni/rpc/client.ts'
import { damagedFiles } from '../../cni/state/damage.ts'
import type {
  AttachKind,
  DataplaneStatus,
  PodAttachment,
  RouteEntry,
} from '../../dataplane/control.ts'
import { FAKE, type FakeDelegate, fakeDelegate, fakeIpam } from '../cni/invoke/fake-delegate.ts'
import { noNft } from '../harness/needs.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { type CniAnswer, TestNode } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import { ping } from '../harness/traffic.ts'
import { until } from '../harness/until.ts'
import { LONG } from '../runner/tiers.ts'
import { tellLogsOnFailure } from './expect.ts'

/** In the order in which they are reached. */
const ADD: readonly FaultPoint[] = [
  ...(['add.begun', 'add.asking', 'add.leased', 'add.reserved'] as const),
  'attach.admitted',
  ...(['attach.device', 'attach.configured', 'attach.served', 'attach.routed'] as const),
  ...(['add.made', 'add.mapped', 'further.asking', 'further.made'] as const),
  ...(['add.attached', 'add.answer'] as const),
]
/** From these on the next daemon takes the attachment for one that was answered. */
const ANSWERED: readonly FaultPoint[] = ['add.attached', 'add.answer']
const DEL: readonly FaultPoint[] = [
  'further.undone',
  ...([
    'del.begun',
    'del.unmapped',
    'detach.unrouted',
    'detach.closing',
    'detach.removed',
  ] as const),
  ...(['del.detached', 'del.released', 'del.returned', 'del.answer'] as const),
]
const START: readonly FaultPoint[] = [
  ...(['start.opened', 'restore.begun', 'restore.done', 'start.restored'] as const),
  ...(['queue.done', 'queue.removed', 'start.drained', 'start.listening'] as const),
]
const REBUILD: readonly FaultPoint[] = ['start.aside', 'start.empty']
/** Reached only when an IPAM plugin gives the addresses. */
const DELEGATED: readonly FaultPoint[] = ['add.asking', 'add.leased', 'del.returned']
/** Reached only when another plugin makes a further interface. */
const FURTHER: readonly FaultPoint[] = ['further.asking', 'further.made', 'further.undone']
const LEASE = {
  ips: [{ address: '10.244.1.200/24' }, { address: 'fd44:0:0:1::200/64' }],
}

interface Lane {
  attach: AttachKind
  node: TestNode
  fake: FakeDelegate
  pod: Pod
  /** What the node has without pods. */
  baseline: unknown
  /** A daemon serves. */
  up: boolean
}

interface Pod {
  containerId: string
  netns: string
}

/** Pods are reached by one family and the other in turn. */
let turn = 0
const namespaces = new Namespaces('kill')
const lanes: Lane[] = []
let hasNft = true

beforeAll(async () => {
  hasNft = noNft('port mappings') === undefined
  for (const attach of ['tun', 'xdp', 'tap'] as const) {
    const netns = await namespaces.add(attach)
    await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
    await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
    for (const end of ['under0', 'under1'])
      await ip(netns, 'link', 'set', end, 'addrgenmode', 'none')
    await ip(netns, 'link', 'set', 'under0', 'up')
    await ip(netns, 'link', 'set', 'under1', 'up')
    const node = new TestNode(`kill-${attach}`, netns, {
      cluster: [
        {
          name: `kill-${attach}`,
          vtep: '192.168.77.1',
          podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'],
        },
      ],
      ...(attach === 'tap' ? { underlayMode: 'vxlan' } : {}),
      config: { smallFrames: 1024, largeFrames: 16 },
    })
    const fake = fakeDelegate(node.folder)
    lanes.push({
      attach,
      node,
      fake,
      pod: await newPod(`p-${attach}`),
      baseline: undefined,
      up: false,
    })
  }
  await bothLanes(async lane => {
    await start(lane)
    // The first change of port mappings makes their table.
    await expectOk(call(lane, 'ADD'))
    await expectOk(call(lane, 'DEL'))
    lane.baseline = await seen(lane)
    // Leaves the compiled modules behind.
    await stop(lane, 'SIGTERM')
  })
})
afterAll(async () => {
  await Promise.all(lanes.map(({ node }) => node.remove()))
  await namespaces.removeAll()
})
tellLogsOnFailure(() => lanes.map(({ node }) => node))
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return
  // What it left must not fail the next one.
  for (const lane of lanes) {
    await stop(lane)
    rmSync(dirname(lane.node.state), { recursive: true, force: true })
    lane.pod = await newPod(`${task.name.replaceAll(/\W/g, '-')}-${lane.attach}`)
  }
})

async function newPod(name: string): Promise<Pod> {
  return { containerId: `c-${name}`, netns: await namespaces.add(name) }
}

/**
 * Runs `work` for a step: in one lane, which the step's place in `steps` chooses; at length in both. What a
 * step leaves to the next daemon is the same for all kinds of pods but for the interface itself.
 */
function inTurn<Step>(steps: readonly Step[], step: Step, work: (lane: Lane) => Promise<void>) {
  const k = steps.indexOf(step) % 2
  return inLanes(LONG ? lanes : lanes.slice(k, k + 1), work)
}

const bothLanes = (work: (lane: Lane) => Promise<void>): Promise<void> => inLanes(lanes, work)

/** Runs `work` in these lanes, side by side; a failure names its lane. */
async function inLanes(lanes: readonly Lane[], work: (lane: Lane) => Promise<void>): Promise<void> {
  const ends = await Promise.allSettled(lanes.map(work))
  for (const [k, end] of ends.entries()) {
    if (end.status === 'fulfilled') continue
    if (end.reason instanceof Error)
      end.reason.message = `${lanes[k]!.attach}: ${end.reason.message}`
    throw end.reason
  }
}

/** A verb for a pod, by the executable, with the configuration that `point` needs to be reached. */
function call(
  lane: Lane,
  command: string,
  pod = lane.pod,
  point?: FaultPoint,
  more = {},
): Promise<CniAnswer> {
  const { attach, node, fake } = lane
  const hostPort = pod === lane.pod ? 8080 : 0
  const portMappings = [{ hostPort, containerPort: 80, protocol: 'tcp' }]
  const runtimeConfig = hasNft && hostPort > 0 ? { portMappings } : {}
  const ipam = DELEGATED.includes(point!) ? { ipam: fakeIpam(LEASE) } : {}
  const network = { name: 'far', ifname: 'net1', plugins: [{ type: FAKE, fake: {} }] }
  const further = FURTHER.includes(point!) ? { networks: [network] } : {}
  const config = node.config({ attach, runtimeConfig, ...ipam, ...further, ...more })
  return node.cni({ command, ...pod, config, path: fake.folder })
}

async function expectOk(answer: Promise<CniAnswer>): Promise<CniAnswer> {
  const { exit, json, stderr } = await answer
  expect({ exit, json, stderr }).toMatchObject({ exit: 0 })
  return { exit, json, stderr }
}

/** The daemon is started, with `fault` armed; dozens of them are: modules are compiled once. */
async function start(lane: Lane, fault = ''): Promise<void> {
  const { node } = lane
  const env = {
    ...(process.env as Record<string, string>),
    NODE_COMPILE_CACHE: join(node.folder, 'cache'),
  }
  await node.start({ ...env, [FAULT_VARIABLE]: fault })
  lane.up = true
}

async function stop(lane: Lane, signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
  lane.up = false
  const code = await lane.node.stop(signal)
  if (signal === 'SIGTERM') expect(code).toBe(0)
}

/** The daemon is started with the point armed; a point of its start ends it before it serves. */
async function startArmed(lane: Lane, point: FaultPoint): Promise<void> {
  await stop(lane)
  await start(lane, `${point}:kill`).catch((error: Error) => {
    if (!error.message.startsWith('it ended with null')) throw error
  })
}

async function expectKilled(lane: Lane): Promise<void> {
  lane.up = false
  expect(await lane.node.died()).toBe('SIGKILL')
}

function rows<T = { container: string; phase: string }>({ node }: Lane, table: string): T[] {
  const database = new DatabaseSync(node.state, { readOnly: true })
  try {
    return database.prepare(`SELECT * FROM ${table}`).all() as T[]
  } finally {
    database.close()
  }
}

const queued = ({ node }: Lane): string[] => {
  const folder = join(node.folder, 'run/queue')
  try {
    return readdirSync(folder).map(name => join(folder, name))
  } catch {
    return []
  }
}

const names = async (netns: string): Promise<string[]> =>
  (JSON.parse(await ip(netns, '-j', 'link')) as { ifname: string }[])
    .map(each => each.ifname)
    .sort()

/** All of a node that a pod could leave something in. */
async function seen({ node, attach }: Lane): Promise<unknown> {
  const { netns, socket } = node
  const status = (await query(socket, 'status')) as DataplaneStatus
  const kernel = (...args: string[]) => ip(netns, '-o', ...args)
  const routes = (await query(socket, 'routes')) as RouteEntry[]
  const [worker] = status.workers
  return {
    attach,
    links: await names(netns),
    addresses: (await kernel('addr')).replace(/valid_lft.*/g, ''),
    routes: [
      await kernel('route', 'show', 'table', 'all'),
      await kernel('-6', 'route', 'show', 'dev', 'hawser0'),
    ],
    forwarding: routes.map(({ prefix, kind }) => `${prefix} ${kind}`).sort(),
    pods: status.pods,
    leaked: worker!.leaked,
    frames: worker!.smallFree + worker!.smallHeld,
    notes: status.notes,
    ...(hasNft ? { nft: await must('nft', ['list', 'ruleset'], { netns }) } : {}),
  }
}

/** The daemon serves, and of `pods` nothing is left anywhere. */
async function expectNothing(lane: Lane, pods = [lane.pod]): Promise<void> {
  await until('plugins have been asked for everything back', async () =>
    ['delegations', 'secondaries'].every(table => rows(lane, table).length === 0),
  )
  expect(rows(lane, 'attachments')).toEqual([])
  for (const { netns } of pods) expect(await names(netns)).toEqual(['lo'])
  expect(queued(lane)).toEqual([])
  expect(await seen(lane)).toEqual(lane.baseline)
}

/** It has its interface and row, CHECK finds it as it was answered, and it can be reached. */
async function expectPod(lane: Lane, pod: Pod, result: Record<string, unknown>): Promise<void> {
  const { exit, json } = await call(lane, 'CHECK', pod, undefined, { prevResult: result })
  expect([exit, json]).toEqual([0, {}])
  const served = (await query(lane.node.socket, 'pods')) as PodAttachment[]
  const { ip4, ip6 } = served.find(each => each.id === `hawser/${pod.containerId}/eth0`)!
  const to = turn++ % 2 === 0 ? ip4! : ip6!
  const { received, errors } = await ping(lane.node.netns, to, { count: 1 })
  expect([to, received, errors]).toEqual([to, 1, []])
}

test('the points are those that are tried here', () => {
  expect([...ADD, ...DEL, ...START, ...REBUILD].sort()).toEqual(Object.keys(FAULT_POINTS).sort())
})

test('what is no point, or no action, is refused', async () => {
  const { node } = lanes[0]!
  for (const [value, cause] of [
    ['add.never:kill', 'no such point'],
    ['add.begun', 'can do kill or throw'],
    ['add.begun:exit', 'can do kill or throw'],
  ] as const) {
    const starting = node.start({
      ...(process.env as Record<string, string>),
      [FAULT_VARIABLE]: value,
    })
    await expect(starting).rejects.toThrow(
      new RegExp(`it ended with 1: hawser: ${FAULT_VARIABLE}: .*${cause}`),
    )
    await node.stop()
  }
})

describe('killed in ADD', () => {
  test.each(ADD)('%s', point =>
    inTurn(ADD, point, async lane => {
      const { pod, fake } = lane
      await startArmed(lane, point)
      const cut = await call(lane, 'ADD', pod, point)
      expect(cut).toMatchObject({ exit: 1, json: { code: 11 } })
      await expectKilled(lane)
      await start(lane)
      if (ANSWERED.includes(point)) {
        // Nobody knows whether the answer was on its way: a runtime that got none sends a DEL.
        expect(rows(lane, 'attachments')).toMatchObject([{ phase: 'attached' }])
        expect((await call(lane, 'ADD')).json).toMatchObject({ code: 103 })
        await expectOk(call(lane, 'DEL'))
      }
      await expectNothing(lane)
      if ([...DELEGATED, ...FURTHER].includes(point)) {
        const [first, second] = fake.asked().map(each => each.env['CNI_COMMAND'])
        expect([first, second]).toEqual(
          point.endsWith('.asking') ? ['DEL', undefined] : ['ADD', 'DEL'],
        )
      }
      const { json } = await expectOk(call(lane, 'ADD'))
      await expectPod(lane, pod, json)
      await expectOk(call(lane, 'DEL'))
      await expectNothing(lane)
    }),
  )
})

test('every step of ADD that fails is undone, by one daemon', () =>
  bothLanes(async lane => {
    const { pod } = lane
    await stop(lane)
    await start(lane, ADD.map(point => `${point}:throw`).join(','))
    for (const point of ADD) {
      const { exit, json } = await call(lane, 'ADD', pod, point)
      expect([exit, json['msg']]).toEqual([1, `fault point ${point} was reached`])
      expect(json['code'], point).toBe(point.startsWith('attach.') ? 5 : 100)
      await expectNothing(lane)
      await expectOk(call(lane, 'DEL'))
    }
    await stop(lane, 'SIGTERM')
  }))

describe('killed in DEL', () => {
  test.each(DEL)('%s', point =>
    inTurn(DEL, point, async lane => {
      const { pod } = lane
      if (!lane.up) await start(lane)
      await expectOk(call(lane, 'ADD', pod, point))
      await startArmed(lane, point)
      // The executable leaves it in the queue.
      expect(await call(lane, 'DEL', pod, point)).toMatchObject({ exit: 0, json: {} })
      await expectKilled(lane)
      expect(queued(lane)).toHaveLength(1)
      // Either the queue finishes it, or a further DEL, as of a runtime that has lost its patience.
      const retried = (DEL.indexOf(point) >> 1) % 2 === 0
      if (retried) for (const file of queued(lane)) rmSync(file)
      await start(lane)
      if (retried) await expectOk(call(lane, 'DEL', pod, point))
      await expectNothing(lane)
      await expectOk(call(lane, 'DEL', pod, point))
      const { json } = await expectOk(call(lane, 'ADD'))
      await expectPod(lane, pod, json)
      await expectOk(call(lane, 'DEL'))
      await expectNothing(lane)
    }),
  )
})

describe('killed in its start', () => {
  /** One pod that stays, one that has a DEL in the queue, one whose ADD was cut. */
  const pods: Record<'deleted' | 'cut', Pod>[] = []
  beforeAll(async () => {
    for (const { attach } of lanes) {
      pods.push({ deleted: await newPod(`d-${attach}`), cut: await newPod(`c-${attach}`) })
    }
  })

  test.each([...START, ...REBUILD])('%s', point =>
    inTurn([...START, ...REBUILD], point, async lane => {
      const { node, pod } = lane
      const { deleted, cut } = pods[lanes.indexOf(lane)]!
      if (!lane.up) await start(lane)
      const { json } = await expectOk(call(lane, 'ADD'))
      await expectOk(call(lane, 'ADD', deleted))
      await expectOk(call(lane, 'ADD', cut))
      await stop(lane)
      const database = new DatabaseSync(node.state)
      database.exec(
        `UPDATE attachments SET phase = 'reserved' WHERE container = '${cut.containerId}'`,
      )
      database.close()
      await expectOk(call(lane, 'DEL', deleted))
      const damaged = damagedFiles(node.state).length
      if (REBUILD.includes(point)) writeFileSync(node.state, 'word '.repeat(1000))
      await startArmed(lane, point)
      await expectKilled(lane)
      await start(lane)
      const left = rows(lane, 'attachments').map(each => each.container)
      if (REBUILD.includes(point)) {
        // Its interface doesn't tell that its ADD was cut: its runtime deletes it.
        expect(left.sort()).toEqual([cut, pod].map(each => each.containerId).sort())
        expect(damagedFiles(node.state)).toHaveLength(damaged + 1)
        await expectOk(call(lane, 'DEL', cut))
      } else expect(left).toEqual([pod.containerId])
      for (const { netns } of [deleted, cut]) expect(await names(netns)).toEqual(['lo'])
      await expectPod(lane, pod, json)
      await expectOk(call(lane, 'DEL'))
      await expectNothing(lane, [pod, deleted, cut])
    }),
  )
})
