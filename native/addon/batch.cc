// Handles of batches: batch.h. And the native twin of dataplane/stages/encap.ts for outer IPv4,
// which says what is written and why.
#include "batch.h"

#include <array>

#include "arena.h"
#include "errors.h"

namespace hawser {
namespace {

/** Columns in the order that `openBatch` takes them. */
constexpr std::array<napi_typedarray_type, 16> kTypes = {
    napi_uint8_array,  napi_uint16_array, napi_uint8_array,  napi_uint32_array,
    napi_uint32_array, napi_uint32_array, napi_uint32_array, napi_uint32_array,
    napi_uint8_array,  napi_uint16_array, napi_uint32_array, napi_uint32_array,
    napi_uint8_array,  napi_uint16_array, napi_uint8_array,  napi_uint16_array};
/** Words of a packet's IPv6 destination. */
constexpr size_t kDst6 = 11;

void closeBatch(napi_env env, void* data, void*) {
  Columns* of = static_cast<Columns*>(data);
  napi_delete_reference(env, of->kept);
  delete of;
}

/** Outer IP, UDP, VXLAN and inner Ethernet header. */
constexpr uint32_t kOuterBytes = 50;
/** First of the dynamic ports (RFC 6335 section 6). */
constexpr uint32_t kFirstDynamicPort = 0xc000;
constexpr uint32_t kEthertypeIpv4 = 0x0800;
constexpr uint32_t kEthertypeIpv6 = 0x86dd;

/** `flowHash` of encap.ts. */
uint32_t flowHash(const Columns& b, uint32_t i, const uint8_t* inner, bool ipv6) {
  uint32_t h;
  if (ipv6) {
    h = be32(inner + 8);
    for (uint32_t at = 12; at < 40; at += 4) h = (h ^ be32(inner + at)) * 0x9e3779b1;
  } else {
    h = (b.src4[i] ^ b.dst4[i] * 0x85ebca6b) * 0x9e3779b1;
  }
  const uint8_t proto = b.proto[i];
  h ^= proto;
  if ((proto == kProtoTcp || proto == kProtoUdp) && (b.flags[i] & kFlagFragment) == 0) {
    h ^= be32(b.arena + b.l4[i]);
  }
  h = (h ^ h >> 15) * 0xc2b2ae35;
  return h ^ h >> 13;
}

/** `(batch, n, identification, step)`: see native.ts. */
napi_value encapIpv4(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value values[4];
  void* handle = nullptr;
  uint32_t n = 0;
  uint32_t identification = 0;
  uint32_t step = 0;
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 4 ||
      napi_get_value_external(env, values[0], &handle) != napi_ok ||
      napi_get_value_uint32(env, values[1], &n) != napi_ok ||
      napi_get_value_uint32(env, values[2], &identification) != napi_ok ||
      napi_get_value_uint32(env, values[3], &step) != napi_ok || n > kBatchPackets) {
    return reply(env, -EINVAL);
  }
  const Columns& b = *static_cast<const Columns*>(handle);
  uint32_t done = 0;
  uint32_t left = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (b.drop[i] != 0 || b.nextHop[i] >= b.hopCount) continue;
    const uint8_t* hop = b.hops + size_t{b.nextHop[i]} * kHopBytes;
    uint32_t header;
    std::memcpy(&header, hop + kHopHeaderBytes, sizeof header);
    if (header != kOuterBytes) {
      left += header != 0;
      continue;
    }
    const uint32_t l3 = b.l3[i];
    // 40 bytes of the inner packet are read, and the ports of its transport header.
    if (l3 < kOuterBytes || !b.holds(l3, 40) || !b.holds(b.l4[i], 4)) {
      left++;
      continue;
    }
    uint8_t* inner = b.arena + l3;
    uint8_t* outer = inner - kOuterBytes;
    const uint8_t* from = hop + kHopHeader;
    const bool ipv6 = (b.flags[i] & kFlagIpv6) != 0;
    const uint32_t total = b.len[i] + kOuterBytes;
    const uint32_t hash = flowHash(b, i, inner, ipv6);
    const uint32_t first = be32(inner);
    const uint32_t ecn = (ipv6 ? first >> 20 : first >> 16) & 3;
    identification = (identification + step) & 0xffff;
    std::memcpy(outer, from, 48);
    put32(outer, 0x45000000 | ecn << 16 | total);
    put32(outer + 4, identification << 16);
    uint32_t sum = (~uint32_t{be16(from + 10)} & 0xffff) + ecn + total + identification;
    sum = (sum >> 16) + (sum & 0xffff);
    put16(outer + 10, ~sum & 0xffff);
    put16(outer + 20, kFirstDynamicPort | (hash & 0x3fff));
    put32(outer + 24, (total - 20) << 16);
    put16(outer + 48, ipv6 ? kEthertypeIpv6 : kEthertypeIpv4);
    b.l3[i] = l3 - kOuterBytes;
    b.len[i] = total;
    b.flags[i] = static_cast<uint16_t>(kFlagOuter | (b.flags[i] & kFlagCsumPartial));
    done++;
  }
  return reply(env, done | left << 16);
}

}  // namespace

