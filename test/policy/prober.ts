/** Servers in all pods, and probes between them: one process for all (native/prober.cc). */
import { compile } from '../../bench/harness/compile.ts'
import type { TestPod } from '../harness/node.ts'
import { Running } from '../harness/processes.ts'
import { isAllowed, PODS, pairs, type Table } from './world.ts'

/** Milliseconds in which an answer comes back, on a machine that is not overloaded. */
const ROUND_MS = 300
/** Rounds that what must be answered may take: a busy machine may lose a packet, or be late. */
const MOST_ROUNDS = 20

interface Pair {
  from: string
  to: string
  family: 4 | 6
}

const textOf = ({ from, to, family }: Pair): string => `${from} to ${to} by IPv${family}`

export class Prober {
  readonly #process: Running
  #rounds = 0

  /** `pods`: by `namespace/name`. */
  constructor(pods: ReadonlyMap<string, TestPod>) {
    const words = PODS.map(each => {
      const { netns, ip4, ip6 } = pods.get(each)!
      return `${netns},${ip4},${ip6}`
    })
    this.#process = new Running(compile('test/policy/native/prober.cc'), words)
  }

  /**
   * Tries all pairs, by both families. What the table allows is tried until there is an answer, what it denies in each of
   * these rounds, too: a denied one is one that never was answered, a late answer only makes an allowed one slow.
   */
  async observe(table: Table): Promise<{ answered: string[]; expected: string[] }> {
    const all = pairs().flatMap(pair => [4, 6].map(family => ({ ...pair, family }) as Pair))
    const expected = all.filter(({ from, to }) => isAllowed(table, from, to))
    const answered = new Set<Pair>()
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const open = all.filter(pair => !answered.has(pair))
      for (const pair of await this.#round(table, open)) answered.add(pair)
      if (expected.every(pair => answered.has(pair))) break
    }
    return {
      answered: all.filter(each => answered.has(each)).map(textOf),
      expected: expected.map(textOf),
    }
  }

  async #round({ protocol, port }: Table, probes: readonly Pair[]): Promise<Pair[]> {
    const text = ({ from, to, family }: Pair): string =>
      `${PODS.indexOf(from)}>${PODS.indexOf(to)}/${family}`
    const words = [protocol.toLowerCase(), port, ROUND_MS, ...probes.map(text)]
    this.#process.child.stdin!.write(`${words.join(' ')}\n`)
    const { lines } = this.#process
    const wanted = ++this.#rounds
    await this.#process.until(() => lines.length >= wanted)
    const answered = new Set(JSON.parse(lines[wanted - 1]!) as string[])
    return probes.filter(each => answered.has(text(each)))
  }

  /** Ends it, and the servers. */
  async close(): Promise<void> {
    await this.#process.stop()
  }
}
