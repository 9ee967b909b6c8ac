/** Reads capture files: classic pcap of either byte order, and of pcapng the blocks that carry packets. */

export interface CapturedPacket {
  /** LINKTYPE_* of libpcap. */
  linkType: number
  bytes: Uint8Array
}

const PCAP_MAGIC = [0xa1b2c3d4, 0xa1b23c4d]
const PCAPNG_SECTION = 0x0a0d0d0a
const PCAPNG_BYTE_ORDER = 0x1a2b3c4d
const PCAPNG_INTERFACE = 1
const PCAPNG_SIMPLE_PACKET = 3
const PCAPNG_PACKET = 6

/** The packets up to the end, or to the first record that is cut off. Throws for another format. */
export function readCapture(file: Uint8Array): CapturedPacket[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  const magic = view.getUint32(0)
  if (magic === PCAPNG_SECTION) return readPcapng(file, view)
  for (const little of [false, true]) {
    if (PCAP_MAGIC.includes(view.getUint32(0, little))) return readPcap(file, view, little)
  }
  throw new RangeError(`no capture: it begins with 0x${magic.toString(16)}`)
}

function readPcap(file: Uint8Array, view: DataView, little: boolean): CapturedPacket[] {
  const packets: CapturedPacket[] = []
  // The high bits of the link type tell of frame check sequences.
  const linkType = view.getUint32(20, little) & 0xffff
  for (let at = 24; at + 16 <= file.length; ) {
    const length = view.getUint32(at + 8, little)
    if (at + 16 + length > file.length) break
    packets.push({ linkType, bytes: file.subarray(at + 16, at + 16 + length) })
    at += 16 + length
  }
  return packets
}

function readPcapng(file: Uint8Array, view: DataView): CapturedPacket[] {
  const packets: CapturedPacket[] = []
  let little = false
  let links: number[] = []
  for (let at = 0; at + 12 <= file.length; ) {
    if (view.getUint32(at) === PCAPNG_SECTION) {
      little = view.getUint32(at + 8, true) === PCAPNG_BYTE_ORDER
      links = []
    }
    const length = view.getUint32(at + 4, little)
    if (length < 12 || at + length > file.length) break
    const type = view.getUint32(at, little)
    if (type === PCAPNG_INTERFACE) links.push(view.getUint16(at + 8, little))
    if (type === PCAPNG_PACKET) {
      const linkType = links[view.getUint32(at + 8, little)] ?? -1
      const bytes = view.getUint32(at + 20, little)
      if (28 + bytes <= length)
        packets.push({ linkType, bytes: file.subarray(at + 28, at + 28 + bytes) })
    } else if (type === PCAPNG_SIMPLE_PACKET) {
      const bytes = Math.min(view.getUint32(at + 8, little), length - 16)
      packets.push({ linkType: links[0] ?? -1, bytes: file.subarray(at + 12, at + 12 + bytes) })
    }
    at += length
  }
  return packets
}
