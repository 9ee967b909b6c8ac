/**
 * A small eBPF assembler: what the XDP programs of this folder and the tc programs of `tc/` need, no more. Instruction encoding:
 * Documentation/bpf/standardization/instruction-set.rst (RFC 9669).
 *
 * An instruction is 8 bytes, little endian: opcode u8, registers u8 (destination in the low nibble,
 * source in the high one), offset s16, immediate s32. Jumps name labels; `assemble` resolves them.
 */

/** Registers: R0 result, R1..R5 arguments (lost in a call), R6..R9 kept over calls, R10 frame pointer. */
export const R0 = 0
export const R1 = 1
export const R2 = 2
export const R3 = 3
export const R4 = 4
export const R5 = 5
export const R6 = 6
export const R7 = 7
export const R8 = 8
export const R9 = 9
export const R10 = 10

/** Sizes of loads and stores (BPF_W, BPF_H, BPF_B, BPF_DW). */
export const SIZE = { W: 0x00, H: 0x08, B: 0x10, DW: 0x18 } as const
export type Size = (typeof SIZE)[keyof typeof SIZE]

/** Conditions of jumps; all compare unsigned 64-bit values. */
export const JUMP = { EQ: 0x10, GT: 0x20, GE: 0x30, NE: 0x50, LT: 0xa0, LE: 0xb0 } as const
export type Condition = (typeof JUMP)[keyof typeof JUMP]

/** Arithmetic: `alu` is 64 bits wide, `alu32` 32, which leaves zeros above. */
export const ALU = {
  ADD: 0x00,
  SUB: 0x10,
  MUL: 0x20,
  OR: 0x40,
  AND: 0x50,
  LSH: 0x60,
  RSH: 0x70,
  XOR: 0xa0,
  ARSH: 0xc0,
} as const
export type Alu = (typeof ALU)[keyof typeof ALU]

/** Helper functions (linux/bpf.h, enum bpf_func_id). */
export const HELPER = {
  MAP_LOOKUP_ELEM: 1,
  SKB_STORE_BYTES: 9,
  SKB_GET_TUNNEL_KEY: 20,
  SKB_SET_TUNNEL_KEY: 21,
  REDIRECT: 23,
  SKB_LOAD_BYTES: 26,
  SKB_CHANGE_TYPE: 32,
  REDIRECT_MAP: 51,
  /** Kernel 5.10. */
  REDIRECT_PEER: 155,
} as const

const CLASS_LD = 0x00
const CLASS_LDX = 0x01
const CLASS_ST = 0x02
const CLASS_STX = 0x03
const CLASS_ALU32 = 0x04
const CLASS_JMP = 0x05
const CLASS_ALU64 = 0x07
const MODE_IMM = 0x00
const MODE_MEM = 0x60
const SOURCE_REGISTER = 0x08
const OP_MOV = 0xb0
const OP_JA = 0x00
const OP_CALL = 0x80
const OP_EXIT = 0x90
/** Source register of a 64-bit immediate load whose value is a map's descriptor. */
const PSEUDO_MAP_FD = 1

interface Instruction {
  opcode: number
  registers: number
  offset: number
  immediate: number
  /** Label that a jump goes to. */
  target?: string
}

/** Builds one program. Every method but `assemble` returns the assembler itself. */
export class Assembler {
  private readonly instructions: Instruction[] = []
  private readonly labels = new Map<string, number>()

  private emit(opcode: number, to: number, from: number, offset: number, immediate: number): this {
    if (!(offset >= -0x8000 && offset <= 0x7fff)) {
      throw new RangeError(`eBPF offset ${offset} does not fit 16 bits`)
    }
    this.instructions.push({ opcode, registers: to | (from << 4), offset, immediate })
    return this
  }

  /** Instructions so far. */
  get length(): number {
    return this.instructions.length
  }

  /** `to = from`. */
  move(to: number, from: number): this {
    return this.emit(CLASS_ALU64 | OP_MOV | SOURCE_REGISTER, to, from, 0, 0)
  }

  /** `to = value`, sign-extended from 32 bits. */
  set(to: number, value: number): this {
    return this.emit(CLASS_ALU64 | OP_MOV, to, 0, 0, value)
  }

  /** `to = to OP value`. */
  alu(op: Alu, to: number, value: number): this {
    return this.emit(CLASS_ALU64 | op, to, 0, 0, value)
  }

