/**
 * Programs in a classifier of the `acl` family.
 *
 * Theory of operation. Each tier of each program is a *group*, a number. One IPv6 ACL holds the rules of all
 * groups; its header is not a packet's but a question's:
 *
 *     source address       word 0 the group, word 1 the peer's identity, words 2-3 zero
 *     destination address  the peer's address; IPv4 a.b.c.d as ffff:ffff::a.b.c.d, which is no IPv6 peer's: all of
 *                          ff00::/8 is multicast (RFC 4291, 2.7)
 *     ports                source 0, destination the flow's; of ICMP the type, and the code
 *     protocol             the flow's
 *
 * A rule's peer is a prefix of the source (the group alone, or with bits of the identity), its network one of the
 * destination: every algorithm of `acl/` can do that, for both families at once, and ten thousand rules of a
 * pod cost what the classifier's search costs. A question that finds no rule, or one that passes, is asked again in the
 * next group of its program, so a new flow costs one search a tier; packets of a known flow cost none.
 *
 * Rules about domain names stand in a group of their own beside their tier's, with the number of the pattern
 * (dns/patterns.ts) where others have an identity. A question about an address that has been learned is asked there once for
 * each of its patterns; of all rules that are found the first one decides.
 *
 * Programs are published whole: `add` writes a program's rules under groups that nobody asks yet and gives its
 * number; who wants it takes the number into use; `remove` takes the rules out when nobody asks any more.
 * Equal programs have one number and are counted.
 */
import type { Acl, AclPrefix, AclReader, AclRule, AclWriter } from '../acl/acl.ts'
import { MAX_PRIORITY, MAX_RULE_ID } from '../acl/acl.ts'
import type { PatternReader, PatternWriter } from '../dns/patterns.ts'
import { PATTERNS_OF_ADDRESS } from '../limits.ts'
import {
  type IdentityPrefix,
  type Match,
  type Program,
  type Rule,
  type Tier,
  VERDICT,
  type Verdict,
} from '../policy-program.ts'

/** Words of a question, as `AclReader.classify` takes them. */
export const QUESTION_WORDS = 10

/** Word 0 of an IPv4 peer's address in a question. */
export const IPV4_PEER = 0xffff_ffff

/** Groups of one program, at most: its tiers. */
export const MAX_TIERS = 8

/** A tier that says nothing. */
const NO_RULES: Tier = { rules: [], otherwise: VERDICT.PASS, origin: -1 }

export interface PolicyLimits {
  /** Matches of all programs, 1 .. MAX_RULE_ID; as many tiers fit. */
  readonly matches: number
}

/** Places of the facts of a group in `PolicyFacts.groups`. */
export const GROUP = {
  NEXT: 0,
  OTHERWISE: 1,
  ORIGIN: 2,
  STAGED: 3,
  DOMAINS: 4,
  NAMED: 5,
  WORDS: 6,
} as const

/** What a rule or a group means: read by `PolicyReader`, written by `PolicyTables`. */
export interface PolicyFacts {
  /** By rule id: verdict. */
  readonly verdicts: Uint8Array
  /** By rule id: 1 where what it decides is told of. */
  readonly logs: Uint8Array
  /** By rule id: origin. */
  readonly origins: Int32Array
  /** By rule id: its place among the rules of its tier, the first is 0. */
  readonly priorities: Uint16Array
  /** By group, GROUP.WORDS each: the next group (0: none), verdict when no rule matches, its origin; of a program's first one: the first of the tiers that are only tried (0: none); the group of its rules about domain names (0: it has none); of a program's first one: 1 when any of its tiers has some. */
  readonly groups: Int32Array
}

export function policyFacts({ matches }: PolicyLimits): PolicyFacts {
  const groups = matches + 1
  return {
    verdicts: new Uint8Array(new SharedArrayBuffer(matches + 1)),
    logs: new Uint8Array(new SharedArrayBuffer(matches + 1)),
    origins: new Int32Array(new SharedArrayBuffer((matches + 1) * 4)),
    priorities: new Uint16Array(new SharedArrayBuffer((matches + 1) * 2)),
    groups: new Int32Array(new SharedArrayBuffer(groups * GROUP.WORDS * 4)),
  }
}

interface Kept {
  program: Program
  number: number
  uses: number
  text: string
  groups: number[]
  ids: number[]
  patterns: number[]
  distrusted: boolean
}

