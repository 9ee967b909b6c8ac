// Sends the pod's frames from an AF_XDP socket as fast as one core can.
//
//   generate --device D --cpu N --flows N --pod-port P --source-mac M --gateway-mac M --source A
//            --destination A
//
// Prints "ready", then {"packets":N,"cpuNs":N,"ns":N} for each line on stdin. `packets` is what the
// kernel has finished with. Nothing is built while it sends: every frame lies ready in the UMEM and
// only its descriptor goes round; so there are at most kFrames flows.
#include <algorithm>
#include <cstdint>

#include "frame.h"
#include "xsk.h"

namespace {

using namespace bench;

constexpr uint32_t kFrames = 4096;

void run(int argc, char** argv) {
  const Pod pod{.source_mac = parse_mac(argument(argc, argv, "--source-mac")),
                .gateway_mac = parse_mac(argument(argc, argv, "--gateway-mac")),
                .source = parse_ipv4(argument(argc, argv, "--source")),
                .destination = parse_ipv4(argument(argc, argv, "--destination"))};
  const uint32_t flows = parse_flows(argument(argc, argv, "--flows"));
  if (flows > kFrames) throw std::runtime_error("--flows: at most " + std::to_string(kFrames));
  const auto pod_port = static_cast<uint16_t>(std::stoul(argument(argc, argv, "--pod-port")));
  pin(std::stoi(argument(argc, argv, "--cpu")));
  Umem umem(kFrames);
  for (uint32_t i = 0; i < kFrames; i++) {
    put_frame(umem.base + static_cast<uint64_t>(i) * kChunk, pod, i % flows, pod_port);
  }
  Socket socket(umem, device_index(argument(argc, argv, "--device")), false, true, nullptr);
  socket.raise_tx_budget(256);
  std::puts("ready");
  std::fflush(stdout);

  uint64_t packets = 0;
  uint32_t next = 0;
  for (uint32_t turn = 0; !stopping; turn++) {
    if (const uint32_t done = socket.completion.available(); done > 0) {
      socket.completion.release(done);
      packets += done;
    }
    const uint32_t room = std::min(socket.tx.room(), 256U);
    for (uint32_t i = 0; i < room; i++) {
      socket.tx.at(socket.tx.head() + i) = {
          .addr = static_cast<uint64_t>(next++ % kFrames) * kChunk,
          .len = kFrameBytes,
          .options = 0};
    }
    socket.tx.submit(room);
    socket.kick();
    if (turn % 64 == 0 && asked(0)) {
      std::printf("{\"packets\":%lu,\"cpuNs\":%lu,\"ns\":%lu}\n", packets, cpu_ns(),
                  monotonic_ns());
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::stop_on_signals();
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "generate: %s\n", error.what());
    return 1;
  }
}
