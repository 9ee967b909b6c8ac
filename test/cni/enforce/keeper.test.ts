/** What the engine is told of policy, from files and from this node's attachments, on an engine without packets. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import type { ClusterView } from '../../../cni/cluster/view.ts'
import { CLOSED } from '../../../cni/enforce/compiled.ts'
import type { PolicyKeeper } from '../../../cni/enforce/keeper.ts'
import { openPolicy } from '../../../cni/enforce/open.ts'
import { whatIf } from '../../../cni/enforce/what-if.ts'
import { attachmentId } from '../../../cni/spec/attachment.ts'
import type { Attachment } from '../../../cni/state/rows.ts'
import { ipWords } from '../../../dataplane/addresses.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import { IDENTITY, VERDICT } from '../../../dataplane/policy-program.ts'
import { until } from '../../harness/until.ts'
import { FakePlane } from '../fake-plane.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24'] }
const PEER = { name: 'node-b', vtep: '192.0.2.12', podCidrs: ['10.0.1.0/24'] }
const TCP = 6

let top = ''
let folder = ''
let plane: FakePlane
let rows: Attachment[]
let view: ClusterView
let keeper: PolicyKeeper
let records: Record<string, unknown>[] = []

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'hawser-enforce-'))
  folder = join(top, 'policy')
  mkdirSync(folder)
  plane = new FakePlane(SELF, { policy: {} })
  rows = []
  records = []
  view = { self: SELF, peers: [PEER], networks: [] }
})
afterEach(async () => {
  await keeper.close()
  rmSync(top, { recursive: true, force: true })
})

async function start(): Promise<void> {
  const write = (line: string): void => void records.push(JSON.parse(line))
  const log = createLogger('debug', 'node-a', { write })
  const parts = { plane, attachments: () => rows, cluster: () => view, log }
  keeper = await openPolicy(folder, join(top, 'state.db'), parts)
}

/** The next daemon, with an engine that knows nothing. */
async function restart(): Promise<void> {
  await keeper.close()
  plane = new FakePlane(SELF, { policy: {} })
  await start()
}

function put(name: string, ...objects: object[]): void {
  const beside = join(folder, `.${name}`)
  writeFileSync(beside, JSON.stringify({ kind: 'List', items: objects }))
  renameSync(beside, join(folder, name))
}

function row(pod: string, ip4: string, more: Partial<Attachment> = {}): Attachment {
  const attachment: Attachment = {
    ...{ network: 'net', containerId: pod.replace('/', '-'), ifname: 'eth0', phase: 'attached' },
    ...{ netns: '/run/netns/x', netnsDev: '1', netnsIno: '2', kind: 'tun', pod, ip4, created: 1 },
    ...more,
  }
  rows.push(attachment)
  return attachment
}

const namespace = (name: string, labels = {}) => ({
  ...{ apiVersion: 'v1', kind: 'Namespace' },
  metadata: { name, labels },
})
const pod = (name: string, ip: string, nodeName: string, labels = {}, more = {}) => ({
  ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop', labels } },
  spec: { nodeName, ...more },
  status: { podIPs: [{ ip }] },
})
const policy = (name: string, spec: object, of = 'shop') => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  metadata: { name, namespace: of },
  spec,
})
const DENY_ALL = policy('deny-all', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] })
const TO_DB = policy('db', {
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port: 5432 }] }],
})

const policyOf = (attachment: Attachment) => plane.policy!.pods.get(attachmentId(attachment))!
const identityOf = (address: string) =>
  plane.policy!.identities.find(each => each.address === address)

/** Whether a packet from an address may come in to the pod, by what the engine was told. */
function mayReach(from: string, to: Attachment, port: number): boolean {
  const identity = identityOf(from)?.identity ?? IDENTITY.WORLD
  const question = { identity, address: ipWords(from), protocol: TCP, port }
  return evaluate(policyOf(to).ingress, question).verdict === VERDICT.ALLOW
}

/** Resolves when the engine has been told so. */
const inForce = (what: string, look: () => boolean) =>
  until(what, () => plane.policy !== undefined && look())