/** The writer's end; one thread. */
export class PolicyTables {
  private readonly writer: AclWriter
  private readonly facts: PolicyFacts
  private readonly limits: PolicyLimits
  /** Absent: no name is ever learned, and rules about them match nothing. */
  private readonly patterns: PatternWriter | undefined
  private readonly freeIds: number[] = []
  private readonly freeGroups: number[] = []
  private nextId = 1
  private nextGroup = 1
  private readonly byText = new Map<string, Kept>()
  /** The same by object: pods of one kind are given the same one again and again. */
  private readonly byObject = new WeakMap<Program, Kept>()
  private readonly byNumber = new Map<number, Kept>()

  constructor(
    writer: AclWriter,
    facts: PolicyFacts,
    limits: PolicyLimits,
    patterns: PatternWriter | undefined,
  ) {
    this.writer = writer
    this.patterns = patterns
    this.facts = facts
    this.limits = limits
  }

  /** Matches that are in it. */
  get size(): number {
    return this.writer.size
  }

  /**
   * Takes a program in, and returns its number: the first of its groups, 0 for one without tiers. Throws RangeError
   * with the limit's name, and nothing has changed, when there is no room. Readers see it after `commit`.
   */
  add(program: Program): number {
    if (program.tiers.length === 0 && program.staged === undefined) return 0
    const same = this.byObject.get(program)
    if (same !== undefined && same.uses > 0 && !same.distrusted) {
      same.uses++
      return same.number
    }
    const text = JSON.stringify(program)
    const known = this.byText.get(text)
    if (known !== undefined) known.uses++
    const kept = known ?? this.write(program, text)
    this.byText.set(text, kept)
    this.byNumber.set(kept.number, kept)
    this.byObject.set(program, kept)
    return kept.number
  }

  /** Gives one use of a program back; when it was the last, its rules go. Unknown numbers are a bug of the caller's. */
  remove(number: number): void {
    if (number === 0) return
    const kept = this.byNumber.get(number)
    if (kept === undefined) throw new RangeError(`policy program ${number}: it is not there`)
    if (--kept.uses > 0) return
    if (this.byText.get(kept.text) === kept) this.byText.delete(kept.text)
    this.byNumber.delete(number)
    this.takeOut(kept)
  }

  /** All that are in it, by their numbers. */
  *programs(): Generator<[number, Program]> {
    for (const [number, { program }] of this.byNumber) yield [number, program]
  }

  /** What is in the tables of a program is not to be believed: whoever adds it from now on gets another number, and new rules. */
  distrust(number: number): void {
    const kept = this.byNumber.get(number)
    if (kept === undefined) return
    kept.distrusted = true
    if (this.byText.get(kept.text) === kept) this.byText.delete(kept.text)
  }

  /** As `AclWriter.commit`. */
  commit(): Promise<void> {
    return this.writer.commit()
  }

  /** As `AclWriter.quiesced`. */
  quiesced(): void {
    this.writer.quiesced()
    this.patterns?.quiesced()
  }

