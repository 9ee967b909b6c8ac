/**
 * What becomes of fragments: only the first one has ports, the others follow its verdict. A bounded cache from
 * (addresses, protocol, network, identification) to it; one place a hash, the newest stays. A fragment that comes
 * before its first one, or after FRAGMENT_TICKS, or that overlaps it, is dropped: nothing passes that nobody has judged, or
 * that could take the place of what was (RFC 1858, RFC 5722).
 */

/** Places; a power of two. */
const PLACES = 1024
/** Ticks (seconds) that a verdict is good for: as long as receivers wait for fragments (RFC 8200 section 4.5). */
const FRAGMENT_TICKS = 60

export const FRAGMENT = { UNKNOWN: 0, ALLOWED: 1, DENIED: 2 } as const

/** Words of an entry: addresses 8, identification, protocol and network, verdict | end << 8, tick. */
const WORDS = 12

/** Allocates nothing after it was made. */
export class Fragments {
  private readonly entries = new Uint32Array(PLACES * WORDS)
  /** The key that `remember` and `verdict` are for: source and destination (IPv4: words 3 and 7), identification, protocol | network << 8 | family << 16. */
  readonly key = new Uint32Array(10)

  /** `end`: bytes of the first fragment behind its headers, where the next one may begin. */
  remember(allowed: boolean, end: number, tick: number): void {
    const { entries, key } = this
    const at = this.place()
    for (let w = 0; w < 10; w++) entries[at + w] = key[w]!
    entries[at + 10] = (allowed ? FRAGMENT.ALLOWED : FRAGMENT.DENIED) | (end << 8)
    entries[at + 11] = tick
  }

  /** Of the fragment that begins at byte `offset`; FRAGMENT.UNKNOWN when its first one has not come by. */
  verdict(offset: number, tick: number): number {
    const { entries, key } = this
    const at = this.place()
    for (let w = 0; w < 10; w++) if (entries[at + w] !== key[w]) return FRAGMENT.UNKNOWN
    if (((tick - entries[at + 11]!) & 0xffff) > FRAGMENT_TICKS) return FRAGMENT.UNKNOWN
    const known = entries[at + 10]!
    return offset < known >>> 8 ? FRAGMENT.DENIED : known & 255
  }

  private place(): number {
    const { key } = this
    let hash = 0
    for (let w = 0; w < 10; w++) hash = Math.imul((hash ^ key[w]!) + w, 0x9e37_79b1)
    hash ^= hash >>> 15
    return (hash & (PLACES - 1)) * WORDS
  }
}
