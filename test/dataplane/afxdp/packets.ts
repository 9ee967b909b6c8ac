/** Packets of the tests in this folder, from 10.9.0.1 / fd09::1 to 10.9.0.2 / fd09::2 on the test link. */
const ETHERNET = Buffer.from('020900000002020900000001', 'hex')

/** RFC 1071 sum, folded, not inverted. */
export function sum(bytes: Uint8Array, seed = 0): number {
  let total = seed
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

export interface UdpOptions {
  port: number
  payload?: string
  /** Bytes of IPv4 options (a multiple of 4). */
  options?: number
  /** IPv4 flags and fragment offset. */
  fragment?: number
  /** IP protocol; 17 without it. */
  protocol?: number
  /** What the UDP checksum field holds: right, only the pseudo-header sum, or 0xdead. */
  checksum?: 'full' | 'pseudo' | 'wrong'
  /** Last byte of the destination address. */
  host?: number
}

export interface UdpPacket {
  bytes: Buffer
  /** Offset of the UDP header. */
  udp: number
}

function udp(pseudo: Buffer, options: UdpOptions): Buffer {
  const payload = Buffer.from(options.payload ?? 'payload')
  const segment = Buffer.alloc(8 + payload.length)
  segment.writeUInt16BE(40_000, 0)
  segment.writeUInt16BE(options.port, 2)
  segment.writeUInt16BE(segment.length, 4)
  payload.copy(segment, 8)
  const seed = sum(pseudo, segment.length + 17)
  const kind = options.checksum ?? 'full'
  const value = kind === 'full' ? ~sum(segment, seed) & 0xffff : kind === 'pseudo' ? seed : 0xdead
  segment.writeUInt16BE(value, 6)
  return segment
}

export function udp4(options: UdpOptions): UdpPacket {
  const extra = options.options ?? 0
  const header = Buffer.alloc(20 + extra, 1) // Options: NOPs.
  const addresses = Buffer.from([10, 9, 0, 1, 10, 9, 0, options.host ?? 2])
  const segment = udp(addresses, options)
  header.fill(0, 0, 20)
  header[0] = 0x40 | (header.length / 4)
  header.writeUInt16BE(header.length + segment.length, 2)
  header.writeUInt16BE(options.fragment ?? 0, 6)
  header[8] = 64
  header[9] = options.protocol ?? 17
  addresses.copy(header, 12)
  header.writeUInt16BE(~sum(header) & 0xffff, 10)
  const bytes = Buffer.concat([ETHERNET, Buffer.from([8, 0]), header, segment])
  return { bytes, udp: 14 + header.length }
}

export function udp6(options: UdpOptions): UdpPacket {
  const header = Buffer.alloc(40)
  const source = Buffer.from(`fd09${'0'.repeat(24)}0001`, 'hex')
  const target = Buffer.from(`fd09${'0'.repeat(24)}0002`, 'hex')
  target[15] = options.host ?? 2
  const segment = udp(Buffer.concat([source, target]), options)
  header[0] = 0x60
  header.writeUInt16BE(segment.length, 4)
  header[6] = options.protocol ?? 17
  header[7] = 64
  source.copy(header, 8)
  target.copy(header, 24)
  const bytes = Buffer.concat([ETHERNET, Buffer.from([0x86, 0xdd]), header, segment])
  return { bytes, udp: 54 }
}

/** An Ethernet frame of no protocol that the kernel knows. */
export function plain(text: string, length = 60): Buffer {
  const bytes = Buffer.alloc(length)
  ETHERNET.copy(bytes)
  bytes.writeUInt16BE(0x88b5, 12) // Local experimental ethertype 1 (IEEE 802).
  bytes.write(text, 14)
  return bytes
}

/** The text of a `plain` frame. */
export function textOf(frame: Buffer): string {
  return frame.subarray(14).toString().replace(/\0+$/, '')
}
