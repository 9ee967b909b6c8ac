/**
 * DNS messages (RFC 1035 section 4), read where they lie. Every byte is a stranger's: each name is followed at most
 * MAX_NAME_BYTES bytes and only backwards, each record lies inside of the message, and there is a bound for how many.
 *
 * Of an answer there is what the question was, and the addresses of the asked type that it has for that name: those that
 * stand at the name itself, or at the end of the CNAMEs that lead from it (in whatever order they stand). Anything else in
 * a message, other names, other sections, is nobody's word.
 *
 * Allocates nothing after it was made.
 */
import { MAX_NAME_BYTES } from './names.ts'

/** Records of the answer section that are read; of a message with more nothing is. */
export const MAX_RECORDS = 128
/** CNAMEs between the name that was asked and addresses. */
export const MAX_CNAMES = 8

export const TYPE = { A: 1, CNAME: 5, AAAA: 28 } as const
const CLASS_IN = 1
const HEADER = 12
/** Of the second header word: QR; OPCODE; RCODE. */
const ANSWER = 0x8000
const OPCODE = 0x7800
const RCODE = 0x000f
/** Bytes of a record behind its name, and of a question's. */
const RECORD = 10
const QUESTION = 4

/** What became of a message. OTHER: it is well, and says nothing of addresses. */
export const READ = { OK: 0, OTHER: 1, MALFORMED: 2, MANY: 3 } as const
export type Read = (typeof READ)[keyof typeof READ]

/** First value of a name's hash. */
const HASH = 0x811c_9dc5

export class DnsMessage {
  id = 0
  /** TYPE.A or TYPE.AAAA. */
  type = 0
  /** The question as it was sent, case and all: where it lies, and its bytes. */
  questionAt = 0
  questionBytes = 0
  /** The name that was asked, in canonical bytes. */
  readonly name = new Uint8Array(MAX_NAME_BYTES)
  nameBytes = 0
  /** Addresses of an answer: four words each, the most significant first; of an A in the last. */
  count = 0
  readonly addresses = new Uint32Array(MAX_RECORDS * 4)
  /** Seconds. */
  readonly ttls = new Uint32Array(MAX_RECORDS)

  private view: DataView = new DataView(new ArrayBuffer(0))
  private start = 0
  private end = 0
  /** Of the name that was read last: where the message goes on; its bytes in canonical form, and their hash. */
  private after = 0
  private hash = 0
  private readonly scratch = new Uint8Array(MAX_NAME_BYTES)
  private scratchBytes = 0
  /** By record: where its name is and its hash, its type, where its data are, their length, TTL. */
  private readonly owners = new Uint32Array(MAX_RECORDS)
  private readonly hashes = new Uint32Array(MAX_RECORDS)
  private readonly types = new Uint16Array(MAX_RECORDS)
  private readonly data = new Uint32Array(MAX_RECORDS)
  private readonly lives = new Uint32Array(MAX_RECORDS)
  private records = 0
  /** The name at which addresses are looked for. */
  private readonly target = new Uint8Array(MAX_NAME_BYTES)
  private targetBytes = 0

  /** Reads a question of one name for its addresses, `length` bytes at `view[at]`. */
  readQuestion(view: DataView, at: number, length: number): Read {
    this.view = view
    if (!this.begin(at, length)) return READ.MALFORMED
    if ((view.getUint16(at + 2) & (ANSWER | OPCODE)) !== 0) return READ.OTHER
    return this.question()
  }

  /** Reads an answer. After OK there are `count` addresses, one at the least. */
  readAnswer(view: DataView, at: number, length: number): Read {
    this.view = view
    this.count = 0
    if (!this.begin(at, length)) return READ.MALFORMED
    const flags = view.getUint16(at + 2)
    if ((flags & (ANSWER | OPCODE)) !== ANSWER || (flags & RCODE) !== 0) return READ.OTHER
    const asked = this.question()
    if (asked !== READ.OK) return asked
    const read = this.answers(view.getUint16(at + 6))
    return read === READ.OK ? this.follow() : read
  }

  private begin(at: number, length: number): boolean {
    this.start = at
    this.end = at + length
    if (length < HEADER) return false
    this.id = this.view.getUint16(at)
    return true
  }

  /** The question section, which has one question, and no pointers: nothing stands in front of it. */
  private question(): Read {
    const { view, start, name } = this
    if (view.getUint16(start + 4) !== 1) return READ.OTHER
    this.questionAt = start + HEADER
    if (!this.readName(this.questionAt)) return READ.MALFORMED
    // A name that was read straight on has its bytes and the root's.
    if (this.after - this.questionAt !== this.scratchBytes + 1) return READ.MALFORMED
    if (this.after + QUESTION > this.end) return READ.MALFORMED
    this.questionBytes = this.after + QUESTION - this.questionAt
    this.nameBytes = this.scratchBytes
    name.set(this.scratch)
    this.type = view.getUint16(this.after)
    if (view.getUint16(this.after + 2) !== CLASS_IN) return READ.OTHER
    if (this.nameBytes === 0) return READ.OTHER
    return this.type === TYPE.A || this.type === TYPE.AAAA ? READ.OK : READ.OTHER
  }

