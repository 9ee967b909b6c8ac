/**
 * The XDP programs, assembled here: no compiler is needed where hawser runs. Each function returns
 * the instructions for `native.bpfLoadXdp`.
 *
 * A program gets `struct xdp_md` (linux/bpf.h) in R1: data @0, data_end @4, rx_queue_index @16, u32
 * each. A byte may be read only behind a comparison of its end with data_end: the verifier proves it.
 */
import { ALU, Assembler, HELPER, JUMP, R0, R1, R2, R3, R4, R5, R6, R10, SIZE } from './assembler.ts'

/** Return codes (linux/bpf.h, enum xdp_action). */
const XDP_DROP = 1
const XDP_PASS = 2

const MD_DATA = 0
const MD_DATA_END = 4
const MD_RX_QUEUE_INDEX = 16

const ETHERNET = 14
const IPV4_MIN = 20
const IPV6_HEADER = 40
const UDP_HEADER = 8
const VXLAN_HEADER = 8
const VXLAN_FLAG_VNI = 0x08
const IPPROTO_UDP = 17

/** A 16-bit field in network order, as a little-endian load sees it. */
function network16(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8)
}

/** Four bytes as a little-endian signed word: what a 32-bit load of them gives, for comparisons. */
function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getInt32(0, true)
}

/** `return bpf_redirect_map(map, rx_queue_index of R6, fallback)`. The low bits of the flags are the answer when no socket is there. */
function redirect(asm: Assembler, xskMapFd: number, fallback: number): Assembler {
  return asm
    .load(SIZE.W, R2, R6, MD_RX_QUEUE_INDEX)
    .loadMap(R1, xskMapFd)
    .set(R3, fallback)
    .call(HELPER.REDIRECT_MAP)
    .exit()
}

/**
 * For the host's end of a pod's veth: every packet goes to the socket of its queue. Without a
 * socket it is dropped: what a pod sends never reaches the kernel's own stack unchecked.
 */
export function podProgram(xskMapFd: number): Uint8Array {
  const asm = new Assembler().move(R6, R1)
  return redirect(asm, xskMapFd, XDP_DROP).assemble()
}

export interface UnderlayFilter {
  /** UDP destination port, host order. */
  port: number
  /** Takes only packets to this address (4 bytes, network order); else to any. */
  ipv4?: Uint8Array
  /** The same for IPv6 (16 bytes). */
  ipv6?: Uint8Array
  /** Takes only packets with this VNI, or one that is in the map (`vniKey`); else with any. */
  vnis?: { own: number; map: number }
}

/** A VNI as it lies in a VXLAN header, and as the key of the map of `UnderlayFilter`. */
export function vniKey(vni: number): Uint8Array {
  return Uint8Array.of(vni >> 16, vni >> 8, vni, 0)
}

/**
 * For a NIC (or whatever carries the overlay): takes UDP packets to `filter.port` over IPv4 (any
 * header length, no fragments) or IPv6 (no extension headers) to the socket of their queue. All
 * else passes to the kernel: fragments, VLAN tags, somebody else's VXLAN; and without a socket
 * everything does.
 * Throws RangeError for a port or address that is none.
 */
