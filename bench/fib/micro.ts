/** Micro-benches by benny: it warms up, finds out how often to call, takes several samples. */
import { add, suite } from 'benny'
import { progress } from '../harness/suite.ts'

/** Least samples of one measurement, and the least seconds of each. */
const SAMPLES = 5
const SAMPLE_SECONDS = 0.01

/**
 * Calls `work` for about `seconds` and returns the calls a second. `work` returns a checksum of what
 * it found, which must be `expected` each time: so nothing can be left out, and a wrong answer is
 * never measured.
 */
export async function callsPerSecond(
  name: string,
  seconds: number,
  expected: number,
  work: () => number,
): Promise<number> {
  let wrong = 0
  const call = () => {
    if (work() !== expected) wrong++
  }
  // benny says on stdout what it runs; stdout is the report's.
  const { log } = console
  console.log = (...words: unknown[]) => progress(words.join(' '))
  try {
    const options = { minSamples: SAMPLES, minTime: SAMPLE_SECONDS, maxTime: seconds }
    const { results } = await suite(name, add(name, call, options))
    const [result] = results
    if (result === undefined || !result.completed) throw new Error(`${name}: no sample`)
    if (wrong > 0) throw new Error(`${name}: ${wrong} calls answered otherwise than before`)
    // `ops` is rounded to whole calls.
    return 1 / result.details.median
  } finally {
    console.log = log
  }
}
