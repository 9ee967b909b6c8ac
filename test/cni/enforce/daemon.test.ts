/** Policy by way of the daemon, on an engine without packets: ADD, DEL, a restart, what an operator is told. */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import { showDenial } from '../../../cni/cli/flows.ts'
import { showNames, showRules } from '../../../cni/cli/policy.ts'
import type { DaemonConfig } from '../../../cni/daemon/config.ts'
import { type RunningDaemon, runDaemon } from '../../../cni/daemon/daemon.ts'
import type { HostFacts } from '../../../cni/daemon/preconditions.ts'
import type { RuleCount, ToldDenials } from '../../../cni/enforce/told.ts'
import { query } from '../../../cni/rpc/client.ts'
import { encodeCni, encodeMessage, HEADER_BYTES, WORD } from '../../../cni/rpc/protocol.ts'
import type { Denial, LearnedName } from '../../../dataplane/control.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import { type Program, VERDICT } from '../../../dataplane/policy-program.ts'
import { Namespaces } from '../../harness/netns.ts'
import { CLI } from '../../harness/node.ts'
import { run } from '../../harness/processes.ts'
import { until } from '../../harness/until.ts'
import { FakePlane } from '../fake-plane.ts'

const HOST: HostFacts = { capabilities: (1n << 41n) - 1n, afXdp: true, nft: true, kernel: '6.1' }
const DENY_ALL = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: deny-all, namespace: shop }
spec: { podSelector: {}, policyTypes: [Ingress, Egress] }
`

const NAMES = `apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: { name: names }
spec:
  tier: Admin
  priority: 1
  subject: { namespaces: {} }
  egress: [{ action: Accept, to: [{ domainNames: [example.org] }] }]
`

const namespaces = new Namespaces('enforce')
let netns: readonly string[] = []
let folder = ''
let config: DaemonConfig
let stop: AbortController
let plane: FakePlane
let running: RunningDaemon | undefined

beforeAll(async () => {
  netns = [await namespaces.add('a'), await namespaces.add('b')]
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-enforce-'))
  config = {
    node: 'node-a',
    cluster: join(folder, 'cluster.yaml'),
    socket: join(folder, 'run', 'cni.sock'),
    state: join(folder, 'state', 'state.db'),
    logLevel: 'debug',
    policy: { folder: join(folder, 'policy') },
    dataplane: { policy: { flows: 1000 } },
  }
  mkdirSync(config.policy!.folder)
  const nodes = [{ name: 'node-a', vtep: '192.0.2.11', podCIDRs: ['10.0.0.0/24'] }]
  writeFileSync(config.cluster, JSON.stringify({ nodes }))
  put('deny.yaml', DENY_ALL)
  running = undefined
})
afterEach(async () => {
  await halt()
  rmSync(folder, { recursive: true, force: true })
})

const put = (name: string, text: string) => writeFileSync(join(config.policy!.folder, name), text)

async function start(prepare: (plane: FakePlane) => void = () => {}): Promise<void> {
  stop = new AbortController()
  const log = createLogger('debug', 'node-a', { write: () => {} })
  running = await runDaemon(config, {
    ...{ log, signal: stop.signal, host: HOST },
    createPlane: async (self, options) => {
      plane = new FakePlane(self, options)
      prepare(plane)
      return plane
    },
  })
}

async function halt(): Promise<void> {
  stop.abort()
  await running?.closed
}

/** What the executable does for the `index`th pod: one request, one reply. */
async function cni(
  command: string,
  index = 0,
  annotations: Record<string, unknown> = {},
): Promise<{ code?: number; msg?: string }> {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: `c${index}`,
    CNI_NETNS: netns[index]!,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=p${index}`,
    CNI_PATH: '',
  }
  const runtimeConfig = { 'io.kubernetes.cri.pod-annotations': annotations }
  const text = JSON.stringify({
    ...{ cniVersion: '1.1.0', name: 'hawser', type: 'hawser', runtimeConfig },
  })
  const socket = createConnection({ path: config.socket })
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk as Buffer))
  socket.write(encodeMessage(WORD.CNI, encodeCni({ env, config: text })))
  await once(socket, 'close')
  const reply = Buffer.concat(chunks).subarray(HEADER_BYTES).toString()
  return reply === '' ? {} : JSON.parse(reply)
}

function denies(program: Program): boolean {
  const question = { identity: 0, address: [0xcb00_7101], protocol: 6, port: 80 }
  return evaluate(program, question).verdict === VERDICT.DENY
}

const addresses = () => plane.policy!.identities.map(({ address }) => address)