export function underlayProgram(xskMapFd: number, filter: UnderlayFilter): Uint8Array {
  const { port, ipv4, ipv6, vnis } = filter
  if (!(Number.isInteger(port) && port >= 1 && port <= 0xffff)) {
    throw new RangeError(`VXLAN port ${port} is not in 1..65535`)
  }
  if (ipv4 !== undefined && ipv4.length !== 4) throw new RangeError('ipv4 takes 4 bytes')
  if (ipv6 !== undefined && ipv6.length !== 16) throw new RangeError('ipv6 takes 16 bytes')

  // R6 context, R2 packet, R3 its end, R4 and R5 scratch.
  const asm = new Assembler()
    .move(R6, R1)
    .load(SIZE.W, R2, R6, MD_DATA)
    .load(SIZE.W, R3, R6, MD_DATA_END)
    .move(R4, R2)
    .alu(ALU.ADD, R4, ETHERNET + IPV4_MIN + UDP_HEADER)
    .jumpIfRegister(JUMP.GT, R4, R3, 'pass')
    .load(SIZE.H, R5, R2, 12)
    .jumpIf(JUMP.EQ, R5, network16(0x0800), 'ipv4')
    .jumpIf(JUMP.NE, R5, network16(0x86dd), 'pass')

  // IPv6 (RFC 8200): version, next header, destination.
  asm
    .move(R4, R2)
    .alu(ALU.ADD, R4, ETHERNET + IPV6_HEADER + UDP_HEADER)
    .jumpIfRegister(JUMP.GT, R4, R3, 'pass')
    .load(SIZE.B, R4, R2, ETHERNET)
    .alu(ALU.RSH, R4, 4)
    .jumpIf(JUMP.NE, R4, 6, 'pass')
    .load(SIZE.B, R4, R2, ETHERNET + 6)
    .jumpIf(JUMP.NE, R4, IPPROTO_UDP, 'pass')
  if (ipv6 !== undefined) {
    for (let i = 0; i < 16; i += 4) compareWord(asm, ETHERNET + 24 + i, word(ipv6, i))
  }
  asm.alu(ALU.ADD, R2, ETHERNET + IPV6_HEADER).jump('udp')

  // IPv4 (RFC 791): version, IHL, more-fragments flag and offset, protocol, destination.
  asm
    .label('ipv4')
    .load(SIZE.B, R4, R2, ETHERNET)
    .move(R5, R4)
    .alu(ALU.RSH, R5, 4)
    .jumpIf(JUMP.NE, R5, 4, 'pass')
    .alu(ALU.AND, R4, 0x0f)
    .alu(ALU.LSH, R4, 2)
    .jumpIf(JUMP.LT, R4, IPV4_MIN, 'pass')
    .load(SIZE.H, R5, R2, ETHERNET + 6)
    .alu(ALU.AND, R5, network16(0x3fff))
    .jumpIf(JUMP.NE, R5, 0, 'pass')
    .load(SIZE.B, R5, R2, ETHERNET + 9)
    .jumpIf(JUMP.NE, R5, IPPROTO_UDP, 'pass')
  if (ipv4 !== undefined) {
    // R4 holds the header length.
    asm.load(SIZE.W, R5, R2, ETHERNET + 16)
    compare(asm, R5, word(ipv4, 0))
  }
  asm
    .alu(ALU.ADD, R2, ETHERNET)
    .aluRegister(ALU.ADD, R2, R4)
    .move(R5, R2)
    .alu(ALU.ADD, R5, UDP_HEADER)
    .jumpIfRegister(JUMP.GT, R5, R3, 'pass')

  // R2 is the UDP header, inside the packet.
  asm.label('udp').load(SIZE.H, R5, R2, 2).jumpIf(JUMP.NE, R5, network16(port), 'pass')
  if (vnis !== undefined) checkVni(asm, vnis.own, vnis.map)
  return redirect(asm, xskMapFd, XDP_PASS).label('pass').set(R0, XDP_PASS).exit().assemble()
}

/** Passes unless the UDP header at R2 is followed by a VXLAN header (RFC 7348 section 5) whose VNI is one of these. */
function checkVni(asm: Assembler, own: number, map: number): void {
  asm
    .move(R4, R2)
    .alu(ALU.ADD, R4, UDP_HEADER + VXLAN_HEADER)
    .jumpIfRegister(JUMP.GT, R4, R3, 'pass')
    .load(SIZE.B, R4, R2, UDP_HEADER)
    .alu(ALU.AND, R4, VXLAN_FLAG_VNI)
    .jumpIf(JUMP.EQ, R4, 0, 'pass')
    .load(SIZE.W, R4, R2, UDP_HEADER + 4)
    .alu(ALU.AND, R4, 0xff_ffff)
    .jumpIf(JUMP.EQ, R4, word(vniKey(own), 0), 'ours')
    .store(SIZE.W, R10, -4, R4)
    .move(R2, R10)
    .alu(ALU.ADD, R2, -4)
    .loadMap(R1, map)
    .call(HELPER.MAP_LOOKUP_ELEM)
    .jumpIf(JUMP.EQ, R0, 0, 'pass')
    .label('ours')
}

/** Passes unless the 32-bit word at R2 + offset is `value`. Uses R4 and R5. */
function compareWord(asm: Assembler, offset: number, value: number): void {
  asm.load(SIZE.W, R4, R2, offset)
  compare(asm, R4, value)
}

/** Passes unless the zero-extended 32-bit value in `register` is `value`: an immediate would be sign-extended, so both sides are. */
function compare(asm: Assembler, register: number, value: number): void {
  asm
    .alu(ALU.LSH, register, 32)
    .alu(ALU.ARSH, register, 32)
    .jumpIf(JUMP.NE, register, value, 'pass')
}

/** Counts every packet in entry 0 of a per-CPU array of u64, and drops it. For tests and benches. */
export function sinkProgram(countMapFd: number): Uint8Array {
  return new Assembler()
    .storeImmediate(SIZE.W, R10, -4, 0)
    .move(R2, R10)
    .alu(ALU.ADD, R2, -4)
    .loadMap(R1, countMapFd)
    .call(HELPER.MAP_LOOKUP_ELEM)
    .jumpIf(JUMP.EQ, R0, 0, 'drop')
    .load(SIZE.DW, R1, R0, 0)
    .alu(ALU.ADD, R1, 1)
    .store(SIZE.DW, R0, 0, R1)
    .label('drop')
    .set(R0, XDP_DROP)
    .exit()
    .assemble()
}

/** Passes everything: the pod's end of a veth, whose NAPI receive path (GRO) a program switches on. */
export function passProgram(): Uint8Array {
  return new Assembler().set(R0, XDP_PASS).exit().assemble()
}
