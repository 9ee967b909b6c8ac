import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type DaemonFlags, loadConfig } from '../../../cni/daemon/config.ts'
import { checkHost, type HostFacts, probeHost } from '../../../cni/daemon/preconditions.ts'
import { PACKAGED_CONFLIST } from '../../../cni/install/place.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-config-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function load(text: string, flags: DaemonFlags = {}): ReturnType<typeof loadConfig> {
  const config = join(folder, 'hawser.yaml')
  writeFileSync(config, text)
  return loadConfig({ config, ...flags })
}

const FULL = `
node: node-a
cluster: /etc/hawser/cluster.yaml
socket: /run/hawser/other.sock
state: /var/lib/hawser/other.db
workers: 2
vni: 7
vxlanPort: 8472
mtu: 1400
masquerade: true
hostDevice: hw0
smallFrames: 4096
largeFrames: 64
xdpSockets: 300
routes: 1000
fib: [./mine.ts, trie6]
underlay: {device: eth1, mode: udp}
log: {level: debug}
metrics: {listen: '127.0.0.1:9473'}
`

describe('the configuration', () => {
  test('policy is enforced when it is asked for; its limits are the engine’s, its folder is from the file’s', () => {
    const base = 'node: a\ncluster: /c\n'
    expect(load(base)).not.toHaveProperty('policy')
    expect(load(base).dataplane).not.toHaveProperty('policy')
    const { policy, dataplane } = load(`${base}policy: {}\n`)
    expect([policy, dataplane]).toEqual([{ folder: '/etc/hawser/policy' }, { policy: {} }])
    const set = load(`${base}policy: {folder: policies, matches: 9, addresses: 8, flows: 7}\n`)
    expect(set.policy).toEqual({ folder: join(folder, 'policies') })
    expect(set.dataplane).toEqual({ policy: { matches: 9, addresses: 8, flows: 7 } })
    const shares = load(
      `${base}policy: {flows: {most: 7, ofPod: 6, withPod: 5, halfOpenOfPod: 4}}\n`,
    )
    expect(shares.dataplane).toEqual({
      policy: { flows: 7, flowsOfPod: 6, flowsWithPod: 5, halfOpenOfPod: 4 },
    })
    expect(() => load(`${base}policy: {flows: 0}\n`)).toThrow(/hawser\.yaml: policy\.flows: 0/)
    expect(() => load(`${base}policy: {rules: 1}\n`)).toThrow(/policy\.rules: unknown key/)
  })

  test('resolvers are addresses and CIDRs, each of them somebody in particular', () => {
    const of = (list: string) =>
      load(`node: a\ncluster: /c\npolicy: {dns: {resolvers: ${list}}}\n`).dataplane.policy
    const resolvers = ['10.96.0.10', '169.254.20.10', '10.244.3.0/28', 'fd00::a']
    expect(of(JSON.stringify(resolvers))).toEqual({ resolvers })
    for (const [list, cause] of [
      ['[dns.example.org]', 'neither an address nor a CIDR'],
      ['[10.0.0.1/24]', 'host bits are set'],
      ['[10.0.0.0/8]', 'more than a /16: name those that answer'],
      ['["::/0"]', 'more than a /48'],
    ] as const) {
      expect(() => of(list)).toThrow(cause)
      expect(() => of(list)).toThrow(/hawser\.yaml: policy\.dns\.resolvers/)
    }
  })

  test('exclusions are addresses and CIDRs', () => {
    const { exclude, dataplane } = load(
      'node: a\ncluster: /c\nipam: {exclude: [10.0.0.7, fd00::/120]}\n',
    )
    expect(exclude).toEqual([
      { family: 4, first: 0x0a000007n, last: 0x0a000007n, what: 'excluded (10.0.0.7)' },
      {
        ...{ family: 6, first: 0xfd00n << 112n, last: (0xfd00n << 112n) + 255n },
        what: 'excluded (fd00::/120)',
      },
    ])
    expect(dataplane).toEqual({})
    expect(() => load('cluster: /c\nipam: {exclude: [10.0.0.7/24]}\n')).toThrow(
      /hawser\.yaml: ipam\.exclude\[0\]: 10\.0\.0\.7\/24: host bits are set/,
    )
    expect(() => load('cluster: /c\nipam: {ranges: []}\n')).toThrow(/ipam\.ranges: unknown key/)
  })

  test('every key of a file arrives where it belongs', () => {
    expect(load(FULL)).toEqual({
      node: 'node-a',
      cluster: '/etc/hawser/cluster.yaml',
      socket: '/run/hawser/other.sock',
      state: '/var/lib/hawser/other.db',
      logLevel: 'debug',
      metrics: { host: '127.0.0.1', port: 9473 },
      dataplane: {
        workers: 2,
        vni: 7,
        vxlanPort: 8472,
        mtu: 1400,
        masquerade: true,
        hostDevice: 'hw0',
        smallFrames: 4096,
        largeFrames: 64,
        xdpSockets: 300,
        routes: 1000,
        fibs: [join(folder, 'mine.ts'), 'trie6'],
        underlay: { device: 'eth1', mode: 'udp' },
      },
    })
  })

  test('folders of namespaces are absolute, and a few', () => {
    const folders = (text: string) => load(`cluster: /c.yaml\nnamespaces: ${text}\n`).namespaces
    expect(folders('[/run/containerd/netns, /run/other]')).toEqual([
      ...['/run/containerd/netns', '/run/other'],
    ])
    expect(() => folders('[netns]')).toThrow(/namespaces\[0\]: .*not an absolute path/)
    expect(() => folders(JSON.stringify(Array(17).fill('/run')))).toThrow(/namespaces/)
  })

  test('metrics are served at an address with a port', () => {
    const listen = (text: string) =>
      load(`cluster: /c.yaml\nmetrics: {listen: '${text}'}\n`).metrics
    expect(listen('[fd00::1]:80')).toEqual({ host: 'fd00::1', port: 80 })
    expect(listen('0.0.0.0:0')).toEqual({ host: '0.0.0.0', port: 0 })
    for (const text of [
      '9473',
      ':9473',
      'localhost:1',
      'fd00::1:80',
      '[127.0.0.1]:1',
      '1.2.3.4:65536',
    ]) {
      expect(() => listen(text)).toThrow(`metrics.listen: ${text}: not an address with a port`)
    }
  })

  test('what is installed: nothing, the usual, or what is named', () => {
    const installed = (text: string) => load(`cluster: /c.yaml\n${text}\n`).install
    expect(installed('')).toBeUndefined()
    expect(installed('install: {}')).toEqual({
      ...{ binDir: '/opt/cni/bin', confDir: '/etc/cni/net.d' },
      conflist: PACKAGED_CONFLIST,
    })
    expect(installed('install: {binDir: /b, confDir: /c, conflist: mine.conflist}')).toEqual({
      ...{ binDir: '/b', confDir: '/c', conflist: join(folder, 'mine.conflist') },
    })
    expect(() => installed('install: {binDir: bin}')).toThrow(/install\.binDir: .*not an absolute/)
    expect(() => installed('install: {socket: /a}')).toThrow(/install\.socket: unknown key/)
  })

  test('the path of the cluster file is from the folder of this one', () => {
    const cluster = (text: string) => load(`cluster: ${text}\n`).cluster
    expect(cluster('cluster.yaml')).toBe(join(folder, 'cluster.yaml'))
    expect(cluster('../etc/c.yaml')).toBe(join(folder, '../etc/c.yaml'))
    expect(cluster('/etc/c.yaml')).toBe('/etc/c.yaml')
    for (const key of ['socket', 'state']) {
      expect(() => load(`cluster: c\n${key}: run/x\n`)).toThrow(
        `${key}: run/x: not an absolute path`,
      )
    }
  })

  test('a FIB is a name, or a path from the folder of the file', () => {
    const fibs = (text: string) => load(`cluster: /c.yaml\nfib: ${text}\n`).dataplane.fibs
    expect(fibs('dxr')).toEqual(['dxr'])
    expect(fibs('/opt/mine.ts')).toEqual(['/opt/mine.ts'])
    expect(fibs('../mine.mjs')).toEqual([join(folder, '../mine.mjs')])
    expect(() => fibs('[a, b, c]')).toThrow('fib')
    expect(() => fibs('""')).toThrow('fib')
  })

  test('without a file the flags and defaults do; what is absent is left to the engine', () => {
    expect(loadConfig({ cluster: '/c.yaml', node: 'n1' })).toEqual({
      node: 'n1',
      cluster: '/c.yaml',
      socket: '/run/hawser/cni.sock',
      state: '/var/lib/hawser/state.db',
      logLevel: 'info',
      dataplane: {},
    })
    expect(loadConfig({ cluster: 'c.yaml' })).toMatchObject({
      node: hostname().toLowerCase(),
      cluster: join(process.cwd(), 'c.yaml'),
    })
  })

  test('every flag wins over the file', () => {
    const config = load(FULL, {
      node: 'node-b',
      cluster: '/b.yaml',
      socket: '/b.sock',
      state: '/b.db',
      workers: '3',
      underlayDevice: 'eth2',
      vni: '9',
      vxlanPort: '4789',
      logLevel: 'warn',
    })
    expect(config).toMatchObject({
      node: 'node-b',
      cluster: '/b.yaml',
      socket: '/b.sock',
      state: '/b.db',
      logLevel: 'warn',
      dataplane: { workers: 3, vni: 9, vxlanPort: 4789, mtu: 1400 },
    })
    expect(config.dataplane.underlay).toEqual({ device: 'eth2', mode: 'udp' })
  })
})

