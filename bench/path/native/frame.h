// The frames of the path bench, and what must have become of them at the sink.
//
//   pod frame, 64 bytes (no FCS): Ethernet 14 | IPv4 20 | UDP 8 | payload 22
//   outer, 50 bytes in front of it: Ethernet 14 | IPv4 20 | UDP 8 | VXLAN 8
//
// Flows differ in the UDP ports: flow N has source port kFirstPort + N % kSourcePorts, and
// destination port kPodPort + N / kSourcePorts. The first four payload bytes are their complements,
// so that the UDP checksum is the same in every frame and the sink can prove that no bytes were
// mixed up.
#pragma once

#include <arpa/inet.h>

#include <array>

#include "os.h"

namespace bench {

constexpr uint32_t kFrameBytes = 64;
constexpr uint32_t kOuterBytes = 50;
constexpr uint16_t kFirstPort = 10000;
constexpr uint32_t kSourcePorts = 1U << 15;
constexpr uint16_t kPodPort = 9000;
constexpr uint32_t kMaxFlows = kSourcePorts << 15;
constexpr uint16_t kVxlanPort = 4789;
constexpr uint32_t kVni = 1;

using Mac = std::array<uint8_t, 6>;

inline Mac parse_mac(const std::string& text) {
  unsigned b[6];
  char rest = 0;
  if (sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
             &rest) != 6) {
    throw std::runtime_error("MAC address " + text + ": not of the form 02:00:00:00:00:01");
  }
  Mac mac;
  for (size_t i = 0; i < 6; i++) mac[i] = static_cast<uint8_t>(b[i]);
  return mac;
}

/// In network order.
inline uint32_t parse_ipv4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) {
    throw std::runtime_error("IPv4 address " + text + ": not of the form 10.0.0.1");
  }
  return address.s_addr;
}

inline void put16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
inline uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

/// One's-complement sum (RFC 1071), not folded, not inverted.
inline uint32_t sum16(const uint8_t* at, size_t bytes, uint32_t seed = 0) {
  for (size_t i = 0; i + 1 < bytes; i += 2) seed += get16(at + i);
  return bytes % 2 ? seed + static_cast<uint32_t>(at[bytes - 1] << 8) : seed;
}
inline uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/// Writes an IPv4 header without options, checksum included. RFC 791.
inline void put_ipv4(uint8_t* ip, uint16_t total, uint32_t source, uint32_t destination) {
  std::memset(ip, 0, 20);
  ip[0] = 0x45;
  put16(ip + 2, total);
  put16(ip + 6, 0x4000);  // don't fragment
  ip[8] = 64;
  ip[9] = 17;
  std::memcpy(ip + 12, &source, 4);
  std::memcpy(ip + 16, &destination, 4);
  put16(ip + 10, static_cast<uint16_t>(~fold(sum16(ip, 20))));
}

/// The pod's side: who sends to whom.
struct Pod {
  Mac source_mac;
  Mac gateway_mac;
  uint32_t source;
  uint32_t destination;
};

inline uint16_t udp_sum(const uint8_t* ip, const uint8_t* udp, uint16_t bytes) {
  return fold(sum16(udp, bytes, sum16(ip + 12, 8, 17U + bytes)));
}

/// How many flows there are: `--flows`, a power of two.
inline uint32_t parse_flows(const std::string& text) {
  const unsigned long flows = std::stoul(text);
  if (flows == 0 || flows > kMaxFlows || (flows & (flows - 1)) != 0) {
    throw std::runtime_error("--flows " + text + ": a power of two up to " +
                             std::to_string(kMaxFlows));
  }
  return static_cast<uint32_t>(flows);
}

/// Writes flow `flow`'s frame: `kFrameBytes` bytes. The first destination port is `pod_port`.
inline void put_frame(uint8_t* frame, const Pod& pod, uint32_t flow, uint16_t pod_port = kPodPort) {
  std::memcpy(frame, pod.gateway_mac.data(), 6);
  std::memcpy(frame + 6, pod.source_mac.data(), 6);
  put16(frame + 12, 0x0800);
  uint8_t* ip = frame + 14;
  put_ipv4(ip, kFrameBytes - 14, pod.source, pod.destination);
  uint8_t* udp = ip + 20;
  const auto source_port = static_cast<uint16_t>(kFirstPort + flow % kSourcePorts);
  const auto destination_port = static_cast<uint16_t>(pod_port + flow / kSourcePorts);
  put16(udp, source_port);
  put16(udp + 2, destination_port);
  put16(udp + 4, kFrameBytes - 34);
  put16(udp + 6, 0);
  put16(udp + 8, static_cast<uint16_t>(~source_port));
  put16(udp + 10, static_cast<uint16_t>(~destination_port));
  for (uint32_t i = 46; i < kFrameBytes; i++) frame[i] = static_cast<uint8_t>(i);
  put16(udp + 6, static_cast<uint16_t>(~udp_sum(ip, udp, kFrameBytes - 34)));
}

}  // namespace bench
