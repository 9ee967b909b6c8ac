/**
 * Names that pods have learned, as the main thread looks after them: which patterns the programs speak of, what is out of
 * date, what limits have refused. Workers learn and ask (dns/watch.ts); nothing here is waited for by a packet.
 *
 * An address whose time is over stays as long as a flow that its pod has begun goes there: a change of policy judges that
 * again, and finds it. The flow table says which those are, a slice at a time; since a flow that moves in it meanwhile may be
 * missed, an address goes when two looks in a row have found none.
 */
import { native } from '../../native/native.ts'
import { ipWords, wordsToIp } from '../addresses.ts'
import type { LearnedName, NamesStatus, PodSpec } from '../control.ts'
import { type LearnedAddress, NameLedger } from '../dns/ledger.ts'
import { COUNT, type DnsMemory } from '../dns/memory.ts'
import { domainBytes, nameText } from '../dns/names.ts'
import { PatternWriter } from '../dns/patterns.ts'
import { ENTRY, type FlowTable } from '../flow/flow.ts'
import { portOf } from '../flow/region.ts'
import { KEY } from '../hash/flow-key.ts'
import {
  DNS_ADDRESSES,
  DNS_ADDRESSES_OF_NAME,
  DNS_AGE_MS,
  DNS_GRACE_SECONDS,
  DNS_NAMES,
  DNS_TTL_SECONDS,
  PATTERNS_OF_ADDRESS,
} from '../limits.ts'
import type { Log } from '../manage/parts.ts'

/** Flows that are looked at before others have their turn. */
const SLICE = 8192

export interface NamesParts {
  memory: DnsMemory
  flows: FlowTable
  /** Ids and ports of the pods that policy is for. */
  pods: () => Iterable<readonly [id: string, port: number]>
  log: Log
}

export class Names {
  readonly patterns: PatternWriter
  private readonly parts: NamesParts
  private readonly ledger: NameLedger
  private readonly told = new Map<string, number>()
  private timer: NodeJS.Timeout | undefined
  private ageing = false
  /** Of what was out of date at the last look, what no flow used. */
  private unused = new Set<string>()

  constructor(parts: NamesParts) {
    this.parts = parts
    this.patterns = new PatternWriter(parts.memory.patterns)
    this.ledger = new NameLedger(parts.memory)
  }

  /** Looks for what is out of date, again and again. */
  start(): void {
    this.timer = setInterval(() => {
      this.age().catch((error: Error) => {
        this.parts.log('error', `names: ${error.message}`, { stack: error.stack })
      })
    }, DNS_AGE_MS)
    this.timer.unref()
  }

  close(): void {
    clearInterval(this.timer)
  }

  /** A pod comes to `port`, and has learned this. Throws Error when a worker has the port's lock all the time. */
  enter(port: number, learned: PodSpec['names'] = [], second = now()): void {
    const names = learned.flatMap(({ name, address, seconds }) => {
      const bytes = plainBytes(name)
      const expires = second + Math.min(seconds, DNS_TTL_SECONDS + DNS_GRACE_SECONDS)
      return bytes === undefined ? [] : [{ name: bytes, words: ipWords(address), expires }]
    })
    if (!this.ledger.begin(port, names)) {
      throw new Error(`names of port ${port}: a worker keeps them locked; try again`)
    }
  }

  /** Takes out what is out of date at `second` of the monotonic clock, and tells what limits have refused. */
  async age(second = now()): Promise<void> {
    if (this.ageing) return
    this.ageing = true
    try {
      const due = new Map<number, readonly LearnedAddress[]>()
      const pods = new Map(this.parts.pods())
      for (const id of this.told.keys()) if (!pods.has(id)) this.told.delete(id)
      for (const [id, port] of pods) {
        this.tell(id, port)
        const expired = this.ledger.list(port, second)
        if (expired.length > 0) due.set(port, expired)
      }
      const used = due.size === 0 ? new Set<string>() : await this.used(due)
      const unused = new Set<string>()
      for (const [port, expired] of due) {
        const idle = expired.filter(({ words }) => !used.has(keyOf(port, words)))
        const gone = idle.filter(({ words }) => this.unused.has(keyOf(port, words)))
        for (const { words } of idle) unused.add(keyOf(port, words))
        this.ledger.forget(port, gone)
      }
      this.unused = unused
    } finally {
      this.ageing = false
    }
  }

