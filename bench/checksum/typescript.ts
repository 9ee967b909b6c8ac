/** The Internet checksum as one writes it in TypeScript when it has to be fast: the native loops' peer. */

/** One's-complement sum (RFC 1071) of bytes [offset, offset + length) plus `seed`, as `native.checksum`. */
export type Sum = (offset: number, length: number, seed: number) => number

/** 32 bits at a time, as the values of the CPU's byte order. */
export function inTypeScript(bytes: Uint8Array): Sum {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  return (offset, length, seed) => {
    const end = offset + length
    const aligned = (offset & 3) === 0 ? end - (length & 3) : offset
    let low = 0
    let high = 0
    let i = offset >>> 2
    for (const last = aligned >>> 2; i < last; i++) {
      const word = words[i]!
      low += word & 0xffff
      high += word >>> 16
    }
    // Sums of 16-bit words do not care for the byte order until the end (RFC 1071, 2 B).
    const little = fold(low + high)
    let sum = fold(seed) + (((little & 0xff) << 8) | (little >>> 8))
    for (let at = aligned; at < end; at += 2) {
      sum += (bytes[at]! << 8) | (at + 1 < end ? bytes[at + 1]! : 0)
    }
    return fold(sum)
  }
}

function fold(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = (folded % 0x1_0000) + Math.floor(folded / 0x1_0000)
  return folded
}
