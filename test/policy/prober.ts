/** Servers in all pods, and probes between them: one process for all (native/prober.cc). */
import { compile } from '../../bench/harness/compile.ts'
import { Running } from '../harness/processes.ts'
import { isAllowed, pairs, type Table } from './world.ts'

/** Milliseconds in which an answer comes back, on a machine that is not overloaded. */
const ROUND_MS = 300
/** Milliseconds between two looks at what has been denied. */
const LOOK_MS = 5
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
  readonly #denied: () => Promise<number>
  #read = 0

  /**
   * Both by name: pods in their order, and what else is served and probed. `denied`: packets that policy has denied so
   * far. Each probe that it denies is one more at least, so nothing is waited for when all of them are counted.
   */
  constructor(
    pods: ReadonlyMap<string, Endpoint>,
    others: ReadonlyMap<string, Endpoint>,
    denied: () => Promise<number>,
  ) {
    this.#denied = denied
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
      const denied = open.filter(probe => !expected.includes(probe))
      for (const probe of await this.#round(open, new Set(denied))) answered.add(probe)
      if (expected.every(probe => answered.has(probe))) break
    }
    const inOrder = all.filter(probe => answered.has(probe))
    return { answered: inOrder.map(textOf), expected: expected.map(textOf) }
  }

  async #round(probes: readonly Probe[], unwanted: ReadonlySet<Probe>): Promise<Probe[]> {
    const text = ({ from, to, family, table: { protocol, port } }: Probe): string => {
      const way = `${this.#ends.indexOf(from)}>${this.#ends.indexOf(to)}/${family}`
      return `${protocol.toLowerCase()}:${port}:${way}`
    }
    const before = await this.#denied()
    const words = probes.map(each => `${unwanted.has(each) ? '-' : ''}${text(each)}`)
    this.#write([ROUND_MS, ...words].join(' '))
    let told = await this.#next()
    if (told === 'waiting') {
      const { lines } = this.#process
      while (lines.length === this.#read && (await this.#denied()) - before < unwanted.size) {
        await new Promise(resolve => setTimeout(resolve, LOOK_MS))
      }
      this.#write('end')
      told = await this.#next()
    }
    const answered = new Set(JSON.parse(told) as string[])
    return probes.filter(each => answered.has(text(each)))
  }

  async #next(): Promise<string> {
    const { lines } = this.#process
    await this.#process.until(() => lines.length > this.#read)
    return lines[this.#read++]!
  }

  #write(line: string): void {
    this.#process.child.stdin!.write(`${line}\n`)
  }

  /** Ends it, and the servers. */
  async close(): Promise<void> {
    await this.#process.stop()
  }
}