describe('explained as it runs', () => {
  const FLOW = { from: 'shop/web', to: 'shop/db', port: 5432, protocol: 'TCP' as const }
  const explain = (flow: object = {}) => keeper.explain(JSON.stringify({ ...FLOW, ...flow }))

  test('by the tables at this node’s ends, by the policies at others’; the isolating policy has a name', async () => {
    put('world.json', namespace('shop'), TO_DB, DENY_ALL)
    put(
      'pods.json',
      pod('web', '10.0.1.2', 'node-b', { app: 'web' }),
      pod('db', '10.0.0.9', 'node-a', { app: 'db' }),
    )
    row('shop/db', '10.0.0.2')
    await start()
    expect(explain()).toEqual({
      allowed: false,
      ends: [
        {
          direction: 'egress',
          pod: 'shop/web',
          allowed: false,
          by: 'NetworkPolicy shop/deny-all, which isolates for egress',
        },
        {
          direction: 'ingress',
          pod: 'shop/db',
          allowed: true,
          by: 'NetworkPolicy shop/db, ingress rule 0',
          enforced: true,
        },
      ],
    })
    expect(explain({ port: 80 }).ends[1]).toMatchObject({
      allowed: false,
      enforced: true,
      by: expect.stringMatching('which isolates for ingress'),
    })
    // It is the engine that is asked: what it says counts, not what it should.
    plane.askPolicy = () => ({ allowed: false, origin: -1, identity: 0 })
    expect(explain().ends[1]).toMatchObject({ allowed: false, enforced: true })
    expect(explain({ to: 'node' }).ends[1]).toMatchObject({ allowed: false, enforced: true })
  })

  test('with manifests that are not in force, nothing of which is told to the engine', async () => {
    put(
      'world.json',
      namespace('shop'),
      TO_DB,
      policy('egress', { podSelector: {}, policyTypes: ['Egress'] }),
    )
    put('pods.json', pod('db', '10.0.0.9', 'node-a', { app: 'db' }))
    row('shop/db', '10.0.0.2')
    row('shop/bare', '10.0.0.3')
    await start()
    const told = plane.policy
    const manifest = (object: object) => ({ file: 'more.yaml', object, line: () => 1 })
    const ask = (from: string, ...more: object[]) =>
      whatIf(JSON.parse(JSON.stringify(keeper.known())), more.map(manifest)).explain({
        ...FLOW,
        from,
      })
    expect(ask('shop/bare')).toMatchObject({
      allowed: false,
      ends: [{ allowed: false }, { allowed: false }],
    })
    const open = policy('egress', { podSelector: {}, egress: [{}] })
    const all = policy('all', { podSelector: {}, ingress: [{}] })
    expect(ask('shop/bare', open).ends.map(({ allowed }) => allowed)).toEqual([true, false])
    expect(ask('shop/bare', open, all)).toMatchObject({
      allowed: true,
      ends: [
        { by: 'NetworkPolicy shop/egress, egress rule 0' },
        { by: 'NetworkPolicy shop/all, ingress rule 0' },
      ],
    })
    expect(() => ask('shop/bare', policy('bad', { podSelector: {}, wrong: 1 }))).toThrow(
      'more.yaml',
    )
    expect(plane.policy).toBe(told)
  })

  test('a question that is none, or about nobody, is an error', async () => {
    await start()
    expect(() => keeper.explain('{')).toThrow()
    expect(() => keeper.explain('{"from":"a"}')).toThrow('the question')
    expect(() => explain()).toThrow('neither a pod')
  })
})

test('the engine is audited, after failures too; what differs is told, and what stays wrong makes the node not ready', async () => {
  await start()
  await keeper.audit()
  expect([keeper.mended, keeper.causes()]).toEqual([0, []])
  plane.wrong = ['program 7 is not what policy says', 'fd44::9 is taken for somebody else']
  await keeper.audit()
  expect(keeper.status()).toMatchObject({ mended: 2 })
  expect(keeper.causes()).toEqual(['policy: program 7 is not what policy says'])
  const told = records.find(({ msg }) => String(msg).startsWith('the engine had another policy'))
  expect(told).toMatchObject({ count: 2, found: plane.wrong })
  plane.wrong = []
  await keeper.audit()
  expect([keeper.mended, keeper.causes()]).toEqual([2, []])
  const before = plane.audits
  plane.refusePolicy = new RangeError('policy matches')
  put('world.json', DENY_ALL)
  await until('an audit after the refusal', () => plane.audits > before)
})

