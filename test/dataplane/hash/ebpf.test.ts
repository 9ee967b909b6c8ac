/** The kernel computes each hash, by BPF_PROG_TEST_RUN of an XDP program whose packet is the key. */
import { afterAll, describe, expect, test } from 'vitest'
import { ALU, Assembler, JUMP, R0, R1, R2, R3, R6, SIZE } from '../../../dataplane/bpf/assembler.ts'
import { passProgram } from '../../../dataplane/bpf/programs.ts'
import type { HashSeed } from '../../../dataplane/hash/hash.ts'
import { hashByName, hashNames } from '../../../dataplane/hash/index.ts'
import { native } from '../../../native/native.ts'
import { impossible } from '../../harness/skip.ts'
import { random } from './random.ts'

const XDP_ABORTED = 0
const XDP_PASS = 2
/** The kernel's least packet is an Ethernet header; keys begin behind it. */
const AT = 16

/** Hashes the `words` words at AT and writes the hash behind them. */
function program(name: string, words: number, seed: HashSeed): Uint8Array {
  const asm = new Assembler()
    .move(R6, R1)
    .load(SIZE.W, R2, R6, 0)
    .load(SIZE.W, R3, R6, 4)
    .alu(ALU.ADD, R2, AT + 4 * words + 4)
    .jumpIfRegister(JUMP.GT, R2, R3, 'short')
    .alu(ALU.SUB, R2, 4 * words + 4)
  return hashByName(name)
    .emit(asm, words, seed)
    .store(SIZE.W, R2, 4 * words, R0)
    .set(R0, XDP_PASS)
    .exit()
    .label('short')
    .set(R0, XDP_ABORTED)
    .exit()
    .assemble()
}

/** Why this kernel runs no program for us; undefined when it does. */
function refusal(): string | undefined {
  try {
    const fd = native.bpfLoadXdp(passProgram(), 'hwt_hash')
    try {
      expect(native.bpfRun(fd, new Uint8Array(64))).toBe(XDP_PASS)
    } finally {
      native.close(fd)
    }
    return undefined
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'EPERM' && code !== 'ENOSYS') throw error
    return message
  }
}

const refused = refusal()
if (refused !== undefined) impossible(`hashes in eBPF: ${refused}`)

const open = new Set<number>()
afterAll(() => {
  for (const fd of open) native.close(fd)
})

describe.skipIf(refused !== undefined)('eBPF and TypeScript agree', () => {
  const cases = hashNames().flatMap(name => [1, 4, 10, 16].map(words => ({ name, words })))

  test.each(cases)('$name, $words words, thousands of keys', ({ name, words }) => {
    const draw = random(words)
    for (const seed of [
      [0, 0],
      [draw(), draw()],
      [0xffff_ffff, 0x8000_0000],
    ] as HashSeed[]) {
      const fd = native.bpfLoadXdp(program(name, words, seed), 'hwt_hash')
      open.add(fd)
      const hasher = hashByName(name).seeded(seed)
      const n = 1500
      const edges = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
      const keys = Uint32Array.from({ length: n * words }, (_, i) =>
        i < 64 * words ? edges[draw() % edges.length]! : draw(),
      )
      const hashes = new Uint32Array(n)
      hasher.words(keys, words, n, hashes)
      const packet = new Uint8Array(AT + 4 * words + 4)
      const view = new DataView(packet.buffer)
      for (let i = 0; i < n; i++) {
        for (let w = 0; w < words; w++) view.setUint32(AT + 4 * w, keys[i * words + w]!, true)
        view.setUint32(AT + 4 * words, 0, true)
        expect(native.bpfRun(fd, packet)).toBe(XDP_PASS)
        expect(view.getUint32(AT + 4 * words, true)).toBe(hashes[i])
      }
    }
  })

  test('a packet that is too short for the key is told apart', () => {
    const fd = native.bpfLoadXdp(program('murmur3', 10, [1, 2]), 'hwt_hash')
    open.add(fd)
    expect(native.bpfRun(fd, new Uint8Array(AT + 43))).toBe(XDP_ABORTED)
    expect(() => native.bpfRun(fd, new Uint8Array(4))).toThrow(/run of BPF program/)
  })
})
