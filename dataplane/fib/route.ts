/** What every FIB asks of a route before it takes it. */
import { wordsToIp } from '../addresses.ts'
import { type FibRoute, MAX_NEXT_HOP_ID } from './fib.ts'

/** The bits of word `w` that belong to a prefix of `prefix` bits, as an unsigned mask. */
export function wordMask(prefix: number, w: number): number {
  const bits = Math.min(32, Math.max(0, prefix - 32 * w))
  return bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0
}

/** Throws RangeError unless `address` has `words` 32-bit words, `prefix` fits and no bit behind it is set. */
export function checkPrefix(words: 1 | 4, address: ArrayLike<number>, prefix: number): void {
  if (address.length !== words) {
    throw new RangeError(
      `address of ${address.length} words: an IPv${family(words)} one has ${words}`,
    )
  }
  for (let w = 0; w < words; w++) {
    const word = address[w]!
    if (word >>> 0 !== word) throw new RangeError(`address word ${word} is not in 0..2^32-1`)
  }
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > 32 * words) {
    throw new RangeError(
      `prefix length ${prefix} of ${wordsToIp(address)} is not in 0..${32 * words}`,
    )
  }
  for (let w = 0; w < words; w++) {
    if ((address[w]! & ~wordMask(prefix, w)) !== 0) {
      throw new RangeError(`${wordsToIp(address)}/${prefix}: bits behind the prefix are set`)
    }
  }
}

/** `checkPrefix`, and the next hop. */
export function checkRoute(
  words: 1 | 4,
  address: ArrayLike<number>,
  prefix: number,
  nextHop: number,
): void {
  checkPrefix(words, address, prefix)
  if (!Number.isInteger(nextHop) || nextHop < 1 || nextHop > MAX_NEXT_HOP_ID) {
    throw new RangeError(
      `${wordsToIp(address)}/${prefix}: next hop ${nextHop} is not in 1..${MAX_NEXT_HOP_ID} (MAX_NEXT_HOP_ID)`,
    )
  }
}

/** Throws RangeError when `routes` is no number of routes. */
export function checkLimits({ routes }: { readonly routes: number }): void {
  if (!Number.isInteger(routes) || routes < 1 || routes > MAX_ROUTES) {
    throw new RangeError(`routes: ${routes} is not in 1..${MAX_ROUTES} (MAX_ROUTES)`)
  }
}

/** Most routes that `limits` may ask for; four times the Internet's. */
export const MAX_ROUTES = 1 << 22

/** The error of a FIB that has `routes` routes and was asked to take one more. */
export function full(address: ArrayLike<number>, prefix: number, routes: number): RangeError {
  return new RangeError(
    `no room for ${wordsToIp(address)}/${prefix}: the FIB has its ${routes} routes`,
  )
}

/** A route of these words. */
export function routeOf(address: readonly number[], prefix: number, nextHop: number): FibRoute {
  return { address: Uint32Array.from(address), prefix, nextHop }
}

function family(words: 1 | 4): 4 | 6 {
  return words === 1 ? 4 : 6
}
