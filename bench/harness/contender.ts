/** What takes turns in a suite of lookups: our algorithms, one of the user's, the oracle, peers. */

export type Sort = 'typescript' | 'native' | 'yours' | 'oracle' | 'peer'

/** One way to look up in one table. */
export interface Contender<Trace> {
  name: string
  sort: Sort
  /** Compares every answer of the trace with the oracle's; throws for a wrong one. Then `rate` is about this trace. */
  take(trace: Trace): Promise<void>
  /** Keys a second. */
  rate(seconds: number): Promise<number>
}

/** By the names of the registries. */
export function sortOf(name: string): Sort {
  if (name.startsWith('linear')) return 'oracle'
  return name.includes('_native') ? 'native' : 'typescript'
}
