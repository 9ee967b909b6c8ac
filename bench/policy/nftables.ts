/**
 * Policy of 12,500 rules on the way from a pod's veth into VXLAN: hawser beside the kernel's bridge, routing and
 * vxlan with the same rules as verdict maps of nftables, behind conntrack. Topology, generator and cores are the
 * suite `path`'s.
 */
import { allowedCpus } from '../harness/machine.ts'
import { requireRoot } from '../harness/namespaces.ts'
import { alternate } from '../harness/rounds.ts'
import { median, pairedRatio, significant } from '../harness/statistics.ts'
import { type Options, progress, type Report } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { type Contender, type Cpus, prepare, STEADY, type Traffic } from '../path/contenders.ts'
import { measure, type Sample } from '../path/measure.ts'
import { PORTS } from '../path/rules.ts'

const ROUNDS = 5
const RULES = 12_500
/** Flows that both have room for: what begins while one of them is measured. */
const ROOM = 3_600_000
/** So many before a port is a power of two higher: native/frame.h. */
const SOURCE_PORTS = 32_768
const FRESH: Traffic = { flows: PORTS * SOURCE_PORTS, fresh: true }
const SECONDS = { fresh: 1, known: 3 }
const QUICK_SECONDS = 0.2

const NAMES = { hawser: 'hawser-policy', nftables: 'kernel-nft' } as const
type Who = keyof typeof NAMES
const WHO: readonly Who[] = ['hawser', 'nftables']

/** `seconds` of the options is that of packets of known flows. */
export async function besideNftables(options: Options): Promise<Report> {
  requireRoot()
  const quick = options.quick === true
  const rounds = quick ? 1 : Math.max(ROUNDS, options.rounds ?? ROUNDS)
  const seconds = {
    fresh: quick ? QUICK_SECONDS : SECONDS.fresh,
    known: quick ? QUICK_SECONDS : (options.seconds ?? SECONDS.known),
  }
  const allowed = allowedCpus()
  const cpus: Cpus = { generator: allowed[0]!, forwarder: allowed[1] ?? allowed[0]! }
  const contenders = {} as Record<Who, Contender>
  try {
    for (const who of WHO) {
      contenders[who] = prepare(NAMES[who], 'live', cpus, { rules: RULES, room: ROOM })
    }
    const rates = (kind: 'fresh' | 'known') =>
      alternate(WHO, rounds, async (who, round) => {
        const traffic = kind === 'fresh' ? FRESH : STEADY
        const contender = contenders[who]
        const sample = await measure(NAMES[who], contender, 'live', cpus, seconds[kind], traffic)
        progress(`policy ${kind} ${round + 1}/${rounds} ${who} ${grouped(sample.rate)} packets/s`)
        return sample
      })
    const fresh = await rates('fresh')
    const known = await rates('known')
    return {
      samples: { fresh_flows_on_devices: fresh, known_flows_on_devices: known },
      ratios: { new_flows_vs_nft: ratio(fresh), packets_vs_nft: ratio(known) },
      tables: [table(fresh, known, rounds)],
      notes: [
        `beside nftables: ${RULES.toLocaleString('en-US')} rules, room for ${ROOM.toLocaleString('en-US')} flows for both; ` +
          'the kernel keeps no track of outer packets and calls no hook for bridged ones',
      ],
    }
  } finally {
    for (const { topology } of Object.values(contenders)) {
      for (const namespace of [topology.pod, topology.node, topology.sink]) namespace.remove()
    }
  }
}

type Samples = Record<Who, Sample[]>

function ratio({ hawser, nftables }: Samples): number {
  const rates = (of: Sample[]) => of.map(({ rate }) => rate)
  return significant(pairedRatio(rates(hawser), rates(nftables)))
}

function table(fresh: Samples, known: Samples, rounds: number): Table {
  const cells = (of: Sample[]) => {
    const rates = of.map(({ rate }) => rate)
    return [
      grouped(median(rates)),
      `${grouped(Math.min(...rates))} - ${grouped(Math.max(...rates))}`,
    ]
  }
  return {
    title: `policy: ${RULES.toLocaleString('en-US')} rules, 64-byte UDP into VXLAN between devices, ${rounds} rounds, medians`,
    head: ['', 'new flows/s', 'min - max', 'packets/s of known flows', 'min - max'],
    rows: WHO.map(who => [who, ...cells(fresh[who]), ...cells(known[who])]),
  }
}