  /** `to = to OP from`. */
  aluRegister(op: Alu, to: number, from: number): this {
    return this.emit(CLASS_ALU64 | op | SOURCE_REGISTER, to, from, 0, 0)
  }

  /** `to = from`, the low 32 bits. */
  move32(to: number, from: number): this {
    return this.emit(CLASS_ALU32 | OP_MOV | SOURCE_REGISTER, to, from, 0, 0)
  }

  /** `to = value`, 32 bits. */
  set32(to: number, value: number): this {
    return this.emit(CLASS_ALU32 | OP_MOV, to, 0, 0, value)
  }

  /** `to = to OP value`, 32 bits wide. */
  alu32(op: Alu, to: number, value: number): this {
    return this.emit(CLASS_ALU32 | op, to, 0, 0, value)
  }

  /** `to = to OP from`, 32 bits wide. */
  alu32Register(op: Alu, to: number, from: number): this {
    return this.emit(CLASS_ALU32 | op | SOURCE_REGISTER, to, from, 0, 0)
  }

  /** `to = *(size *)(from + offset)`, zero-extended. */
  load(size: Size, to: number, from: number, offset: number): this {
    return this.emit(CLASS_LDX | MODE_MEM | size, to, from, offset, 0)
  }

  /** `*(size *)(to + offset) = from`. */
  store(size: Size, to: number, offset: number, from: number): this {
    return this.emit(CLASS_STX | MODE_MEM | size, to, from, offset, 0)
  }

  /** `*(size *)(to + offset) = value`. */
  storeImmediate(size: Size, to: number, offset: number, value: number): this {
    return this.emit(CLASS_ST | MODE_MEM | size, to, 0, offset, value)
  }

  /** `to = the map behind descriptor fd`: two instructions (BPF_LD_IMM64, BPF_PSEUDO_MAP_FD). */
  loadMap(to: number, fd: number): this {
    this.emit(CLASS_LD | MODE_IMM | SIZE.DW, to, PSEUDO_MAP_FD, 0, fd)
    return this.emit(0, 0, 0, 0, 0)
  }

  /** Goes to `target` if `left CONDITION value`; `value` is sign-extended from 32 bits. */
  jumpIf(condition: Condition, left: number, value: number, target: string): this {
    this.emit(CLASS_JMP | condition, left, 0, 0, value)
    return this.towards(target)
  }

  /** Goes to `target` if `left CONDITION right`, both registers. */
  jumpIfRegister(condition: Condition, left: number, right: number, target: string): this {
    this.emit(CLASS_JMP | condition | SOURCE_REGISTER, left, right, 0, 0)
    return this.towards(target)
  }

  jump(target: string): this {
    this.emit(CLASS_JMP | OP_JA, 0, 0, 0, 0)
    return this.towards(target)
  }

  call(helper: number): this {
    return this.emit(CLASS_JMP | OP_CALL, 0, 0, 0, helper)
  }

  /** Returns R0. */
  exit(): this {
    return this.emit(CLASS_JMP | OP_EXIT, 0, 0, 0, 0)
  }

  /** Names the next instruction. */
  label(name: string): this {
    if (this.labels.has(name)) throw new Error(`eBPF label ${name} is there twice`)
    this.labels.set(name, this.instructions.length)
    return this
  }

  private towards(target: string): this {
    this.instructions.at(-1)!.target = target
    return this
  }

  /** The program, 8 bytes an instruction, as BPF_PROG_LOAD takes it. Throws if a label is missing. */
  assemble(): Uint8Array {
    const bytes = new Uint8Array(this.instructions.length * 8)
    const view = new DataView(bytes.buffer)
    for (const [index, instruction] of this.instructions.entries()) {
      const { opcode, registers, immediate, target } = instruction
      let { offset } = instruction
      if (target !== undefined) {
        const at = this.labels.get(target)
        if (at === undefined || at >= this.instructions.length) {
          throw new Error(`eBPF label ${target} names no instruction`)
        }
        // A jump counts from the instruction behind it.
        offset = at - index - 1
      }
      view.setUint8(index * 8, opcode)
      view.setUint8(index * 8 + 1, registers)
      view.setInt16(index * 8 + 2, offset, true)
      view.setInt32(index * 8 + 4, immediate, true)
    }
    return bytes
  }
}
