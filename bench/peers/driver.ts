/**
 * DPDK's tables as peers: one process a table, driven by the protocol of native/serve.h. Debian's
 * `libdpdk-dev` is enough; neither root nor reserved huge pages are needed.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compile, root } from '../harness/compile.ts'
import { Program } from '../harness/program.ts'
import { progress } from '../harness/suite.ts'
import { later } from '../harness/undo.ts'
import type { Peer, Peers } from './peer.ts'

export const DPDK_MISSING = 'DPDK is not there: apt-get install libdpdk-dev'

/** Seconds between two words about a build that goes on. */
const PROGRESS_SECONDS = 5
/** A longer measurement is made in pieces: nobody waits longer for an answer than harness/program.ts. */
const PIECE_SECONDS = 10

let found: string[] | undefined
let version = ''

/** What g++ needs for DPDK; undefined where it isn't. Tuned for this CPU, as what users build themselves. */
function flags(): string[] | undefined {
  if (found !== undefined) return found
  let words: string[]
  try {
    const args = ['--cflags', '--libs', 'libdpdk']
    const said = execFileSync('pkg-config', args, { encoding: 'utf8', stdio: 'pipe' })
    words = said.trim().split(/\s+/)
    const about = ['--modversion', 'libdpdk']
    version = execFileSync('pkg-config', about, { encoding: 'utf8', stdio: 'pipe' })
  } catch {
    return undefined
  }
  // Warnings are for our own code, not for DPDK's headers.
  const quiet = words.map(word => (word.startsWith('-I') ? `-isystem${word.slice(2)}` : word))
  found = [...quiet, '-O3', '-march=native']
  return found
}

export function haveDpdk(): boolean {
  return flags() !== undefined
}

function compilePeer(source: string): string {
  const more = flags()
  if (more === undefined) throw new Error(DPDK_MISSING)
  return compile(`bench/peers/native/${source}.cc`, more, [version])
}

/** Builds all of native/ that isn't built; nothing without DPDK. */
export function compilePeers(): void {
  if (!haveDpdk()) return
  for (const name of readdirSync(join(root, 'bench/peers/native'))) {
    if (name.endsWith('.cc')) compilePeer(name.slice(0, -'.cc'.length))
  }
}

interface Build {
  buildMs: number
  bytes: number
  refused: number
  /** Ways to look up that this CPU has. */
  kinds: string[]
}

export class Driver {
  readonly name: string
  readonly build: Build
  private readonly program: Program
  private readonly folder: string
  private readonly remove: () => void
  private peers = 0

  private constructor(
    name: string,
    build: Build,
    program: Program,
    folder: string,
    remove: () => void,
  ) {
    this.name = name
    this.build = build
    this.program = program
    this.folder = folder
    this.remove = remove
  }

  /** Compiles native/`source`.cc if need be, starts it, and lets it build `table` (its header comment says of what words). Throws what it complains about. */
  static async start(
    name: string,
    source: string,
    args: readonly string[],
    table: Uint32Array,
  ): Promise<Driver> {
    const file = compilePeer(source)
    const folder = mkdtempSync(join(tmpdir(), 'hawser-peer-'))
    const remove = later(() => rmSync(folder, { recursive: true, force: true }))
    const program = new Program(name, file, [folder, ...args])
    try {
      await program.ready()
      const path = join(folder, 'table')
      writeFileSync(path, table)
      const build = await built(name, program, path)
      return new Driver(name, build, program, folder, remove)
    } catch (error) {
      await program.stop()
      remove()
      throw error
    }
  }

  /** The way `kind` as a peer. The driver ends when all its peers are closed. */
  peer(kind: string, name: string): Peer {
    if (!this.build.kinds.includes(kind)) throw new Error(`${name}: not on this CPU`)
    this.peers++
    let open = true
    const { buildMs, bytes, refused } = this.build
    return {
      name,
      buildMs,
      bytes,
      refused,
      trace: keys => this.trace(kind, keys),
      rate: (seconds, dependent = false) => this.rate(kind, seconds, dependent),
      close: async () => {
        if (open && --this.peers === 0) await this.close()
        open = false
      },
    }
  }

  async close(): Promise<void> {
    await this.program.stop()
    this.remove()
  }

  private async trace(kind: string, keys: Uint32Array): Promise<Uint32Array> {
    const [from, to] = [join(this.folder, 'keys'), join(this.folder, 'answers')]
    writeFileSync(from, keys)
    const { keys: n } = await this.program.ask(['keys'], `trace ${kind} ${from} ${to}`)
    const bytes = readFileSync(to)
    return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4 * n))
  }

  private async rate(kind: string, seconds: number, dependent: boolean): Promise<number> {
    const pieces = Math.ceil(seconds / PIECE_SECONDS)
    const request = `rate ${kind} ${seconds / pieces} ${dependent ? 'chain' : 'batch'}`
    let sum = 0
    for (let i = 0; i < pieces; i++) {
      sum += (await this.program.ask(['perSecond'], request)).perSecond
    }
    return sum / pieces
  }
}

/** As `Driver.start`; what can't be had here (no compiler, no memory for the table) goes into `found.missing`. */
export async function started(
  found: Peers,
  name: string,
  source: string,
  args: readonly string[],
  table: Uint32Array,
): Promise<Driver | undefined> {
  try {
    return await Driver.start(name, source, args, table)
  } catch (error) {
    found.missing.push(error instanceof Error ? error.message : String(error))
    return undefined
  }
}

/** Asks for the table of a file, and says now and then that it takes its time. */
async function built(name: string, program: Program, path: string): Promise<Build> {
  let figures = await program.ask([], `build ${path}`)
  while ('working' in figures) {
    const seconds = Number(figures['working'])
    if (seconds % PROGRESS_SECONDS === 0) progress(`${name}: building, ${seconds} s`)
    figures = await program.figures([])
  }
  const { buildMs, bytes, refused, kinds } = figures as unknown as Build & { kinds: string }
  return { buildMs, bytes, refused, kinds: kinds.trim().split(' ') }
}
