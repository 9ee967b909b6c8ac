/** Packets for tests, built byte by byte and apart from the wire formats that they may test. */

export interface UdpPacket {
  source: string
  destination: string
  sourcePort: number
  destinationPort: number
  tos: number
  ttl: number
  payload: Buffer
}

/** RFC 1071, naive. */
function headerChecksum(header: Buffer): number {
  let sum = 0
  for (let i = 0; i < header.length; i += 2) sum += header.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** An IPv4 packet (RFC 791) with a UDP datagram (RFC 768) that carries no UDP checksum. */
export function udpPacket(packet: UdpPacket): Buffer {
  const header = Buffer.alloc(28)
  header.writeUInt8(0x45, 0)
  header.writeUInt8(packet.tos, 1)
  header.writeUInt16BE(28 + packet.payload.length, 2)
  header.writeUInt8(packet.ttl, 8)
  header.writeUInt8(17, 9)
  header.set(packet.source.split('.').map(Number), 12)
  header.set(packet.destination.split('.').map(Number), 16)
  header.writeUInt16BE(headerChecksum(header.subarray(0, 20)), 10)
  header.writeUInt16BE(packet.sourcePort, 20)
  header.writeUInt16BE(packet.destinationPort, 22)
  header.writeUInt16BE(8 + packet.payload.length, 24)
  return Buffer.concat([header, packet.payload])
}
