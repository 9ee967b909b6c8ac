/** The daemon on a packet engine without packets: its order of start and stop, and its socket. */
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import type { DaemonConfig } from '../../../cni/daemon/config.ts'
import { type RunningDaemon, runDaemon } from '../../../cni/daemon/daemon.ts'
import { STOP_MS } from '../../../cni/daemon/parts.ts'
import type { HostFacts } from '../../../cni/daemon/preconditions.ts'
import { PACKAGED_CONFLIST } from '../../../cni/install/place.ts'
import { query } from '../../../cni/rpc/client.ts'
import { queueFolder } from '../../../cni/rpc/del-queue.ts'
import { encodeCni, encodeMessage, HEADER_BYTES, WORD } from '../../../cni/rpc/protocol.ts'
import { State } from '../../../cni/state/state.ts'
import type {
  ControlPlane,
  DataplaneOptions,
  DataplaneStatus,
  NodeSpec,
} from '../../../dataplane/control.ts'
import { Namespaces } from '../../harness/netns.ts'
import { CLI } from '../../harness/node.ts'
import { run } from '../../harness/processes.ts'
import { until } from '../../harness/until.ts'
import { FakePlane } from '../fake-plane.ts'

const HOST: HostFacts = { capabilities: (1n << 41n) - 1n, afXdp: true, nft: true, kernel: '6.1' }
const A = { name: 'node-a', vtep: '192.0.2.11', podCIDRs: ['10.0.0.0/24', 'fd00::/64'] }
const B = { name: 'node-b', vtep: '192.0.2.12', podCIDRs: ['10.0.1.0/24'] }

const namespaces = new Namespaces('daemon')
let netns = ''
let folder = ''
let config: DaemonConfig
let stop: AbortController
let records: Record<string, unknown>[] = []
let onRecord: ((record: Record<string, unknown>) => void) | undefined
let plane: FakePlane | undefined
let running: RunningDaemon | undefined

beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-daemon-'))
  config = {
    node: 'node-a',
    cluster: join(folder, 'cluster.yaml'),
    socket: join(folder, 'run', 'cni.sock'),
    state: join(folder, 'state', 'state.db'),
    logLevel: 'debug',
    dataplane: { vni: 7 },
  }
  stop = new AbortController()
  records = []
  onRecord = undefined
  running = undefined
  plane = undefined
  writeCluster(A, B)
})
afterEach(async () => {
  stop.abort()
  await running?.closed
  rmSync(folder, { recursive: true, force: true })
})

function writeCluster(...nodes: object[]): void {
  writeFileSync(`${config.cluster}.new`, JSON.stringify({ nodes }))
  renameSync(`${config.cluster}.new`, config.cluster)
}

function createPlane(self: NodeSpec, options: DataplaneOptions): Promise<ControlPlane> {
  plane = new FakePlane(self, options)
  return Promise.resolve(plane)
}

async function start(
  create: typeof createPlane = createPlane,
  host: HostFacts = HOST,
): Promise<RunningDaemon> {
  const write = (line: string): void => {
    const record = JSON.parse(line)
    records.push(record)
    onRecord?.(record)
  }
  const log = createLogger('debug', 'node-a', { write })
  running = await runDaemon(config, { log, signal: stop.signal, host, createPlane: create })
  return running
}

/** The next daemon, after this one has stopped. */
async function restart(): Promise<void> {
  stop.abort()
  await running?.closed
  stop = new AbortController()
  await start()
}

/** Resolves with the next record that has this message. */
function record(message: string): Promise<Record<string, unknown>> {
  return new Promise(resolve => {
    onRecord = each => {
      if (each['msg'] === message) resolve(each)
    }
  })
}

function request(command: string): Buffer {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: '',
    CNI_PATH: '',
  }
  const text = JSON.stringify({ cniVersion: '1.1.0', name: 'hawser', type: 'hawser' })
  return encodeMessage(WORD.CNI, encodeCni({ env, config: text }))
}

/** What the executable does: one request, one reply. */
async function cni(command: string): Promise<{ word: number; json: unknown }> {
  const socket = createConnection({ path: config.socket })
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk as Buffer))
  socket.write(request(command))
  await once(socket, 'close')
  const reply = Buffer.concat(chunks)
  const text = reply.subarray(HEADER_BYTES).toString()
  return { word: reply.readUInt32BE(4), json: text === '' ? undefined : JSON.parse(text) }
}

