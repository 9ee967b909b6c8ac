/** Packets for tests, built byte by byte and independently of the code under test. */

export function sum16(bytes: Uint8Array, seed = 0): number {
  let sum = seed
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  return sum
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap(part => [...part]))
}

export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'))
}

export function ip4Bytes(text: string): Uint8Array {
  return Uint8Array.from(text.split('.').map(Number))
}

export function ip6Bytes(text: string): Uint8Array {
  const [left, right] = text.split('::') as [string, string | undefined]
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const head = groups(left)
  const tail = right === undefined ? [] : groups(right)
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0')
  return bytesOf([...head, ...zeros, ...tail].map(group => group.padStart(4, '0')).join(''))
}

function address(text: string): Uint8Array {
  return text.includes(':') ? ip6Bytes(text) : ip4Bytes(text)
}

export interface IpFields {
  src: string
  dst: string
  proto: number
  ttl?: number
  tos?: number
  id?: number
  /** Flags and fragment offset (IPv4). */
  fragment?: number
  payload: Uint8Array
}

/** An IPv4 or IPv6 packet, by the family of `src`. */
export function ip(fields: IpFields): Uint8Array {
  const { src, dst, proto, payload, ttl = 64, tos = 0 } = fields
  if (src.includes(':')) {
    const header = new Uint8Array(40)
    const view = new DataView(header.buffer)
    view.setUint32(0, (0x60000000 | (tos << 20)) >>> 0)
    view.setUint16(4, payload.length)
    header[6] = proto
    header[7] = ttl
    header.set(address(src), 8)
    header.set(address(dst), 24)
    return concat(header, payload)
  }
  const header = new Uint8Array(20)
  const view = new DataView(header.buffer)
  view.setUint16(0, 0x4500 | tos)
  view.setUint16(2, 20 + payload.length)
  view.setUint16(4, fields.id ?? 0)
  view.setUint16(6, fields.fragment ?? 0)
  header[8] = ttl
  header[9] = proto
  header.set(address(src), 12)
  header.set(address(dst), 16)
  view.setUint16(10, ~sum16(header) & 0xffff)
  return concat(header, payload)
}

/** Folded pseudo-header sum. */
export function pseudo(src: string, dst: string, proto: number, length: number): number {
  return sum16(concat(address(src), address(dst)), proto + length)
}

/** Puts a complete or partial checksum at `at` of a transport segment. */
function withSum(
  segment: Uint8Array,
  at: number,
  src: string,
  dst: string,
  proto: number,
  partial: boolean,
): Uint8Array {
  const p = pseudo(src, dst, proto, segment.length)
  const view = new DataView(segment.buffer, segment.byteOffset)
  view.setUint16(at, 0)
  const value = partial ? p : ~sum16(segment, p) & 0xffff
  view.setUint16(at, value === 0 ? 0xffff : value)
  return segment
}

export interface Flow {
  src: string
  dst: string
  sport?: number
  dport?: number
  ttl?: number
  tos?: number
  /** IPv4: identification; flags and fragment offset. */
  id?: number
  fragment?: number
  partial?: boolean
}

export function udp(flow: Flow, data: Uint8Array): Uint8Array {
  const segment = new Uint8Array(8 + data.length)
  const view = new DataView(segment.buffer)
  view.setUint16(0, flow.sport ?? 1000)
  view.setUint16(2, flow.dport ?? 2000)
  view.setUint16(4, segment.length)
  segment.set(data, 8)
  const payload = withSum(segment, 6, flow.src, flow.dst, 17, flow.partial ?? false)
  return ip({ ...flow, proto: 17, payload })
}

export interface TcpFields extends Flow {
  seq?: number
  ack?: number
  flags?: number
  window?: number
  /** A multiple of four bytes. */
  options?: Uint8Array
}

