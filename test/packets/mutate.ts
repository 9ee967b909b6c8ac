/** Seeded changes of good packets: cut short, single bits, bytes, and values that length fields go wrong by. */
import type { MemPacket } from '../../dataplane/ports/mem.ts'

/** xorshift32 (Marsaglia 2003). */
export function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** Values that length and offset fields go wrong by. */
const EDGES = [0, 1, 4, 5, 6, 7, 8, 20, 40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xfe, 0xff]

export function mutate(packet: MemPacket, random: (below: number) => number): MemPacket {
  const bytes = packet.bytes.slice(
    0,
    random(4) === 0 ? random(packet.bytes.length + 1) : packet.bytes.length,
  )
  for (let k = random(4); k > 0 && bytes.length > 0; k--) {
    // Most fields of interest lie in the first 128 bytes.
    const at = random(3) === 0 ? random(bytes.length) : random(Math.min(bytes.length, 128))
    const kind = random(3)
    if (kind === 0) bytes[at] = EDGES[random(EDGES.length)]!
    else if (kind === 1) bytes[at]! ^= 1 << random(8)
    else bytes[at] = random(256)
  }
  if (packet.partial !== true || random(2) === 0) return { ...packet, bytes }
  return {
    bytes,
    partial: random(8) !== 0,
    gsoType: [0, 1, 4, 5][random(4)]!,
    // The TUN port lets no superframe without a segment size through (ports/tun.ts).
    gsoSize: 1 + random(2000),
    csumStart: random(3) === 0 ? random(70) : packet.csumStart!,
    csumOffset: random(3) === 0 ? random(20) : packet.csumOffset!,
  }
}
