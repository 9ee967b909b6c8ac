/**
 * Capture files: classic pcap is written and read, pcapng only read (section header, interface
 * descriptions, enhanced and simple packets). What is cut off at the end of a file is left out.
 */

/** Link types of libpcap. */
export const LINKTYPE_ETHERNET = 1
export const LINKTYPE_RAW = 101
/** Free for private use: here a 10-byte struct virtio_net_hdr in front of an IP packet, of a frame. */
export const LINKTYPE_USER0 = 147
export const LINKTYPE_USER1 = 148

export interface Capture {
  linkType: number
  /** Microseconds. */
  time: number
  bytes: Uint8Array
}

/** The packets of a file, whichever of the two formats it has. Throws RangeError for anything else. */
export function readCaptures(file: Uint8Array): Capture[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  if (file.length < 24) throw new RangeError('shorter than the header of a capture file')
  if (view.getUint32(0) === 0x0a0d0d0a) return readBlocks(file, view)
  for (const little of [true, false]) {
    const magic = view.getUint32(0, little)
    if (magic === 0xa1b2c3d4 || magic === 0xa1b23c4d) {
      return readRecords(file, view, little, magic === 0xa1b23c4d ? 1000 : 1)
    }
  }
  throw new RangeError('neither pcap nor pcapng')
}

function readRecords(file: Uint8Array, view: DataView, little: boolean, unit: number): Capture[] {
  const linkType = view.getUint32(20, little) & 0xffff
  const found: Capture[] = []
  for (let at = 24; at + 16 <= file.length; ) {
    const length = view.getUint32(at + 8, little)
    if (at + 16 + length > file.length) break
    const time = view.getUint32(at, little) * 1e6 + view.getUint32(at + 4, little) / unit
    found.push({ linkType, time, bytes: file.slice(at + 16, at + 16 + length) })
    at += 16 + length
  }
  return found
}

function readBlocks(file: Uint8Array, view: DataView): Capture[] {
  const little = view.getUint32(8, true) === 0x1a2b3c4d
  const linkTypes: number[] = []
  const found: Capture[] = []
  for (let at = 0; at + 12 <= file.length; ) {
    const type = view.getUint32(at, little)
    const length = view.getUint32(at + 4, little)
    if (length < 12 || at + length > file.length) break
    const add = (linkType: number, from: number, bytes: number) => {
      if (from + bytes > at + length) return
      found.push({ linkType, time: found.length, bytes: file.slice(from, from + bytes) })
    }
    if (type === 1) linkTypes.push(view.getUint16(at + 8, little))
    else if (type === 3) {
      add(linkTypes[0] ?? 0, at + 12, Math.min(view.getUint32(at + 8, little), length - 16))
    } else if (type === 6 && length >= 32) {
      const linkType = linkTypes[view.getUint32(at + 8, little)] ?? 0
      add(linkType, at + 28, view.getUint32(at + 20, little))
    }
    at += length
  }
  return found
}

/** A classic pcap file, little-endian, microseconds. */
export function writeCaptures(
  linkType: number,
  packets: readonly { time: number; bytes: Uint8Array }[],
): Uint8Array {
  const head = Buffer.alloc(24)
  head.writeUInt32LE(0xa1b2c3d4, 0)
  head.writeUInt16LE(2, 4)
  head.writeUInt16LE(4, 6)
  head.writeUInt32LE(262_144, 16)
  head.writeUInt32LE(linkType, 20)
  const parts: Uint8Array[] = [head]
  for (const { time, bytes } of packets) {
    const record = Buffer.alloc(16)
    record.writeUInt32LE(Math.floor(time / 1e6), 0)
    record.writeUInt32LE(time % 1e6, 4)
    record.writeUInt32LE(bytes.length, 8)
    record.writeUInt32LE(bytes.length, 12)
    parts.push(record, bytes)
  }
  return new Uint8Array(Buffer.concat(parts))
}