describe('a pod', () => {
  test('has its policy and is known to all others before the engine makes its interface', async () => {
    await start()
    expect(plane.options.policy).toEqual({ flows: 1000 })
    let known: string[] = []
    const attach = plane.attach.bind(plane)
    plane.attach = (spec, options) => {
      known = addresses()
      return attach(spec, options)
    }
    expect(await cni('ADD')).toMatchObject({ ips: [{ address: '10.0.0.2/32' }] })
    expect(known).toEqual(['10.0.0.2'])
    const { policy } = plane.specs[0]!
    expect([policy!.ingress, policy!.egress].map(denies)).toEqual([true, true])
    expect(plane.policy!.pods.get('hawser/c0/eth0')).toBe(policy)
  })

  test('has the labels of its annotation, after a restart, too; wrong ones fail its ADD', async () => {
    const selected = { podSelector: { matchLabels: { app: 'db' } }, policyTypes: ['Ingress'] }
    const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' }
    const metadata = { name: 'db', namespace: 'shop' }
    put('deny.yaml', JSON.stringify({ ...policy, metadata, spec: selected }))
    await start()
    const closed = (index: number) =>
      denies(plane.policy!.pods.get(`hawser/c${index}/eth0`)!.ingress)
    await cni('ADD', 0, { 'hawser.dev/labels': 'app=db,tier=back' })
    expect(await cni('ADD', 1, { 'hawser.dev/labels': 'app=d b' })).toMatchObject({ code: 7 })
    expect(plane.specs).toHaveLength(1)
    await cni('ADD', 1)
    expect([closed(0), closed(1)]).toEqual([true, false])
    await halt()
    await start()
    expect([closed(0), closed(1)]).toEqual([true, false])
  })

  test('is known no more after its DEL', async () => {
    await start()
    await cni('ADD', 0)
    await cni('ADD', 1)
    expect(addresses()).toEqual(['10.0.0.2', '10.0.0.3'])
    expect(await cni('DEL', 0)).toEqual({})
    await until('the address has gone', () => addresses().join() === '10.0.0.3')
    expect([...plane.policy!.pods.keys()]).toEqual(['hawser/c1/eth0'])
  })

  test('whose interface the engine refuses is known no more', async () => {
    await start()
    plane.refuseAttach = new Error('no')
    expect(await cni('ADD')).toMatchObject({ code: 5 })
    await until('the address has gone', () => addresses().length === 0)
  })

  test('is refused when the engine has no room for its policy, and none is left of it', async () => {
    await start()
    plane.refusePolicy = new RangeError('9 addresses are more than 8 (policy.addresses)')
    const { code, msg } = await cni('ADD')
    expect([code, msg]).toEqual([11, expect.stringContaining('policy.addresses')])
    expect(plane.calls.filter(call => call.startsWith('attach'))).toEqual([])
    plane.refusePolicy = undefined
    expect(await cni('ADD')).toMatchObject({ ips: [{ address: '10.0.0.3/32' }] })
    expect(addresses()).toEqual(['10.0.0.3'])
  })

  test('has its policy when a restart takes it over, beside a broken file, too', async () => {
    await start()
    await cni('ADD')
    await halt()
    put('deny.yaml', 'kind: [')
    await start()
    expect(plane.calls.findIndex(call => call.startsWith('setPolicy'))).toBeLessThan(
      plane.calls.findIndex(call => call.startsWith('attach')),
    )
    expect(denies(plane.specs[0]!.policy!.ingress)).toBe(true)
    expect(await query(config.socket, 'ready')).toEqual({ ready: true, causes: [] })
    const { notes } = (await query(config.socket, 'status')) as { notes: string[] }
    expect(notes).toContainEqual(expect.stringContaining('deny.yaml'))
  })
})