describe('files and pods', () => {
  test('a pod of this node has the labels of the files, and the address that it has here', async () => {
    put('world.json', namespace('shop'), TO_DB)
    put('pods.json', pod('db', '10.0.0.99', 'node-a', { app: 'db' }))
    put(
      'web.json',
      pod('web', '10.0.1.2', 'node-b', { app: 'web' }),
      pod('x', '10.0.1.3', 'node-b'),
    )
    const db = row('shop/db', '10.0.0.2')
    await start()
    expect(mayReach('10.0.1.2', db, 5432)).toBe(true)
    expect(mayReach('10.0.1.2', db, 80)).toBe(false)
    expect(mayReach('10.0.1.3', db, 5432)).toBe(false)
    expect(identityOf('10.0.0.2')).toMatchObject({ vtep: SELF.vtep })
    expect(identityOf('10.0.0.2')!.identity).toBe(policyOf(db).identity)
    expect(identityOf('10.0.0.99')).toBeUndefined()
    expect(identityOf('10.0.1.2')).toMatchObject({ vtep: PEER.vtep })
  })

  test('one that the files do not have is one of its namespace without labels', async () => {
    put('world.json', DENY_ALL, policy('all', { podSelector: { matchLabels: { app: 'db' } } }, 'x'))
    const bare = row('shop/new', '10.0.0.2')
    const unselected = row('x/new', '10.0.0.3')
    const nameless = row('', '10.0.0.4')
    await start()
    expect(mayReach('10.0.0.3', bare, 80)).toBe(false)
    expect(mayReach('10.0.0.2', unselected, 80)).toBe(true)
    expect(mayReach('10.0.0.2', nameless, 80)).toBe(true)
    expect(identityOf('10.0.0.4')!.identity).not.toBe(identityOf('10.0.0.3')!.identity)
  })

  test('one that the files do not have has the labels that it has brought along; where they have it, theirs count', async () => {
    put('world.json', namespace('shop'), TO_DB, pod('web', '10.0.1.1', 'node-b', { app: 'web' }))
    const labels = { app: 'db' }
    const one = row('shop/one', '10.0.0.2', { runtime: { labels } })
    const two = row('shop/two', '10.0.0.3', { runtime: { labels: { ...labels } } })
    const bare = row('shop/bare', '10.0.0.4')
    await start()
    expect(mayReach('10.0.0.4', one, 80)).toBe(false)
    expect(mayReach('10.0.1.1', one, 5432)).toBe(true)
    expect(policyOf(two)).toBe(policyOf(one))
    expect(identityOf('10.0.0.3')!.identity).toBe(identityOf('10.0.0.2')!.identity)
    expect(mayReach('10.0.0.2', bare, 80)).toBe(true)
    // A further interface of its pod, by a call that had no annotations.
    const further = row('shop/one', '10.0.0.5', { ifname: 'net1', phase: 'reserved' })
    expect(await keeper.admit(further)).toBe(policyOf(one))
    const late = row('shop/late', '10.0.0.6', { runtime: { labels: { app: 'web' } } })
    expect((await keeper.admit(late))!.identity).not.toBe(policyOf(bare).identity)
    expect(mayReach('10.0.0.6', one, 5432)).toBe(true)
    put('one.json', pod('one', '10.0.0.2', 'node-a', { app: 'other' }))
    await inForce('the labels of the file', () => mayReach('10.0.0.4', one, 80))
    expect(mayReach('10.0.0.4', two, 80)).toBe(false)
  })

  test('a GlobalPolicy for hosts is the node’s, where its labels are those', async () => {
    const host = (nodeSelector?: object) => ({
      ...{ apiVersion: 'hawser.dev/v1', kind: 'GlobalPolicy', metadata: { name: 'host' } },
      spec: {
        subject: { host: nodeSelector === undefined ? {} : { nodeSelector } },
        ingress: [{ action: 'Deny', protocol: 'TCP' }],
      },
    })
    const deny = { verdict: VERDICT.DENY, matches: [{ protocol: TCP }] }
    const toNode = () => plane.policy!.node?.tiers.flatMap(({ rules }) => rules)
    row('shop/web', '10.0.0.2')
    await start()
    expect(plane.policy!.node).toEqual({ tiers: [] })
    put('host.json', host())
    await inForce('the rule', () => toNode()?.length === 1)
    expect(toNode()).toMatchObject([deny])
    expect(keeper.ruleText(toNode()![0]!.origin)).toBe('GlobalPolicy host, ingress rule 0')
    put('host.json', host({ matchLabels: { edge: 'yes' } }))
    await inForce('no rule', () => toNode()?.length === 0)
    put('node.json', {
      ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: SELF.name, labels: { edge: 'yes' } } },
    })
    await inForce('the rule again', () => toNode()?.length === 1)
    expect(toNode()).toMatchObject([deny])
  })

  test('a ClusterNetworkPolicy for all selects one whose name the runtime did not say', async () => {
    put('world.json', {
      ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
      metadata: { name: 'closed' },
      spec: {
        ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
      },
    })
    const nameless = row('-/web', '10.0.0.4')
    row('shop/new', '10.0.0.2')
    await start()
    expect(mayReach('10.0.0.2', nameless, 80)).toBe(false)
    expect(mayReach('198.51.100.1', nameless, 80)).toBe(true)
  })

  test('every interface in the cluster’s own network has the pod’s policy and identity, others have none', async () => {
    put('world.json', DENY_ALL)
    const first = row('shop/web', '10.0.0.2')
    const other = row('shop/web', '10.60.0.2', { ifname: 'net1', overlay: 'blue' })
    const further = row('shop/web', '10.0.0.3', { ifname: 'net2', runtime: { further: [] } })
    await start()
    const { pods, identities } = plane.policy!
    expect([...pods.keys()]).toEqual([first, further].map(attachmentId))
    expect(pods.get(attachmentId(further))).toBe(pods.get(attachmentId(first)))
    expect(identities.map(({ address }) => address)).toEqual(['10.0.0.2', '10.0.0.3'])
    expect(new Set(identities.map(({ identity }) => identity)).size).toBe(1)
    expect(await keeper.admit(other)).toBeUndefined()
  })

  test('what has the network of its node, or has ended, has no identity; an address that two claim is nobody’s', async () => {
    const ended = { ...pod('job', '10.0.1.4', 'node-b'), status: { phase: 'Succeeded' } }
    put('world.json', namespace('shop'), ended)
    put(
      'pods.json',
      pod('agent', '192.0.2.12', 'node-b', {}, { hostNetwork: true }),
      ...['a', 'b'].map(name => pod(name, '10.0.1.5', 'node-b', { app: name })),
      pod('elsewhere', '10.0.1.6', 'node-c'),
      pod('six', 'FD00:0::1:2', 'node-b'),
    )
    await start()
    const known = plane.policy!.identities
    expect(known.map(({ address }) => address)).toEqual(['10.0.1.6', 'fd00::1:2'])
    expect(known[0]).not.toHaveProperty('vtep')
    expect(keeper.notes()).toEqual([expect.stringContaining('10.0.1.5')])
  })

  test('a pod of the same name on another node is known there, too, until its row here goes', async () => {
    put('world.json', namespace('shop'), pod('db-0', '10.0.1.9', 'node-b', { app: 'db' }))
    row('shop/db-0', '10.0.0.2')
    await start()
    expect(identityOf('10.0.1.9')).toMatchObject({ vtep: PEER.vtep })
    expect(identityOf('10.0.0.2')!.identity).toBe(identityOf('10.0.1.9')!.identity)
    rows = []
    keeper.changed()
    await inForce('the row has gone', () => identityOf('10.0.0.2') === undefined)
  })

  test('another VTEP of a node is taken when the cluster changes', async () => {
    put('world.json', namespace('shop'), pod('web', '10.0.1.2', 'node-b'))
    await start()
    view = { ...view, peers: [{ ...PEER, vtep: '192.0.2.13' }] }
    keeper.changed()
    await inForce('the new VTEP', () => identityOf('10.0.1.2')?.vtep === '192.0.2.13')
  })
})

