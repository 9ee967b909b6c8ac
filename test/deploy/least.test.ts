// The daemon as the manifest's container has it: started by entrypoint.sh with those capabilities only,
// on a file system and a /proc/sys that are read only, with little memory to lock, and with a view of
// /run/netns that only receives what the node mounts.
//
//     node   under0 192.168.77.1 ── veth ── under1     pods: one TUN, one veth with AF_XDP
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { noNft } from '../harness/needs.ts'
import { ip, Namespaces } from '../harness/netns.ts'
import { addPod, EXECUTABLE, TestNode } from '../harness/node.ts'
import { type Finished, Running, type RunOptions, run } from '../harness/processes.ts'
import { NODE_A } from '../harness/topology.ts'
import { until } from '../harness/until.ts'
import { expectPing } from '../netns/expect.ts'
import { type Container, deploy, type Objects, objectsOf, plainManifest } from './objects.ts'

const NFT = noNft('masquerading') === undefined
const root = fileURLToPath(new URL('../..', import.meta.url))
const { containers, initContainers } = objectsOf(plainManifest()).DaemonSet.spec.template.spec
const [[container], [init]] = [containers, initContainers]
const CAPABILITIES = container!.securityContext.capabilities!.add!
/** What the container runtime does, before it gives capabilities away; $1 is the only writable folder. */
const CONTAIN = [
  'set -eu',
  'mount --bind /proc/sys /proc/sys',
  'mount -o remount,bind,ro /proc/sys',
  'mount --bind "$1" "$1"',
  'mount -o remount,bind,ro /',
  'shift',
  'exec "$@"',
].join('\n')
/** RLIMIT_MEMLOCK of a container, bytes; a socket's memory is many times that. */
const MEMLOCK = 65_536

const namespaces = new Namespaces('least')
let node: TestNode
let netns: string
let daemon: Running | undefined

const opt = (): string => join(node.folder, 'opt')
const netd = (): string => join(node.folder, 'net.d')

beforeAll(async () => {
  netns = await namespaces.add('a')
  await ip(netns, 'link', 'add', 'under0', 'type', 'veth', 'peer', 'name', 'under1')
  await ip(netns, 'addr', 'add', '192.168.77.1/24', 'dev', 'under0')
  for (const device of ['under0', 'under1']) await ip(netns, 'link', 'set', device, 'up')
  // AF_XDP underlay and pods need all of them.
  node = new TestNode('node-a', netns, {
    ...{ cluster: [NODE_A], underlayMode: 'xdp' },
    ...(NFT ? { masquerade: true } : {}),
  })
  // As the manifest has it: the daemon installs itself, beside the plugin that containerd 1.x wants.
  const file = join(node.folder, 'hawser.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, JSON.stringify({ ...config, install: { binDir: opt(), confDir: netd() } }))
  for (const folder of [opt(), netd()]) mkdirSync(folder)
  writeFileSync(join(opt(), 'loopback'), '')
  mkdirSync(join(node.folder, 'bin'))
  symlinkSync(join(root, 'cni/bin/hawser.mjs'), join(node.folder, 'bin/hawser'))
})
afterEach(async () => {
  await daemon?.stop()
  daemon = undefined
})
afterAll(async () => {
  await node?.remove()
  await namespaces.removeAll()
})

/** `words` as in a container with these capabilities. */
function contained(capabilities: readonly string[], words: readonly string[]): string[] {
  const kept = capabilities.map(name => `,+${name.toLowerCase()}`).join('')
  return [
    ...['unshare', '--mount', '--propagation', 'slave', '--', 'sh', '-c', CONTAIN, 'sh'],
    ...[node.folder, 'prlimit', `--memlock=${MEMLOCK}:${MEMLOCK}`, '--'],
    ...['setpriv', `--bounding-set=-all${kept}`, '--inh-caps=-all', '--', ...words],
  ]
}

const environment = (): RunOptions => ({
  netns,
  env: {
    HOME: '/root',
    PATH: `${join(node.folder, 'bin')}:${join(root, 'node_modules/.bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
  },
})

function start(capabilities: readonly string[]): Running {
  const words = [deploy('entrypoint.sh'), '--config', join(node.folder, 'hawser.json')]
  const [file, ...args] = contained(capabilities, words)
  daemon = new Running(file!, args, environment())
  return daemon
}

async function succeed(container: Container, ...more: string[]): Promise<string> {
  const { add = [] } = container.securityContext.capabilities!
  const [file, ...args] = contained(add, [...container.command!, ...more])
  const { code, stdout, stderr } = await run(file!, args, environment())
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout
}

/** The container's probe; it needs no capability. */
function probe(flag: string): Promise<Finished> {
  const [file, ...args] = contained([], [EXECUTABLE, flag, node.socket])
  return run(file!, args, environment())
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
}

function firstArguments(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, 2)
}

const ready = (running: Running): Promise<string> =>
  running.until(line => line.includes('"msg":"ready"'))

test('the init container installs without any', async () => {
  const said = await succeed(init!, '--bin-dir', opt())
  expect(said).toBe(`installed ${join(opt(), 'hawser')}\n`)
})

test('serves pods of both kinds', async () => {
  const { pid } = await ready(start(CAPABILITIES)).then(line => JSON.parse(line))
  const { underlay, ready: serves } = await node.cli<DataplaneStatus>('status')
  expect({ serves, mode: underlay.mode }).toEqual({ serves: true, mode: 'xdp' })
  await until('what it installs stands', async () => (await probe('--ready')).code === 0)
  expect(await probe('--ready')).toMatchObject({ code: 0, stdout: '', stderr: '' })
  expect(await probe('--alive')).toMatchObject({ code: 0, stdout: '', stderr: '' })
  expect(readdirSync(netd())).toEqual(['10-hawser.conflist'])
  // Two processes: the first one of the container, and the daemon.
  expect(firstArguments(parentOf(pid))).toEqual([EXECUTABLE, '--init'])
  const tun = await addPod(namespaces, node, 'tun', 'tun')
  const xdp = await addPod(namespaces, node, 'xdp', 'xdp')
  await expectPing(tun, xdp)
  await expectPing(xdp, tun)
  for (const pod of [tun, xdp]) {
    const answer = await node.cni({
      ...{ command: 'DEL', containerId: pod.containerId, netns: pod.netns },
      config: node.config({ attach: pod.attach }),
    })
    expect(answer.exit).toBe(0)
  }
})

test.each(CAPABILITIES)('and needs %s for that', async without => {
  const running = start(CAPABILITIES.filter(name => name !== without))
  const started = await ready(running).then(
    () => true,
    () => false,
  )
  expect(started).toBe(false)
  expect(await running.ended).not.toBe(0)
})

test('what stays of it goes with the capabilities of uninstall.yaml', async () => {
  await ready(start(CAPABILITIES))
  await daemon!.stop()
  const { spec } = parse(readFileSync(deploy('uninstall.yaml'), 'utf8')) as Objects['DaemonSet']
  const [uninstall] = spec.template.spec.initContainers
  const folders = ['--bin-dir', opt(), '--conf-dir', netd()]
  const said = await succeed(uninstall!, ...folders, '--config', join(node.folder, 'hawser.json'))
  expect(said).toContain(`removed ${join(netd(), '10-hawser.conflist')}\n`)
  expect(said).toContain(`removed ${join(opt(), 'hawser')}\n`)
  expect(said).toContain('removed TUN hawser0\n')
  expect(said).toContain(`removed ${node.state}\n`)
  if (NFT) expect(said).toContain('removed nft table ip hawser\n')
  expect(await ip(netns, '-o', 'link')).not.toContain('hawser0')
})