describe('an operator', () => {
  test('hears what is in force, and why the node is not ready', async () => {
    await start()
    await cni('ADD')
    const hawser = async (command: string) =>
      (await run(process.execPath, [CLI, command, '--socket', config.socket])).stdout
    expect(await hawser('status')).toContain(
      `${config.policy!.folder}: 1 policies, 1 programs, 1 addresses of pods, since 20`,
    )
    plane.entries = [
      {
        ...{ source: '10.0.0.2', destination: '10.0.1.2', sourcePort: 40000 },
        ...{ destinationPort: 443, protocol: 6, idle: 2, state: 'established' },
        ...{ age: 61, packets: 12, bytes: 3456, ingress: 0 },
      },
    ]
    expect(await hawser('flows')).toMatch(
      /tcp +10\.0\.0\.2 +40000 +10\.0\.1\.2 +443 +established +61 +2 +12 +3456 +- +NetworkPolicy shop\/deny-all/,
    )
    plane.refusePolicy = new RangeError('9 matches are more than 8 (policy.matches)')
    put('more.yaml', DENY_ALL.replace('deny-all', 'again'))
    await until('the refusal', async () => {
      const { ready } = (await query(config.socket, 'ready')) as { ready: boolean }
      return !ready
    })
    expect(await cni('STATUS')).toMatchObject({ code: 50, msg: expect.stringContaining('policy') })
  })

  test('hears which rule of which policy denies what, and how often each has decided', async () => {
    await start()
    await cni('ADD')
    const { origin } = plane.policy!.pods.get('hawser/c0/eth0')!.ingress.tiers[0]!
    const begin = (await query(config.socket, 'denials ')) as ToldDenials
    expect(begin.denials).toEqual([])
    const denied: Denial[] = [
      {
        ...{ time: '2026-01-02T03:04:05.678Z', pod: 'hawser/c0/eth0', direction: 'ingress' },
        ...{ source: 'fd00::1', sourcePort: 40000, destination: 'fd00::2', destinationPort: 80 },
        ...{ protocol: 6, origin, verdict: 'denied' },
      },
    ]
    plane.denied = denied
    const told = (await query(config.socket, `denials ${begin.read.join()}`)) as ToldDenials
    expect(told.denials.map(showDenial)).toEqual([
      '2026-01-02T03:04:05.678Z ingress of shop/p0: tcp [fd00::1]:40000 -> [fd00::2]:80: denied by NetworkPolicy shop/deny-all, which isolates for ingress',
    ])
    const after = (await query(config.socket, `denials ${told.read.join()}`)) as ToldDenials
    expect(after.denials).toEqual([])
    const denials = plane.denials.bind(plane)
    plane.denials = read => {
      const found = denials(read)
      // It comes when the one who asks knows where to begin.
      plane.denied = [...denied, ...denied]
      return found
    }
    const flows = [CLI, 'flows', '--denied', '--json', '--socket', config.socket]
    const { stdout, stderr } = await run(process.execPath, flows)
    expect([JSON.parse(stdout), stderr]).toEqual([told.denials[0], ''])
    await expect(query(config.socket, 'denials 1,x')).rejects.toThrow('not a place')
    plane.policyHits = origins => origins.map(each => (each === origin ? 7 : 0))
    const rules = (await query(config.socket, 'policy rules')) as RuleCount[]
    expect(showRules(rules)).toMatch(
      /^COUNT +RULE *\n +7 +NetworkPolicy shop\/deny-all, which isolates for ingress$/,
    )
  })

  test('says what pods have learned of names, and where rules about names match nothing', async () => {
    await start()
    await cni('ADD')
    const names = { name: 'api.example.org', address: '192.0.2.80', seconds: 42 }
    plane.names = [{ pod: 'hawser/c0/eth0', ...names }]
    const told = (await query(config.socket, 'policy names')) as LearnedName[]
    expect(told).toEqual([{ pod: 'shop/p0', ...names }])
    expect(showNames(told)).toMatch(
      /^POD +NAME +ADDRESS +SECONDS\n *shop\/p0 +api\.example\.org +192/,
    )
    const notes = async () => ((await query(config.socket, 'status')) as { notes: string[] }).notes
    const before = await notes()
    put('names.yaml', NAMES)
    await until('the rule is in force', async () => (await notes()).length > before.length)
    expect(await notes()).toContainEqual(
      expect.stringMatching(/match nothing, since no resolver is named/),
    )
  })

  test('has what pods have learned kept: a restart gives it back to those that it takes over', async () => {
    const status = {
      ...{
        addresses: 1,
        learned: 1,
        refused: {},
        unasked: 0,
        malformed: 0,
        unfollowed: 0,
        busy: 0,
      },
    }
    const create = async () => {
      await start(made => {
        made.learned = status
      })
    }
    await create()
    await cni('ADD', 0)
    await cni('ADD', 1)
    const names = { name: 'api.example.org', address: '192.0.2.80' }
    plane.names = [
      { pod: 'hawser/c0/eth0', ...names, seconds: 4000 },
      { pod: 'hawser/gone/eth0', ...names, seconds: 1 },
    ]
    await halt()
    await create()
    expect(plane.specs.map(spec => spec.names?.map(({ address }) => address))).toEqual([
      ['192.0.2.80'],
      undefined,
    ])
    const [{ seconds } = { seconds: 0 }] = plane.specs[0]!.names!
    expect(seconds).toBeGreaterThan(3000)
    // What can't be read was never learned.
    await halt()
    writeFileSync(`${config.state}.names`, '[{"pod":1}]')
    await create()
    expect(plane.specs.map(spec => spec.names)).toEqual([undefined, undefined])
  })

  test('has the policies checked with the configuration', async () => {
    const file = join(folder, 'hawser.json')
    const { node, cluster, policy } = config
    writeFileSync(file, JSON.stringify({ node, cluster, policy }))
    const check = () => run(process.execPath, [CLI, 'daemon', '--check', '--config', file])
    expect(await check()).toMatchObject({ code: 0, stdout: expect.stringMatching(/1 policies/) })
    put('deny.yaml', DENY_ALL.replace('podSelector', 'podSelektor'))
    const { code, stderr } = await check()
    expect([code, stderr]).toEqual([1, expect.stringMatching(/deny\.yaml:4: spec\.podSelektor/)])
  })

  test('who asks for no policy gets none', async () => {
    delete config.policy
    delete config.dataplane.policy
    await start()
    await cni('ADD')
    expect(plane.specs[0]).not.toHaveProperty('policy')
    expect(plane.calls.filter(call => call.startsWith('setPolicy'))).toEqual([])
    expect(await query(config.socket, 'status')).not.toHaveProperty('policy')
    for (const question of ['flows', 'denials ', 'policy rules', 'policy names']) {
      await expect(query(config.socket, question)).rejects.toThrow('no policy is enforced here')
    }
  })
})
