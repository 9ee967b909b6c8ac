/** What the hashes share when they write themselves as eBPF: it has no rotation. */
import { ALU, type Assembler } from '../bpf/assembler.ts'

/** Rotates the 32-bit `register` left by `bits`, 1 .. 31; `scratch` is lost. */
export function rotate(asm: Assembler, register: number, bits: number, scratch: number): Assembler {
  return asm
    .move32(scratch, register)
    .alu32(ALU.LSH, register, bits)
    .alu32(ALU.RSH, scratch, 32 - bits)
    .alu32Register(ALU.OR, register, scratch)
}
