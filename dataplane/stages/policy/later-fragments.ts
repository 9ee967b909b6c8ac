/** Fragments behind a first one, which alone has ports: they have its verdict (policy/fragments.ts). */
import {
  DROP_POLICY_EGRESS,
  DROP_POLICY_FRAGMENT,
  DROP_POLICY_ICMP,
  DROP_POLICY_INGRESS,
} from '../../drops.ts'
import type { Engine } from '../../engine/engine.ts'
import { type Batch, F_FRAGMENT, F_IPV6 } from '../../packet/batch.ts'
import { FRAGMENT } from '../../policy/fragments.ts'
import type { Judge } from '../../policy/judge.ts'
import { PROTO_TCP } from '../../wire/numbers.ts'
import { concerns, networkOf } from './concerns.ts'

/** Next header values (RFC 8200 section 4.5, RFC 4302). */
const FRAGMENT_HEADER = 44
const AUTHENTICATION = 51

/** Reasons of this stage: such a first fragment has been judged. */
const OURS = new Set([DROP_POLICY_EGRESS, DROP_POLICY_INGRESS, DROP_POLICY_ICMP])

/** Keeps what has become of first fragments, and gives the others their verdict: in the order that they came in. */
export function follow(e: Engine, b: Batch, judge: Judge): void {
  for (let i = 0; i < b.n; i++) {
    if ((b.flags[i]! & F_FRAGMENT) === 0) continue
    const reason = b.drop[i]!
    if ((reason !== 0 && !OURS.has(reason)) || !concerns(e, b, i)) continue
    const offset = fragmentKey(e, b, i, judge)
    if (b.l4[i] !== 0) judge.fragments.remember(reason === 0, firstEnd(e, b, i), judge.tick)
    else if (
      overlapsHeader(e, b, i) ||
      judge.fragments.verdict(offset, judge.tick) !== FRAGMENT.ALLOWED
    ) {
      b.drop[i] = DROP_POLICY_FRAGMENT
    }
  }
}

/** RFC 3128: a second fragment that begins inside of the TCP header would rewrite the flags that were judged. */
function overlapsHeader(e: Engine, b: Batch, i: number): boolean {
  if ((b.flags[i]! & F_IPV6) !== 0 || b.proto[i] !== PROTO_TCP) return false
  return (e.view.getUint16(b.l3[i]! + 6) & 0x1fff) < 8
}

/** Bytes of first fragment `i` behind the headers that each fragment has. */
function firstEnd(e: Engine, b: Batch, i: number): number {
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const headers = ipv6 ? fragmentHeader(e, b, i) + 8 - l3 : (e.view.getUint8(l3) & 15) * 4
  return b.len[i]! - headers
}

/** Writes the key of fragment `i`; returns the byte that it begins at. */
function fragmentKey(e: Engine, b: Batch, i: number, judge: Judge): number {
  const { view } = e
  const { key } = judge.fragments
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  let offset: number
  key.fill(0)
  if (ipv6) {
    const at = fragmentHeader(e, b, i)
    offset = view.getUint16(at + 2) & 0xfff8
    for (let w = 0; w < 8; w++) key[w] = view.getUint32(l3 + 8 + w * 4)
    key[8] = view.getUint32(at + 4)
  } else {
    offset = (view.getUint16(l3 + 6) & 0x1fff) * 8
    key[3] = b.src4[i]!
    key[7] = b.dst4[i]!
    key[8] = view.getUint16(l3 + 4)
  }
  // The protocol of a later IPv6 fragment is what its fragment header says; of the first, what is behind that.
  key[9] = ((ipv6 ? 0 : b.proto[i]!) | (networkOf(e, b, i) << 8) | ((ipv6 ? 6 : 4) << 16)) >>> 0
  return offset
}

/** Where the fragment header of an IPv6 fragment lies: `parse` has walked there (RFC 8200 section 4.5). */
function fragmentHeader({ view }: Engine, b: Batch, i: number): number {
  const l3 = b.l3[i]!
  let next = view.getUint8(l3 + 6)
  let at = l3 + 40
  while (next !== FRAGMENT_HEADER) {
    const unit =
      next === AUTHENTICATION ? (view.getUint8(at + 1) + 2) * 4 : (view.getUint8(at + 1) + 1) * 8
    next = view.getUint8(at)
    at += unit
  }
  return at
}
