/**
 * The Internet checksum in TypeScript (RFC 1071); `native.checksum` is its twin over the arena.
 *
 * A *sum* is the one's-complement sum of 16-bit big-endian words, folded to 16 bits and not
 * inverted. A *checksum* is the complement of a sum: what stands in a header. Sums may be seeds of
 * further sums, so a transport checksum is `checksumOf(sum(view, at, length, pseudo))` with `pseudo`
 * from `ipv4.pseudoHeader` or `ipv6.pseudoHeader`.
 */

/** Folds any sum of 16-bit words, up to 2^53, to 16 bits. */
export function fold(total: number): number {
  while (total > 0xffff) total = Math.floor(total / 0x1_0000) + (total % 0x1_0000)
  return total
}

/** Sum of `length` bytes from `at` on, plus `seed`. An odd last byte is padded with zero. */
export function sum(view: DataView, at: number, length: number, seed = 0): number {
  const even = at + (length & ~1)
  let total = seed
  for (let i = at; i < even; i += 2) total += view.getUint16(i)
  if ((length & 1) !== 0) total += view.getUint8(even) << 8
  return fold(total)
}

/** The checksum that belongs into a header field for a sum over everything with that field zero. */
export function checksumOf(total: number): number {
  return ~fold(total) & 0xffff
}

/** As `checksumOf`, for UDP: zero would say "no checksum" and is sent as all ones (RFC 768). */
export function udpChecksumOf(total: number): number {
  return checksumOf(total) || 0xffff
}

/**
 * The checksum after one 16-bit word under it went from `before` to `after` (RFC 1624 equation 3;
 * unlike RFC 1141's it is right at the corner where the sum is zero).
 */
export function update(checksum: number, before: number, after: number): number {
  return checksumOf((~checksum & 0xffff) + (~before & 0xffff) + after)
}

/** As `update`, for a 32-bit word (an IPv4 address, a sequence number) at an even offset. */
export function update32(checksum: number, before: number, after: number): number {
  const high = update(checksum, before >>> 16, after >>> 16)
  return update(high, before & 0xffff, after & 0xffff)
}
