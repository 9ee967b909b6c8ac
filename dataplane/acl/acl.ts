/**
 * Packet classification: the interface of every ACL. An ACL answers a packet's header with the rule
 * that decides about it: of all rules that match, the one of the smallest `priority`, and among
 * those of the same priority the one of the smallest `id`. What a rule means is the caller's matter.
 *
 * Storage is one region that the main thread and all workers share. There is **one writer** (the
 * main thread) and any number of **readers** (one a worker), which take no lock: a classification
 * that runs beside changes answers as the rules were at some moment between its beginning and its
 * end. Changes become visible as `AclWriter.commit` says. What a change frees is used again after
 * `quiesced`, or earlier where the algorithm itself makes sure that no reader takes an answer from it.
 *
 * A header is HEADER_WORDS[family] 32-bit words, behind each other:
 *
 *     IPv4   IPv6    what
 *     0      0-3     source address, host order, the most significant word first
 *     1      4-7     destination address
 *     2      8       source port << 16 | destination port; ICMP and ICMPv6: type << 16 | code;
 *                    protocols without ports: 0
 *     3      9       protocol (IPv6: of the upper layer), 0 .. 255; higher bits are zero
 */

/** 32-bit words of a header, by family. */
export const HEADER_WORDS = { 4: 4, 6: 10 } as const

/** Rule ids are 1 .. MAX_RULE_ID; 0 in an answer means that no rule matches. */
export const MAX_RULE_ID = 0xffff

/** Priorities are 0 .. MAX_PRIORITY; the smallest wins. */
export const MAX_PRIORITY = 0xffff

/** What an ACL must have room for; its memory is laid out for it. */
export interface AclLimits {
  /** Most rules, 1 .. MAX_RULE_ID. */
  readonly rules: number
}

export interface AclPrefix {
  /** One word (IPv4) or four (IPv6); bits behind `prefix` are zero. */
  readonly address: ArrayLike<number>
  /** Bits that count: 0 .. 32 or 0 .. 128. */
  readonly prefix: number
}

/** Both ends belong to it: 0 <= first <= last <= 65,535. */
export interface PortRange {
  readonly first: number
  readonly last: number
}

/** A field that is absent matches everything. */
export interface AclRule {
  /** 1 .. MAX_RULE_ID, one rule each. */
  readonly id: number
  /** 0 .. MAX_PRIORITY. */
  readonly priority: number
  readonly source?: AclPrefix
  readonly destination?: AclPrefix
  /** 0 .. 255, IANA's protocol numbers. */
  readonly protocol?: number
  /** Only with a protocol that has ports: TCP 6, UDP 17, DCCP 33, SCTP 132, UDP-Lite 136. */
  readonly sourcePorts?: PortRange
  readonly destinationPorts?: PortRange
  /** 0 .. 255; only with protocol 1, and in an ACL of IPv6 with 58 or 1 (whose headers may stand for IPv4's). */
  readonly icmpType?: number
  /** Only together with `icmpType`, 0 .. 255. */
  readonly icmpCode?: number
}

/** The main thread's end. Its own book-keeping lies outside the shared region. */
export interface AclWriter {
  /** Rules that are in it, those included that are not committed yet. */
  readonly size: number
  /**
   * Adds a rule, or replaces the one of the same id. Throws RangeError with the rule's id and the
   * field, and changes nothing, when a field is out of range, an address has bits behind its prefix,
   * a port range is backwards, ports or an ICMP type come without a protocol that has them, or a
   * limit is reached.
   */
  insert(rule: AclRule): void
  /** Takes a rule out; false when there is none of that id. */
  remove(id: number): boolean
  /** Every rule, in no special order, with equal meaning (absent fields stay absent). */
  rules(): Iterable<AclRule>
  /**
   * Resolves when readers see every change that was made before the call. An algorithm whose
   * `incremental` is true shows each change when `insert` or `remove` returns; another one builds
   * beside what readers use, in slices between which the main thread does other work, and publishes
   * the result at once. It builds where readers of the commit before last may still be: it waits for
   * the `quiesced` after the commit before, so never await two commits without one between them.
   * Rejects with RangeError, readers keep what they had and the changes stay
   * asked for, when the rules don't fit what `bytes` promised room for (the header comment of an
   * algorithm says when that can be).
   */
  commit(): Promise<void>
  /**
   * The caller's word that no reader is still inside a classification that began before the last
   * change became visible: memory that it freed may be used again.
   */
  quiesced(): void
}

/** A worker's end. */
export interface AclReader {
  /**
   * Classifies `n` headers (`headers[0 .. n * HEADER_WORDS)`) and writes a rule id for each.
   * Allocates nothing, throws nothing, whatever the headers are. The arrays are the caller's own,
   * not shared, and at least that long.
   */
  classify(headers: Uint32Array, n: number, rules: Uint16Array): void
}

/** An algorithm. */
export interface Acl {
  readonly name: string
  readonly family: 4 | 6
  /** Each change is visible when it returns; `commit` has nothing to do. */
  readonly incremental: boolean
  /** Bytes of the region that `writer` and `reader` are given. Throws RangeError for limits out of range. */
  bytes(limits: AclLimits): number
  /** An empty ACL in `memory` (zeroed, page aligned, `bytes(limits)` long at least). */
  writer(memory: Uint8Array, limits: AclLimits): AclWriter
  /** A reader of the ACL that a `writer` made in the same memory with the same limits. */
  reader(memory: Uint8Array, limits: AclLimits): AclReader
}