describe('start', () => {
  test('the engine has the cluster before the socket opens, then it is ready', async () => {
    await start()
    expect(plane?.calls).toEqual(['setCluster node-a +1'])
    expect(plane?.self).toEqual({
      name: 'node-a',
      vtep: '192.0.2.11',
      podCidrs: ['10.0.0.0/24', 'fd00::/64'],
    })
    expect(plane?.options).toMatchObject({ vni: 7 })
    expect(records.at(-1)).toMatchObject({ msg: 'ready', socket: config.socket, pods: 0 })
    plane?.options.log?.('warn', 'said the engine', { port: 3 })
    expect(records.at(-1)).toMatchObject({ level: 'warn', msg: 'said the engine', port: 3 })
  })

  test('a second daemon is refused, and the first one is untouched', async () => {
    await start()
    const log = createLogger('error', 'node-a', { write: () => {} })
    const second = { log, signal: stop.signal, host: HOST, createPlane }
    await expect(runDaemon(config, second)).rejects.toThrow(/already serves it/)
    await expect(
      runDaemon({ ...config, socket: join(folder, 'other', 'cni.sock') }, second),
    ).rejects.toThrow(`${config.state}: a hawser daemon already serves it`)
    expect(await query(config.socket, 'pods')).toEqual([])
  })

  const failures: [title: string, prepare: () => Promise<unknown>, message: RegExp][] = [
    [
      'a host that lacks something',
      () => start(createPlane, { ...HOST, capabilities: 0n }),
      /CAP_NET_ADMIN is missing.*; CAP_SYS_ADMIN is missing/,
    ],
    [
      'a cluster file without this node',
      () => {
        writeCluster(B)
        return start()
      },
      /no node is named node-a/,
    ],
    [
      'an engine that does not start',
      () => start(() => Promise.reject(new Error('no TUN'))),
      /no TUN/,
    ],
    [
      'an engine that refuses the cluster',
      () =>
        start(async (self, options) => {
          await createPlane(self, options)
          plane!.refuseCluster = new Error('no room')
          return plane!
        }),
      /no room/,
    ],
    [
      'a state file of another application',
      () => {
        mkdirSync(join(folder, 'state'))
        const database = new DatabaseSync(config.state)
        database.exec('CREATE TABLE theirs (a)')
        database.close()
        return start()
      },
      /state\.db: not a state file of hawser/,
    ],
    [
      'a socket path that is taken',
      () => {
        mkdirSync(config.socket, { recursive: true, mode: 0o700 })
        return start()
      },
      /cni\.sock: it is there and not a socket/,
    ],
  ]
  for (const [title, prepare, message] of failures) {
    test(`${title} ends it, with everything taken apart`, async () => {
      await expect(prepare()).rejects.toThrow(message)
      expect(plane === undefined || plane.stopped).toBe(true)
      rmSync(config.socket, { recursive: true, force: true })
      rmSync(config.state, { force: true })
      writeCluster(A, B)
      await start()
      expect(records.at(-1)).toMatchObject({ msg: 'ready' })
    })
  }

  test('a stop while it starts is heard', async () => {
    const starting = start(async (self, options) => {
      stop.abort(new Error('stopped by SIGTERM'))
      return createPlane(self, options)
    })
    await expect(starting).rejects.toThrow('stopped by SIGTERM')
    expect(plane?.calls).toEqual(['stop'])
    expect(existsSync(config.socket)).toBe(false)
  })

  test('warnings about the host are logged and do not stop it', async () => {
    await start(createPlane, { ...HOST, afXdp: false })
    expect(records[0]).toMatchObject({ level: 'warn', msg: expect.stringContaining('AF_XDP') })
  })
})

describe('stop', () => {
  test('closes the socket, the engine and the state; pods stay', async () => {
    await start()
    await cni('ADD')
    stop.abort()
    await running?.closed
    expect(plane?.calls).toEqual(['setCluster node-a +1', 'attach hawser/c1/eth0', 'stop'])
    expect(existsSync(config.socket)).toBe(false)
    const state = new State(config.state)
    expect(state.list()).toMatchObject([{ containerId: 'c1', phase: 'attached' }])
    state.close()
    expect(records.at(-1)).toMatchObject({ msg: 'stopped' })
  })

  test('lets an ADD under way end first', async () => {
    await start()
    const gate = Promise.withResolvers<void>()
    const attaching = Promise.withResolvers<void>()
    const attach = plane!.attach.bind(plane)
    plane!.gate = gate.promise
    plane!.attach = (...args) => {
      attaching.resolve()
      return attach(...args)
    }
    const adding = cni('ADD')
    await attaching.promise
    stop.abort()
    gate.resolve()
    expect(await adding).toMatchObject({ word: WORD.SUCCESS, json: { ips: [{}, {}] } })
    await running?.closed
    expect(plane?.calls.slice(1)).toEqual(['attach hawser/c1/eth0', 'stop'])
  })
})