  private write(program: Program, text: string): Kept {
    const { tiers: enforced, staged } = program
    // Each list needs a first group: the one has the number of the other's, which stands for all of it.
    const first = enforced.length > 0 ? enforced : [NO_RULES]
    const tried = staged?.length === 0 ? [NO_RULES] : (staged ?? [])
    const tiers = [...first, ...tried]
    const wanted = tiers.reduce(
      (sum, { rules }) =>
        rules
          .flatMap(({ matches }) => matches)
          .reduce((n, m) => n + questionNetworks(m).length, sum),
      0,
    )
    const room = this.limits.matches - this.writer.size
    if (wanted > room) {
      throw new RangeError(
        `policy: ${wanted} more matches are needed, ${room} of ${this.limits.matches} are free (policy matches)`,
      )
    }
    const free = this.freeGroups.length + this.limits.matches + 1 - this.nextGroup
    const named = this.patterns === undefined ? [] : tiers.filter(hasDomains)
    const needed = tiers.length + named.length
    if (needed > free) {
      throw new RangeError(
        `policy: ${needed} more tiers are needed, ${free} of ${this.limits.matches} are free (policy matches)`,
      )
    }
    const most = Math.max(first.length, tried.length)
    if (most > MAX_TIERS) {
      throw new RangeError(`policy: ${most} tiers, more than ${MAX_TIERS} (MAX_TIERS)`)
    }
    if (tiers.some(({ rules }) => rules.length > MAX_PRIORITY)) {
      throw new RangeError(`policy: a tier of more than ${MAX_PRIORITY} rules (MAX_PRIORITY)`)
    }
    const groups = [...tiers, ...named].map(() => this.freeGroups.pop() ?? this.nextGroup++)
    const kept: Kept = {
      program,
      distrusted: false,
      number: groups[0]!,
      uses: 1,
      text,
      groups,
      ids: [],
      patterns: [],
    }
    try {
      tiers.forEach(({ rules, otherwise, origin }, t) => {
        const group = groups[t]!
        const at = group * GROUP.WORDS
        const isLast = t === first.length - 1 || t === tiers.length - 1
        this.facts.groups[at + GROUP.NEXT] = isLast ? 0 : groups[t + 1]!
        const isTried = t === 0 && tried.length > 0
        this.facts.groups[at + GROUP.STAGED] = isTried ? groups[first.length]! : 0
        this.facts.groups[at + GROUP.OTHERWISE] = otherwise
        this.facts.groups[at + GROUP.ORIGIN] = origin
        this.facts.groups[at + GROUP.NAMED] = t === 0 && named.length > 0 ? 1 : 0
        const domains = groups[tiers.length + named.indexOf(tiers[t]!)]!
        const its = named.includes(tiers[t]!) ? domains : 0
        this.facts.groups[at + GROUP.DOMAINS] = its
        for (const [priority, rule] of rules.entries()) {
          this.writeRule(kept, group, its, priority, rule)
        }
      })
    } catch (error) {
      this.takeOut(kept)
      throw error
    }
    return kept
  }

  private writeRule(
    kept: Kept,
    group: number,
    domains: number,
    priority: number,
    { verdict, origin, matches, log = false }: Rule,
  ): void {
    for (const match of matches) {
      if (match.domain !== undefined && this.patterns === undefined) continue
      const who =
        match.domain === undefined
          ? of(group, match.peer)
          : of(domains, this.pattern(kept, match.domain))
      for (const network of questionNetworks(match)) {
        const id = this.freeIds.pop() ?? this.nextId++
        kept.ids.push(id)
        this.facts.verdicts[id] = verdict
        this.facts.origins[id] = origin
        this.facts.logs[id] = log ? 1 : 0
        this.facts.priorities[id] = priority
        this.writer.insert(aclRule(id, priority, who, match, network))
      }
    }
  }

  private pattern(kept: Kept, domain: string): IdentityPrefix {
    const value = this.patterns!.take(domain)
    kept.patterns.push(value)
    return { value, bits: 32 }
  }

  private takeOut({ ids, groups, patterns }: Kept): void {
    for (const id of ids) this.writer.remove(id)
    for (const number of patterns) this.patterns!.release(number)
    this.freeIds.push(...ids)
    this.freeGroups.push(...groups)
  }
}

function hasDomains({ rules }: Tier): boolean {
  return rules.some(({ matches }) => matches.some(({ domain }) => domain !== undefined))
}

/** First byte of IPv6 multicast, where IPv4 peers stand in a question. */
const MULTICAST = 0xff

/** A match's network as prefixes of a question's destination; undefined: all of it. An IPv6 one leaves out IPv4. */
function questionNetworks({ network }: Match): (AclPrefix | undefined)[] {
  if (network === undefined) return [undefined]
  const { words, prefix } = network
  if (network.family === 4) {
    return [{ address: [IPV4_PEER, 0, 0, words[0]!], prefix: 96 + prefix }]
  }
  // No flow has a multicast peer.
  if (prefix >= 8 && words[0]! >>> 24 === MULTICAST) return []
  const holds = prefix < 8 && (words[0]! >>> 24) >> (8 - prefix) === MULTICAST >> (8 - prefix)
  if (!holds) return [{ address: words, prefix }]
  // What is left beside ff00::/8: at each longer length the half that multicast is not in.
  return Array.from({ length: 8 - prefix }, (_, n) => {
    const bits = prefix + n + 1
    const half = (MULTICAST >> (8 - bits)) ^ 1
    return { address: [(half << (32 - bits)) >>> 0, 0, 0, 0], prefix: bits }
  })
}

