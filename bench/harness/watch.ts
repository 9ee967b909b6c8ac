/**
 * What disturbs a measurement from inside the process: code that V8 gives up while it runs
 * (deoptimisations), and garbage collections. Neither belongs into a packet path; both are counted
 * while something is measured, so that a figure can be trusted or not.
 *
 * Deoptimisations have no API. V8 writes them while `--trace-deopt` is set, and with
 * `--redirect-code-traces-to` it appends them to a file, which it opens and closes for each: so the
 * file is complete whenever it is looked at, in this process. The flags may be changed while V8
 * runs, for all its threads. (Of code that is marked to be given up, one half of the line goes to
 * the process' stdout all the same; run.ts keeps such halves out of its JSON.)
 */
import { fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PerformanceObserver, performance } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'

/** Functions that are named of one measurement; the others are counted. */
const MAX_FUNCTIONS = 4

export interface Disturbance {
  deopts: number
  gcs: number
  gcMs: number
  /** Functions that were deoptimised, with V8's reasons. */
  functions: string[]
}

/** Descriptor of the file that V8 writes to, from the first watch to the end of the process. */
let traces = -1

function openTraces(): number {
  if (traces >= 0) return traces
  const folder = mkdtempSync(join(tmpdir(), 'hawser-bench-'))
  traces = openSync(join(folder, 'deopts'), 'a+')
  // V8 opens the descriptor's own path: the file needs no name, and nothing stays however the process ends.
  rmSync(folder, { recursive: true })
  setFlagsFromString(`--redirect-code-traces-to=/proc/self/fd/${traces}`)
  setFlagsFromString('--redirect-code-traces')
  return traces
}

const BAILOUT = /^\[bailout \(kind: [^,]*, reason: (.*?)\): begin\. .*?<JSFunction ([^ >]*)/gm
/** Not a deoptimisation: the next tier takes over inside a loop. */
const TIER_UP = 'prepare for on stack replacement (OSR)'

/** Our own loops around what is measured (micro.ts, fib/updates.ts): each contender is another call target to them. */
const HARNESS = ['openWindow', 'closeWindow', 'benchCall', 'benchRepeat', 'benchChanges']

/**
 * Watches windows of time: between `openWindow` and `closeWindow`, not what happens between two. A
 * window costs some microseconds, so it should last some milliseconds.
 */
export class Watch {
  private readonly file = openTraces()
  private readonly observer = new PerformanceObserver(() => {})
  /** Starts and ends of the windows, in ms. */
  private readonly windows: number[] = []
  private readonly before = fstatSync(this.file).size

  constructor() {
    this.observer.observe({ entryTypes: ['gc'] })
  }

  openWindow(): void {
    setFlagsFromString('--trace-deopt')
    this.windows.push(performance.now())
  }

  closeWindow(): void {
    this.windows.push(performance.now())
    setFlagsFromString('--no-trace-deopt')
  }

  /** Ends the watch; what the windows saw. */
  async done(): Promise<Disturbance> {
    // Entries are handed over by a task of their own.
    await new Promise(resolve => setImmediate(resolve))
    const gcs = this.observer.takeRecords().filter(({ startTime }) => this.inWindow(startTime))
    this.observer.disconnect()
    const functions = this.bailouts()
    return {
      deopts: functions.length,
      gcs: gcs.length,
      gcMs: gcs.reduce((sum, { duration }) => sum + duration, 0),
      functions: functions.slice(0, MAX_FUNCTIONS),
    }
  }

  private inWindow(time: number): boolean {
    const { windows } = this
    for (let i = 0; i < windows.length; i += 2) {
      if (time >= windows[i]! && time < windows[i + 1]!) return true
    }
    return false
  }

  private bailouts(): string[] {
    // A thread that writes for the first time empties the file.
    const { size } = fstatSync(this.file)
    const from = size < this.before ? 0 : this.before
    if (size === from) return []
    const bytes = Buffer.alloc(size - from)
    readSync(this.file, bytes, 0, bytes.length, from)
    const found: string[] = []
    for (const [, reason, name] of bytes.toString('latin1').matchAll(BAILOUT)) {
      const called = name!.startsWith('(') ? 'anonymous' : name
      if (HARNESS.includes(name!)) continue
      if (reason !== TIER_UP) found.push(`${called}: ${reason}`)
    }
    return found
  }
}

let journal: Record<string, Disturbance> = {}

/** Adds what disturbed a measurement of that name to the journal. */
export function noteDisturbance(name: string, seen: Disturbance): void {
  const sum = journal[name]
  if (sum === undefined) {
    journal[name] = { ...seen }
    return
  }
  sum.deopts += seen.deopts
  sum.gcs += seen.gcs
  sum.gcMs += seen.gcMs
  sum.functions = [...sum.functions, ...seen.functions].slice(0, MAX_FUNCTIONS)
}

/** All measurements since the last call, by name, the undisturbed ones too. */
export function takeDisturbances(): Record<string, Disturbance> {
  const taken = journal
  journal = {}
  return taken
}
