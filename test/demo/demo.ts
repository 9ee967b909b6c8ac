/**
 * `npm run demo`: two nodes, eight pods, every path between them, on this machine.
 *
 *     node a (namespace)                     node b (namespace)
 *       daemon, hawser0                        daemon, hawser0
 *       pods a1 a2 on TUN   ── veth, VXLAN ──  pods b1 b2 on TUN
 *       pods a3 a4 on AF_XDP                   pods b3 b4 on AF_XDP
 *
 *   --json   one JSON document instead of the table
 *   --keep   leaves everything running and says what to try; Ctrl-C ends it
 *
 * Exits 0 only if every path carried every byte.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { addPod, EXECUTABLE, type TestPod } from '../harness/node.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { ping, type Transfer, transfer } from '../harness/traffic.ts'
import { iperf } from './iperf.ts'

const FILE_BYTES = 8 << 20
const UDP_FILE_BYTES = 1 << 20
const STREAM_SECONDS = 1
/** Of what the receiver got from a sender without a brake: leaves both some room on shared cores. */
const UDP_SHARE = 0.5

interface PathResult {
  path: string
  attach: string
  pingIpv4Us: number | null
  pingIpv6Us: number | null
  tcpGbps: number
  /** What was sent each second of the stream, and how much of it did not arrive. */
  udpGbps: number
  udpLossPercent: number
  tcpFile: boolean
  udpFile: boolean
  tool: string
  problems: string[]
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
})

function progress(message: string): void {
  process.stderr.write(`demo: ${message}\n`)
}

async function measure(path: string, from: TestPod, to: TestPod): Promise<PathResult> {
  const problems: string[] = []
  const attempt = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
      return undefined
    }
  }
  const check = (what: string, good: boolean) => {
    if (!good) problems.push(`${what} failed`)
  }
  const ping4 = await attempt('ping IPv4', () => ping(from.netns, to.ip4, { count: 5 }))
  check('ping IPv4', ping4?.received === ping4?.sent && ping4 !== undefined)
  const ping6 = await attempt('ping IPv6', () => ping(from.netns, to.ip6, { count: 5 }))
  check('ping IPv6', ping6?.received === ping6?.sent && ping6 !== undefined)
  const file = (kind: 'tcp' | 'udp', address: string, bytes: number) =>
    attempt(`${kind} file to ${address}`, () =>
      transfer(kind, from.netns, to.netns, address, { bytes }),
    )
  const files: (Transfer | undefined)[] = []
  for (const address of [to.ip4, to.ip6]) {
    files.push(await file('tcp', address, FILE_BYTES))
    files.push(await file('udp', address, UDP_FILE_BYTES))
  }
  const tcpFile = files[0]?.intact === true && files[2]?.intact === true
  const udpFile = files[1]?.intact === true && files[3]?.intact === true
  check('SHA-256 over TCP', tcpFile)
  check('SHA-256 over UDP', udpFile)
  const fast = await iperf(from.netns, to.netns, to.ip4, STREAM_SECONDS)
  const tcp =
    fast?.tcp ??
    (await attempt('TCP stream', async () => {
      const done = await transfer('tcp', from.netns, to.netns, to.ip4, { seconds: STREAM_SECONDS })
      check('TCP stream', done.intact)
      return done.bitsPerSecond
    }))
  const udp = await attempt('UDP stream', () => udpStream(from, to))
  return {
    path,
    attach: from.attach === to.attach ? from.attach : `${from.attach} to ${to.attach}`,
    pingIpv4Us: ping4?.medianUs ?? null,
    pingIpv6Us: ping6?.medianUs ?? null,
    tcpGbps: (tcp ?? 0) / 1e9,
    udpGbps: (udp?.rate ?? 0) / 1e9,
    udpLossPercent: udp?.lossPercent ?? 100,
    tcpFile,
    udpFile,
    tool: fast === undefined ? 'own' : 'iperf3',
    problems,
  }
}

/** A stream at a rate that the receiver takes: a first one, without a brake, says how much that is. */
async function udpStream(
  from: TestPod,
  to: TestPod,
): Promise<{ rate: number; lossPercent: number }> {
  const stream = (load: { seconds: number; rate?: number }) =>
    transfer('udp', from.netns, to.netns, to.ip4, load)
  const { bitsPerSecond } = await stream({ seconds: STREAM_SECONDS / 2 })
  const braked = await stream({ seconds: STREAM_SECONDS, rate: bitsPerSecond * UDP_SHARE })
  const { sentBytes, sentPackets = 0, receivedPackets = 0 } = braked
  return {
    rate: (sentBytes * 8) / STREAM_SECONDS,
    lossPercent: Math.max(0, 1 - receivedPackets / Math.max(1, sentPackets)) * 100,
  }
}

