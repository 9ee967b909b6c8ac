/** Fragments behind a first one, which alone has ports: they have its verdict (policy/fragments.ts). */
import { DROP_POLICY_FRAGMENT } from '../../drops.ts'
import type { Engine } from '../../engine/engine.ts'
import { type Batch, F_IPV6 } from '../../packet/batch.ts'
import { FRAGMENT } from '../../policy/fragments.ts'
import type { Judge } from '../../policy/judge.ts'
import { PROTO_TCP } from '../../wire/numbers.ts'
import { concerns, networkOf } from './concerns.ts'

/** Fragments behind a first one have its verdict. */
export function follow(e: Engine, b: Batch, judge: Judge): void {
  for (let i = 0; i < b.n; i++) {
    if (b.drop[i] !== 0 || b.l4[i] !== 0 || !concerns(e, b, i)) continue
    if (overlapsHeader(e, b, i)) {
      b.drop[i] = DROP_POLICY_FRAGMENT
      continue
    }
    fragmentKey(e, b, i, judge)
    if (judge.fragments.verdict(judge.tick) !== FRAGMENT.ALLOWED) b.drop[i] = DROP_POLICY_FRAGMENT
  }
}

/** RFC 3128: a second fragment that begins inside of the TCP header would rewrite the flags that were judged. */
function overlapsHeader(e: Engine, b: Batch, i: number): boolean {
  if ((b.flags[i]! & F_IPV6) !== 0 || b.proto[i] !== PROTO_TCP) return false
  return (e.view.getUint16(b.l3[i]! + 6) & 0x1fff) < 8
}

export function fragmentKey(e: Engine, b: Batch, i: number, judge: Judge): void {
  const { view } = e
  const { key } = judge.fragments
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  key.fill(0)
  if (ipv6) {
    for (let w = 0; w < 8; w++) key[w] = view.getUint32(l3 + 8 + w * 4)
    key[8] = identification6(e, b, i)
  } else {
    key[3] = b.src4[i]!
    key[7] = b.dst4[i]!
    key[8] = view.getUint16(l3 + 4)
  }
  // The protocol of a later IPv6 fragment is what its fragment header says; of the first, what is behind that.
  key[9] = ((ipv6 ? 0 : b.proto[i]!) | (networkOf(e, b, i) << 8) | ((ipv6 ? 6 : 4) << 16)) >>> 0
}

/** Identification of the fragment header, which `parse` has found (RFC 8200 section 4.5). */
function identification6({ view }: Engine, b: Batch, i: number): number {
  const l3 = b.l3[i]!
  let next = view.getUint8(l3 + 6)
  let at = l3 + 40
  const end = l3 + b.len[i]!
  while (next !== 44 && at + 8 <= end) {
    const unit = next === 51 ? (view.getUint8(at + 1) + 2) * 4 : (view.getUint8(at + 1) + 1) * 8
    next = view.getUint8(at)
    at += unit
  }
  return at + 8 <= end ? view.getUint32(at + 4) : 0
}