Napi::Value openBatch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 3 || !info[2].IsArray()) {
    throwErrno(env, "batch", EINVAL, "(arena, nextHops, columns)");
  }
  Napi::Uint8Array arena = bytesArg(info, 0, "arena");
  Napi::Uint8Array hops = bytesArg(info, 1, "nextHops");
  const Napi::Array columns = info[2].As<Napi::Array>();
  std::array<void*, kTypes.size()> at = {};
  for (uint32_t c = 0; c < kTypes.size(); c++) {
    napi_typedarray_type type;
    size_t length = 0;
    const Napi::Value column = columns.Get(c);
    if (napi_get_typedarray_info(env, column, &type, &length, &at[c], nullptr, nullptr) !=
            napi_ok ||
        type != kTypes[c] || length < kBatchPackets * (c == kDst6 ? 4 : 1)) {
      throwErrno(env, "batch", EINVAL, "columns must be those of a batch");
    }
  }
  Napi::Array kept = Napi::Array::New(env, 3);
  kept.Set(0u, arena);
  kept.Set(1u, hops);
  kept.Set(2u, columns);
  Columns* of = new Columns{arena.Data(),
                            arena.ByteLength(),
                            hops.Data(),
                            static_cast<uint32_t>(hops.ByteLength() / kHopBytes),
                            static_cast<const uint8_t*>(at[0]),
                            static_cast<uint16_t*>(at[1]),
                            static_cast<uint8_t*>(at[2]),
                            static_cast<uint32_t*>(at[3]),
                            static_cast<uint32_t*>(at[4]),
                            static_cast<uint32_t*>(at[5]),
                            static_cast<uint32_t*>(at[6]),
                            static_cast<uint32_t*>(at[7]),
                            static_cast<const uint8_t*>(at[8]),
                            static_cast<const uint16_t*>(at[9]),
                            static_cast<uint32_t*>(at[10]),
                            static_cast<uint32_t*>(at[11]),
                            static_cast<const uint8_t*>(at[12]),
                            static_cast<const uint16_t*>(at[13]),
                            static_cast<uint8_t*>(at[14]),
                            static_cast<const uint16_t*>(at[15]),
                            nullptr};
  napi_value handle = nullptr;
  if (napi_create_reference(env, kept, 1, &of->kept) != napi_ok ||
      napi_create_external(env, of, closeBatch, nullptr, &handle) != napi_ok) {
    delete of;
    throwErrno(env, "batch", ENOMEM);
  }
  return Napi::Value(env, handle);
}

}  // namespace hawser

void registerBatch(Napi::Env env, Napi::Object exports) {
  hawser::exportControl(env, exports, "openBatch", hawser::openBatch);
  hawser::exportBurst(env, exports, "encapIpv4", hawser::encapIpv4);
  hawser::exportBurst(env, exports, "parse", hawser::parseBatch);
}