describe('changes', () => {
  test('a file that is written is in force', async () => {
    const bare = row('shop/new', '10.0.0.2')
    await start()
    expect(mayReach('10.0.1.2', bare, 80)).toBe(true)
    put('deny.json', DENY_ALL)
    await inForce('deny-all', () => !mayReach('10.0.1.2', bare, 80))
    rmSync(join(folder, 'deny.json'))
    await inForce('nothing', () => mayReach('10.0.1.2', bare, 80))
    expect(keeper.status()).toMatchObject({ policies: 0, programs: 1, addresses: 1 })
  })

  test('an attachment more compiles nothing anew when its kind is known', async () => {
    put('world.json', namespace('shop'), DENY_ALL, TO_DB)
    const some = row('shop/new', '10.0.0.2')
    await start()
    const before = policyOf(some)
    const other = row('shop/newer', '10.0.0.3', { phase: 'reserved' })
    expect(await keeper.admit(other)).toBe(before)
    expect(policyOf(some)).toBe(before)
    expect(identityOf('10.0.0.3')!.identity).toBe(before.identity)
    const calls = plane.calls.length
    expect(await keeper.admit(other)).toBe(before)
    expect(plane.calls.length).toBe(calls)
  })

  test('what a change does not concern stays as it was, number for number', async () => {
    put('world.json', namespace('shop'), namespace('x'), TO_DB)
    put('pods.json', pod('db', '10.0.0.99', 'node-a', { app: 'db' }))
    const other = row('x/new', '10.0.0.3')
    const db = row('shop/db', '10.0.0.2')
    await start()
    const before = policyOf(db)
    put('a.json', policy('a', { podSelector: {} }, 'x'))
    await inForce('the other policy', () => !mayReach('10.0.0.2', other, 80))
    // The same object: it is not even compiled anew.
    expect(policyOf(db)).toBe(before)
    put('world.json', namespace('shop'), namespace('x'))
    await inForce('its end', () => mayReach('10.0.0.3', db, 80))
    put('world.json', namespace('shop'), namespace('x'), TO_DB)
    await inForce('its return', () => !mayReach('10.0.0.3', db, 80))
    expect(policyOf(db)).toEqual(before)
  })

  test('those who ask while a round is under way share the next one', async () => {
    put('world.json', DENY_ALL)
    await start()
    const calls = plane.calls.length
    const asked = Array.from({ length: 20 }, (_, i) =>
      keeper.admit(row(`shop/p${i}`, `10.0.0.${i + 2}`, { phase: 'reserved' })),
    )
    expect(new Set(await Promise.all(asked)).size).toBe(1)
    expect(plane.calls.length - calls).toBeLessThanOrEqual(2)
    expect(plane.policy!.pods.size).toBe(20)
  })

  test('a folder that appears is taken; one that goes closes nothing and opens nothing', async () => {
    rmSync(folder, { recursive: true })
    const bare = row('shop/new', '10.0.0.2')
    await start()
    expect(records.map(({ msg }) => msg)).toContainEqual(expect.stringContaining('not there'))
    expect(keeper.causes()).toEqual([])
    expect(mayReach('10.0.1.2', bare, 80)).toBe(true)
    mkdirSync(folder)
    put('deny.json', DENY_ALL)
    await inForce('deny-all', () => !mayReach('10.0.1.2', bare, 80))
    renameSync(folder, `${folder}.away`)
    await until('the note', () => keeper.notes().length > 0)
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
    await restart()
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
  })
})

