// As lookup-poptrie.cc, with AVX-512: a step takes eight addresses one node down, a lane of 64 bits
// each, since a node's maps have 64 bits. kGroups groups of eight take turns, so that what one
// asked for is there when it is its turn again. No branch depends on what is in a node.
//
// Gathers would do for all loads; but on the CPUs at hand eight loads from addresses that went
// through the stack are faster, and a node's two maps are one load of 128 bits.
#include "avx512.h"
#include "poptrie.h"

namespace hawser::poptrie {

#if defined(__x86_64__)
namespace {

#define HAWSER_POPTRIE __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))
#define HAWSER_POPTRIE_INLINE HAWSER_POPTRIE __attribute__((always_inline)) inline

constexpr uint32_t kEight = 8;
constexpr uint32_t kGroups = 8;

/** Eight addresses: the bits that are not decided yet, the next one on top; and the slots they have
 * come to. */
struct Group {
  __m512i high;
  __m512i low;
  __m512i slots;
};

HAWSER_POPTRIE_INLINE __m512i all(uint64_t value) {
  return _mm512_set1_epi64(static_cast<int64_t>(value));
}

/** The words at these places. */
HAWSER_POPTRIE_INLINE __m512i load32(const uint32_t* words, __m512i places) {
  alignas(64) uint64_t at[kEight];
  _mm512_store_si512(at, places);
  const auto word = [&](int lane) { return static_cast<int>(word32(words + at[lane])); };
  return _mm512_cvtepu32_epi64(
      _mm256_set_epi32(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0)));
}

HAWSER_POPTRIE_INLINE __m128i load128(const uint32_t* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/** The first two pairs of words behind these places. */
HAWSER_POPTRIE_INLINE void loadMaps(const uint32_t* words, __m512i places, __m512i& first,
                                    __m512i& second) {
  alignas(64) uint64_t at[kEight];
  _mm512_store_si512(at, places);
  __m512i even = _mm512_castsi128_si512(load128(words + at[0]));
  even = _mm512_inserti32x4(even, load128(words + at[2]), 1);
  even = _mm512_inserti32x4(even, load128(words + at[4]), 2);
  even = _mm512_inserti32x4(even, load128(words + at[6]), 3);
  __m512i odd = _mm512_castsi128_si512(load128(words + at[1]));
  odd = _mm512_inserti32x4(odd, load128(words + at[3]), 1);
  odd = _mm512_inserti32x4(odd, load128(words + at[5]), 2);
  odd = _mm512_inserti32x4(odd, load128(words + at[7]), 3);
  first = _mm512_unpacklo_epi64(even, odd);
  second = _mm512_unpackhi_epi64(even, odd);
}

HAWSER_POPTRIE_INLINE void fetch(const uint32_t* words, __m512i slots) {
  alignas(64) uint64_t at[kEight];
  _mm512_store_si512(at, _mm512_and_si512(slots, all(kWord)));
  for (const uint64_t word : at) __builtin_prefetch(words + word);
}

HAWSER_POPTRIE_INLINE void begin4(const uint32_t* words, const uint32_t* keys, Group& group) {
  constexpr uint32_t kBits = Shape<4>::kDirectBits;
  const __m256i addresses = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys));
  const __m512i high = _mm512_slli_epi64(_mm512_cvtepu32_epi64(addresses), 32);
  group.slots = load32(words + kHeaderWords, _mm512_srli_epi64(high, 64 - kBits));
  group.high = _mm512_slli_epi64(high, kBits);
  group.low = _mm512_setzero_si512();
}

HAWSER_POPTRIE_INLINE void begin6(const uint32_t* words, const uint32_t* keys, Group& group) {
  constexpr uint32_t kBits = Shape<6>::kDirectBits;
  constexpr uint32_t kTop = kBits + kTableBits;
  const __m512i front = _mm512_loadu_si512(keys);
  const __m512i back = _mm512_loadu_si512(keys + 16);
  const __m512i even = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
  // The first word of a pair is the upper one.
  const __m512i high = _mm512_rol_epi64(_mm512_permutex2var_epi64(front, even, back), 32);
  const __m512i low = _mm512_rol_epi64(_mm512_permutex2var_epi64(front, odd, back), 32);
  const __m512i slots = load32(words + kHeaderWords, _mm512_srli_epi64(high, 64 - kBits));
  const __mmask8 tables = _mm512_test_epi64_mask(slots, all(kPointer));
  const __m512i cells =
      _mm512_and_si512(_mm512_srli_epi64(high, 64 - kTop), all((1u << kTableBits) - 1));
  const __m512i places = _mm512_add_epi64(_mm512_and_si512(slots, all(kWord)), cells);
  group.slots =
      _mm512_mask_mov_epi64(slots, tables, load32(words, _mm512_maskz_mov_epi64(tables, places)));
  group.high = _mm512_or_si512(_mm512_slli_epi64(high, kTop), _mm512_srli_epi64(low, 64 - kTop));
  group.low = _mm512_slli_epi64(low, kTop);
}