/** Of a group, what has this identity, or whose address is one of this pattern. */
function of(group: number, who: IdentityPrefix | undefined): AclPrefix {
  return { address: [group, who?.value ?? 0, 0, 0], prefix: 32 + (who?.bits ?? 0) }
}

function aclRule(
  id: number,
  priority: number,
  source: AclPrefix,
  { protocol, ports, icmp }: Match,
  network: AclPrefix | undefined,
): AclRule {
  return {
    id,
    priority,
    source,
    ...(network && { destination: network }),
    ...(protocol !== undefined && { protocol }),
    ...(ports && { destinationPorts: ports }),
    ...(icmp && { icmpType: icmp.type }),
    ...(icmp?.code !== undefined && { icmpCode: icmp.code }),
  }
}

/** Columns of questions, and of what was answered; made once by whoever asks. */
export class Questions {
  readonly most: number
  readonly programs: Uint32Array
  readonly identities: Uint32Array
  /** Four words each; IPv4: IPV4_PEER, 0, 0 and the address. */
  readonly addresses: Uint32Array
  /** Of the flow's destination; of ICMP type << 16 | code. */
  readonly ports: Uint32Array
  readonly protocols: Uint8Array
  /** Patterns that the address belongs to: how many, and PATTERNS_OF_ADDRESS places for each question. */
  readonly patternCounts: Uint8Array
  readonly patterns: Uint16Array
  /** VERDICT.ALLOW or VERDICT.DENY. */
  readonly verdicts: Uint8Array
  /** -1: nobody's. */
  readonly origins: Int32Array
  /** 1 where the rule that decided wants it told. */
  readonly logs: Uint8Array
  /** The same as policies that are only tried would have it; of a program without any as above. */
  readonly stagedVerdicts: Uint8Array
  readonly stagedOrigins: Int32Array

  constructor(most: number) {
    this.most = most
    this.programs = new Uint32Array(most)
    this.identities = new Uint32Array(most)
    this.addresses = new Uint32Array(most * 4)
    this.ports = new Uint32Array(most)
    this.protocols = new Uint8Array(most)
    this.patternCounts = new Uint8Array(most)
    this.patterns = new Uint16Array(most * PATTERNS_OF_ADDRESS)
    this.verdicts = new Uint8Array(most)
    this.origins = new Int32Array(most)
    this.logs = new Uint8Array(most)
    this.stagedVerdicts = new Uint8Array(most)
    this.stagedOrigins = new Int32Array(most)
  }

  /** The address of question `q` belongs to these patterns. */
  setPatterns(q: number, { found, count }: Pick<PatternReader, 'found' | 'count'>): void {
    this.patternCounts[q] = count
    for (let k = 0; k < count; k++) this.patterns[q * PATTERNS_OF_ADDRESS + k] = found[k]!
  }
}

/** A worker's end. Allocates nothing after it was made. */
export class PolicyReader {
  private readonly reader: AclReader
  private readonly facts: PolicyFacts
  private readonly headers: Uint32Array
  private readonly answers: Uint16Array
  /** Which question stands in which row, and the group that it is asked in. */
  private readonly rows: Uint16Array
  private readonly groups: Uint32Array
  /** The same for the patterns of one question. */
  private readonly namedHeaders = new Uint32Array(PATTERNS_OF_ADDRESS * QUESTION_WORDS)
  private readonly namedAnswers = new Uint16Array(PATTERNS_OF_ADDRESS)

  constructor(reader: AclReader, facts: PolicyFacts, most: number) {
    this.reader = reader
    this.facts = facts
    this.headers = new Uint32Array(most * QUESTION_WORDS)
    this.answers = new Uint16Array(most)
    this.rows = new Uint16Array(most)
    this.groups = new Uint32Array(most)
  }

  /** Whether a program has rules about domain names, so that it matters which an address belongs to. */
  asksNames(program: number): boolean {
    return program !== 0 && this.facts.groups[program * GROUP.WORDS + GROUP.NAMED] !== 0
  }

