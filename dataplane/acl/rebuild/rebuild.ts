/**
 * What algorithms share that can't change in place: a new structure is built beside the one that
 * readers use, and published with one store.
 *
 * Memory, 32-bit words:
 *
 *   0 the half that readers use: 0 none yet (no rule matches), 1 or 2
 *   1, 2 where half 1 and half 2 begin, bytes / 64   3-15 zero
 *   byte 64: half 1, then half 2, each `halfBytes` rounded up to whole cache lines
 *
 * A reader loads word 0 once a batch and stays in that half until the batch is done. The writer
 * writes only to the other half, and not before every reader has left it: after a half has lost its
 * readers to the other one, it is left alone until `quiesced`. So what a reader sees is complete,
 * the store of word 0 (release) comes after all of it, and a batch is answered by one set of rules.
 *
 * A `commit` that finds its half not left yet **waits for the `quiesced` call**: a caller must not
 * wait for a second commit before it has said `quiesced` after the first. Changes go on meanwhile.
 * Commits that come while one is building are served together by the next build, which takes all
 * rules as they are when it begins.
 */
import type { Acl, AclLimits, AclReader, AclWriter } from '../acl.ts'
import { ruleBook } from '../rule.ts'
import { type Columns, columnsOf } from './columns.ts'

/** Words of the region's header. */
const PUBLISHED = 0
const HALVES = 1
const HEADER_BYTES = 64
const LINE = 64

/** How long a build goes on before the main thread does other work, ms. */
const SLICE_MS = 2

/** What an algorithm has to bring. */
export interface Structure {
  readonly name: string
  readonly family: 4 | 6
  /** Bytes of one half. Throws RangeError for limits out of range. */
  halfBytes(limits: AclLimits): number
  /**
   * Writes the structure of these rules to `half`, whatever is there before. Each step takes well
   * below a millisecond if it can. Throws RangeError when the rules don't fit.
   */
  build(rules: Columns, half: Uint8Array, limits: AclLimits): Generator<void, void, undefined>
  /** Of a half that `build` has written, or will have before the first classification. */
  reader(half: Uint8Array, limits: AclLimits): AclReader
}

export function rebuilt(structure: Structure, sliceMs = SLICE_MS): Acl {
  const bytes = (limits: AclLimits) => HEADER_BYTES + 2 * halfBytesOf(structure, limits)
  return {
    name: structure.name,
    family: structure.family,
    incremental: false,
    bytes,
    writer: (memory, limits) => writer(structure, memory, limits, sliceMs),
    reader: (memory, limits) => reader(structure, memory, limits),
  }
}

function halfBytesOf(structure: Structure, limits: AclLimits): number {
  return Math.ceil(structure.halfBytes(limits) / LINE) * LINE
}

function open(structure: Structure, memory: Uint8Array, limits: AclLimits) {
  const bytes = halfBytesOf(structure, limits)
  const starts = [HEADER_BYTES, HEADER_BYTES + bytes]
  return {
    header: new Int32Array(memory.buffer, memory.byteOffset, HEADER_BYTES / 4),
    starts,
    halves: starts.map(start => memory.subarray(start, start + bytes)),
  }
}

function writer(
  structure: Structure,
  memory: Uint8Array,
  limits: AclLimits,
  sliceMs: number,
): AclWriter {
  const { family } = structure
  const { header, starts, halves } = open(structure, memory, limits)
  const book = ruleBook(family, limits)
  /** Changes that were made, and how many of them readers see. */
  let changes = 0
  let visible = 0
  /** Nobody reads the half that is not published. */
  let left = true
  let leave = () => {}
  let running = false
  let waiting: { change: number; resolve: () => void; reject: (error: unknown) => void }[] = []

  for (const [i, start] of starts.entries()) header[HALVES + i] = start / LINE

  async function run(): Promise<void> {
    running = true
    // What is asked for before this turn ends belongs to the same build.
    await nextTurn()
    while (waiting.length > 0) {
      if (!left) await new Promise<void>(resolve => (leave = resolve))
      const change = changes
      const published = header[PUBLISHED]!
      const half = published === 1 ? 2 : 1
      let failure: { error: unknown } | undefined
      try {
        await inSlices(steps(halves[half - 1]!), sliceMs)
        left = published === 0
        Atomics.store(header, PUBLISHED, half)
        visible = change
      } catch (error) {
        failure = { error }
      }
      const served = waiting.filter(commit => commit.change <= change)
      waiting = waiting.filter(commit => commit.change > change)
      for (const { resolve, reject } of served) {
        if (failure === undefined) resolve()
        else reject(failure.error)
      }
    }
    running = false
  }

  function* steps(half: Uint8Array): Generator<void, void, undefined> {
    const columns = yield* columnsOf(family, book.flat())
    yield* structure.build(columns, half, limits)
  }

  return {
    get size() {
      return book.size
    },
    insert(rule) {
      book.insert(rule)
      changes++
    },
    remove(id) {
      if (book.remove(id) === undefined) return false
      changes++
      return true
    },
    rules: book.rules,
    commit() {
      if (visible === changes) return Promise.resolve()
      return new Promise<void>((resolve, reject) => {
        waiting.push({ change: changes, resolve, reject })
        if (!running) void run()
      })
    },
    quiesced() {
      left = true
      leave()
    },
  }
}

function reader(structure: Structure, memory: Uint8Array, limits: AclLimits): AclReader {
  const { header, halves } = open(structure, memory, limits)
  const [first, second] = halves.map(half => structure.reader(half, limits)) as [
    AclReader,
    AclReader,
  ]
  return {
    classify(headers, n, rules) {
      const half = Atomics.load(header, PUBLISHED)
      if (half === 0) rules.fill(0, 0, n)
      else if (half === 1) first.classify(headers, n, rules)
      else second.classify(headers, n, rules)
    },
  }
}

/** Runs the steps, and lets the event loop go round whenever `sliceMs` are over. */
async function inSlices(steps: Generator<void, void, undefined>, sliceMs: number): Promise<void> {
  for (;;) {
    const end = performance.now() + sliceMs
    do {
      if (steps.next().done === true) return
    } while (performance.now() < end)
    await nextTurn()
  }
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