describe('what is refused', () => {
  const cases: [text: string, message: string][] = [
    ['node: n', 'cluster: missing (string expected)'],
    ['cluster: ""', 'cluster: : empty'],
    ['cluster: "a\\0b"', 'cluster: holds a zero byte'],
    ['cluster: /c\nworkers: 9', 'workers: 9: Too big: expected number to be <=8'],
    ['cluster: /c\nvni: 0', 'vni: 0: Too small: expected number to be >=1'],
    ['cluster: /c\nworker: 1', 'worker: unknown key'],
    [
      'cluster: /c\nunderlay: {mode: ebpf}',
      'underlay.mode: ebpf: expected one of "auto"|"xdp"|"udp"',
    ],
    ['cluster: /c\nhostDevice: a/b', 'not a device name'],
    ['cluster: /c\nunderlay: {device: sixteen-letters-}', 'not a device name'],
    [`cluster: /c\nsocket: /${'s'.repeat(107)}`, 'longer than 107 bytes'],
    ['cluster: /c\nnode: No_Node', 'node: No_Node: not a DNS-1123 name'],
    ['[]', 'expected object, received array'],
  ]
  for (const [text, message] of cases) {
    test(message, () => {
      expect(() => load(text)).toThrow(message)
      expect(() => load(text)).toThrow(join(folder, 'hawser.yaml'))
    })
  }

  test('a bad flag is named as a flag', () => {
    const cluster = '/c'
    expect(() => loadConfig({ cluster, workers: 'two' })).toThrow(
      /^--workers: two: expected number/,
    )
    expect(() => loadConfig({ cluster, vxlanPort: '65536' })).toThrow(
      /^--vxlan-port: 65536: Too big/,
    )
    expect(() => loadConfig({ cluster, underlayMode: 'x' })).toThrow(
      /^--underlay-mode: x: expected/,
    )
    expect(() => loadConfig({ cluster: '' })).toThrow(/^--cluster: : empty/)
    expect(() => loadConfig({})).toThrow('hawser daemon: cluster: missing (string expected)')
    expect(() => loadConfig({ config: '/nowhere/h.yaml' })).toThrow('/nowhere/h.yaml: no such file')
  })
})

