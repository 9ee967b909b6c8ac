// BPF by hand: the bench needs no clang. Instruction macros, program load, array maps, XDP links.
#pragma once

#include <linux/bpf.h>

#include <vector>

#include "os.h"

namespace bench {

using Insn = bpf_insn;

constexpr Insn insn(int code, int dst, int src, int off, int imm) {
  return Insn{.code = static_cast<uint8_t>(code),
              .dst_reg = static_cast<uint8_t>(dst & 15),
              .src_reg = static_cast<uint8_t>(src & 15),
              .off = static_cast<int16_t>(off),
              .imm = imm};
}

constexpr Insn mov_imm(int dst, int imm) {
  return insn(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}
constexpr Insn mov_reg(int dst, int src) {
  return insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}
constexpr Insn add_imm(int dst, int imm) {
  return insn(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm);
}
constexpr Insn load(int size, int dst, int src, int off) {
  return insn(BPF_LDX | BPF_MEM | size, dst, src, off, 0);
}
constexpr Insn store_reg(int size, int dst, int off, int src) {
  return insn(BPF_STX | BPF_MEM | size, dst, src, off, 0);
}
constexpr Insn store_imm(int size, int dst, int off, int imm) {
  return insn(BPF_ST | BPF_MEM | size, dst, 0, off, imm);
}
/// Jumps `off` instructions when `dst OP imm`, on the low 32 bits.
constexpr Insn jump32_imm(int op, int dst, int imm, int off) {
  return insn(BPF_JMP32 | op | BPF_K, dst, 0, off, imm);
}
constexpr Insn jump_imm(int op, int dst, int imm, int off) {
  return insn(BPF_JMP | op | BPF_K, dst, 0, off, imm);
}
constexpr Insn jump_reg(int op, int dst, int src, int off) {
  return insn(BPF_JMP | op | BPF_X, dst, src, off, 0);
}
constexpr Insn call(int function) { return insn(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
constexpr Insn leave() { return insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }
/// The two instructions that load a map's address.
constexpr Insn map_low(int dst, int fd) {
  return insn(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, fd);
}
constexpr Insn map_high() { return insn(0, 0, 0, 0, 0); }

inline long bpf(int command, bpf_attr& attr) {
  return syscall(SYS_bpf, command, &attr, sizeof attr);
}

inline int map_create(bpf_map_type type, uint32_t value_bytes, uint32_t entries) {
  bpf_attr attr{};
  attr.map_type = type;
  attr.key_size = 4;
  attr.value_size = value_bytes;
  attr.max_entries = entries;
  return static_cast<int>(check(bpf(BPF_MAP_CREATE, attr), "BPF map"));
}

inline void map_set(int map, uint32_t key, const void* value) {
  bpf_attr attr{};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = reinterpret_cast<uint64_t>(&key);
  attr.value = reinterpret_cast<uint64_t>(value);
  check(bpf(BPF_MAP_UPDATE_ELEM, attr), "BPF map update");
}

/// Sum over the CPUs of one u64 of a per-CPU array.
inline uint64_t map_sum(int map, uint32_t key) {
  uint64_t values[1024]{};
  bpf_attr attr{};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = reinterpret_cast<uint64_t>(&key);
  attr.value = reinterpret_cast<uint64_t>(values);
  check(bpf(BPF_MAP_LOOKUP_ELEM, attr), "BPF map lookup");
  uint64_t sum = 0;
  for (const uint64_t value : values) sum += value;
  return sum;
}

inline int load_xdp(const std::vector<Insn>& program) {
  static char log[65536];
  bpf_attr attr{};
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.insns = reinterpret_cast<uint64_t>(program.data());
  attr.insn_cnt = static_cast<uint32_t>(program.size());
  attr.license = reinterpret_cast<uint64_t>("Apache-2.0");
  attr.log_buf = reinterpret_cast<uint64_t>(log);
  attr.log_size = sizeof log;
  attr.log_level = 1;
  const long fd = bpf(BPF_PROG_LOAD, attr);
  if (fd < 0) fail(std::string("XDP program: ") + log);
  return static_cast<int>(fd);
}

/// Attaches in native mode; the program goes away with the process.
inline int attach_xdp(int program, unsigned ifindex) {
  bpf_attr attr{};
  attr.link_create.prog_fd = static_cast<uint32_t>(program);
  attr.link_create.target_ifindex = ifindex;
  attr.link_create.attach_type = BPF_XDP;
  attr.link_create.flags = 1U << 2;  // XDP_FLAGS_DRV_MODE
  return static_cast<int>(
      check(bpf(BPF_LINK_CREATE, attr), "XDP on device " + std::to_string(ifindex)));
}

}  // namespace bench
