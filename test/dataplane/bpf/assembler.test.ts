import { describe, expect, test } from 'vitest'
import {
  ALU,
  Assembler,
  HELPER,
  JUMP,
  R0,
  R1,
  R2,
  R3,
  R6,
  R10,
  SIZE,
} from '../../../dataplane/bpf/assembler.ts'
import { passProgram, podProgram, underlayProgram } from '../../../dataplane/bpf/programs.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex').match(/.{16}/g)
const one = (asm: Assembler) => hex(asm.assemble())

describe('eBPF assembler', () => {
  // Written by hand from RFC 9669: opcode, registers, offset, immediate.
  test('each instruction', () => {
    expect(one(new Assembler().move(R6, R1))).toEqual(['bf16000000000000'])
    expect(one(new Assembler().set(R0, 2))).toEqual(['b700000002000000'])
    expect(one(new Assembler().set(R3, -2))).toEqual(['b7030000feffffff'])
    expect(one(new Assembler().alu(ALU.ADD, R2, 14))).toEqual(['070200000e000000'])
    expect(one(new Assembler().alu(ALU.AND, R2, 15))).toEqual(['570200000f000000'])
    expect(one(new Assembler().alu(ALU.LSH, R2, 2))).toEqual(['6702000002000000'])
    expect(one(new Assembler().alu(ALU.RSH, R2, 4))).toEqual(['7702000004000000'])
    expect(one(new Assembler().alu(ALU.ARSH, R2, 32))).toEqual(['c702000020000000'])
    expect(one(new Assembler().aluRegister(ALU.ADD, R2, R1))).toEqual(['0f12000000000000'])
    expect(one(new Assembler().load(SIZE.W, R2, R6, 16))).toEqual(['6162100000000000'])
    expect(one(new Assembler().load(SIZE.H, R2, R6, 12))).toEqual(['69620c0000000000'])
    expect(one(new Assembler().load(SIZE.B, R2, R6, -1))).toEqual(['7162ffff00000000'])
    expect(one(new Assembler().load(SIZE.DW, R1, R0, 0))).toEqual(['7901000000000000'])
    expect(one(new Assembler().store(SIZE.DW, R0, 0, R1))).toEqual(['7b10000000000000'])
    expect(one(new Assembler().storeImmediate(SIZE.W, R10, -4, 7))).toEqual(['620afcff07000000'])
    expect(one(new Assembler().loadMap(R1, 42))).toEqual(['181100002a000000', '0000000000000000'])
    expect(one(new Assembler().call(HELPER.REDIRECT_MAP))).toEqual(['8500000033000000'])
    expect(one(new Assembler().exit())).toEqual(['9500000000000000'])
  })

  test('jumps count from the next instruction, and a map takes two', () => {
    const asm = new Assembler()
      .label('top')
      .jumpIf(JUMP.NE, R1, 5, 'end')
      .loadMap(R1, 3)
      .jumpIfRegister(JUMP.GT, R2, R3, 'end')
      .jump('top')
      .label('end')
      .exit()
    expect(one(asm)).toEqual([
      '5501040005000000',
      '1811000003000000',
      '0000000000000000',
      '2d32010000000000',
      '0500fbff00000000',
      '9500000000000000',
    ])
  })

  test('refuses what has no encoding', () => {
    expect(() => new Assembler().jump('nowhere').exit().assemble()).toThrow('label nowhere')
    expect(() => new Assembler().jump('end').label('end').assemble()).toThrow('label end')
    expect(() => new Assembler().label('x').label('x')).toThrow('twice')
    expect(() => new Assembler().load(SIZE.W, R1, R2, 40_000)).toThrow(RangeError)
  })

  test('whole programs', () => {
    expect(hex(passProgram())).toEqual(['b700000002000000', '9500000000000000'])
    expect(hex(podProgram(9))).toEqual([
      'bf16000000000000', // r6 = r1
      '6162100000000000', // r2 = rx_queue_index
      '1811000009000000', // r1 = map
      '0000000000000000',
      'b703000001000000', // r3 = XDP_DROP
      '8500000033000000', // call bpf_redirect_map
      '9500000000000000',
    ])
  })

  test('the underlay program refuses a port or an address that is none', () => {
    for (const port of [0, 65_536, 1.5, Number.NaN]) {
      expect(() => underlayProgram(3, { port })).toThrow(RangeError)
    }
    expect(() => underlayProgram(3, { port: 1, ipv4: new Uint8Array(5) })).toThrow('4 bytes')
    expect(() => underlayProgram(3, { port: 1, ipv6: new Uint8Array(4) })).toThrow('16 bytes')
  })
})
