/** Servers in all pods, and probes between them: one process for all (native/prober.cc). */
import { compile } from '../../bench/harness/compile.ts'
import { Running } from '../harness/processes.ts'
import { isAllowed, pairs, type Table } from './world.ts'

/** Milliseconds in which an answer comes back, on a machine that is not overloaded. */
const ROUND_MS = 300
/** Rounds that what must be answered may take: a busy machine may lose a packet, or be late. */
const MOST_ROUNDS = 20

interface Endpoint {
  netns: string
  ip4: string
  ip6: string
}

interface Probe {
  from: string
  to: string
  family: 4 | 6
  table: Table
}

function textOf({ from, to, family, table: { protocol, port } }: Probe): string {
  return `${from} to ${to}, ${protocol} ${port} by IPv${family}`
}

export class Prober {
  readonly #process: Running
  readonly #ends: readonly string[]
  readonly #pods: readonly string[]
  #rounds = 0

  /** Both by name: pods in their order, and what else is served and probed. */
  constructor(pods: ReadonlyMap<string, Endpoint>, others: ReadonlyMap<string, Endpoint>) {
    this.#pods = [...pods.keys()]
    this.#ends = [...this.#pods, ...others.keys()]
    const ends = [...pods.values(), ...others.values()]
    const words = ends.map(({ netns, ip4, ip6 }) => `${netns},${ip4},${ip6}`)
    this.#process = new Running(compile('test/policy/native/prober.cc'), words)
  }

  /**
   * Tries all pairs for all tables at once, by both families. What a table allows is tried until there is an answer, what it
   * denies as often: what is denied never was answered in any round, a late answer only makes an allowed one slow.
   */
  async observe(tables: readonly Table[]): Promise<{ answered: string[]; expected: string[] }> {
    const all = tables.flatMap(table =>
      pairs(table, this.#pods).flatMap(pair =>
        ([4, 6] as const).map((family): Probe => ({ ...pair, family, table })),
      ),
    )
    const expected = all.filter(({ table, from, to }) => isAllowed(table, from, to))
    const answered = new Set<Probe>()
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const open = all.filter(probe => !answered.has(probe))
      for (const probe of await this.#round(open)) answered.add(probe)
      if (expected.every(probe => answered.has(probe))) break
    }
    const inOrder = all.filter(probe => answered.has(probe))
    return { answered: inOrder.map(textOf), expected: expected.map(textOf) }
  }

  async #round(probes: readonly Probe[]): Promise<Probe[]> {
    const text = ({ from, to, family, table: { protocol, port } }: Probe): string => {
      const way = `${this.#ends.indexOf(from)}>${this.#ends.indexOf(to)}/${family}`
      return `${protocol.toLowerCase()}:${port}:${way}`
    }
    this.#process.child.stdin!.write(`${[ROUND_MS, ...probes.map(text)].join(' ')}\n`)
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