describe('files that can not be used', () => {
  test('keep the last good ones, with a note that names the line, until they are mended', async () => {
    put('deny.json', DENY_ALL)
    const bare = row('shop/new', '10.0.0.2')
    await start()
    writeFileSync(join(folder, 'typo.yaml'), 'kind: Pod\napiVersion: v1\nmetadata: {}\n')
    await until('the note', () => keeper.notes().length > 0)
    expect(keeper.notes()[0]).toMatch(/typo\.yaml:3: metadata\.name: missing/)
    expect(keeper.status().problem?.what).toContain('typo.yaml:3')
    expect(keeper.causes()).toEqual([])
    const other = row('shop/newer', '10.0.0.3', { phase: 'reserved' })
    await keeper.admit(other)
    expect(mayReach('10.0.0.2', other, 80)).toBe(false)
    expect(mayReach('10.0.0.3', bare, 80)).toBe(false)
    rmSync(join(folder, 'typo.yaml'))
    await until('no note', () => keeper.notes().length === 0)
    expect(records.filter(({ level }) => level === 'error')).toHaveLength(1)
  })

  test('a start beside them takes what was in force last', async () => {
    put('deny.json', DENY_ALL)
    const bare = row('shop/new', '10.0.0.2')
    await start()
    writeFileSync(join(folder, 'deny.json'), '{')
    await restart()
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
    expect(keeper.causes()).toEqual([])
    expect(keeper.status()).toMatchObject({ policies: 1, problem: { what: expect.any(String) } })
    rmSync(join(folder, 'deny.json'))
    await inForce('the mended files', () => mayReach('10.0.1.2', bare, 80))
  })

  test('without any that were in force pods are closed, none comes, and the node is not ready', async () => {
    writeFileSync(join(folder, 'typo.json'), '{')
    const bare = row('shop/old', '10.0.0.2')
    await start()
    expect(policyOf(bare)).toBe(CLOSED)
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
    expect(keeper.causes()).toEqual([expect.stringContaining('typo.json')])
    const other = row('shop/new', '10.0.0.3', { phase: 'reserved' })
    await expect(keeper.admit(other)).rejects.toMatchObject({ code: 11 })
    expect(await keeper.admit(bare)).toBe(CLOSED)
    rmSync(join(folder, 'typo.json'))
    await inForce('the mended files', () => mayReach('10.0.1.2', bare, 80))
    expect(keeper.causes()).toEqual([])
  })
})

