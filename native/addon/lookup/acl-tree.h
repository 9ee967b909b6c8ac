// Blocks of a tree ACL (dataplane/acl/tree/layout.ts), and how headers that stand at leaves are
// compared with the eight rules of one at once.
#pragma once

#include <bit>
#include <cstring>

#include "avx512.h"
#include "lookup.h"

namespace hawser::tree {

constexpr uint32_t kLine = 64;
constexpr uint32_t kLanes = 8;
/** No answer: behind every order, and the id is 0. */
constexpr uint32_t kNothing = 0xffff0000;
/** Headers that walk together: their blocks (192 or 384 bytes) stay in the first-level cache. */
constexpr uint32_t kGroup = 128;

/** Words 0 and 1 of a node. */
struct Node {
  uint32_t base;
  uint32_t how;
};

inline bool isLeaf(uint32_t how) { return (how & 15) == 0; }

/** Where a block of a family keeps what. `words` are those of a header. */
template <uint32_t words>
struct Block {
  static constexpr uint32_t addressWords = words - 2;
  static constexpr uint32_t first = addressWords * 32;
  static constexpr uint32_t span = first + 32;
  static constexpr uint32_t lengths = first + 64;
  static constexpr uint32_t protocols = first + 80;
  static constexpr uint32_t answers = first + 96;
  static constexpr uint32_t bytes = first + 128;
};

/** Vectors write whole: so many items of a list behind its end are scratch. */
constexpr uint32_t kSlack = 16;

/** Headers (by their place in the group) that have come to nodes, column by column. */
struct List {
  uint32_t count = 0;
  uint32_t header[kGroup + kSlack];
  /** Words 0 and 1 of the node. */
  uint32_t base[kGroup + kSlack];
  uint32_t how[kGroup + kSlack];
};

/** One group on its way through one tree. */
struct Walk {
  List walking;
  List atLeaf;
  /** Order << 16 | id of the best rule so far, by header. */
  uint32_t best[kGroup + kSlack];
};

template <typename T>
inline T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/** Takes the rule in the lowest lane of `lanes` if it is better. No branch: nothing predicts it. */
template <uint32_t words>
inline void settle(Walk& walk, uint32_t i, const uint8_t* block, uint32_t lanes) {
  const uint32_t lane = static_cast<uint32_t>(std::countr_zero(lanes | 1u << (kLanes - 1)));
  const uint32_t none = lanes == 0 ? kNothing : 0;
  const uint32_t answer = load<uint32_t>(block + Block<words>::answers + 4 * lane) | none;
  walk.best[i] = answer < walk.best[i] ? answer : walk.best[i];
}

/** The lanes of a block that match, a bit each. */
template <uint32_t words>
inline uint32_t matchScalar(const uint8_t* block, const uint32_t* header) {
  using At = Block<words>;
  constexpr uint32_t half = At::addressWords / 2;
  const uint32_t ports[2] = {header[words - 2] >> 16, header[words - 2] & 0xffff};
  uint32_t lanes = 0;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    uint32_t differ = 0;
    for (uint32_t w = 0; w < At::addressWords; w++) {
      const int length = block[At::lengths + (w < half ? 0 : kLanes) + lane];
      const int open = 32 * static_cast<int>(w % half + 1) - length;
      const uint64_t bits = load<uint32_t>(block + 32 * w + 4 * lane) ^ header[w];
      differ |= static_cast<uint32_t>(bits >> (open < 0 ? 0 : open > 32 ? 32 : open));
    }
    for (uint32_t side = 0; side < 2; side++) {
      const uint32_t at = 16 * side + 2 * lane;
      const uint32_t first = load<uint16_t>(block + At::first + at);
      differ |= ports[side] - first > load<uint16_t>(block + At::span + at);
    }
    differ |=
        (block[At::protocols + lane] ^ header[words - 1]) & block[At::protocols + kLanes + lane];
    lanes |= static_cast<uint32_t>(differ == 0) << lane;
  }
  return lanes;
}

/** Compares the headers that stand at leaves with the blocks there; most leaves have one. */
template <uint32_t words>
void compareScalar(Walk& walk, const uint8_t* blocks, const uint32_t* headers) {
  const List& list = walk.atLeaf;
  for (uint32_t k = 0; k < list.count; k++) {
    const uint32_t i = list.header[k];
    const uint8_t* block = blocks + list.base[k] * size_t{Block<words>::bytes};
    uint32_t lanes = matchScalar<words>(block, headers + i * words);
    for (uint32_t left = list.how[k] >> 4 & 0xfff; left > 1 && lanes == 0; left--) {
      block += Block<words>::bytes;
      lanes = matchScalar<words>(block, headers + i * words);
    }
    settle<words>(walk, i, block, lanes);
  }
}

