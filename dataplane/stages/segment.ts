/**
 * segment: cuts superframes for ports that don't take them, as a network card with TSO or USO
 * would (RFC 9293 segments; UDP by the kernel's UDP_SEGMENT rules). One pass over the payload:
 * every segment is copied into a small frame and summed on the way. Segments stand where their
 * superframe stood, between the packets before and behind it (engine/path.ts).
 *
 * From here on each segment is a packet. When the frames run out, what is left of a superframe is
 * dropped, and counted, segment by segment.
 *
 * A packet without segments that lies in a large frame (an ICMP error about a superframe) is moved
 * into a small one for the same ports.
 */
import { native } from '../../native/native.ts'
import { CONSUMED, DROP_NO_FRAMES } from '../drops.ts'
import type { Engine } from '../engine/engine.ts'
import type { Expansion, Output } from '../engine/path.ts'
import { BATCH_SIZE, FRAME_HEADROOM, MAX_SMALL_PACKET, MAX_TUNNELLED_BYTES } from '../limits.ts'
import { COUNTER } from '../memory/arena.ts'
import { type Batch, F_IPV6, F_L4_SUM, GSO_NONE } from '../packet/batch.ts'
import { checksumOffset, transportHeaderLength } from '../packet/transport.ts'
import { PORT_KIND } from '../ports/port.ts'
import { PROTO_TCP } from '../wire/numbers.ts'
import { TCP, TCP_CWR, TCP_FIN, TCP_PSH } from '../wire/tcp.ts'
import { UDP } from '../wire/udp.ts'

export const segment: Expansion = {
  needed(e, b) {
    for (let i = 0; i < b.n; i++) if (isToChange(e, b, i)) return true
    return false
  },

  fill(e, b, out) {
    const to = out.batch
    for (; out.next < b.n; out.next++) {
      const i = out.next
      if (b.drop[i] === CONSUMED) continue
      if (to.n === BATCH_SIZE) return false
      if (!isToChange(e, b, i)) to.copy(b, i)
      else if (b.gsoType[i] === GSO_NONE) {
        shrink(e, b, i)
        to.copy(b, i)
      } else if (!split(e, b, i, out)) return false
    }
    return true
  },
}

/** Whether packet `i` lies in a large frame, and its port takes none, or its outer packet would be too long. */
function isToChange(e: Engine, b: Batch, i: number): boolean {
  if (b.drop[i] !== 0) return false
  if (b.gsoType[i] === GSO_NONE && !e.frames.isLarge(b.frame[i]!)) return false
  const port = e.ports[b.outPort[i]!]
  if (port === undefined) return false
  return !port.superframes || (port.kind === PORT_KIND.VXLAN && b.len[i]! > MAX_TUNNELLED_BYTES)
}

/** Appends the segments of superframe `i` from payload byte `out.done` on. False: the output is full. Else the superframe's frame has been given back. */
function split(e: Engine, b: Batch, i: number, out: Output): boolean {
  const { view, bytes, frames, counters } = e
  const to = out.batch
  const l3 = b.l3[i]!
  const ipv6 = (b.flags[i]! & F_IPV6) !== 0
  const tcp = b.proto[i] === PROTO_TCP
  const l4Offset = b.l4[i]! - l3
  const headers = l4Offset + transportHeaderLength(view, l3 + l4Offset, b.proto[i]!)
  const payload = b.len[i]! - headers
  const size = b.gsoSize[i]!
  const sumOffset = l4Offset + checksumOffset(b.proto[i]!)
  // The field holds the pseudo-header sum with the superframe's length; without a length:
  const pseudo = view.getUint16(l3 + sumOffset) + (~(b.len[i]! - l4Offset) & 0xffff)
  // The IPv4 header checksum of a segment is the superframe's, less its length and id.
  const id = ipv6 ? 0 : view.getUint16(l3 + 4)
  const ipSum = ipv6
    ? 0
    : (~view.getUint16(l3 + 10) & 0xffff) + (~view.getUint16(l3 + 2) & 0xffff) + (~id & 0xffff)
  let done = out.done
  let k = done / size
  if (done === 0) counters[COUNTER.SEGMENTED]!++
  do {
    if (to.n === BATCH_SIZE) {
      out.done = done
      return false
    }
    const frame = frames.small.take()
    if (frame === 0) {
      const left = Math.max(1, Math.ceil((payload - done) / size))
      counters[COUNTER.SEGMENTS]! += left
      e.countDrop(DROP_NO_FRAMES, b.inPort, left)
      break
    }
    const length = Math.min(size, payload - done)
    const at = frame + FRAME_HEADROOM
    bytes.copyWithin(at, l3, l3 + headers)
    if (ipv6) {
      view.setUint16(at + 4, headers - 40 + length)
    } else {
      const total = headers + length
      const newId = (id + k) & 0xffff
      view.setUint16(at + 2, total)
      view.setUint16(at + 4, newId)
      view.setUint16(at + 10, ~fold(ipSum + total + newId))
    }
    const l4 = at + l4Offset
    if (tcp) {
      view.setUint32(l4 + TCP.SEQUENCE, view.getUint32(l3 + l4Offset + TCP.SEQUENCE) + done)
      let flags = view.getUint8(l4 + TCP.FLAGS)
      if (done + length < payload) flags &= ~(TCP_PSH | TCP_FIN)
      if (done > 0) flags &= ~TCP_CWR
      view.setUint8(l4 + TCP.FLAGS, flags)
    } else {
      view.setUint16(l4 + UDP.LENGTH, UDP.BYTES + length)
    }
    // The sum of the header with its field at P, then the payload.
    const partial = fold(pseudo + (headers - l4Offset) + length)
    view.setUint16(at + sumOffset, partial)
    const seed = native.checksum(l4, headers - l4Offset, 0)
    const sum = ~native.copyChecksum(at + headers, l3 + headers + done, length, seed) & 0xffff
    view.setUint16(at + sumOffset, sum === 0 ? 0xffff : sum)
    const s = to.derive(b, i, frame, at, headers + length)
    to.flags[s]! |= F_L4_SUM
    to.l4Sum[s] = ~partial & 0xffff
    counters[COUNTER.SEGMENTS]!++
    done += size
    k++
  } while (done < payload)
  frames.release(b.frame[i]!)
  out.done = 0
  return true
}

/** Moves packet `i` into a small frame, or drops it. */
function shrink(e: Engine, b: Batch, i: number): void {
  const frame = e.frames.small.take()
  if (frame === 0 || b.len[i]! > MAX_SMALL_PACKET) {
    if (frame !== 0) e.frames.release(frame)
    b.drop[i] = DROP_NO_FRAMES
    return
  }
  const l3 = b.l3[i]!
  const at = frame + FRAME_HEADROOM
  e.bytes.copyWithin(at, l3, l3 + b.len[i]!)
  e.frames.release(b.frame[i]!)
  b.frame[i] = frame
  b.l4[i] = b.l4[i] === 0 ? 0 : at + (b.l4[i]! - l3)
  b.l3[i] = at
}

function fold(sum: number): number {
  const once = (sum >>> 16) + (sum & 0xffff)
  return (once >>> 16) + (once & 0xffff)
}
