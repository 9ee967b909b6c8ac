/** Memory that threads share, from a page boundary on. */
import { native } from '../../native/native.ts'

/**
 * `bytes` zeroed bytes of a SharedArrayBuffer of their own, at a multiple of `boundary` (a power of
 * two; a page when absent): the buffer itself is only 16-byte aligned.
 */
export function sharedPages(
  bytes: number,
  boundary = native.pageSize(),
): Uint8Array<SharedArrayBuffer> {
  const buffer = new SharedArrayBuffer(bytes + boundary)
  const past = Number(native.addressOf(new Uint8Array(buffer)) % BigInt(boundary))
  return new Uint8Array(buffer, past === 0 ? 0 : boundary - past, bytes)
}
