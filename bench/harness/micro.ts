/** Micro-benches by benny: it finds out how often to call and takes several samples. */
import { add, suite } from 'benny'
import { noteDisturbance, Watch } from './watch.ts'

/** Least samples of one measurement, and the least seconds of each. */
const SAMPLES = 5
const SAMPLE_SECONDS = 0.005
/** Before the first measurement of a name: long enough for V8 to have optimised what it will. */
const WARM_UP_SECONDS = 0.15
const WARM_UP_CALLS = 3
/** A call of benny's repeats `work` until it lasts so long: what is done around it costs nothing beside. */
const CALL_SECONDS = 0.002

/** Calls `work` so often; returns how many answers were not `expected`. */
function benchRepeat(work: () => number, expected: number, times: number): number {
  let wrong = 0
  for (let i = 0; i < times; i++) if (work() !== expected) wrong++
  return wrong
}

// A call of only one function is inlined into the loop, and then the function is compiled as well as
// this loop is, which is a quarter of what it can be. So V8 shall have seen several from the start.
for (const work of [() => 1, () => 2, () => 3, () => 4, () => 5]) benchRepeat(work, 1, 2)

const repeats = new Map<string, number>()

/**
 * Calls `work` for about `seconds` and returns the calls a second. `work` returns a checksum of what
 * it found (best a 31-bit number, which needs no memory), which must be `expected` each time: so
 * nothing can be left out, and a wrong answer is never measured. Deoptimisations and garbage
 * collections while it runs go into the journal of watch.ts under `name`, which is one contender's
 * on one workload; the first call with a name warms up, so that what V8 does then isn't counted.
 */
export async function callsPerSecond(
  name: string,
  seconds: number,
  expected: number,
  work: () => number,
): Promise<number> {
  let times = repeats.get(name)
  if (times === undefined) {
    times = warmUp(work, expected, Math.min(WARM_UP_SECONDS, seconds))
    repeats.set(name, times)
  }
  let wrong = benchRepeat(work, expected, times)
  const watch = new Watch()
  const benchCall = () => {
    watch.openWindow()
    wrong += benchRepeat(work, expected, times)
    watch.closeWindow()
  }
  // benny says on stdout what it runs; stdout is the report's.
  const { log } = console
  console.log = () => {}
  try {
    const options = { minSamples: SAMPLES, minTime: SAMPLE_SECONDS, maxTime: seconds, delay: 0 }
    const { results } = await suite(name, add(name, benchCall, options))
    const [result] = results
    if (result === undefined || !result.completed) throw new Error(`${name}: no sample`)
    if (wrong > 0) throw new Error(`${name}: ${wrong} calls answered otherwise than before`)
    // `ops` is rounded to whole calls.
    return times / result.details.median
  } finally {
    console.log = log
    noteDisturbance(name, await watch.done())
  }
}

/** Runs `work` until it is warm; returns how often it runs in CALL_SECONDS. */
function warmUp(work: () => number, expected: number, seconds: number): number {
  const started = performance.now()
  const end = started + seconds * 1000
  let last = 0
  for (let now = started, calls = 0; calls < WARM_UP_CALLS || now < end; calls++) {
    benchRepeat(work, expected, 1)
    const after = performance.now()
    last = after - now
    now = after
  }
  return Math.max(1, Math.ceil((CALL_SECONDS * 1000) / Math.max(last, 1e-3)))
}
