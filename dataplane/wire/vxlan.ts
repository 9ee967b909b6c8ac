/** VXLAN headers (RFC 7348 section 5). An Ethernet frame follows. */
import { FOREIGN, OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const VXLAN = {
  FLAGS: 0,
  /** Three bytes, and one that is reserved. */
  VNI: 4,
  BYTES: 8,
} as const

/** The I flag: the VNI is valid. */
export const VXLAN_FLAG_VNI = 0x08

/** OK, TRUNCATED, or FOREIGN without the I flag. Reserved fields are ignored, as the RFC asks. */
export function check(view: DataView, at: number, length: number): number {
  if (length < VXLAN.BYTES) return TRUNCATED
  return (flags(view, at) & VXLAN_FLAG_VNI) === 0 ? FOREIGN : OK
}

export function flags(view: DataView, at: number): number {
  return view.getUint8(at + VXLAN.FLAGS)
}

export function vni(view: DataView, at: number): number {
  return view.getUint32(at + VXLAN.VNI) >>> 8
}

/** Voids the check when it clears the I flag. */
export function setFlags(view: DataView, at: number, value: number): void {
  view.setUint8(at + VXLAN.FLAGS, value)
}

/** 24 bits; the reserved byte behind it becomes zero. */
export function setVni(view: DataView, at: number, value: number): void {
  view.setUint32(at + VXLAN.VNI, (value << 8) >>> 0)
}

export interface VxlanFields {
  vni: number
}

/** Writes the header; returns its bytes. */
export function emit(view: DataView, at: number, fields: VxlanFields): number {
  view.setUint32(at + VXLAN.FLAGS, 0)
  setFlags(view, at, VXLAN_FLAG_VNI)
  setVni(view, at, fields.vni)
  return VXLAN.BYTES
}

/** The header, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `VXLAN ${whyNot(reason)}`
  return `VXLAN vni ${vni(view, at)}`
}