  /** Answers the first `n` questions. */
  judge(q: Questions, n: number): void {
    const { rows, groups, facts } = this
    let open = 0
    for (let i = 0; i < n; i++) {
      const group = q.programs[i]!
      q.verdicts[i] = VERDICT.ALLOW
      q.origins[i] = -1
      q.logs[i] = 0
      if (group === 0) continue
      rows[open] = i
      groups[open++] = group
    }
    this.answer(q, open, q.verdicts, q.origins, q.logs)
    open = 0
    for (let i = 0; i < n; i++) {
      q.stagedVerdicts[i] = q.verdicts[i]!
      q.stagedOrigins[i] = q.origins[i]!
      const group = q.programs[i]!
      const staged = group === 0 ? 0 : facts.groups[group * GROUP.WORDS + GROUP.STAGED]!
      if (staged === 0) continue
      rows[open] = i
      groups[open++] = staged
    }
    if (open > 0) this.answer(q, open, q.stagedVerdicts, q.stagedOrigins, undefined)
  }

  /** Asks the first `open` of `rows` in their groups, and on in the next ones, until each has its answer. */
  private answer(
    q: Questions,
    open: number,
    verdicts: Uint8Array,
    origins: Int32Array,
    logs: Uint8Array | undefined,
  ): void {
    const { headers, answers, rows, groups, facts } = this
    while (open > 0) {
      for (let r = 0; r < open; r++) {
        const i = rows[r]!
        this.ask(headers, q, i, groups[r]!, q.identities[i]!, r * QUESTION_WORDS)
      }
      this.reader.classify(headers, open, answers)
      for (let r = 0; r < open; r++) {
        if (q.patternCounts[rows[r]!] === 0) continue
        const group = facts.groups[groups[r]! * GROUP.WORDS + GROUP.DOMAINS]!
        if (group !== 0) answers[r] = this.byName(q, rows[r]!, group, answers[r]!)
      }
      let left = 0
      for (let r = 0; r < open; r++) {
        const i = rows[r]!
        const rule = answers[r]!
        const at = groups[r]! * GROUP.WORDS
        const verdict = rule === 0 ? facts.groups[at + GROUP.OTHERWISE]! : facts.verdicts[rule]!
        const next = facts.groups[at + GROUP.NEXT]!
        if (verdict === VERDICT.PASS && next !== 0) {
          rows[left] = i
          groups[left++] = next
          continue
        }
        verdicts[i] = verdict === VERDICT.PASS ? VERDICT.ALLOW : (verdict as Verdict)
        if (logs !== undefined) logs[i] = rule === 0 ? 0 : facts.logs[rule]!
        origins[i] =
          verdict === VERDICT.PASS
            ? -1
            : rule === 0
              ? facts.groups[at + GROUP.ORIGIN]!
              : facts.origins[rule]!
      }
      open = left
    }
  }

  /** The rule that decides question `i`: `rule` (0: none), or one about a name that stands before it. */
  private byName(q: Questions, i: number, group: number, rule: number): number {
    const { namedHeaders, namedAnswers, facts } = this
    const count = q.patternCounts[i]!
    for (let k = 0; k < count; k++) {
      const pattern = q.patterns[i * PATTERNS_OF_ADDRESS + k]!
      this.ask(namedHeaders, q, i, group, pattern, k * QUESTION_WORDS)
    }
    this.reader.classify(namedHeaders, count, namedAnswers)
    let first = rule
    for (let k = 0; k < count; k++) {
      const found = namedAnswers[k]!
      if (found === 0) continue
      if (first === 0 || facts.priorities[found]! < facts.priorities[first]!) first = found
    }
    return first
  }

  private ask(
    headers: Uint32Array,
    q: Questions,
    i: number,
    group: number,
    who: number,
    at: number,
  ): void {
    headers[at] = group
    headers[at + 1] = who
    headers[at + 2] = 0
    headers[at + 3] = 0
    for (let w = 0; w < 4; w++) headers[at + 4 + w] = q.addresses[i * 4 + w]!
    headers[at + 8] = q.ports[i]!
    headers[at + 9] = q.protocols[i]!
  }
}

/** Regions of one classifier for policies: `acl` is one of IPv6. Throws RangeError for limits out of range. */
export function policyTables(
  acl: Acl,
  memory: Uint8Array,
  limits: PolicyLimits,
  facts: PolicyFacts,
  patterns?: PatternWriter,
) {
  if (limits.matches > MAX_RULE_ID) {
    throw new RangeError(
      `policy matches: ${limits.matches}, more than ${MAX_RULE_ID} (MAX_RULE_ID)`,
    )
  }
  return new PolicyTables(acl.writer(memory, { rules: limits.matches }), facts, limits, patterns)
}
