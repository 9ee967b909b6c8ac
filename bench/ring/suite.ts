/** Rings and frames: what it costs to hand an entry over, without the kernel. */
import { BATCH_SIZE } from '../../dataplane/limits.ts'
import { callsPerSecond } from '../harness/micro.ts'
import type { Quantity } from '../harness/quantity.ts'
import { alternate } from '../harness/rounds.ts'
import { median } from '../harness/statistics.ts'
import { type Options, type Report, type Suite, selected } from '../harness/suite.ts'
import { grouped, type Table } from '../harness/table.ts'
import { RING_SIZE } from './rings.ts'
import {
  acrossThreads,
  addresses,
  descriptors,
  ENTRIES,
  frames,
  ownedFrames,
  type Work,
} from './work.ts'

const ROUNDS = 5
const LEAST_ROUNDS = 3
const SECONDS = 0.1
const QUICK_SECONDS = 0.01

const CONTENDERS = {
  descriptors: { what: 'TX ring to RX ring, one thread', make: descriptors },
  addresses: { what: 'fill ring to completion ring, one thread', make: addresses },
  'two threads': { what: 'TX ring to RX ring, two threads', make: acrossThreads },
  frames: { what: 'frames taken and released', make: frames },
  'owned frames': { what: 'the same, held and unheld between', make: ownedFrames },
} as const
type Name = keyof typeof CONTENDERS

export const ring: Suite = {
  name: 'ring',
  about: 'rings of AF_XDP sockets, pools of frames: operations a second',
  run,
}

async function run(options: Options): Promise<Report> {
  const names = selected(Object.keys(CONTENDERS) as Name[], options)
  const quick = options.quick === true
  const rounds = Math.max(LEAST_ROUNDS, options.rounds ?? (quick ? LEAST_ROUNDS : ROUNDS))
  const seconds = options.seconds ?? (quick ? QUICK_SECONDS : SECONDS)
  const works = new Map<Name, Work>()
  try {
    for (const name of names) works.set(name, await CONTENDERS[name].make())
    const samples = await alternate(names, rounds, async name => {
      const { begin, call, end, expected } = works.get(name)!
      begin()
      try {
        return ENTRIES * (await callsPerSecond(`ring ${name}`, seconds, expected, call))
      } finally {
        end()
      }
    })
    return report(names, samples, rounds)
  } finally {
    for (const work of works.values()) await work.close()
  }
}

function report(names: readonly Name[], samples: Record<Name, number[]>, rounds: number): Report {
  const quantities: Record<string, Quantity> = {}
  for (const name of names) {
    const which = { contender: 'ring', workload: name }
    quantities[name] = { unit: 'entries/s', better: 'higher', samples: samples[name], ...which }
  }
  const table: Table = {
    title: `ring: entries in batches of ${BATCH_SIZE}, medians of ${rounds} rounds`,
    head: ['contender', 'million/s', 'ns an entry', 'what'],
    rows: names.map(name => {
      const rate = median(samples[name])
      return [name, grouped(rate / 1e6, 1), grouped(1e9 / rate, 2), CONTENDERS[name].what]
    }),
  }
  return {
    samples,
    quantities,
    ratios: {},
    tables: [table],
    notes: [
      `rings of ${grouped(RING_SIZE)} entries; every entry that comes out is summed and the sum compared; ` +
        'one "entry" is the whole way in and out',
    ],
  }
}
