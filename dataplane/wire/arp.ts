/** ARP for IPv4 over Ethernet (RFC 826). */
import { wordsToIp } from '../addresses.ts'
import { macText } from './ethernet.ts'
import { ETHERTYPE_IPV4 } from './numbers.ts'
import { FOREIGN, OK, TRUNCATED, whyNot } from './reason.ts'

/** Byte offsets. */
export const ARP = {
  HARDWARE: 0,
  PROTOCOL: 2,
  HARDWARE_BYTES: 4,
  PROTOCOL_BYTES: 5,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_IP: 14,
  TARGET_MAC: 18,
  TARGET_IP: 24,
  BYTES: 28,
} as const

const HARDWARE_ETHERNET = 1
export const ARP_REQUEST = 1
export const ARP_REPLY = 2

/** OK, TRUNCATED, or FOREIGN for what is not IPv4 over Ethernet. */
export function check(view: DataView, at: number, length: number): number {
  if (length < ARP.BYTES) return TRUNCATED
  const ours =
    view.getUint32(at + ARP.HARDWARE) === ((HARDWARE_ETHERNET << 16) | ETHERTYPE_IPV4) &&
    view.getUint16(at + ARP.HARDWARE_BYTES) === 0x0604
  return ours ? OK : FOREIGN
}

/** ARP_REQUEST, ARP_REPLY, or another one. */
export function operation(view: DataView, at: number): number {
  return view.getUint16(at + ARP.OPERATION)
}

export function senderMacHigh(view: DataView, at: number): number {
  return view.getUint32(at + ARP.SENDER_MAC)
}

export function senderMacLow(view: DataView, at: number): number {
  return view.getUint16(at + ARP.SENDER_MAC + 4)
}

/** Host order, as every IPv4 address here. */
export function senderIp(view: DataView, at: number): number {
  return view.getUint32(at + ARP.SENDER_IP)
}

export function targetMacHigh(view: DataView, at: number): number {
  return view.getUint32(at + ARP.TARGET_MAC)
}

export function targetMacLow(view: DataView, at: number): number {
  return view.getUint16(at + ARP.TARGET_MAC + 4)
}

export function targetIp(view: DataView, at: number): number {
  return view.getUint32(at + ARP.TARGET_IP)
}

export function setOperation(view: DataView, at: number, value: number): void {
  view.setUint16(at + ARP.OPERATION, value)
}

export function setSender(view: DataView, at: number, high: number, low: number, ip: number): void {
  view.setUint32(at + ARP.SENDER_MAC, high)
  view.setUint16(at + ARP.SENDER_MAC + 4, low)
  view.setUint32(at + ARP.SENDER_IP, ip)
}

export function setTarget(view: DataView, at: number, high: number, low: number, ip: number): void {
  view.setUint32(at + ARP.TARGET_MAC, high)
  view.setUint16(at + ARP.TARGET_MAC + 4, low)
  view.setUint32(at + ARP.TARGET_IP, ip)
}

export interface ArpFields {
  operation: number
  senderMacHigh: number
  senderMacLow: number
  senderIp: number
  targetMacHigh: number
  targetMacLow: number
  targetIp: number
}

/** Writes the packet; returns its bytes. */
export function emit(view: DataView, at: number, fields: ArpFields): number {
  view.setUint16(at + ARP.HARDWARE, HARDWARE_ETHERNET)
  view.setUint16(at + ARP.PROTOCOL, ETHERTYPE_IPV4)
  view.setUint8(at + ARP.HARDWARE_BYTES, 6)
  view.setUint8(at + ARP.PROTOCOL_BYTES, 4)
  setOperation(view, at, fields.operation)
  setSender(view, at, fields.senderMacHigh, fields.senderMacLow, fields.senderIp)
  setTarget(view, at, fields.targetMacHigh, fields.targetMacLow, fields.targetIp)
  return ARP.BYTES
}

/** The packet, of bytes that may be anything. */
export function pretty(view: DataView, at: number, length: number): string {
  const reason = check(view, at, length)
  if (reason !== OK) return `ARP ${whyNot(reason)}`
  const sender = wordsToIp([senderIp(view, at)])
  const target = wordsToIp([targetIp(view, at)])
  const kind = operation(view, at)
  if (kind === ARP_REQUEST) return `ARP who has ${target}? tell ${sender}`
  const mac = macText(view, at + ARP.SENDER_MAC)
  if (kind === ARP_REPLY) return `ARP ${sender} is at ${mac}, to ${target}`
  return `ARP operation ${kind} from ${sender} (${mac}) to ${target}`
}
