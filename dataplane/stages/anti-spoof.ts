/**
 * anti-spoof: a pod sends from its own addresses only. (MACs, ARP and neighbour discovery are
 * checked in `parse` and `neighbour`.) Nor does it speak as a router or as a node: no redirects, and
 * nothing to the overlay's UDP port of a node. The node's kernel would carry that there, and where
 * pods are masqueraded in its own name: a peer would take it for a packet of the overlay. What is
 * not unicast ends here too: the overlay has no multicast.
 */
import {
  DROP_MULTICAST,
  DROP_ND_MALFORMED,
  DROP_REDIRECT,
  DROP_SOURCE_IP,
  DROP_TO_VTEP,
} from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import { type Batch, F_IPV6 } from '../packet/batch.ts'
import { PORT_ROLE } from '../ports/port.ts'
import { PORT_FLAG } from '../tables/ports.ts'
import { knowsVtep } from '../tables/vteps.ts'
import { isUnicast } from '../wire/ipv4.ts'
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from '../wire/numbers.ts'
import { toOurVtep } from './decap.ts'

/** RFC 792; RFC 1256. */
const ICMP_REDIRECT = 5
const ICMP_ROUTER_ADVERTISEMENT = 9
/** Router solicitation .. redirect (RFC 4861 section 4): they never leave their link. */
const ND_FIRST = 133
const ND_LAST = 137

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
      if (!isUnicast(b.dst4[i]!)) b.drop[i] = DROP_MULTICAST
      else if (pod && b.proto[i] !== PROTO_TCP) b.drop[i] = reserved(e, b, i)
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
      } else if (pod && b.proto[i] !== PROTO_TCP) b.drop[i] = reserved(e, b, i)
    }
  }
}

/**
 * The reason if packet `i` of a pod is of a kind that only routers and nodes send, else 0. Of a
 * fragmented one the first fragment says it; without that the others come to nothing.
 */
function reserved(e: Engine, b: Batch, i: number): number {
  const l4 = b.l4[i]!
  if (l4 === 0) return 0
  const proto = b.proto[i]
  if (proto === PROTO_UDP) {
    return e.view.getUint16(l4 + 2) === e.vxlanPort && isVtep(e, b, i) ? DROP_TO_VTEP : 0
  }
  if (proto !== PROTO_ICMP && proto !== PROTO_ICMPV6) return 0
  const type = e.view.getUint8(l4)
  if ((b.flags[i]! & F_IPV6) !== 0) {
    return proto === PROTO_ICMPV6 && type >= ND_FIRST && type <= ND_LAST ? DROP_ND_MALFORMED : 0
  }
  const routers = type === ICMP_REDIRECT || type === ICMP_ROUTER_ADVERTISEMENT
  return proto === PROTO_ICMP && routers ? DROP_REDIRECT : 0
}

/** Whether packet `i` goes to this node's VTEP or a peer's. */
function isVtep(e: Engine, b: Batch, i: number): boolean {
  const { words, vtepsAt } = e.tables
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  if (toOurVtep(e, b, i, ipv6)) return true
  if (!ipv6) return knowsVtep(words, vtepsAt / 4, 4, b.dst4[i]!, 0, 0, 0)
  const at = i * 4
  const { dst6 } = b
  return knowsVtep(words, vtepsAt / 4, 6, dst6[at]!, dst6[at + 1]!, dst6[at + 2]!, dst6[at + 3]!)
}
