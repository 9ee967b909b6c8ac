/** Makes the checksum of IPv4 headers right again, so that what was changed gets as far as it can. */
import { sum16 } from '../../harness/packets.ts'

/** `ethernet`: bytes begin with an Ethernet header. Headers of IPv4 in VXLAN are repaired, too. */
export function repaired(bytes: Uint8Array, ethernet: boolean): Uint8Array {
  const copy = bytes.slice()
  const at = ethernet ? 14 : 0
  fix(copy, at)
  if (copy.length > at + 28 && copy[at]! === 0x45 && copy[at + 9] === 17)
    fix(copy, at + 20 + 8 + 8 + 14)
  return copy
}

function fix(bytes: Uint8Array, at: number): void {
  const header = (bytes[at]! & 15) * 4
  if (bytes[at]! >> 4 !== 4 || header < 20 || at + header > bytes.length) return
  bytes.set([0, 0], at + 10)
  const sum = ~sum16(bytes.subarray(at, at + header)) & 0xffff
  bytes.set([sum >> 8, sum & 255], at + 10)
}
