/** What policy costs, in parts: `--only` chooses some. */
import {
  type Options,
  progress,
  type Report,
  Skipped,
  type Suite,
  selected,
} from '../harness/suite.ts'
import { fileToPacket } from './daemon.ts'
import { inMemory } from './memory.ts'
import { besideNftables } from './nftables.ts'

const PARTS = { memory: inMemory, nftables: besideNftables, daemon: fileToPacket } as const
type Part = keyof typeof PARTS

export const policy: Suite = {
  name: 'policy',
  about: 'policy in the path: established and new flows, rules, flows, changes; beside nftables',
  run,
}

/** A part that can't run here is left out, and a note says why, unless it alone was asked for. */
async function run(options: Options): Promise<Report> {
  const parts = selected(Object.keys(PARTS) as Part[], options)
  const all: Report = { samples: {}, ratios: {}, figures: {}, tables: [], notes: [] }
  for (const part of parts) {
    try {
      add(all, await PARTS[part](options))
    } catch (error) {
      if (!(error instanceof Skipped) || parts.length === 1) throw error
      progress(`policy ${part}: left out: ${error.message}`)
      add(all, {
        samples: {},
        ratios: {},
        tables: [],
        notes: [`${part}: left out: ${error.message}`],
      })
    }
  }
  return all
}

function add(all: Report, one: Report): void {
  Object.assign(all.samples, one.samples)
  Object.assign(all.ratios, one.ratios)
  all.figures = { ...all.figures, ...one.figures }
  all.tables = [...all.tables, ...one.tables]
  all.notes = [...all.notes, ...one.notes]
}
