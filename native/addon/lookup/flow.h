// The flow table as the native functions see it: dataplane/flow/flow.ts and region.ts have the
// layout.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "lookup.h"

namespace hawser::flow {

constexpr uint32_t kEntryBytes = 64;
constexpr uint32_t kKeyWords = 10;
constexpr uint32_t kBucket = 4;
constexpr uint32_t kSpread = 0x5bd1e995;
constexpr uint32_t kStripes = 1 << 13;
/** Looks at one key before it counts as missed: cuckoo.ts has the same. */
constexpr uint32_t kLooks = 1 << 10;
/** Keys of one go: their entries fit the first cache. */
constexpr uint32_t kBatch = 128;

/** States of an entry: flow.ts. */
constexpr uint32_t kThere = 2;
constexpr uint32_t kStateBits = 3;
constexpr uint32_t kLive = 2;

enum Found : uint8_t { kMiss = 0, kCurrent = 1, kStale = 2 };

/** An entry, as flow.ts has it. */
struct Entry {
  uint32_t state;
  uint32_t hash;
  uint64_t key[5];
  uint32_t generation;
  uint32_t action[2];
  uint32_t tail;
};
static_assert(sizeof(Entry) == kEntryBytes);

/** 64-bit words of an account: packets (40 bits) and beginning, bytes, labels. */
constexpr uint32_t kAccountWords = 3;

struct FlowTable {
  const uint32_t* moves;
  const uint32_t* locks;
  const uint16_t* tags;
  const Entry* entries;
  uint64_t* accounts;
  uint32_t mask;
  napi_ref array;
};

/** The columns of one probe. */
struct Probe {
  const FlowTable* table;
  const uint32_t* words;
  const uint32_t* hashes;
  const uint8_t* directions;
  uint32_t generation;
  int32_t* slots;
  uint32_t* actions;
  uint8_t* found;
  /** The action of the other direction; nullptr: nobody asks. */
  uint32_t* reverses;
};

inline uint16_t tagOf(uint32_t hash) { return static_cast<uint16_t>(hash >> 16 | 1); }

inline uint32_t otherBucket(uint32_t bucket, uint16_t tag, uint32_t mask) {
  return (bucket ^ (tag * kSpread | 1)) & mask;
}

inline uint64_t tagsOf(const FlowTable& table, uint32_t bucket) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(table.tags) + bucket, __ATOMIC_RELAXED);
}

inline uint32_t stateOf(const Entry& entry) {
  return __atomic_load_n(&entry.state, __ATOMIC_RELAXED);
}

/** Which of the eight tags is the one: a bit each. */
inline uint32_t matches(uint64_t first, uint64_t second, uint16_t tag) {
#if defined(__SSE2__)
  const __m128i both = _mm_set_epi64x(static_cast<int64_t>(second), static_cast<int64_t>(first));
  const __m128i same = _mm_cmpeq_epi16(both, _mm_set1_epi16(static_cast<int16_t>(tag)));
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128())));
#else
  uint32_t found = 0;
  for (uint32_t k = 0; k < kBucket; k++) {
    found |= static_cast<uint32_t>(static_cast<uint16_t>(first >> 16 * k) == tag) << k;
    found |= static_cast<uint32_t>(static_cast<uint16_t>(second >> 16 * k) == tag) << (k + kBucket);
  }
  return found;
#endif
}

/** 0 when the entry has the key. */
inline uint64_t differ(const Entry& entry, const uint32_t* words) {
  uint64_t bits = 0;
  for (uint32_t k = 0; k < kKeyWords / 2; k++) {
    uint64_t word;
    std::memcpy(&word, words + 2 * k, sizeof word);
    bits |= word ^ __atomic_load_n(&entry.key[k], __ATOMIC_RELAXED);
  }
  return bits;
}

inline uint32_t load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); }

/** Looks up rows `from` .. `to`, at most kBatch. */
void probeSome(const Probe& probe, uint32_t from, uint32_t to);

}  // namespace hawser::flow