describe('restart', () => {
  test('pods are in force again before the socket opens', async () => {
    await start()
    const before = await cni('ADD')
    expect(before).toMatchObject({ word: WORD.SUCCESS, json: { ips: [{ interface: 0 }, {}] } })
    await restart()
    expect(plane?.calls).toEqual(['setCluster node-a +1', 'attach hawser/c1/eth0 adopt'])
    expect(records.findLast(each => each['msg'] === 'ready')).toMatchObject({ pods: 1 })
    expect(await query(config.socket, 'pods')).toMatchObject([{ id: 'hawser/c1/eth0' }])
    expect(await cni('DEL')).toEqual({ word: WORD.SUCCESS, json: undefined })
    expect(await query(config.socket, 'pods')).toEqual([])
  })

  test('a DEL that was queued meanwhile is worked off before the socket opens', async () => {
    await start()
    await cni('ADD')
    stop.abort()
    await running?.closed
    const queue = queueFolder(config.socket)
    mkdirSync(queue, { recursive: true, mode: 0o700 })
    const nanoseconds = BigInt(Date.now() + 1) * 1_000_000n
    const file = join(queue, `${String(nanoseconds).padStart(20, '0')}-1.del`)
    writeFileSync(file, request('DEL'))
    stop = new AbortController()
    await start()
    expect(existsSync(file)).toBe(false)
    expect(plane?.calls.slice(1)).toEqual(['attach hawser/c1/eth0 adopt', 'detach hawser/c1/eth0'])
    expect(records.findLast(each => each['msg'] === 'ready')).toMatchObject({ pods: 0 })
  })

  test('queued DELs whose plugins hang do not keep the socket shut; what is ours is let go before', async () => {
    await start()
    await cni('ADD')
    stop.abort()
    await running?.closed
    const bin = join(folder, 'bin')
    mkdirSync(bin)
    writeFileSync(join(bin, 'hung'), '#!/bin/sh\nexec sleep 1000\n', { mode: 0o755 })
    const queue = queueFolder(config.socket)
    mkdirSync(queue, { recursive: true, mode: 0o700 })
    for (let k = 0; k < 12; k++) {
      const env = {
        ...{ CNI_COMMAND: 'DEL', CNI_CONTAINERID: `c${k}`, CNI_NETNS: netns, CNI_IFNAME: 'eth0' },
        ...{ CNI_ARGS: '', CNI_PATH: bin },
      }
      const text = { cniVersion: '1.1.0', name: 'hawser', type: 'hawser', ipam: { type: 'hung' } }
      const at = BigInt(Date.now() + 60_000) * 1_000_000n + BigInt(k)
      const body = encodeCni({ env, config: JSON.stringify(text) })
      const name = `${String(at).padStart(20, '0')}-1.del`
      writeFileSync(join(queue, name), encodeMessage(WORD.CNI, body))
    }
    stop = new AbortController()
    await start()
    expect(records.at(-1)).toMatchObject({ msg: 'ready' })
    // The pod is gone; all DELs wait for their plugin, and two of the eight places are theirs.
    expect(plane?.pods()).toEqual([])
    expect(readdirSync(queue)).toHaveLength(12)
    expect(await cni('ADD')).toMatchObject({ word: WORD.SUCCESS })
    const began = performance.now()
    stop.abort()
    await running?.closed
    expect(performance.now() - began).toBeLessThan(STOP_MS + 2_000)
  })

  test('a worker that dies ends the daemon with the cause, and pods stay', async () => {
    await start()
    await cni('ADD')
    plane!.options.onFailure?.(new Error('worker 1 failed: out of memory'))
    await expect(running?.closed).rejects.toThrow('worker 1 failed: out of memory')
    expect(plane?.stopped).toBe(true)
    expect(existsSync(config.socket)).toBe(false)
    expect(records).toContainEqual(
      expect.objectContaining({ level: 'error', cause: 'worker 1 failed: out of memory' }),
    )
    running = undefined
    stop = new AbortController()
    await start()
    expect(plane?.calls).toContain('attach hawser/c1/eth0 adopt')
  })

  test('a pod that can not be restored is a note of the status', async () => {
    await start()
    await cni('ADD')
    stop.abort()
    await running?.closed
    stop = new AbortController()
    await start(async (self, options) => {
      await createPlane(self, options)
      plane!.refuseAttach = new Error('no AF_XDP here')
      return plane!
    })
    expect(await query(config.socket, 'status')).toMatchObject({
      ready: true,
      pods: 0,
      notes: ['offload was switched off', 'pod hawser/c1/eth0 is not restored: no AF_XDP here'],
    })
    expect(await cni('STATUS')).toMatchObject({ word: WORD.ERROR, json: { code: 51 } })
    plane!.refuseAttach = undefined
    await running?.collect()
    expect(await cni('STATUS')).toEqual({ word: WORD.SUCCESS, json: undefined })
  })
})

