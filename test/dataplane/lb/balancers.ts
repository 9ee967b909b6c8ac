/** Balancers on memory of their own, and hashes for them. */
import { lbByName } from '../../../dataplane/lb/index.ts'
import type { Backend, LbLimits, LbReader, LbWriter } from '../../../dataplane/lb/lb.ts'
import { random } from '../hash/random.ts'

export interface Balancer {
  memory: Uint8Array
  writer: LbWriter
  reader: LbReader
}

export function balancer(name: string, limits: LbLimits): Balancer {
  const lb = lbByName(name)
  const memory = new Uint8Array(new SharedArrayBuffer(lb.bytes(limits)))
  return { memory, writer: lb.writer(memory, limits), reader: lb.reader(memory, limits) }
}

export const hashesOf = (n: number, seed = 1) => Uint32Array.from({ length: n }, random(seed))

/** What each hash gets, in batches of 256. */
export function chooseAll(reader: LbReader, hashes: Uint32Array): Uint16Array {
  const chosen = new Uint16Array(hashes.length)
  for (let at = 0; at < hashes.length; at += 256) {
    const n = Math.min(256, hashes.length - at)
    reader.choose(hashes.subarray(at), n, chosen.subarray(at))
  }
  return chosen
}

/** Backends of the given weights, with ids all over the range. */
export const backendsOf = (weights: readonly number[]): Backend[] =>
  weights.map((weight, i) => ({ id: ((i * 40_503) % 65_535) + 1, weight }))

/** How many each backend got. */
export function tally(chosen: Uint16Array): Map<number, number> {
  const counts = new Map<number, number>()
  for (const id of chosen) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}
