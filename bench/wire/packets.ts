/** The packets of this suite: small ones, each of another flow, with right checksums. */
import { ipWords } from '../../dataplane/addresses.ts'
import { ipv4, ipv6, PROTO_TCP, PROTO_UDP, tcp, udp } from '../../dataplane/wire/index.ts'
import { ADDRESSES } from './world.ts'

export const PROTOCOLS = { UDP: PROTO_UDP, TCP: PROTO_TCP } as const
export type Protocol = keyof typeof PROTOCOLS

/** Bytes behind the transport header: a UDP packet over IPv4 is then a 64-byte Ethernet frame without its check sequence. */
const DATA = 22
const TTL = 64
const ACK = 0x10

/** Writes packet number `k` at `at`: 'out' from the pod to the other node's, 'in' to the pod; returns its bytes. */
export function writePacket(
  view: DataView,
  at: number,
  family: 4 | 6,
  protocol: Protocol,
  way: 'in' | 'out',
  k: number,
): number {
  const header = family === 4 ? 20 : 40
  const transport = (protocol === 'UDP' ? 8 : 20) + DATA
  const { pod, remote } = ADDRESSES[family]
  const source = ipWords(way === 'out' ? pod : remote)
  const destination = ipWords(way === 'out' ? remote : pod)
  const number = PROTOCOLS[protocol]
  if (family === 4) {
    ipv4.emit(view, at, {
      totalLength: header + transport,
      ttl: TTL,
      protocol: number,
      source: source[0]!,
      destination: destination[0]!,
    })
  } else {
    ipv6.emit(view, at, {
      payloadLength: transport,
      nextHeader: number,
      hopLimit: TTL,
      source,
      destination,
    })
  }
  const l4 = at + header
  const ports = { sourcePort: 10_000 + k, destinationPort: 8080 }
  for (let i = 0; i < DATA; i++) view.setUint8(l4 + transport - DATA + i, i + k)
  const module = family === 4 ? ipv4 : ipv6
  const pseudo = module.pseudoHeader(view, at, number, transport)
  if (protocol === 'UDP') {
    udp.emit(view, l4, { ...ports, length: transport })
    udp.fillChecksum(view, l4, pseudo)
  } else {
    tcp.emit(view, l4, { ...ports, sequence: k, flags: ACK, window: 65_535 })
    tcp.fillChecksum(view, l4, transport, pseudo)
  }
  return header + transport
}