#ifdef __x86_64__
template <uint32_t words>
__attribute__((target("avx2"))) inline __m256i differAvx2(const uint8_t* block,
                                                          const uint32_t* header) {
  using At = Block<words>;
  constexpr uint32_t half = At::addressWords / 2;
  __m256i differ = _mm256_setzero_si256();
  for (uint32_t side = 0; side < 2; side++) {
    const __m256i length = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + At::lengths + kLanes * side)));
    for (uint32_t w = 0; w < half; w++) {
      const uint32_t word = side * half + w;
      // Bits of this word behind the prefix; shifting by 32 or more leaves nothing.
      const __m256i open =
          _mm256_sub_epi32(_mm256_set1_epi32(static_cast<int>(32 * (w + 1))), length);
      const __m256i bits =
          _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 32 * word)),
                           _mm256_set1_epi32(static_cast<int>(header[word])));
      const __m256i shift = half == 1 ? open : _mm256_max_epi32(open, _mm256_setzero_si256());
      differ = _mm256_or_si256(differ, _mm256_srlv_epi32(bits, shift));
    }
  }
  return differ;
}

/** The header's source port eight times, then its destination port. */
__attribute__((target("avx2"))) inline __m256i portsAvx2(uint32_t ports) {
  const __m128i both = _mm_cvtsi32_si128(static_cast<int>(ports));
  const __m128i source = _mm_broadcastw_epi16(_mm_srli_epi32(both, 16));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(source), _mm_broadcastw_epi16(both), 1);
}

template <uint32_t words>
__attribute__((target("avx2"))) inline uint32_t matchAvx2(const uint8_t* block,
                                                          const uint32_t* header) {
  using At = Block<words>;
  const __m256i zero = _mm256_setzero_si256();
  const __m256i addresses = _mm256_cmpeq_epi32(differAvx2<words>(block, header), zero);
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + At::first));
  const __m256i span = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + At::span));
  const __m256i above = _mm256_sub_epi16(portsAvx2(header[words - 2]), first);
  const __m256i ports = _mm256_cmpeq_epi16(_mm256_min_epu16(above, span), above);
  const __m128i both =
      _mm_and_si128(_mm256_castsi256_si128(ports), _mm256_extracti128_si256(ports, 1));
  const __m128i kind = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + At::protocols));
  const __m128i other =
      _mm_and_si128(_mm_xor_si128(kind, _mm_set1_epi8(static_cast<char>(header[words - 1]))),
                    _mm_srli_si128(kind, 8));
  const int protocols = _mm_movemask_epi8(_mm_cmpeq_epi8(other, _mm_setzero_si128()));
  const int lanes = _mm256_movemask_ps(_mm256_castsi256_ps(addresses)) &
                    _mm_movemask_epi8(_mm_packs_epi16(both, both)) & protocols;
  return static_cast<uint32_t>(lanes) & 0xff;
}

template <uint32_t words>
__attribute__((target("avx2"))) void compareAvx2(Walk& walk, const uint8_t* blocks,
                                                 const uint32_t* headers) {
  const List& list = walk.atLeaf;
  for (uint32_t k = 0; k < list.count; k++) {
    const uint32_t i = list.header[k];
    const uint8_t* block = blocks + list.base[k] * size_t{Block<words>::bytes};
    uint32_t lanes = matchAvx2<words>(block, headers + i * words);
    for (uint32_t left = list.how[k] >> 4 & 0xfff; left > 1 && lanes == 0; left--) {
      block += Block<words>::bytes;
      lanes = matchAvx2<words>(block, headers + i * words);
    }
    settle<words>(walk, i, block, lanes);
  }
}

template <uint32_t words>
HAWSER_AVX512 inline uint32_t matchAvx512(const uint8_t* block, const uint32_t* header) {
  using At = Block<words>;
  const __m256i differ = differAvx2<words>(block, header);
  const uint32_t addresses = _mm256_testn_epi32_mask(differ, differ);
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + At::first));
  const __m256i span = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + At::span));
  const __m256i above = _mm256_sub_epi16(portsAvx2(header[words - 2]), first);
  const uint32_t ports = _mm256_cmple_epu16_mask(above, span);
  const __m128i kind = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + At::protocols));
  const __m128i other = _mm_xor_si128(kind, _mm_set1_epi8(static_cast<char>(header[words - 1])));
  const uint32_t protocols = _mm_testn_epi8_mask(other, _mm_srli_si128(kind, 8));
  return addresses & ports & ports >> 8 & protocols & 0xff;
}

template <uint32_t words>
HAWSER_AVX512 void compareAvx512(Walk& walk, const uint8_t* blocks, const uint32_t* headers) {
  const List& list = walk.atLeaf;
  for (uint32_t k = 0; k < list.count; k++) {
    const uint32_t i = list.header[k];
    const uint8_t* block = blocks + list.base[k] * size_t{Block<words>::bytes};
    uint32_t lanes = matchAvx512<words>(block, headers + i * words);
    for (uint32_t left = list.how[k] >> 4 & 0xfff; left > 1 && lanes == 0; left--) {
      block += Block<words>::bytes;
      lanes = matchAvx512<words>(block, headers + i * words);
    }
    settle<words>(walk, i, block, lanes);
  }
}
#endif

}  // namespace hawser::tree
