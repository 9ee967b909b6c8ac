// A batch of packets as native functions see it: the columns of dataplane/packet/batch.ts, the
// arena that its packets lie in, and the worker's copy of the next hops.
#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>

namespace hawser {

/** Most packets of a batch: BATCH_SIZE. */
constexpr uint32_t kBatchPackets = 256;

/** Bits of a packet's flags: batch.ts. */
constexpr uint16_t kFlagIpv6 = 1;
constexpr uint16_t kFlagCsumPartial = 2;
constexpr uint16_t kFlagFragment = 4;
constexpr uint16_t kFlagOuter = 16;

constexpr uint8_t kProtoIcmp = 1;
constexpr uint8_t kProtoTcp = 6;
constexpr uint8_t kProtoUdp = 17;
constexpr uint8_t kProtoIcmpv6 = 58;
constexpr uint8_t kProtoSctp = 132;

/** A next hop: dataplane/tables/next-hops.ts. */
constexpr uint32_t kHopBytes = 128;
constexpr uint32_t kHopHeaderBytes = 12;
constexpr uint32_t kHopHeader = 16;
constexpr uint32_t kHopIncarnation = 108;

struct Columns {
  uint8_t* arena;
  uint64_t arenaBytes;
  const uint8_t* hops;
  uint32_t hopCount;
  const uint8_t* drop;
  uint16_t* flags;
  uint8_t* proto;
  uint32_t* l3;
  uint32_t* l4;
  uint32_t* len;
  uint32_t* src4;
  uint32_t* dst4;
  const uint8_t* network;
  const uint16_t* nextHop;
  uint32_t* known;
  uint32_t* dst6;
  const uint8_t* gsoType;
  const uint16_t* csumStart;
  uint8_t* parsed;
  const uint16_t* source;
  napi_ref kept;

  /** Whether `bytes` bytes from `at` lie in the arena. */
  bool holds(uint64_t at, uint64_t bytes) const { return at + bytes <= arenaBytes; }
};

/** `parse`, a burst function: see native.ts. */
napi_value parseBatch(napi_env env, napi_callback_info info);

/** `openBatch(arena, nextHops, columns)`: see native.ts. */
Napi::Value openBatch(const Napi::CallbackInfo& info);

inline uint16_t be16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

inline uint32_t be32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}

inline void put16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

inline void put32(uint8_t* at, uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(at, &value, sizeof value);
}

}  // namespace hawser
