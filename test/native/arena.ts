/** An arena for tests of burst functions, bound to the calling thread, and its descriptors. */
import { native } from '../../native/native.ts'

export interface Descriptor {
  offset: number
  length: number
}

export class Arena {
  readonly bytes: Uint8Array
  readonly words: Uint32Array

  constructor(length: number) {
    const buffer = new SharedArrayBuffer(length)
    this.bytes = new Uint8Array(buffer)
    this.words = new Uint32Array(buffer)
    native.bind(this.bytes)
  }

  /** Writes u32 values at byte offset `at`; returns `at`. */
  put(at: number, values: number[]): number {
    this.words.set(values, at / 4)
    return at
  }

  putDescriptors(at: number, descriptors: Descriptor[]): number {
    return this.put(
      at,
      descriptors.flatMap(({ offset, length }) => [offset, length]),
    )
  }

  descriptors(at: number, count: number): Descriptor[] {
    return Array.from({ length: count }, (_, i) => ({
      offset: this.words[at / 4 + 2 * i]!,
      length: this.words[at / 4 + 2 * i + 1]!,
    }))
  }

  /** A copy of the bytes of one descriptor. */
  packet({ offset, length }: Descriptor): Buffer {
    return Buffer.from(this.bytes.slice(offset, offset + length))
  }
}
