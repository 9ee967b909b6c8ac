/**
 * The tc programs, assembled here. Frames stay what they are, superframes included: a program only writes
 * Ethernet addresses and says where a frame goes next.
 *
 *   podUp     on the node's end of a pod's veth        a pod's frame, tagged with its port → TAP
 *   peerUp    on the vxlan device                      a peer's frame, tagged with its next hop → TAP
 *   down      on the TAP: what a worker has written    tag of a pod → the pod's end of its veth
 *                                                      tag of a next hop → its tunnel → vxlan device
 *
 * A program gets `struct __sk_buff` (linux/bpf.h) in R1. What it drops it counts under a reason of drops.ts.
 * Bytes of the frame are read and written by helpers, which check lengths themselves: a frame that the
 * kernel still shares with its sender's queue is copied as far as its header, no further.
 */
import { ipBytes } from '../addresses.ts'
import {
  ALU,
  Assembler,
  HELPER,
  JUMP,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R10,
  SIZE,
} from '../bpf/assembler.ts'
import { DROP_TAP_GONE, DROP_VXLAN_DEVICE, DROP_VXLAN_PEER } from '../drops.ts'
import { DEVICE_TAP, DEVICE_VXLAN, POD, type TcMaps } from './maps.ts'
import { TAG, TAG_BYTES, TAG_PEER, TAG_POD } from './tag.ts'
import { BPF_F_TUNINFO_IPV6, inKernelOrder, TUNNEL, TUNNEL_KEY_BYTES } from './tunnel.ts'

/** Names in the kernel: how a later process knows them as ours. */
export const POD_UP = 'hawser_pod_up'
export const PEER_UP = 'hawser_peer_up'
export const DOWN = 'hawser_down'

/** struct __sk_buff. */
const SKB = { PACKET_TYPE: 4, IFINDEX: 40 } as const
/** Return code (linux/pkt_cls.h). */
const TC_ACT_SHOT = 2
/** linux/if_packet.h. */
const PACKET_HOST = 0
const MACS_BYTES = 12
/** Where a tunnel key is put on the stack, and a tag behind it; -4 is for keys. */
const KEY_AT = -TUNNEL_KEY_BYTES - 12
const TAG_AT = -16

/** R0 = the element of `map` whose key is the stack's word at -4. Loses R1..R5. */
function lookupWord(asm: Assembler, map: number): Assembler {
  return lookup(asm, map, -4)
}

function lookup(asm: Assembler, map: number, keyAt: number): Assembler {
  return asm.move(R2, R10).alu(ALU.ADD, R2, keyAt).loadMap(R1, map).call(HELPER.MAP_LOOKUP_ELEM)
}

/** Drops for `reason` if R0 is `value` (EQ), or is not (NE). */
function dropIf(
  asm: Assembler,
  condition: typeof JUMP.EQ | typeof JUMP.NE,
  value: number,
  reason: number,
): void {
  const goOn = `behind ${asm.length}`
  const otherwise = condition === JUMP.EQ ? JUMP.NE : JUMP.EQ
  asm.jumpIf(otherwise, R0, value, goOn).set(R7, reason).jump('drop').label(goOn)
}

/** Writes `bytes` bytes from where R3 points to over the beginning of the frame. */
function storeHeader(asm: Assembler, bytes: number): void {
  asm.move(R1, R6).set(R2, 0).set(R4, bytes).set(R5, 0).call(HELPER.SKB_STORE_BYTES)
  dropIf(asm, JUMP.NE, 0, DROP_TAP_GONE)
}

/** Redirects to a device of ours. */
function toDevice(asm: Assembler, maps: TcMaps, device: number): void {
  asm.storeImmediate(SIZE.W, R10, -4, device)
  lookupWord(asm, maps.devices)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.load(SIZE.W, R0, R0, 0)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.move(R1, R0).set(R2, 0).call(HELPER.REDIRECT).exit()
}

/** Counts the reason in R7, and drops. */
function drop(asm: Assembler, maps: TcMaps): Uint8Array {
  asm.label('drop').store(SIZE.W, R10, -4, R7)
  return lookupWord(asm, maps.drops)
    .jumpIf(JUMP.EQ, R0, 0, 'dropped')
    .load(SIZE.DW, R1, R0, 0)
    .alu(ALU.ADD, R1, 1)
    .store(SIZE.DW, R0, 0, R1)
    .label('dropped')
    .set(R0, TC_ACT_SHOT)
    .exit()
    .assemble()
}

/** Tags the frame with the value that R0 points to, and sends it up. */
function tagAndSend(asm: Assembler, maps: TcMaps): Uint8Array {
  asm
    .load(SIZE.DW, R1, R0, 0)
    .store(SIZE.DW, R10, TAG_AT, R1)
    .load(SIZE.W, R1, R6, SKB.PACKET_TYPE)
    .store(SIZE.B, R10, TAG_AT + TAG.PACKET_TYPE, R1)
    .move(R3, R10)
    .alu(ALU.ADD, R3, TAG_AT)
  storeHeader(asm, TAG_BYTES)
  toDevice(asm, maps, DEVICE_TAP)
  return drop(asm, maps)
}

