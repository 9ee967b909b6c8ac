// The far end of the underlay: proves the first packets byte by byte, then counts in XDP and drops.
//
//   sink --device D --cpu N --verify N --replies N --layer bridged|routed --flows N --node-mac M
//        --peer-mac M --node-address A --peer-address A --source-mac M --gateway-mac M --source A
//        --destination A
//
// Prints "ready" when it listens; {"verified":N} when N packets were right (a wrong one ends it
// with a message), the first N flows were answered and counting has begun; then
// {"packets":N,"other":N,"ns":N} for each line on stdin. `packets` counts frames of the right
// length, IPv4, UDP, port 4789, with a valid VNI field and the right VNI.
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bpf.h"
#include "frame.h"

namespace {

using namespace bench;

constexpr uint32_t kTotal = kFrameBytes + kOuterBytes;

struct Expected {
  bool routed;
  uint32_t flows;
  Mac node_mac, peer_mac;
  uint32_t node, peer;
  Pod pod;
};

/// Number of the flow that the packet's inner ports stand for; too large for any when they stand
/// for none.
uint32_t flow_of(const uint8_t* packet) {
  const uint8_t* udp = packet + kOuterBytes + 34;
  const uint32_t source = get16(udp) - static_cast<uint32_t>(kFirstPort);
  const uint32_t destination = get16(udp + 2) - static_cast<uint32_t>(kPodPort);
  if (source >= kSourcePorts || destination >= kMaxFlows / kSourcePorts) return kMaxFlows;
  return destination * kSourcePorts + source;
}

/// Turns a right packet into its answer: who sent it gets it back, outer and inner. No checksum
/// changes.
void turn_round(uint8_t* packet) {
  const auto swap = [&](size_t one, size_t other, size_t bytes) {
    std::swap_ranges(packet + one, packet + one + bytes, packet + other);
  };
  swap(0, 6, 6);
  swap(26, 30, 4);
  const size_t inner = kOuterBytes;
  swap(inner, inner + 6, 6);
  swap(inner + 26, inner + 30, 4);
  swap(inner + 34, inner + 36, 2);
}

/// Empty if `packet` is what a frame of ours must have become, else what is wrong with it.
std::string wrong(const uint8_t* packet, size_t bytes, const Expected& expected) {
  if (bytes != kTotal) return "length " + std::to_string(bytes);
  if (std::memcmp(packet, expected.peer_mac.data(), 6) != 0) return "outer destination MAC";
  if (std::memcmp(packet + 6, expected.node_mac.data(), 6) != 0) return "outer source MAC";
  const uint8_t* ip = packet + 14;
  if (ip[0] != 0x45 || get16(ip + 2) != kTotal - 14 || ip[8] == 0) return "outer IPv4 header";
  if (fold(sum16(ip, 20)) != 0xffff) return "outer IPv4 checksum";
  if (std::memcmp(ip + 12, &expected.node, 4) != 0) return "outer source address";
  if (std::memcmp(ip + 16, &expected.peer, 4) != 0) return "outer destination address";
  const uint8_t* udp = ip + 20;
  if (get16(udp) < 1024) return "outer UDP source port";
  if (get16(udp + 4) != kTotal - 34) return "outer UDP length";
  if (get16(udp + 6) != 0 && udp_sum(ip, udp, kTotal - 34) != 0xffff) return "outer UDP checksum";
  const uint8_t* vxlan = udp + 8;
  if (vxlan[0] != 0x08) return "VXLAN flags";
  if (vxlan[4] != 0 || vxlan[5] != 0 || vxlan[6] != kVni) return "VNI";

  const uint8_t* inner = packet + kOuterBytes;
  uint8_t sent[kFrameBytes];
  const uint32_t flow = flow_of(packet);
  if (flow >= expected.flows) return "inner UDP ports";
  put_frame(sent, expected.pod, flow);
  if (expected.routed) {
    // A router writes MAC addresses of its own choice and counts the TTL down (RFC 1812).
    static constexpr uint8_t none[6]{};
    if (inner[0] & 1 || std::memcmp(inner, none, 6) == 0) return "inner destination MAC";
    if (inner[6] & 1 || std::memcmp(inner + 6, none, 6) == 0) return "inner source MAC";
    std::memcpy(sent, inner, 12);
    sent[14 + 8]--;
    put16(sent + 24, 0);
    put16(sent + 24, static_cast<uint16_t>(~fold(sum16(sent + 14, 20))));
  }
  return std::memcmp(inner, sent, kFrameBytes) == 0 ? "" : "inner frame";
}

std::string hex(const uint8_t* at, size_t bytes) {
  std::string text;
  char digits[3];
  for (size_t i = 0; i < bytes; i++) {
    std::snprintf(digits, sizeof digits, "%02x", at[i]);
    text += digits;
  }
  return text;
}

int packet_socket(unsigned ifindex) {
  const int fd = check(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "packet socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_IP);
  address.sll_ifindex = static_cast<int>(ifindex);
  check(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "packet socket");
  return fd;
}

/// Returns when `wanted` packets were right, and each of the first `replies` flows was answered
/// once.
void verify(int fd, int wanted, uint32_t replies, const Expected& expected) {
  uint8_t packet[2048];
  std::vector<bool> answered(replies);
  uint32_t open = replies;
  for (int seen = 0; (seen < wanted || open > 0) && !stopping;) {
    const ssize_t n = recv(fd, packet, sizeof packet, 0);
    if (n < 0 && errno == EINTR) continue;
    const auto bytes = static_cast<size_t>(check(n, "packet socket"));
    const bool vxlan = bytes >= 42 && packet[23] == 17 && get16(packet + 36) == kVxlanPort;
    if (!vxlan) continue;
    if (const std::string what = wrong(packet, bytes, expected); !what.empty()) {
      throw std::runtime_error("wrong packet (" + what + "): " + hex(packet, bytes));
    }
    seen++;
    const uint32_t flow = flow_of(packet);
    if (flow >= replies || answered[flow]) continue;
    turn_round(packet);
    check(send(fd, packet, bytes, 0), "packet socket");
    answered[flow] = true;
    open--;
  }
}

/// counts[0] = right packets, counts[1] = all others; drops everything.
int counting_program(int counts) {
  return load_xdp({
      load(BPF_W, BPF_REG_2, BPF_REG_1, offsetof(xdp_md, data)),
      load(BPF_W, BPF_REG_3, BPF_REG_1, offsetof(xdp_md, data_end)),
      mov_imm(BPF_REG_6, 1),  // key: other, until all is proven
      mov_reg(BPF_REG_4, BPF_REG_2),
      add_imm(BPF_REG_4, kTotal),
      jump_reg(BPF_JNE, BPF_REG_4, BPF_REG_3, 10),
      jump_reg(BPF_JGT, BPF_REG_4, BPF_REG_3, 9),
      load(BPF_H, BPF_REG_5, BPF_REG_2, 12),
      jump_imm(BPF_JNE, BPF_REG_5, htons(ETH_P_IP), 7),
      load(BPF_B, BPF_REG_5, BPF_REG_2, 23),
      jump_imm(BPF_JNE, BPF_REG_5, 17, 5),
      load(BPF_H, BPF_REG_5, BPF_REG_2, 36),
      jump_imm(BPF_JNE, BPF_REG_5, htons(kVxlanPort), 3),
      load(BPF_W, BPF_REG_5, BPF_REG_2, 46),
      jump32_imm(BPF_JNE, BPF_REG_5, static_cast<int>(htonl(kVni << 8)), 1),
      mov_imm(BPF_REG_6, 0),
      store_reg(BPF_W, BPF_REG_10, -4, BPF_REG_6),
      mov_reg(BPF_REG_2, BPF_REG_10),
      add_imm(BPF_REG_2, -4),
      map_low(BPF_REG_1, counts),
      map_high(),
      call(BPF_FUNC_map_lookup_elem),
      jump_imm(BPF_JEQ, BPF_REG_0, 0, 3),
      load(BPF_DW, BPF_REG_1, BPF_REG_0, 0),
      add_imm(BPF_REG_1, 1),
      store_reg(BPF_DW, BPF_REG_0, 0, BPF_REG_1),
      mov_imm(BPF_REG_0, XDP_DROP),
      leave(),
  });
}

void run(int argc, char** argv) {
  const auto text = [&](const char* name) { return argument(argc, argv, name); };
  const Expected expected{.routed = text("--layer") == "routed",
                          .flows = parse_flows(text("--flows")),
                          .node_mac = parse_mac(text("--node-mac")),
                          .peer_mac = parse_mac(text("--peer-mac")),
                          .node = parse_ipv4(text("--node-address")),
                          .peer = parse_ipv4(text("--peer-address")),
                          .pod = {.source_mac = parse_mac(text("--source-mac")),
                                  .gateway_mac = parse_mac(text("--gateway-mac")),
                                  .source = parse_ipv4(text("--source")),
                                  .destination = parse_ipv4(text("--destination"))}};
  const unsigned device = device_index(text("--device"));
  pin(std::stoi(text("--cpu")));
  const int listener = packet_socket(device);
  std::puts("ready");
  std::fflush(stdout);

  const int wanted = std::stoi(text("--verify"));
  verify(listener, wanted, static_cast<uint32_t>(std::stoul(text("--replies"))), expected);
  close(listener);
  const int counts = map_create(BPF_MAP_TYPE_PERCPU_ARRAY, 8, 2);
  attach_xdp(counting_program(counts), device);
  std::printf("{\"verified\":%d}\n", wanted);
  std::fflush(stdout);
  while (!stopping) {
    if (!asked(-1)) continue;
    std::printf("{\"packets\":%lu,\"other\":%lu,\"ns\":%lu}\n", map_sum(counts, 0),
                map_sum(counts, 1), monotonic_ns());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::stop_on_signals();
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sink: %s\n", error.what());
    return 1;
  }
}