describe('the cluster file', () => {
  test('is followed; a bad one is noted and changes nothing', async () => {
    await start()
    let followed = record('the cluster file has changed')
    writeCluster(A, B, { name: 'node-c', vtep: '192.0.2.13', podCIDRs: ['10.0.2.0/24'] })
    expect(await followed).toMatchObject({ peers: 2 })
    expect(plane?.peers.map(peer => peer.name)).toEqual(['node-b', 'node-c'])

    const refused = record('the cluster file can not be used; the last good one stays')
    writeFileSync(config.cluster, 'nodes: 7')
    await refused
    const bad = await query(config.socket, 'status')
    expect(bad).toMatchObject({
      notes: ['offload was switched off', expect.stringMatching(/^cluster file: .*nodes: 7/)],
    })
    expect(await cni('STATUS')).toEqual({ word: WORD.SUCCESS, json: undefined })
    // Mended to what it was: the error is gone, and nothing has changed.
    writeCluster(A, B, { name: 'node-c', vtep: '192.0.2.13', podCIDRs: ['10.0.2.0/24'] })
    await until('the error is gone', async () => {
      const { notes } = (await query(config.socket, 'status')) as DataplaneStatus
      return notes.length === 1
    })

    followed = record('the cluster file has changed')
    writeCluster(A)
    await followed
    expect(await query(config.socket, 'status')).toMatchObject({
      notes: ['offload was switched off'],
    })
    expect(plane?.calls.filter(each => each.startsWith('setCluster'))).toEqual([
      'setCluster node-a +1',
      'setCluster node-a +2',
      'setCluster node-a +0',
    ])
  })

  test('that gives this node another VTEP ends the daemon, with the reason', async () => {
    const { closed } = await start()
    const ends = record('the daemon ends')
    const vtep = '192.0.2.99'
    writeCluster({ ...A, vtep }, B)
    const cause = `the VTEP of node-a is ${vtep} in the cluster file, and ${A.vtep} in this daemon: it has to start anew`
    expect(await ends).toMatchObject({ cause })
    await expect(closed).rejects.toThrow(cause)
    expect(plane?.calls.at(-1)).toBe('stop')
    running = undefined
  })

  test('that is broken at a start leaves the last good one in force, and is told', async () => {
    await start()
    let followed = record('the cluster file has changed')
    writeCluster(A, { ...B, podCIDRs: ['10.0.7.0/24'] })
    await followed
    writeFileSync(config.cluster, 'nodes: 7')
    await restart()
    expect(plane?.peers).toMatchObject([{ name: 'node-b', podCidrs: ['10.0.7.0/24'] }])
    await until('the error is told', async () => {
      const { notes } = (await query(config.socket, 'status')) as DataplaneStatus
      return notes.some(note => /^cluster file: .*nodes: 7/.test(note))
    })
    expect(await query(config.socket, 'ready')).toEqual({ ready: true, causes: [] })
    followed = record('the cluster file has changed')
    writeCluster(A)
    await followed
    stop.abort()
    await running?.closed
    // Nothing that can be used: no guess.
    writeFileSync(`${config.state}.cluster`, '{"nodes": [')
    writeFileSync(config.cluster, 'nodes: 7')
    stop = new AbortController()
    await expect(start()).rejects.toThrow(/cluster\.yaml: nodes: 7/)
  })

  test('that the engine refuses is told until it takes it at another try', async () => {
    await start()
    const setCluster = plane!.setCluster.bind(plane)
    plane!.setCluster = () => Promise.reject(new Error('the table is full'))
    const refused = record('the engine refuses the cluster file; tried again')
    writeCluster(A)
    await refused
    // Pods run as well as before: no reason to move them away.
    expect(await cni('STATUS')).toEqual({ word: WORD.SUCCESS, json: undefined })
    expect(await query(config.socket, 'ready')).toEqual({ ready: true, causes: [] })
    expect(await query(config.socket, 'status')).toMatchObject({
      notes: ['offload was switched off', 'cluster: the table is full'],
    })
    const followed = record('the cluster file has changed')
    plane!.setCluster = setCluster
    await followed
    expect(plane?.peers).toEqual([])
    expect(await cni('STATUS')).toEqual({ word: WORD.SUCCESS, json: undefined })
  })

  test('with other pod CIDRs for this node leaves pods their addresses', async () => {
    await start()
    expect(await cni('ADD')).toMatchObject({ json: { ips: [{ address: '10.0.0.2/32' }, {}] } })
    const followed = record('the cluster file has changed')
    writeCluster({ ...A, podCIDRs: ['10.9.0.0/24'] }, B)
    await followed
    expect(await query(config.socket, 'pods')).toMatchObject([{ ip4: '10.0.0.2', ip6: 'fd00::2' }])
    await cni('DEL')
    expect(await cni('ADD')).toMatchObject({
      json: { ips: [{ address: '10.9.0.2/32', gateway: '10.9.0.1' }] },
    })
  })
})

