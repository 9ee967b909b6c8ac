// The floor of what AF_XDP costs: receive from the pod's veth, put a VXLAN header in front, send on
// the underlay's veth. One UMEM, no copy of ours, no table, no check beyond the frame's length.
//
//   forward --pod-device D --underlay-device D --cpu N --node-address A --peer-address A
//           --node-mac M --peer-mac M
//
// Prints "ready", then {"packets":N,"cpuNs":N,"idleNs":N,"ns":N} for each line on stdin. It polls;
// `idleNs` is the part of `cpuNs` that went into turns that found nothing to do.
//
// A frame's way: fill ring (pod) -> rx ring (pod) -> tx ring (underlay) -> completion ring
// (underlay) -> fill ring (pod).
#include <algorithm>
#include <cstdint>

#include "bpf.h"
#include "frame.h"
#include "xsk.h"

namespace {

using namespace bench;

constexpr uint32_t kFrames = 4096;

/// The outer header of every packet; lengths, source port and checksum are patched in.
struct Outer {
  uint8_t bytes[kOuterBytes];
  uint32_t sum;  // of the IPv4 header, with total length 0

  Outer(const Mac& from, const Mac& to, uint32_t source, uint32_t destination) : bytes{} {
    std::memcpy(bytes, to.data(), 6);
    std::memcpy(bytes + 6, from.data(), 6);
    put16(bytes + 12, 0x0800);
    put_ipv4(bytes + 14, 0, source, destination);
    put16(bytes + 24, 0);
    sum = sum16(bytes + 14, 20);
    put16(bytes + 36, kVxlanPort);
    bytes[42] = 0x08;  // RFC 7348: VNI is valid
    bytes[48] = kVni;
  }
};

/// Writes the outer header in front of `inner`, `length` bytes long.
inline void encapsulate(const Outer& outer, uint8_t* inner, uint32_t length) {
  uint8_t* at = inner - kOuterBytes;
  std::memcpy(at, outer.bytes, kOuterBytes);
  const auto total = static_cast<uint16_t>(length + kOuterBytes - 14);
  put16(at + 16, total);
  put16(at + 24, static_cast<uint16_t>(~fold(outer.sum + total)));
  // RFC 7348, section 5: a hash of the inner flow, from the ephemeral range.
  uint32_t words[3];
  std::memcpy(words, inner + 26, sizeof words);
  uint32_t hash = (words[0] ^ words[1] ^ words[2]) * 0x9e3779b1U;
  hash ^= hash >> 16;
  put16(at + 34, static_cast<uint16_t>(0xc000 | (hash & 0x3fff)));
  put16(at + 38, static_cast<uint16_t>(total - 20));
}

int redirect_program(int sockets) {
  return load_xdp({
      load(BPF_W, BPF_REG_2, BPF_REG_1, offsetof(xdp_md, rx_queue_index)),
      map_low(BPF_REG_1, sockets),
      map_high(),
      mov_imm(BPF_REG_3, XDP_PASS),
      call(BPF_FUNC_redirect_map),
      leave(),
  });
}

class Forwarder {
 public:
  Forwarder(const Umem& umem, unsigned pod, unsigned underlay, const Outer& outer)
      : umem_(umem),
        outer_(outer),
        pod_(umem, pod, true, false, nullptr),
        underlay_(umem, underlay, false, true, &pod_) {
    underlay_.raise_tx_budget(256);
    free_.reserve(kFrames);
    for (uint32_t i = 0; i < kFrames; i++) free_.push_back(static_cast<uint64_t>(i) * kChunk);
    const int sockets = map_create(BPF_MAP_TYPE_XSKMAP, 4, 1);
    map_set(sockets, 0, &pod_.fd);
    attach_xdp(redirect_program(sockets), pod);
    refill();
  }

  /// One turn; returns whether there was anything to do.
  bool turn() {
    const uint32_t reaped = reap();
    const uint32_t moved = move();
    if (reaped > 0 || moved > 0) refill();
    if (underlay_.tx.unsent() > 0) underlay_.kick();
    return reaped > 0 || moved > 0;
  }

  uint64_t packets = 0;

 private:
  uint32_t reap() {
    const uint32_t n = underlay_.completion.available();
    const uint32_t tail = underlay_.completion.tail();
    for (uint32_t i = 0; i < n; i++) {
      free_.push_back(underlay_.completion.at(tail + i) & ~static_cast<uint64_t>(kChunk - 1));
    }
    if (n > 0) underlay_.completion.release(n);
    return n;
  }

  uint32_t move() {
    const uint32_t n = std::min({pod_.rx.available(), underlay_.tx.room(), kBurst});
    const uint32_t from = pod_.rx.tail();
    const uint32_t to = underlay_.tx.head();
    for (uint32_t i = 0; i < n; i++) {
      const xdp_desc& in = pod_.rx.at(from + i);
      encapsulate(outer_, umem_.base + in.addr, in.len);
      underlay_.tx.at(to + i) = {
          .addr = in.addr - kOuterBytes, .len = in.len + kOuterBytes, .options = 0};
    }
    if (n > 0) {
      pod_.rx.release(n);
      underlay_.tx.submit(n);
      packets += n;
    }
    return n;
  }

  void refill() {
    const auto n = std::min(pod_.fill.room(), static_cast<uint32_t>(free_.size()));
    const uint32_t head = pod_.fill.head();
    for (uint32_t i = 0; i < n; i++) {
      pod_.fill.at(head + i) = free_.back();
      free_.pop_back();
    }
    if (n > 0) pod_.fill.submit(n);
    if (pod_.fill.needs_wakeup()) pod_.wake_rx();
  }

  const Umem& umem_;
  const Outer& outer_;
  Socket pod_;
  Socket underlay_;
  std::vector<uint64_t> free_;
};

void run(int argc, char** argv) {
  const Outer outer(parse_mac(argument(argc, argv, "--node-mac")),
                    parse_mac(argument(argc, argv, "--peer-mac")),
                    parse_ipv4(argument(argc, argv, "--node-address")),
                    parse_ipv4(argument(argc, argv, "--peer-address")));
  pin(std::stoi(argument(argc, argv, "--cpu")));
  const Umem umem(kFrames);
  Forwarder forwarder(umem, device_index(argument(argc, argv, "--pod-device")),
                      device_index(argument(argc, argv, "--underlay-device")), outer);
  std::puts("ready");
  std::fflush(stdout);

  uint64_t idle = 0;
  uint64_t idle_since = 0;
  const auto idle_until_now = [&] {
    const uint64_t now = cpu_ns();
    idle += now - idle_since;
    idle_since = now;
  };
  for (uint32_t turn = 0; !stopping; turn++) {
    if (forwarder.turn()) {
      if (idle_since != 0) idle_until_now();
      idle_since = 0;
    } else if (idle_since == 0) {
      idle_since = cpu_ns();
    }
    if (turn % 1024 == 0 && asked(0)) {
      if (idle_since != 0) idle_until_now();
      std::printf("{\"packets\":%lu,\"cpuNs\":%lu,\"idleNs\":%lu,\"ns\":%lu}\n", forwarder.packets,
                  cpu_ns(), idle, monotonic_ns());
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
    std::fprintf(stderr, "forward: %s\n", error.what());
    return 1;
  }
}
