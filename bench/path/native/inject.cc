// Sends the pod's frames from an XDP program in live-frame mode (BPF_PROG_RUN with
// BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18): frames of a page pool, written by the program and
// redirected to the device, without a socket buffer. A core so sends several times what an AF_XDP
// socket in copy mode does, which is what it takes to find a forwarder's limit rather than the
// generator's.
//
//   inject --device D --cpu N --flows N --pod-port P --source-mac M --gateway-mac M --source A
//          --destination A
//
// Prints "ready", then {"packets":N,"cpuNs":N,"ns":N} for each line on stdin. The far side of D has
// to poll (an XDP program or GRO on it), else veth takes no such frames.
#include <bit>
#include <cstdint>
#include <thread>

#include "bpf.h"
#include "frame.h"

namespace {

using namespace bench;

// Frames of one call. Each call waits for an RCU grace period at its end, so it has to be long.
constexpr uint32_t kRepeat = 1U << 22;
constexpr uint32_t kBatch = 256;

constexpr Insn alu32(int op, int dst, int imm) {
  return insn(BPF_ALU | op | BPF_K, dst, 0, 0, imm);
}

constexpr Insn to_be16(int dst) { return insn(BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, 16); }

/// Writes the whole frame (its page comes back with what a router did to it), puts the next flow's
/// ports and their complements in, and redirects. r7 and r8 are its source and destination port.
int redirect_program(unsigned ifindex, int counter, const uint8_t* frame, uint32_t flows,
                     uint16_t pod_port) {
  std::vector<Insn> program{
      mov_reg(BPF_REG_6, BPF_REG_1),
      store_imm(BPF_W, BPF_REG_10, -4, 0),
      mov_reg(BPF_REG_2, BPF_REG_10),
      add_imm(BPF_REG_2, -4),
      map_low(BPF_REG_1, counter),
      map_high(),
      call(BPF_FUNC_map_lookup_elem),
      jump_imm(BPF_JNE, BPF_REG_0, 0, 2),
      mov_imm(BPF_REG_0, XDP_DROP),
      leave(),
      load(BPF_DW, BPF_REG_7, BPF_REG_0, 0),
      add_imm(BPF_REG_7, 1),
      store_reg(BPF_DW, BPF_REG_0, 0, BPF_REG_7),
      alu32(BPF_AND, BPF_REG_7, static_cast<int>(flows - 1)),
      mov_reg(BPF_REG_8, BPF_REG_7),
      alu32(BPF_RSH, BPF_REG_8, std::countr_zero(kSourcePorts)),
      alu32(BPF_ADD, BPF_REG_8, pod_port),
      alu32(BPF_AND, BPF_REG_7, kSourcePorts - 1),
      alu32(BPF_ADD, BPF_REG_7, kFirstPort),
      load(BPF_W, BPF_REG_2, BPF_REG_6, offsetof(xdp_md, data)),
      load(BPF_W, BPF_REG_3, BPF_REG_6, offsetof(xdp_md, data_end)),
      mov_reg(BPF_REG_4, BPF_REG_2),
      add_imm(BPF_REG_4, kFrameBytes),
      jump_reg(BPF_JLE, BPF_REG_4, BPF_REG_3, 2),
      mov_imm(BPF_REG_0, XDP_DROP),
      leave(),
  };
  for (uint32_t at = 0; at < kFrameBytes; at += 8) {
    uint32_t words[2];
    std::memcpy(words, frame + at, sizeof words);
    program.push_back(insn(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_5, 0, 0, static_cast<int>(words[0])));
    program.push_back(insn(0, 0, 0, 0, static_cast<int>(words[1])));
    program.push_back(store_reg(BPF_DW, BPF_REG_2, static_cast<int>(at), BPF_REG_5));
  }
  for (const Insn& last : {
           to_be16(BPF_REG_7),
           store_reg(BPF_H, BPF_REG_2, 34, BPF_REG_7),
           alu32(BPF_XOR, BPF_REG_7, 0xffff),
           store_reg(BPF_H, BPF_REG_2, 42, BPF_REG_7),
           to_be16(BPF_REG_8),
           store_reg(BPF_H, BPF_REG_2, 36, BPF_REG_8),
           alu32(BPF_XOR, BPF_REG_8, 0xffff),
           store_reg(BPF_H, BPF_REG_2, 44, BPF_REG_8),
           mov_imm(BPF_REG_1, static_cast<int>(ifindex)),
           mov_imm(BPF_REG_2, 0),
           call(BPF_FUNC_redirect),
           leave(),
       }) {
    program.push_back(last);
  }
  return load_xdp(program);
}

void run(int argc, char** argv) {
  const Pod pod{.source_mac = parse_mac(argument(argc, argv, "--source-mac")),
                .gateway_mac = parse_mac(argument(argc, argv, "--gateway-mac")),
                .source = parse_ipv4(argument(argc, argv, "--source")),
                .destination = parse_ipv4(argument(argc, argv, "--destination"))};
  pin(std::stoi(argument(argc, argv, "--cpu")));
  const uint32_t flows = parse_flows(argument(argc, argv, "--flows"));
  const auto pod_port = static_cast<uint16_t>(std::stoul(argument(argc, argv, "--pod-port")));
  uint8_t frame[kFrameBytes];
  put_frame(frame, pod, 0, pod_port);
  const int counter = map_create(BPF_MAP_TYPE_PERCPU_ARRAY, 8, 1);
  const int program = redirect_program(device_index(argument(argc, argv, "--device")), counter,
                                       frame, flows, pod_port);

  bpf_attr attr{};
  attr.test.prog_fd = static_cast<uint32_t>(program);
  attr.test.data_in = reinterpret_cast<uint64_t>(frame);
  attr.test.data_size_in = kFrameBytes;
  attr.test.repeat = kRepeat;
  attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  attr.test.batch_size = kBatch;
  std::puts("ready");
  std::fflush(stdout);
  // A thread of its own: questions are answered while it is in the kernel.
  std::thread([attr]() mutable {
    while (bpf(BPF_PROG_TEST_RUN, attr) >= 0 || errno == EINTR) {
    }
    std::perror("inject: XDP live frames");
    std::_Exit(1);
  }).detach();
  while (!stopping) {
    if (!asked(-1)) continue;
    std::printf("{\"packets\":%lu,\"cpuNs\":%lu,\"ns\":%lu}\n", map_sum(counter, 0), cpu_ns(),
                monotonic_ns());
    std::fflush(stdout);
  }
  // The thread is in the kernel and has nothing to tidy up.
  std::_Exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::stop_on_signals();
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inject: %s\n", error.what());
    return 1;
  }
}