/** For the node's ends of all pods' veths: one program for all of them. */
export function podUp(maps: TcMaps): Uint8Array {
  const asm = new Assembler()
    .move(R6, R1)
    .load(SIZE.W, R1, R6, SKB.IFINDEX)
    .store(SIZE.W, R10, -4, R1)
  lookupWord(asm, maps.senders)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  return tagAndSend(asm, maps)
}

/**
 * For the vxlan device: takes what came to `vtep`, from a VTEP and with a VNI that are in the map of peers,
 * and whose inner frame is addressed to the device. Throws RangeError for an address that is none.
 */
export function peerUp(maps: TcMaps, vtep: string): Uint8Array {
  const local = ipBytes(vtep)
  const six = local.length === 16
  const asm = new Assembler().move(R6, R1)
  for (let at = KEY_AT; at < KEY_AT + TUNNEL_KEY_BYTES; at += 4) {
    asm.storeImmediate(SIZE.W, R10, at, 0)
  }
  asm.load(SIZE.W, R0, R6, SKB.PACKET_TYPE)
  dropIf(asm, JUMP.NE, PACKET_HOST, DROP_VXLAN_DEVICE)
  asm
    .move(R1, R6)
    .move(R2, R10)
    .alu(ALU.ADD, R2, KEY_AT)
    .set(R3, TUNNEL_KEY_BYTES)
    .set(R4, six ? BPF_F_TUNINFO_IPV6 : 0)
    .call(HELPER.SKB_GET_TUNNEL_KEY)
  dropIf(asm, JUMP.NE, 0, DROP_VXLAN_DEVICE)
  const view = new DataView(inKernelOrder(local).slice().buffer)
  for (let at = 0; at < local.length; at += 4) {
    // An immediate is sign-extended: so is what it is compared with.
    asm
      .load(SIZE.W, R0, R10, KEY_AT + TUNNEL.LOCAL + at)
      .alu(ALU.LSH, R0, 32)
      .alu(ALU.ARSH, R0, 32)
    dropIf(asm, JUMP.NE, view.getInt32(at, true), DROP_VXLAN_DEVICE)
  }
  lookup(asm, maps.peers, KEY_AT)
  dropIf(asm, JUMP.EQ, 0, DROP_VXLAN_PEER)
  return tagAndSend(asm, maps)
}

/** For the TAP: frames that workers have written. */
export function down(maps: TcMaps): Uint8Array {
  const asm = new Assembler()
    .move(R6, R1)
    .set(R2, 0)
    .move(R3, R10)
    .alu(ALU.ADD, R3, TAG_AT)
    .set(R4, TAG_BYTES)
    .call(HELPER.SKB_LOAD_BYTES)
  dropIf(asm, JUMP.NE, 0, DROP_TAP_GONE)
  asm
    .load(SIZE.B, R1, R10, TAG_AT + TAG.NUMBER)
    .alu(ALU.LSH, R1, 8)
    .load(SIZE.B, R2, R10, TAG_AT + TAG.NUMBER + 1)
    .aluRegister(ALU.OR, R1, R2)
    .store(SIZE.W, R10, -4, R1)
    .load(SIZE.B, R0, R10, TAG_AT + TAG.KIND)
    .jumpIf(JUMP.EQ, R0, TAG_PEER, 'peer')
  dropIf(asm, JUMP.NE, TAG_POD, DROP_TAP_GONE)

  lookupWord(asm, maps.pods)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.move(R7, R0).load(SIZE.W, R0, R7, POD.IFINDEX)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.move(R3, R7).alu(ALU.ADD, R3, POD.MACS)
  storeHeader(asm, MACS_BYTES)
  // The TAP took it for a frame to somebody else, and the pod's stack would drop it as that.
  asm.move(R1, R6).set(R2, PACKET_HOST).call(HELPER.SKB_CHANGE_TYPE)
  asm.load(SIZE.W, R1, R7, POD.IFINDEX).set(R2, 0).call(HELPER.REDIRECT_PEER).exit()

  asm.label('peer')
  lookupWord(asm, maps.tunnels)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.move(R7, R0).load(SIZE.W, R0, R7, TUNNEL.KNOWN)
  dropIf(asm, JUMP.EQ, 0, DROP_TAP_GONE)
  asm.move(R3, R7).alu(ALU.ADD, R3, TUNNEL.MACS)
  storeHeader(asm, MACS_BYTES)
  asm
    .move(R1, R6)
    .move(R2, R7)
    .set(R3, TUNNEL_KEY_BYTES)
    .load(SIZE.W, R4, R7, TUNNEL.FLAGS)
    .call(HELPER.SKB_SET_TUNNEL_KEY)
  dropIf(asm, JUMP.NE, 0, DROP_TAP_GONE)
  toDevice(asm, maps, DEVICE_VXLAN)
  return drop(asm, maps)
}
