/**
 * A path: the stages that the packets of one role go down, in order, and how a batch goes down them.
 *
 * Nearly every stage is a `Stage`: it works on a batch where it lies, and each packet keeps its place.
 * A stage that may make several packets of one is an `Expansion`. It writes an output batch: what it
 * lets be and what it makes, in the order of the packets that came in, so that nothing overtakes
 * anything. Whenever that batch is full, and at the end, `run` takes it down the rest of the path and
 * comes back for more. So no stage calls a later one, an expansion needs one batch of memory however
 * much it makes, and a flow's packets stay in order. A batch in which there is nothing to expand goes
 * on itself, and nothing of it is copied.
 *
 * Every packet is in one batch: what `fill` has moved belongs to the output batch, and once it has
 * said that it is done the input is empty. The last stage of a path finishes every packet (transmit.ts).
 */
import { Batch } from '../packet/batch.ts'
import type { Engine } from './engine.ts'

/** Works on a batch: reads some columns, writes others. It adds no packet and moves none. */
export type Stage = (engine: Engine, batch: Batch) => void

/** The output batch of an expansion, and how far it has come in its input. */
export class Output {
  readonly batch = new Batch()
  /** Index of the input's packet that is next. */
  next = 0
  /** How much of that packet is out, in the expansion's own measure; 0: nothing. */
  done = 0
}

export interface Expansion {
  /** Whether `batch` has a packet that this stage makes others of. If not, `fill` is not called. */
  needed(engine: Engine, batch: Batch): boolean
  /**
   * Appends to `out.batch` what comes of the packets of `batch` from `out.next` on, each in its turn,
   * dropped ones too (but not CONSUMED ones, which have no frame), until nothing is left (true) or
   * the output batch is full (false): then it is called again, with an empty one, where it stopped.
   */
  fill(engine: Engine, batch: Batch, out: Output): boolean
}

/** One entry of a pipeline: one of the two kinds of stages, for the roles (bits of PORT_ROLE) that have it. */
export type Entry = { name: string; roles: number } & ({ run: Stage } | { expand: Expansion })

/** Stages up to an expansion, and what comes behind it. One worker's: it holds the output batch. */
export interface Path {
  readonly stages: readonly Stage[]
  readonly expand?: { readonly by: Expansion; readonly out: Output; readonly rest: Path }
}

/** The path of one role through `entries`. */
export function pathOf(entries: readonly Entry[], role: number): Path {
  const own = entries.filter(entry => (entry.roles & role) !== 0)
  const at = own.findIndex(entry => 'expand' in entry)
  const stages = (at < 0 ? own : own.slice(0, at)).flatMap(each => ('run' in each ? each.run : []))
  const entry = own[at]
  if (entry === undefined || !('expand' in entry)) return { stages }
  const rest = pathOf(own.slice(at + 1), role)
  return { stages, expand: { by: entry.expand, out: new Output(), rest } }
}

/** Takes `batch` down `path`. Behind it no frame of the batch is in flight. */
export function run(engine: Engine, path: Path, batch: Batch): void {
  const { stages, expand } = path
  for (let s = 0; s < stages.length; s++) stages[s]!(engine, batch)
  if (expand === undefined) return
  const { by, out, rest } = expand
  if (!by.needed(engine, batch)) {
    run(engine, rest, batch)
    return
  }
  out.next = 0
  out.done = 0
  for (let done = false; !done; ) {
    out.batch.reset(batch.inPort)
    done = by.fill(engine, batch, out)
    run(engine, rest, out.batch)
  }
  batch.n = 0
}