describe('questions', () => {
  test('ready: STATUS would succeed; the command line exits with 1 when not, and says why', async () => {
    await start()
    const ready = () => run(process.execPath, [CLI, 'status', '--ready', '--socket', config.socket])
    expect(await query(config.socket, 'ready')).toEqual({ ready: true, causes: [] })
    expect(await ready()).toMatchObject({ code: 0, stdout: 'ready\n', stderr: '' })
    plane!.ready = false
    const cause = 'the packet engine is not ready: offload was switched off'
    expect(await query(config.socket, 'ready')).toEqual({ ready: false, causes: [cause] })
    expect(await ready()).toMatchObject({ code: 1, stdout: `not ready: ${cause}\n`, stderr: '' })
    const json = [CLI, 'status', '--ready', '--json', '--socket', config.socket]
    const { code, stdout } = await run(process.execPath, json)
    expect({ code, ...JSON.parse(stdout) }).toEqual({ code: 1, ready: false, causes: [cause] })
    // It answers all the same: that is what liveness asks.
    const alive = await run(process.execPath, [CLI, 'status', '--socket', config.socket])
    expect(alive).toMatchObject({ code: 0, stderr: '' })
  })

  test('what it installs stands when it serves; without it, it is not ready and serves all the same', async () => {
    const [binDir, confDir] = [join(folder, 'bin'), join(folder, 'net.d')]
    config = { ...config, install: { binDir, confDir, conflist: PACKAGED_CONFLIST } }
    mkdirSync(confDir, { mode: 0o775 })
    chmodSync(confDir, 0o775)
    await start()
    const cause = `installing: ${confDir}: others than root may write there (chmod go-w it)`
    expect(await query(config.socket, 'ready')).toEqual({ ready: false, causes: [cause] })
    const { notes } = (await query(config.socket, 'status')) as { notes: string[] }
    expect(notes).toContain(cause)
    expect(await cni('STATUS')).toMatchObject({ word: WORD.SUCCESS })
    chmodSync(confDir, 0o755)
    await until('it is ready', async () => {
      return ((await query(config.socket, 'ready')) as { ready: boolean }).ready
    })
    const list = JSON.parse(readFileSync(join(confDir, '10-hawser.conflist'), 'utf8'))
    // The list asks the daemon that has installed it.
    expect(list.plugins[0].socket).toBe(config.socket)
    stop.abort()
    await running!.closed
    expect(readdirSync(confDir)).toEqual(['10-hawser.conflist'])
    expect(readdirSync(binDir)).toEqual(['hawser'])
  })

  test('status, pods, routes and drops are the engine’s', async () => {
    await start()
    expect(await query(config.socket, 'status')).toMatchObject({ node: 'node-a', ready: true })
    expect(await query(config.socket, 'routes')).toMatchObject([{ prefix: '10.0.1.0/24' }])
    expect(await query(config.socket, 'swap fib /opt/a b.ts')).toMatchObject({
      name: '/opt/a b.ts',
    })
    await expect(query(config.socket, 'swap fib wrong')).rejects.toThrow('the oracle says 1')
    expect(await query(config.socket, 'drops')).toMatchObject([{ reason: 'ttl' }])
    for (const name of ['', 'toString', '__proto__', 'Status', 'Ready']) {
      await expect(query(config.socket, name)).rejects.toThrow(/no such question/)
    }
  })
})