/** One node, or one skip, further for the addresses that have not arrived; whether any goes on. */
template <int kFamily>
HAWSER_POPTRIE_INLINE bool step(const Tables<kFamily>& tables, Group& group) {
  const __m512i one = all(1);
  const __m512i at = _mm512_and_si512(group.slots, all(kWord));
  const __mmask8 active = _mm512_test_epi64_mask(group.slots, all(kPointer));
  const __mmask8 held = _mm512_mask_cmplt_epu64_mask(
      active, _mm512_sub_epi64(at, all(Tables<kFamily>::kBase)), all(tables.room));
  __m512i vector;
  __m512i leafvec;
  // The others read the header, and what they read there is not used.
  loadMaps(tables.words, _mm512_maskz_mov_epi64(held, at), vector, leafvec);

  const __m512i bit = _mm512_sllv_epi64(one, _mm512_srli_epi64(group.high, 64 - kStride));
  const __m512i upTo = _mm512_sub_epi64(_mm512_add_epi64(bit, bit), one);
  const __mmask8 below = _mm512_test_epi64_mask(vector, bit);
  const __m512i map = _mm512_mask_mov_epi64(leafvec, below, vector);
  const __m512i rank = _mm512_popcnt_epi64(_mm512_and_si512(map, upTo));
  const __m512i leaf = _mm512_sub_epi64(_mm512_add_epi64(at, at), rank);
  const __m512i slot = _mm512_add_epi64(_mm512_add_epi64(at, rank), all(kSlots - 1));
  const __m512i place = _mm512_mask_mov_epi64(_mm512_srli_epi64(leaf, 1), below, slot);

  __mmask8 nodes = held;
  if constexpr (kFamily == 6) nodes = _mm512_mask_testn_epi64_mask(held, group.slots, all(kSkip));
  const __m512i word = load32(tables.words, _mm512_maskz_mov_epi64(nodes, place));
  const __m512i shift = _mm512_slli_epi64(_mm512_and_si512(leaf, one), 4);
  const __m512i hop = _mm512_and_si512(_mm512_srlv_epi64(word, shift), all(0xffff));
  __m512i next = _mm512_mask_mov_epi64(hop, below, word);

  if constexpr (kFamily == 6) {
    // A skip's words lie in the same 128 bits: next hop and count, address, slot.
    const __mmask8 skips = held & static_cast<__mmask8>(~nodes);
    const __m512i count = _mm512_and_si512(_mm512_srli_epi64(vector, 16), all(31));
    const __m512i bits = _mm512_srlv_epi64(group.high, _mm512_sub_epi64(all(64), count));
    const __mmask8 same = _mm512_mask_cmpeq_epi64_mask(skips, bits, _mm512_srli_epi64(vector, 32));
    next = _mm512_mask_and_epi64(next, skips, vector, all(0xffff));
    next = _mm512_mask_and_epi64(next, same, leafvec, all(0xffffffff));
    const __m512i by = _mm512_mask_mov_epi64(all(kStride), skips, count);
    const __m512i rest = _mm512_srlv_epi64(group.low, _mm512_sub_epi64(all(64), by));
    group.high = _mm512_or_si512(_mm512_sllv_epi64(group.high, by), rest);
    group.low = _mm512_sllv_epi64(group.low, by);
  } else {
    group.high = _mm512_slli_epi64(group.high, kStride);
  }
  group.slots = _mm512_mask_mov_epi64(group.slots, active, _mm512_maskz_mov_epi64(held, next));
  return _mm512_test_epi64_mask(group.slots, all(kPointer)) != 0;
}

template <int kFamily>
HAWSER_POPTRIE uint32_t walkEights(const Tables<kFamily>& tables, const uint32_t* keys, uint32_t n,
                                   uint16_t otherwise, uint16_t* answers) {
  Group groups[kGroups];
  uint32_t done = 0;
  while (n - done >= kEight) {
    const uint32_t left = (n - done) / kEight;
    const uint32_t count = left < kGroups ? left : kGroups;
    for (uint32_t k = 0; k < count; k++) {
      const uint32_t* eight = keys + (done + k * kEight) * Shape<kFamily>::kKeyWords;
      if constexpr (kFamily == 4) {
        begin4(tables.words, eight, groups[k]);
      } else {
        begin6(tables.words, eight, groups[k]);
      }
      fetch(tables.words, groups[k].slots);
    }
    uint32_t active = (1u << count) - 1;
    for (uint32_t round = 0; round < Shape<kFamily>::kSteps && active != 0; round++) {
      for (uint32_t k = 0; k < count; k++) {
        if ((active >> k & 1) == 0) continue;
        if (!step(tables, groups[k])) active &= ~(1u << k);
        fetch(tables.words, groups[k].slots);
      }
    }
    for (uint32_t k = 0; k < count; k++) {
      const __m512i slots = groups[k].slots;
      const __mmask8 none = _mm512_testn_epi64_mask(slots, slots);
      const __m512i hops = _mm512_mask_mov_epi64(slots, none, all(otherwise));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(answers + done + k * kEight),
                       _mm512_cvtepi64_epi16(hops));
    }
    done += count * kEight;
  }
  return done;
}

const bool kEights = kAvx512 && __builtin_cpu_supports("avx512vpopcntdq");

}  // namespace

const WalkEights<4> kWalkEights4 = kEights ? walkEights<4> : nullptr;
const WalkEights<6> kWalkEights6 = kEights ? walkEights<6> : nullptr;
#else
const WalkEights<4> kWalkEights4 = nullptr;
const WalkEights<6> kWalkEights6 = nullptr;
#endif

}  // namespace hawser::poptrie
