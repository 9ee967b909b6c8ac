// The frames of the path bench, and what must have become of them at the sink.
//
//   pod frame, 64 bytes (no FCS): Ethernet 14 | IPv4 20 | UDP 8 | payload 22
//   outer, 50 bytes in front of it: Ethernet 14 | IPv4 20 | UDP 8 | VXLAN 8
//
// Flows differ in the UDP source port. The first two payload bytes are its complement, so that the
// UDP checksum is the same in every frame and the sink can prove that no bytes were mixed up.
#pragma once

#include <arpa/inet.h>

#include <array>

#include "os.h"

namespace bench {

constexpr uint32_t kFrameBytes = 64;
constexpr uint32_t kOuterBytes = 50;
constexpr uint16_t kFirstPort = 10000;
constexpr uint16_t kFlows = 16;  // a power of two
constexpr uint16_t kPodPort = 9000;
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

/// Writes flow `flow`'s frame: `kFrameBytes` bytes.
inline void put_frame(uint8_t* frame, const Pod& pod, uint16_t flow) {
  std::memcpy(frame, pod.gateway_mac.data(), 6);
  std::memcpy(frame + 6, pod.source_mac.data(), 6);
  put16(frame + 12, 0x0800);
  uint8_t* ip = frame + 14;
  put_ipv4(ip, kFrameBytes - 14, pod.source, pod.destination);
  uint8_t* udp = ip + 20;
  const auto port = static_cast<uint16_t>(kFirstPort + flow % kFlows);
  put16(udp, port);
  put16(udp + 2, kPodPort);
  put16(udp + 4, kFrameBytes - 34);
  put16(udp + 6, 0);
  put16(udp + 8, static_cast<uint16_t>(~port));
  for (uint32_t i = 44; i < kFrameBytes; i++) frame[i] = static_cast<uint8_t>(i);
  put16(udp + 6, static_cast<uint16_t>(~udp_sum(ip, udp, kFrameBytes - 34)));
}

}  // namespace bench
