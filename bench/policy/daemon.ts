/**
 * From a file that is written to what it allows or denies, in a daemon with 1,000 policies, while packets flow:
 *
 *     ns0/p0 ── what the file allows and denies ── ns0/p1
 *            └─ what is allowed all the time ───── ns0/p2
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { type Daemon, folder, hawserPlugin, startDaemon } from '../cni/plugins.ts'
import { compile } from '../harness/compile.ts'
import { Namespace, requireRoot } from '../harness/namespaces.ts'
import { Program } from '../harness/program.ts'
import { median, quantile, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report } from '../harness/suite.ts'
import { grouped } from '../harness/table.ts'
import { manifests, networkPolicy } from './cluster.ts'

/** Of each kind. */
const CHANGES = 100
const QUICK_CHANGES = 2
const PORT = 9000
const KINDS = ['deny', 'allow'] as const

interface Pod {
  namespace: Namespace
  address: string
}

export async function fileToPacket(options: Options): Promise<Report> {
  requireRoot()
  const changes = options.quick ? QUICK_CHANGES : CHANGES
  const base = folder(tmpdir())
  const files = join(base, 'policy')
  mkdirSync(files)
  for (const [name, objects] of manifests()) write(join(files, `${name}.yaml`), objects)
  const file = join(files, 'probe.yaml')
  write(file, [probe(true)])
  progress('policy a daemon with 1,000 policies')
  const daemon = await startDaemon(0, files)
  const pods: Pod[] = []
  let streams: Program | undefined
  try {
    for (let k = 0; k < 3; k++) pods.push(addPod(daemon, `p${k}`))
    const [from, judged, steady] = pods
    const end = ({ namespace, address }: Pod) => `${namespace.path},${address}`
    streams = new Program('latency', compile('bench/policy/native/latency.cc'), [
      ...['--from', from!.namespace.path, '--port', String(PORT)],
      ...['--judged', end(judged!), '--steady', end(steady!)],
    ])
    await streams.ready()
    const took: Record<(typeof KINDS)[number], number[]> = { deny: [], allow: [] }
    let lost = 0
    for (let k = 0; k < changes; k++) {
      for (const kind of KINDS) {
        // Beside the folder: it is the rename that the daemon sees.
        const fresh = join(base, 'fresh.yaml')
        write(fresh, [probe(kind === 'allow')])
        const answer = await streams.ask(['ns', 'lost'], `${kind} ${fresh} ${file}`)
        took[kind].push(answer.ns / 1e6)
        lost += answer.lost
      }
    }
    return report(took, lost)
  } finally {
    await streams?.stop()
    await daemon.program.stop()
    for (const { namespace } of pods) namespace.remove()
    daemon.node.remove()
  }
}

/** p0 may send to p2, and, if `open`, to p1. */
function probe(open: boolean): object {
  const ports = [{ protocol: 'UDP', port: PORT }]
  const to = (app: string) => ({ to: [{ podSelector: { matchLabels: { app } } }], ports })
  const egress = [to('a2'), ...(open ? [to('a1')] : [])]
  const podSelector = { matchLabels: { app: 'a0' } }
  return networkPolicy('ns0', 'probe', { podSelector, policyTypes: ['Egress'], egress })
}

function write(file: string, objects: readonly object[]): void {
  writeFileSync(file, objects.map(object => stringify(object)).join('---\n'))
}

/** Adds a pod of namespace ns0, as a runtime does. */
function addPod({ node, socket }: Daemon, name: string): Pod {
  const namespace = new Namespace('pod')
  const plugin = hawserPlugin()
  const env = {
    ...{ CNI_COMMAND: 'ADD', CNI_CONTAINERID: randomBytes(32).toString('hex') },
    ...{ CNI_NETNS: namespace.path, CNI_IFNAME: 'eth0', CNI_PATH: dirname(plugin) },
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=ns0;K8S_POD_NAME=${name}`,
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  }
  const netconf = { cniVersion: '1.0.0', name: 'hawser', type: 'hawser', attach: 'tun', socket }
  const words = ['netns', 'exec', node.name, plugin]
  const output = execFileSync('ip', words, {
    env,
    input: JSON.stringify(netconf),
    encoding: 'utf8',
  })
  const { ips } = JSON.parse(output) as { ips: { address: string }[] }
  return { namespace, address: ips[0]!.address.split('/')[0]! }
}

function report(took: Record<'deny' | 'allow', number[]>, lost: number): Report {
  const figure = (samples: readonly number[]) => ({
    ...{ value: significant(quantile(samples, 0.99)), unit: 'ms' },
  })
  const row = (name: string, samples: readonly number[]) => [
    name,
    ...[median(samples), quantile(samples, 0.99), Math.max(...samples)].map(ms => grouped(ms, 1)),
  ]
  return {
    samples: { file_to_denied: { ms: took.deny }, file_to_allowed: { ms: took.allow } },
    ratios: {},
    figures: {
      file_to_denied_ms_p99: figure(took.deny),
      file_to_allowed_ms_p99: figure(took.allow),
    },
    tables: [
      {
        title: `policy: from a file to the first packet, 1,000 policies, ${took.deny.length} changes of each kind, ms`,
        head: ['', 'median', 'p99', 'max'],
        rows: [row('denied', took.deny), row('allowed', took.allow)],
      },
    ],
    notes: [
      'a file: one of 1,001 is replaced while two streams of 10,000 packets a second flow; ' +
        `${grouped(lost)} packets of the one that stays allowed were lost`,
    ],
  }
}