  /** What pods have learned. */
  list(second = now()): LearnedName[] {
    return [...this.parts.pods()].flatMap(([pod, port]) =>
      this.ledger.list(port).map(({ name, words, expires }) => ({
        pod,
        name: nameText(name),
        address: wordsToIp(words),
        seconds: Math.max(0, expires - second),
      })),
    )
  }

  status(): NamesStatus {
    const { memory, pods } = this.parts
    const count = (word: number): number => Atomics.load(memory.counts, word)
    const refused = { names: 0, addresses: 0, ofName: 0 }
    let addresses = 0
    for (const [, port] of pods()) {
      addresses += this.ledger.list(port).length
      const its = this.ledger.refused(port)
      refused.names += its.names
      refused.addresses += its.addresses
      refused.ofName += its.ofName
    }
    return {
      addresses,
      learned: count(COUNT.LEARNED),
      refused: {
        [`${DNS_NAMES} names of a pod`]: refused.names,
        [`${DNS_ADDRESSES} addresses of a pod`]: refused.addresses,
        [`${DNS_ADDRESSES_OF_NAME} addresses of a name`]: refused.ofName,
        [`${PATTERNS_OF_ADDRESS} patterns of an address`]: count(COUNT.PATTERNS),
      },
      unasked: count(COUNT.UNASKED),
      malformed: count(COUNT.MALFORMED),
      unfollowed: count(COUNT.UNFOLLOWED),
      busy: count(COUNT.BUSY),
    }
  }

  /** Which of these some flow uses that its pod has begun. */
  private async used(due: ReadonlyMap<number, readonly LearnedAddress[]>): Promise<Set<string>> {
    const asked = new Set<string>()
    for (const [port, those] of due) for (const { words } of those) asked.add(keyOf(port, words))
    const used = new Set<string>()
    let looked = 0
    for (const entry of this.parts.flows.flows()) {
      if (++looked % SLICE === 0) await new Promise(resolve => setImmediate(resolve))
      const port = portOf(entry[ENTRY.TAIL]!)
      if (!due.has(port)) continue
      for (const end of [KEY.A, KEY.B]) {
        const at = ENTRY.KEY + end
        const key = keyOf(port, entry.subarray(at, at + 4))
        if (asked.has(key)) used.add(key)
      }
    }
    return used
  }

  /** Tells of a pod for which there was no room since it was told of last. */
  private tell(id: string, port: number): void {
    const refused = this.ledger.refused(port)
    const all = refused.names + refused.addresses + refused.ofName
    const before = this.told.get(id) ?? 0
    if (all === before) return
    if (all === 0) this.told.delete(id)
    else this.told.set(id, all)
    if (all < before) return
    this.parts.log(
      'warn',
      'a pod asks for more names than are learned: some addresses stay closed',
      {
        pod: id,
        ...refused,
        limits: { DNS_NAMES, DNS_ADDRESSES, DNS_ADDRESSES_OF_NAME },
      },
    )
  }
}

/** Bytes of a name that needs no escapes; undefined for another one. */
function plainBytes(name: string): Uint8Array | undefined {
  try {
    return domainBytes(name).bytes
  } catch {
    return undefined
  }
}

/** Seconds of the clock that workers learn by. */
function now(): number {
  return Math.floor(native.monotonic() / 1e9)
}

/** The same for an IPv4 address and the four words that a flow's key has of it. */
function keyOf(port: number, words: Uint32Array): string {
  return words.length === 1 ? `${port} 0,0,0,${words[0]}` : `${port} ${words.join()}`
}