describe('what the engine refuses', () => {
  const refuse = (): void => {
    plane.refusePolicy = new RangeError('12 matches are more than 8 (policy.matches)')
  }

  test('leaves the last good files in force, and the node is not ready', async () => {
    put('deny.json', DENY_ALL)
    const bare = row('shop/new', '10.0.0.2')
    await start()
    refuse()
    put('db.json', TO_DB)
    await until('the cause', () => keeper.causes().length > 0)
    expect(keeper.causes()[0]).toContain('policy.matches')
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
    expect(keeper.status().policies).toBe(1)

    plane.refusePolicy = undefined
    const other = row('shop/newer', '10.0.0.3', { phase: 'reserved' })
    await keeper.admit(other)
    expect(mayReach('10.0.1.2', other, 80)).toBe(false)
    await until('another try', () => keeper.causes().length === 0)
    expect(keeper.status().policies).toBe(2)
  })

  test('fails the ADD whose pod is too much, and is over when that is gone', async () => {
    put('deny.json', DENY_ALL)
    await start()
    refuse()
    const other = row('shop/newer', '10.0.0.3', { phase: 'reserved' })
    await expect(keeper.admit(other)).rejects.toThrow('policy.matches')
    plane.refusePolicy = undefined
    rows = []
    keeper.changed()
    await until('readiness', () => keeper.causes().length === 0)
  })

  test('at a start falls back to what was in force last', async () => {
    put('deny.json', DENY_ALL)
    const bare = row('shop/new', '10.0.0.2')
    await start()
    await keeper.close()
    rmSync(join(folder, 'deny.json'))
    put('db.json', TO_DB)
    plane = new FakePlane(SELF, { policy: {} })
    const setPolicy = plane.setPolicy.bind(plane)
    plane.setPolicy = async state => {
      // The first of them: the files.
      if (plane.policy === undefined && plane.calls.length === 0) {
        plane.calls.push('refused')
        throw new RangeError('too much')
      }
      await setPolicy(state)
    }
    await start()
    expect(mayReach('10.0.1.2', bare, 80)).toBe(false)
    expect(keeper.causes()).toEqual(['policy: too much'])
  })
})