function table(results: readonly PathResult[]): string {
  const head = [
    'path',
    'attach',
    'ping v4',
    'ping v6',
    'TCP',
    'UDP sent',
    'lost',
    'sha256 TCP',
    'sha256 UDP',
  ]
  const us = (value: number | null) => (value === null ? 'none' : `${Math.round(value)} us`)
  const rows = results.map(r => [
    r.path,
    r.attach,
    us(r.pingIpv4Us),
    us(r.pingIpv6Us),
    `${r.tcpGbps.toFixed(2)} Gbit/s`,
    `${r.udpGbps.toFixed(2)} Gbit/s`,
    `${r.udpLossPercent.toFixed(1)} %`,
    r.tcpFile ? 'equal' : 'DIFFERENT',
    r.udpFile ? 'equal' : 'DIFFERENT',
  ])
  const widths = head.map((title, k) => Math.max(title.length, ...rows.map(row => row[k]!.length)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, k) => cell.padEnd(widths[k]!))
      .join('  ')
      .trimEnd()
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

function whatToTry(nodes: TwoNodes, pods: Record<string, TestPod>): string {
  const { a } = nodes
  const from = pods['a1']!
  const to = pods['b1']!
  const cli = `node_modules/.bin/node cni/cli/main.ts`
  return [
    'Everything is running. From this checkout, try:',
    `  ${cli} status --socket ${a.socket}`,
    `  ${cli} pods --socket ${a.socket}`,
    `  ${cli} routes --socket ${a.socket}`,
    `  ${cli} drops --socket ${a.socket}`,
    `  nsenter --net=${from.netns} python3 test/tools/traffic.py ping ${to.ip4}`,
    `  nsenter --net=${pods['a3']!.netns} ip addr`,
    'Ctrl-C ends it and cleans up.',
  ].join('\n')
}

if (process.getuid?.() !== 0) {
  process.stderr.write('demo: it makes network namespaces and devices: run it as root\n')
  process.exit(1)
}
if (!existsSync(EXECUTABLE)) {
  process.stderr.write(`demo: ${EXECUTABLE} is not built: npm run build\n`)
  process.exit(1)
}

let nodes: TwoNodes | undefined
/** What to exit with when a signal comes: 130 until there is a result that is only kept running. */
let code = 130
let closing: Promise<void> | undefined
/** Cleans up, once, whoever asks first; then ends. */
async function end(): Promise<never> {
  closing ??= (async () => {
    progress('cleaning up')
    await nodes?.close()
  })()
  await closing.catch((error: Error) => {
    process.stderr.write(`demo: cleaning up: ${error.message}\n`)
    code = 1
  })
  process.exit(code)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())

try {
  progress('two nodes: namespaces, a veth between them, a daemon in each')
  nodes = await twoNodes('demo')
  const pods: Record<string, TestPod> = {}
  for (const [node, letter] of [
    [nodes.a, 'a'],
    [nodes.b, 'b'],
  ] as const) {
    for (const [k, attach] of (['tun', 'tun', 'xdp', 'xdp'] as const).entries()) {
      const name = `${letter}${k + 1}`
      progress(`pod ${name} on ${node.name}, attached by ${attach}`)
      pods[name] = await addPod(nodes.namespaces, node, name, attach)
    }
  }
  const paths: [string, string, string][] = [
    ['one node', 'a1', 'a2'],
    ['one node', 'a3', 'a4'],
    ['one node', 'a1', 'a3'],
    ['two nodes', 'a1', 'b1'],
    ['two nodes', 'a3', 'b3'],
    ['two nodes', 'a3', 'b1'],
  ]
  const results: PathResult[] = []
  for (const [kind, from, to] of paths) {
    progress(`${kind}: ${from} to ${to} (${pods[from]!.attach} to ${pods[to]!.attach})`)
    results.push(await measure(`${kind}: ${from} to ${to}`, pods[from]!, pods[to]!))
  }
  const passed = results.every(result => result.problems.length === 0)
  if (options.json) process.stdout.write(`${JSON.stringify({ passed, paths: results }, null, 2)}\n`)
  else {
    process.stdout.write(`\n${table(results)}\n\n`)
    process.stdout.write(
      'UDP: sent at half of what the receiver takes from a sender without a brake, and what was lost of it.\n\n',
    )
    for (const { path, problems } of results) {
      for (const problem of problems) process.stdout.write(`${path}: ${problem}\n`)
    }
    process.stdout.write(passed ? 'Every path carried every byte.\n' : 'Some paths failed.\n')
  }
  code = passed ? 0 : 1
  if (options.keep) {
    process.stderr.write(`\n${whatToTry(nodes, pods)}\n`)
    await once(process, 'SIGINT')
  }
  await end()
} catch (error) {
  // A signal takes away what a measurement stands on: that is no failure of its own.
  if (closing !== undefined) await end()
  process.stderr.write(
    `demo: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  )
  for (const node of nodes === undefined ? [] : [nodes.a, nodes.b]) {
    for (const line of node.log.slice(-10)) process.stderr.write(`${node.name}: ${line}\n`)
  }
  code = 1
  await end()
}
