/**
 * anti-spoof: a pod sends from its own addresses only. (MACs, ARP and neighbour discovery are
 * checked in `parse` and `neighbour`.) What is not unicast ends here too: the overlay has no
 * multicast.
 */
import { DROP_MULTICAST, DROP_SOURCE_IP } from '../drops.ts'
import { type Batch, F_IPV6 } from '../packet/batch.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { PORT_FLAG } from '../tables/ports.ts'
import type { Engine } from './engine.ts'

export function antiSpoof(e: Engine, b: Batch): void {
  const { view } = e
  const record = e.records[b.inPort]!
  const pod = record.role === PORT_ROLE.POD
  const has4 = (record.flags & PORT_FLAG.HAS_IPV4) !== 0
  const has6 = (record.flags & PORT_FLAG.HAS_IPV6) !== 0
  const { ip4, ip6 } = record
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0) continue
    if ((b.flags[i]! & F_IPV6) === 0) {
      if (pod && !(has4 && b.src4[i] === ip4)) {
        b.drop[i] = DROP_SOURCE_IP
        continue
      }
      // 224.0.0.0/3 (multicast, reserved, broadcast), 0.0.0.0/8 and 127.0.0.0/8.
      const dst = b.dst4[i]!
      if (dst >= 0xe000_0000 || dst < 0x0100_0000 || dst >>> 24 === 127) b.drop[i] = DROP_MULTICAST
    } else {
      const at = b.l3[i]! + 8
      // ff00::/8, ::/32 (unspecified, loopback) and fe80::/10: none of them is routed.
      const high = b.dst6[i * 4]!
      if (high >= 0xff00_0000 || high === 0 || high >>> 22 === 0xfe80 >>> 6) {
        b.drop[i] = DROP_MULTICAST
      } else if (
        pod &&
        !(
          has6 &&
          view.getUint32(at) === ip6[0] &&
          view.getUint32(at + 4) === ip6[1] &&
          view.getUint32(at + 8) === ip6[2] &&
          view.getUint32(at + 12) === ip6[3]
        )
      ) {
        b.drop[i] = DROP_SOURCE_IP
      }
    }
  }
}
