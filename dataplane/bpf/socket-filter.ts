/**
 * Classic BPF programs for sockets (Documentation/networking/filter.rst): an instruction is 8 bytes,
 * little endian: code u16, how many to skip when true u8 and when false u8, operand u32.
 */

// linux/bpf_common.h and linux/filter.h.
const LD_W_IND = 0x40
const LD_H_IND = 0x48
const LD_B_IND = 0x50
const LDX_IMM = 0x01
/** X = four times the low nibble of a byte: the length of an IPv4 header. */
const LDX_B_MSH = 0xb1
const ALU_RSH = 0x74
const JMP_JEQ = 0x15
const JMP_JSET = 0x45
const RET = 0x06
const WHOLE = 0xffff_ffff

const VXLAN_FLAG_VNI = 0x08
/** From the UDP header on. */
const PORT_AT = 2
const FLAGS_AT = 8
const VNI_AT = 12

/**
 * For a raw UDP socket: VXLAN packets (RFC 7348 section 5) to `port` with one of `vnis`, at most 250.
 * `family`: IPv4 packets are seen from their IP header on, IPv6 ones from their UDP header on.
 */
export function vxlanFilter(family: 4 | 6, port: number, vnis: readonly number[]): Uint8Array {
  if (vnis.length > 250) throw new RangeError(`${vnis.length} VNIs: a filter takes 250`)
  const drop = vnis.length
  const program: [code: number, ifTrue: number, ifFalse: number, operand: number][] = [
    [family === 4 ? LDX_B_MSH : LDX_IMM, 0, 0, 0],
    [LD_H_IND, 0, 0, PORT_AT],
    [JMP_JEQ, 0, 4 + drop, port],
    [LD_B_IND, 0, 0, FLAGS_AT],
    [JMP_JSET, 0, 2 + drop, VXLAN_FLAG_VNI],
    [LD_W_IND, 0, 0, VNI_AT],
    [ALU_RSH, 0, 0, 8],
    ...vnis.map((vni, i): [number, number, number, number] => [JMP_JEQ, drop - i, 0, vni]),
    [RET, 0, 0, 0],
    [RET, 0, 0, WHOLE],
  ]
  const bytes = new Uint8Array(program.length * 8)
  const view = new DataView(bytes.buffer)
  for (const [i, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    view.setUint16(i * 8, code, true)
    view.setUint8(i * 8 + 2, ifTrue)
    view.setUint8(i * 8 + 3, ifFalse)
    view.setUint32(i * 8 + 4, operand, true)
  }
  return bytes
}