  private answers(count: number): Read {
    const { view } = this
    if (count > MAX_RECORDS) return READ.MANY
    let at = this.questionAt + this.questionBytes
    for (let r = 0; r < count; r++) {
      if (!this.readName(at) || this.after + RECORD > this.end) return READ.MALFORMED
      const type = view.getUint16(this.after)
      const length = view.getUint16(this.after + 8)
      const data = this.after + RECORD
      if (data + length > this.end) return READ.MALFORMED
      this.owners[r] = at
      this.hashes[r] = this.hash
      this.types[r] = view.getUint16(this.after + 2) === CLASS_IN ? type : 0
      this.lives[r] = view.getUint32(this.after + 4)
      this.data[r] = data
      if (this.types[r] === TYPE.A && length !== 4) return READ.MALFORMED
      if (this.types[r] === TYPE.AAAA && length !== 16) return READ.MALFORMED
      if (this.types[r] === TYPE.CNAME && !(this.readName(data) && this.after === data + length)) {
        return READ.MALFORMED
      }
      at = data + length
    }
    this.records = count
    return READ.OK
  }

  /** Goes along the CNAMEs, and takes the addresses at their end. */
  private follow(): Read {
    const { view, types, data } = this
    this.target.set(this.name)
    this.targetBytes = this.nameBytes
    let hash = this.hashOf(this.name, this.nameBytes)
    let ttl = 0xffff_ffff
    for (let hops = 0; ; hops++) {
      const r = this.cname(hash)
      if (r < 0) break
      if (hops === MAX_CNAMES) return READ.MANY
      this.readName(data[r]!)
      this.target.set(this.scratch)
      this.targetBytes = this.scratchBytes
      hash = this.hash
      ttl = Math.min(ttl, lifeOf(this.lives[r]!))
    }
    for (let r = 0; r < this.records; r++) {
      if (types[r] !== this.type || !this.isTarget(r, hash)) continue
      const at = this.count * 4
      for (let w = 0; w < 4; w++) {
        this.addresses[at + w] =
          this.type === TYPE.AAAA
            ? view.getUint32(data[r]! + w * 4)
            : w === 3
              ? view.getUint32(data[r]!)
              : 0
      }
      this.ttls[this.count++] = Math.min(ttl, lifeOf(this.lives[r]!))
    }
    return this.count > 0 ? READ.OK : READ.OTHER
  }

  /** The CNAME record at the target; below 0: there is none. */
  private cname(hash: number): number {
    for (let r = 0; r < this.records; r++) {
      if (this.types[r] === TYPE.CNAME && this.isTarget(r, hash)) return r
    }
    return -1
  }

  private isTarget(r: number, hash: number): boolean {
    if (this.hashes[r] !== hash) return false
    this.readName(this.owners[r]!)
    if (this.scratchBytes !== this.targetBytes) return false
    for (let k = 0; k < this.targetBytes; k++) {
      if (this.scratch[k] !== this.target[k]) return false
    }
    return true
  }

  /** Reads the name at `at` into `scratch`. A pointer leads to before where its part of the name began (RFC 1035 section 4.1.4). */
  private readName(at: number): boolean {
    const { view, start, end, scratch } = this
    let bytes = 0
    let hash = HASH
    let from = at
    let part = at
    this.after = 0
    for (;;) {
      if (from >= end) return false
      const length = view.getUint8(from)
      if (length >= 0xc0) {
        if (from + 2 > end) return false
        if (this.after === 0) this.after = from + 2
        const to = start + (view.getUint16(from) & 0x3fff)
        if (to >= part || to < start + HEADER) return false
        from = to
        part = to
        continue
      }
      // 01 and 10 are no kinds of labels that anybody has (RFC 6891 section 5).
      if (length >= 0x40) return false
      if (length === 0) {
        if (this.after === 0) this.after = from + 1
        this.scratchBytes = bytes
        this.hash = hash >>> 0
        return true
      }
      if (from + 1 + length > end || bytes + 1 + length >= MAX_NAME_BYTES) return false
      for (let k = 0; k <= length; k++) {
        const byte = view.getUint8(from + k)
        const folded = k > 0 && byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte
        scratch[bytes++] = folded
        hash = Math.imul(hash ^ folded, 0x0100_0193)
      }
      from += 1 + length
    }
  }

  private hashOf(name: Uint8Array, bytes: number): number {
    let hash = HASH
    for (let k = 0; k < bytes; k++) hash = Math.imul(hash ^ name[k]!, 0x0100_0193)
    return hash >>> 0
  }
}

/** RFC 2181 section 8: a TTL with its first bit set is 0. */
function lifeOf(ttl: number): number {
  return ttl > 0x7fff_ffff ? 0 : ttl
}
