/**
 * An oracle for many addresses: the routes of one moment as ranges of the address space, made by one
 * sweep over all of them, and a binary search for each address. It shares nothing with a FIB, knows
 * no changes, and costs about as much as one lookup in a good one.
 */

/** Routes in flat columns, one word an address (IPv4) or four; no prefix twice. */
export interface Routes {
  count: number
  addresses: Uint32Array
  lengths: ArrayLike<number>
  nextHops: ArrayLike<number>
}

/** The right next hops of addresses that lie behind each other. */
export type Answers = (addresses: Uint32Array) => Uint16Array

export function rangeOracle(words: 1 | 4, routes: Routes): Answers {
  const { count, addresses, lengths, nextHops } = routes
  /** Where ranges begin, ascending, and their next hops. The first one begins at zero. */
  const starts = new Uint32Array(words * (2 * count + 2))
  const hops = new Uint16Array(2 * count + 2)
  let ranges = 1

  /** Order of two addresses in arrays. */
  function order(a: Uint32Array, i: number, b: Uint32Array, j: number): number {
    for (let w = 0; w < words; w++) {
      const left = a[i + w]!
      const right = b[j + w]!
      if (left !== right) return left < right ? -1 : 1
    }
    return 0
  }

  /** From this address on, another next hop; a range of no address is overwritten. */
  function begin(address: Uint32Array, at: number, nextHop: number): void {
    if (order(starts, words * (ranges - 1), address, at) !== 0) ranges++
    for (let w = 0; w < words; w++) starts[words * (ranges - 1) + w] = address[at + w]!
    hops[ranges - 1] = nextHop
  }

  const sorted = Uint32Array.from({ length: count }, (_, i) => i).sort(
    (i, j) => order(addresses, words * i, addresses, words * j) || lengths[i]! - lengths[j]!,
  )
  /** The routes around the present place, the longest one last, and the addresses behind them. */
  const around: number[] = []
  const behind: (Uint32Array | undefined)[] = []
  const leave = (reached: (end: Uint32Array) => boolean) => {
    for (let end = behind.at(-1); end !== undefined && reached(end); end = behind.at(-1)) {
      around.pop()
      behind.pop()
      begin(end, 0, around.length > 0 ? nextHops[around.at(-1)!]! : 0)
    }
  }
  for (const i of sorted) {
    leave(end => order(end, 0, addresses, words * i) <= 0)
    begin(addresses, words * i, nextHops[i]!)
    around.push(i)
    behind.push(endOf(addresses, words, words * i, lengths[i]!))
  }
  leave(() => true)

  return probes => {
    const found = new Uint16Array(probes.length / words)
    for (let i = 0; i < found.length; i++) {
      let low = 0
      for (let high = ranges; high - low > 1; ) {
        const middle = (low + high) >>> 1
        if (order(starts, words * middle, probes, words * i) <= 0) low = middle
        else high = middle
      }
      found[i] = hops[low]!
    }
    return found
  }
}

/** The first address behind a prefix; undefined when there is none. */
function endOf(addresses: Uint32Array, words: number, at: number, prefix: number) {
  const end = addresses.slice(at, at + words)
  if (prefix === 0) return undefined
  const last = (prefix - 1) >>> 5
  let carry = 2 ** (31 - ((prefix - 1) & 31))
  for (let w = last; w >= 0 && carry > 0; w--) {
    const sum = end[w]! + carry
    end[w] = sum
    carry = sum >= 2 ** 32 ? 1 : 0
  }
  return carry === 0 ? end : undefined
}