describe('preconditions', () => {
  const ALL: HostFacts = { capabilities: (1n << 41n) - 1n, afXdp: true, nft: true, kernel: '6.1' }
  const config = loadConfig({ cluster: '/c', node: 'n' })

  test('a whole host has no findings', () => {
    expect(checkHost(config, ALL)).toEqual([])
  })

  test('each missing thing says what it is for and what still works', () => {
    const messages = (facts: Partial<HostFacts>, of = config): string[] =>
      checkHost(of, { ...ALL, ...facts }).map(each => `${each.level}: ${each.message}`)
    expect(messages({ capabilities: 1n << 21n })).toEqual([
      expect.stringMatching(/^error: CAP_NET_ADMIN is missing: no pod can be attached/),
      expect.stringMatching(/^warning: CAP_NET_RAW is missing: .*UDP sockets/),
    ])
    expect(messages({ tun: 'no such device' })).toEqual([
      expect.stringMatching(/^error: \/dev\/net\/tun: no such device: .*modprobe tun/),
    ])
    expect(messages({ afXdp: false })).toEqual([
      expect.stringMatching(/^warning: AF_XDP sockets are missing in kernel 6\.1 .*UDP sockets/),
    ])
    const xdp = loadConfig({ cluster: '/c', node: 'n', underlayMode: 'xdp' })
    expect(messages({ afXdp: false }, xdp)).toEqual([
      expect.stringMatching(/^error: .*mode is xdp/),
    ])
    const masquerade = { ...config, dataplane: { masquerade: true } }
    expect(messages({ nft: false }, masquerade)).toEqual([
      expect.stringMatching(/^error: masquerade/),
    ])
    expect(messages({ nft: false })).toEqual([])
  })

  test('the probe reads this host', () => {
    const facts = probeHost()
    expect(facts.kernel).toMatch(/^\d+\.\d+/)
    if (process.getuid?.() === 0) expect(facts.capabilities & 1n).toBe(1n)
  })
})