export function tcp(flow: TcpFields, data: Uint8Array): Uint8Array {
  const { options = new Uint8Array(0) } = flow
  const header = 20 + options.length
  const segment = new Uint8Array(header + data.length)
  const view = new DataView(segment.buffer)
  view.setUint16(0, flow.sport ?? 1000)
  view.setUint16(2, flow.dport ?? 2000)
  view.setUint32(4, flow.seq ?? 1)
  view.setUint32(8, flow.ack ?? 0)
  view.setUint16(12, ((header / 4) << 12) | (flow.flags ?? 0x10))
  view.setUint16(14, flow.window ?? 0xffff)
  segment.set(options, 20)
  segment.set(data, header)
  const payload = withSum(segment, 16, flow.src, flow.dst, 6, flow.partial ?? false)
  return ip({ ...flow, proto: 6, payload })
}

export function icmp(
  flow: Flow,
  type: number,
  code = 0,
  body: Uint8Array = new Uint8Array(8),
): Uint8Array {
  const six = flow.src.includes(':')
  const segment = concat(Uint8Array.of(type, code, 0, 0), body)
  const view = new DataView(segment.buffer)
  const seed = six ? pseudo(flow.src, flow.dst, 58, segment.length) : 0
  view.setUint16(2, ~sum16(segment, seed) & 0xffff)
  return ip({ ...flow, proto: six ? 58 : 1, payload: segment })
}

export function ethernet(dst: string, src: string, type: number, payload: Uint8Array): Uint8Array {
  return concat(bytesOf(dst), bytesOf(src), Uint8Array.of(type >> 8, type & 255), payload)
}

export interface VxlanFields {
  src: string
  dst: string
  vni?: number
  flags?: number
  sport?: number
  dport?: number
  tos?: number
  /** Flags and fragment offset of an outer IPv4 packet. */
  fragment?: number
  innerDst: string
  innerSrc: string
  inner: Uint8Array
}

/** An outer packet around an inner IP packet; outer UDP checksum zero over IPv4, full over IPv6. */
export function vxlan(fields: VxlanFields): Uint8Array {
  const type = fields.inner[0]! >> 4 === 4 ? 0x0800 : 0x86dd
  const header = new Uint8Array(8)
  header[0] = fields.flags ?? 8
  new DataView(header.buffer).setUint32(4, ((fields.vni ?? 1) << 8) >>> 0)
  const frame = ethernet(fields.innerDst, fields.innerSrc, type, fields.inner)
  const packet = udp(
    {
      src: fields.src,
      dst: fields.dst,
      sport: fields.sport ?? 50_000,
      dport: fields.dport ?? 4789,
      ...(fields.tos === undefined ? {} : { tos: fields.tos }),
      ...(fields.fragment === undefined ? {} : { fragment: fields.fragment }),
    },
    concat(header, frame),
  )
  if (!fields.src.includes(':')) packet.set([0, 0], 26)
  return packet
}

/** The packet with its partial checksum completed, as the device does it: over the bytes, whatever the field holds. */
export function completed(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  const four = copy[0]! >> 4 === 4
  const l4 = four ? (copy[0]! & 15) * 4 : 40
  const at = l4 + ({ 6: 16, 17: 6 }[four ? copy[9]! : copy[6]!] ?? 2)
  const value = ~sum16(copy.subarray(l4)) & 0xffff || 0xffff
  copy.set([value >> 8, value & 255], at)
  return copy
}

/** Whether the IPv4 header checksum and the transport checksum of a packet are right. */
export function checksumsRight(packet: Uint8Array): boolean {
  const four = packet[0]! >> 4 === 4
  const l4 = four ? (packet[0]! & 15) * 4 : 40
  if (four && sum16(packet.subarray(0, l4)) !== 0xffff) return false
  const proto = four ? packet[9]! : packet[6]!
  const addresses = four ? packet.subarray(12, 20) : packet.subarray(8, 40)
  const segment = packet.subarray(l4)
  if (proto === 17 && four && segment[6] === 0 && segment[7] === 0) return true
  const seed = proto === 1 ? 0 : sum16(addresses, proto + segment.length)
  return sum16(segment, seed) === 0xffff
}
