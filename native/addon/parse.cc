// The native twin of dataplane/stages/parse.ts for what most packets are: IPv4 without options that
// is no fragment, IPv6 without extension headers, no superframe, no checksum that the device has
// placed, nothing wrong with it. What is anything else is left as it is: parse.ts looks at it, and
// says what is wrong.
#include "arena.h"
#include "batch.h"

namespace hawser {
namespace {

constexpr uint32_t kEthernetBytes = 14;
constexpr uint32_t kIpv4Bytes = 20;
constexpr uint32_t kIpv6Bytes = 40;
constexpr uint32_t kTcpBytes = 20;
constexpr uint32_t kUdpBytes = 8;
constexpr uint32_t kIcmpBytes = 8;
constexpr uint32_t kEthertypeIpv4 = 0x0800;
constexpr uint32_t kEthertypeIpv6 = 0x86dd;

/** Extension headers of IPv6 (RFC 8200 section 4): hop-by-hop, routing, fragment, authentication,
 * destination options. */
inline bool isExtension(uint8_t next) {
  return next == 0 || next == 43 || next == 44 || next == 51 || next == 60;
}

/** What a port's record says of its Ethernet headers. */
struct Link {
  bool ethernet;
  /** Frames come from one MAC alone. */
  bool pod;
  uint32_t macHigh;
  uint32_t macLow;
  uint32_t peerMacHigh;
  uint32_t peerMacLow;
};

/** Whether the Ethernet header in front of `ip` is as it should be, and of an IP packet. */
inline bool isLink(const Link& link, const uint8_t* ip) {
  const uint8_t* frame = ip - kEthernetBytes;
  if (link.pod && (be32(frame + 6) != link.peerMacHigh || be16(frame + 10) != link.peerMacLow)) {
    return false;
  }
  const bool foreign = be32(frame) != link.macHigh || be16(frame + 4) != link.macLow;
  if (foreign && (frame[0] & 1) == 0) return false;
  const uint32_t type = be16(frame + 12);
  return type == kEthertypeIpv4 || type == kEthertypeIpv6;
}

inline uint32_t halves(uint32_t word) { return (word >> 16) + (word & 0xffff); }

inline uint32_t folded(uint32_t sum) {
  sum = (sum >> 16) + (sum & 0xffff);
  return (sum >> 16) + (sum & 0xffff);
}

/** What has been read of a packet, before it is written. */
struct Parsed {
  uint32_t total;
  uint32_t l4;
  uint8_t proto;
  bool ipv6;
  /** Sum of both addresses: of a pseudo-header. */
  uint32_t addresses;
};

inline bool readIpv4(const uint8_t* ip, uint32_t len, Parsed* out) {
  const uint32_t first = be32(ip);
  if ((first >> 24 & 15) != 5 || len < kIpv4Bytes) return false;
  out->total = first & 0xffff;
  if (out->total < kIpv4Bytes || out->total > len) return false;
  out->addresses = halves(be32(ip + 12)) + halves(be32(ip + 16));
  const uint32_t second = be32(ip + 4);
  if ((second & 0x3fff) != 0) return false;
  if (folded(halves(first) + halves(second) + halves(be32(ip + 8)) + out->addresses) != 0xffff) {
    return false;
  }
  out->proto = ip[9];
  out->l4 = kIpv4Bytes;
  out->ipv6 = false;
  return true;
}

inline bool readIpv6(const uint8_t* ip, uint32_t len, Parsed* out) {
  if (len < kIpv6Bytes) return false;
  out->total = kIpv6Bytes + be16(ip + 4);
  if (out->total > len || isExtension(ip[6])) return false;
  out->addresses = 0;
  for (uint32_t at = 8; at < kIpv6Bytes; at += 4) out->addresses += halves(be32(ip + at));
  out->proto = ip[6];
  out->l4 = kIpv6Bytes;
  out->ipv6 = true;
  return true;
}

/** Whether the transport header lies in the packet. `*flags` gets F_CSUM_PARTIAL when its checksum
 * is only the pseudo-header's. */
inline bool readTransport(const uint8_t* ip, const Parsed& packet, bool hiddenPartial,
                          uint16_t* flags) {
  const uint8_t* l4 = ip + packet.l4;
  const uint32_t left = packet.total - packet.l4;
  uint32_t field;
  if (packet.proto == kProtoTcp) {
    if (left < kTcpBytes) return false;
    const uint32_t header = (l4[12] >> 4) * 4u;
    if (header < kTcpBytes || header > left) return false;
    field = be16(l4 + 16);
  } else if (packet.proto == kProtoUdp) {
    if (left < kUdpBytes) return false;
    const uint32_t length = be16(l4 + 4);
    if (length < kUdpBytes || length > left) return false;
    field = be16(l4 + 6);
  } else {
    if (packet.proto == (packet.ipv6 ? kProtoIcmpv6 : kProtoIcmp) && left < kIcmpBytes) {
      return false;
    }
    return (*flags & kFlagCsumPartial) == 0;
  }
  if (hiddenPartial && field == folded(packet.addresses + packet.proto + left)) {
    *flags |= kFlagCsumPartial;
  }
  return true;
}

}  // namespace

/** `(batch, n, ethernet, pod, macHigh, macLow, peerMacHigh, peerMacLow, hiddenPartial)`. */
napi_value parseBatch(napi_env env, napi_callback_info info) {
  size_t count = 9;
  napi_value values[9];
  void* handle = nullptr;
  uint32_t number[8];
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 9 ||
      napi_get_value_external(env, values[0], &handle) != napi_ok) {
    return reply(env, -EINVAL);
  }
  for (uint32_t k = 0; k < 8; k++) {
    if (napi_get_value_uint32(env, values[k + 1], &number[k]) != napi_ok) {
      return reply(env, -EINVAL);
    }
  }
  const uint32_t n = number[0];
  if (n > kBatchPackets) return reply(env, -EINVAL);
  const Link link = {number[1] != 0, number[2] != 0, number[3], number[4], number[5], number[6]};
  const bool hiddenPartial = number[7] != 0;
  const Columns& b = *static_cast<const Columns*>(handle);
  uint32_t left = 0;
  uint32_t ipv4 = 0;
  uint32_t ipv6 = 0;
  for (uint32_t i = 0; i < n; i++) {
    b.parsed[i] = 0;
    if (b.drop[i] != 0) continue;
    left++;
    const uint32_t l3 = b.l3[i];
    const uint32_t len = b.len[i];
    if (l3 < kEthernetBytes || len < kIpv4Bytes || !b.holds(l3, len)) continue;
    if (b.gsoType[i] != 0 || b.csumStart[i] != 0) continue;
    const uint8_t* ip = b.arena + l3;
    if (link.ethernet && !isLink(link, ip)) continue;
    Parsed packet;
    const uint8_t version = ip[0] >> 4;
    if (version == 4 ? !readIpv4(ip, len, &packet) : version != 6 || !readIpv6(ip, len, &packet)) {
      continue;
    }
    uint16_t flags = b.flags[i];
    if (!readTransport(ip, packet, hiddenPartial, &flags)) continue;
    if (packet.ipv6) {
      flags |= kFlagIpv6;
      for (uint32_t w = 0; w < 4; w++) b.dst6[i * 4 + w] = be32(ip + 24 + 4 * w);
      ipv6++;
    } else {
      b.src4[i] = be32(ip + 12);
      b.dst4[i] = be32(ip + 16);
      ipv4++;
    }
    b.flags[i] = flags;
    b.len[i] = packet.total;
    b.proto[i] = packet.proto;
    b.l4[i] = l3 + packet.l4;
    b.parsed[i] = 1;
    left--;
  }
  return reply(env, left | ipv4 << 9 | ipv6 << 18);
}

}  // namespace hawser
