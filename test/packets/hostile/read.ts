/**
 * What a receiver makes of an IP packet: strict, and written without a word of the engine's. It walks a chain of
 * extension headers of any length, and takes a packet apart only as far as its lengths prove.
 */

export interface Seen {
  family: 4 | 6
  source: string
  destination: string
  /** Behind all extension headers. */
  protocol: number
  /** Absent: no fragment, or one that is the whole packet (RFC 6946). */
  fragment?: { key: string; offset: number; end: number; more: boolean }
  /** Of TCP, UDP, and SCTP, where they are in this packet. */
  ports?: { source: number; destination: number }
  /** Of ICMP and ICMPv6. */
  icmp?: { type: number; code: number; id: number; quoted: Uint8Array }
}

const EXTENSIONS = new Set([0, 43, 60, 51, 44])

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Throws Error for what no receiver would take. */
export function read(packet: Uint8Array, quoted = false): Seen {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const version = packet[0]! >> 4
  if (version === 4) return read4(packet, view, quoted)
  if (version === 6) return read6(packet, view, quoted)
  throw new Error(`IP version ${version}`)
}

function read4(packet: Uint8Array, view: DataView, quoted: boolean): Seen {
  const header = (packet[0]! & 15) * 4
  const total = view.getUint16(2)
  if (header < 20 || total < header) throw new Error('IPv4 header')
  if (!quoted && total !== packet.length) throw new Error('IPv4 length')
  const [source, destination] = [hex(packet.subarray(12, 16)), hex(packet.subarray(16, 20))]
  const word = view.getUint16(6)
  const offset = (word & 0x1fff) * 8
  const more = (word & 0x2000) !== 0
  const protocol = packet[9]!
  const seen: Seen = { family: 4, source, destination, protocol }
  if (offset > 0 || more) {
    const key = `4 ${source} ${destination} ${protocol} ${view.getUint16(4)}`
    seen.fragment = { key, offset, end: offset + total - header, more }
  }
  return offset > 0 ? seen : transport(seen, packet.subarray(header), 1)
}

function read6(packet: Uint8Array, view: DataView, quoted: boolean): Seen {
  if (packet.length < 40) throw new Error('IPv6 header')
  if (!quoted && 40 + view.getUint16(4) !== packet.length) throw new Error('IPv6 length')
  const [source, destination] = [hex(packet.subarray(8, 24)), hex(packet.subarray(24, 40))]
  const seen: Seen = { family: 6, source, destination, protocol: packet[6]! }
  let at = 40
  while (EXTENSIONS.has(seen.protocol)) {
    if (at + 8 > packet.length) throw new Error('IPv6 extension header')
    const kind = seen.protocol
    seen.protocol = packet[at]!
    if (kind === 44) {
      if (seen.fragment !== undefined) throw new Error('two fragment headers')
      const word = view.getUint16(at + 2)
      const offset = word & 0xfff8
      const more = (word & 1) !== 0
      at += 8
      if (offset === 0 && !more) continue
      const key = `6 ${source} ${destination} ${view.getUint32(at - 4)}`
      seen.fragment = { key, offset, end: offset + packet.length - at, more }
      if (offset > 0) return seen
    } else {
      if (kind === 43 && packet[at + 2] === 0 && packet[at + 3] !== 0) {
        throw new Error('routing header of type 0')
      }
      at += kind === 51 ? (packet[at + 1]! + 2) * 4 : (packet[at + 1]! + 1) * 8
    }
  }
  if (at > packet.length) throw new Error('IPv6 extension header')
  return transport(seen, packet.subarray(at), 58)
}

function transport(seen: Seen, segment: Uint8Array, icmp: number): Seen {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength)
  const { protocol } = seen
  if (protocol === 6 || protocol === 17 || protocol === 132) {
    if (segment.length < (protocol === 132 ? 4 : 8)) return seen
    seen.ports = { source: view.getUint16(0), destination: view.getUint16(2) }
  } else if (protocol === icmp) {
    if (segment.length < 8) return seen
    const [type, code, id] = [segment[0]!, segment[1]!, view.getUint16(4)]
    seen.icmp = { type, code, id, quoted: segment.subarray(8) }
  }
  return seen
}

/** Whether it is an error (RFC 792, RFC 4443). */
export function isError({ family, icmp }: Seen): boolean {
  if (icmp === undefined) return false
  return family === 6 ? icmp.type < 128 : [3, 4, 5, 11, 12].includes(icmp.type)
}
