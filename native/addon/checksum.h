// The loops of the Internet checksum (RFC 1071): scalar, AVX2, AVX-512, each with and without a
// copy.
//
// They add words in the byte order of the machine, wider than 16 bits, and fold at the end: a
// one's-complement sum doesn't care about the width of the words (RFC 1071 section 2(C)) and, up to
// a swap of the two bytes of the result, about their byte order (2(B)). Any word may be counted as
// any number that is the same modulo 2^16 - 1, but only zeros may sum up to 0.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "avx512.h"

namespace hawser {

/** Adds with the carry brought round. */
inline uint64_t addCarry(uint64_t sum, uint64_t word) {
  sum += word;
  return sum + (sum < word ? 1 : 0);
}

/** Folds to 16 bits. Never makes 0 out of another number. */
inline uint32_t fold(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint32_t>(sum);
}

/** The sum as the field's big-endian value, plus `seed`, which is one already. */
inline uint32_t finish(uint64_t sum, uint64_t seed) {
  uint32_t field = fold(sum);
  if constexpr (std::endian::native == std::endian::little) {
    field = static_cast<uint32_t>(__builtin_bswap16(static_cast<uint16_t>(field)));
  }
  return fold(static_cast<uint64_t>(field) + fold(seed));
}

inline uint64_t loadBytes(const uint8_t* at, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, at, bytes);
  return word;
}

/** Sums, and with `copy` writes what it read to `to`. Every loop below has this shape. */
template <bool copy>
uint64_t sumScalar(uint8_t* to, const uint8_t* from, size_t length) {
  uint64_t sum = 0;
  uint64_t other = 0;  // A second chain of carries, which doesn't wait for the first.
  size_t i = 0;
  for (; i + 32 <= length; i += 32) {
    uint64_t words[4];
    std::memcpy(words, from + i, sizeof words);
    if constexpr (copy) std::memcpy(to + i, words, sizeof words);
    sum = addCarry(addCarry(sum, words[0]), words[1]);
    other = addCarry(addCarry(other, words[2]), words[3]);
  }
  sum = addCarry(sum, other);
  for (; i + 8 <= length; i += 8) {
    const uint64_t word = loadBytes(from + i, 8);
    if constexpr (copy) std::memcpy(to + i, &word, 8);
    sum = addCarry(sum, word);
  }
  if (i < length) {
    const uint64_t word = loadBytes(from + i, length - i);
    if constexpr (copy) std::memcpy(to + i, &word, length - i);
    sum = addCarry(sum, word);
  }
  return sum;
}

#if defined(__x86_64__)
/** Shorter than this, vectors of 32 bytes don't pay for themselves. */
constexpr size_t kVectorBytes = 128;

/**
 * Four 64-bit lanes take the low and the high half of each 64-bit word apart, so that no carry is
 * lost: they could overflow after 2^31 rounds, which are 128 GiB.
 */
template <bool copy>
__attribute__((target("avx2"))) uint64_t sumAvx2(uint8_t* to, const uint8_t* from, size_t length) {
  if (length < kVectorBytes) return sumScalar<copy>(to, from, length);
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i sumA = _mm256_setzero_si256();
  __m256i sumB = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i + 32));
    if constexpr (copy) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), a);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i + 32), b);
    }
    const __m256i halfA = _mm256_add_epi64(_mm256_and_si256(a, low), _mm256_srli_epi64(a, 32));
    const __m256i halfB = _mm256_add_epi64(_mm256_and_si256(b, low), _mm256_srli_epi64(b, 32));
    sumA = _mm256_add_epi64(sumA, halfA);
    sumB = _mm256_add_epi64(sumB, halfB);
  }
  alignas(32) uint64_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sumA);
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes + 4), sumB);
  uint64_t sum = sumScalar<copy>(copy ? to + i : nullptr, from + i, length - i);
  for (const uint64_t lane : lanes) sum = addCarry(sum, lane);
  return sum;
}

/** A word of 16 bits weighs 1 for its low byte and 0 for the other, or the other way round. */
constexpr int32_t kLowBytes = 0x00010001;
constexpr int32_t kHighBytes = 0x01000100;
/** Bytes of which a lane of 32 bits holds the sums: 2 * 255 a step of 64, 257 times that, 16 lanes.
 */
constexpr size_t kLaneBytes = 1U << 16;

#define HAWSER_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/**
 * At most kLaneBytes. VPDPBUSD multiplies bytes with weights and adds four products to each lane,
 * so one instruction sums the low bytes of 32 words and one their high bytes. The tail is a masked
 * load: bytes behind the end are neither read nor written.
 */
template <bool copy>
HAWSER_VNNI inline uint64_t sumLanes(uint8_t* to, const uint8_t* from, size_t length) {
  const __m512i low = _mm512_set1_epi32(kLowBytes);
  const __m512i high = _mm512_set1_epi32(kHighBytes);
  __m512i lowA = _mm512_setzero_si512();
  __m512i lowB = _mm512_setzero_si512();
  __m512i highA = _mm512_setzero_si512();
  __m512i highB = _mm512_setzero_si512();
  size_t i = 0;
  for (; i + 128 <= length; i += 128) {
    const __m512i a = _mm512_loadu_si512(from + i);
    const __m512i b = _mm512_loadu_si512(from + i + 64);
    if constexpr (copy) {
      _mm512_storeu_si512(to + i, a);
      _mm512_storeu_si512(to + i + 64, b);
    }
    lowA = _mm512_dpbusd_epi32(lowA, a, low);
    highA = _mm512_dpbusd_epi32(highA, a, high);
    lowB = _mm512_dpbusd_epi32(lowB, b, low);
    highB = _mm512_dpbusd_epi32(highB, b, high);
  }
  for (; i < length; i += 64) {
    const size_t left = length - i;
    const __mmask64 mask = left >= 64 ? ~0ULL : (1ULL << left) - 1;
    const __m512i a = _mm512_maskz_loadu_epi8(mask, from + i);
    if constexpr (copy) _mm512_mask_storeu_epi8(to + i, mask, a);
    lowA = _mm512_dpbusd_epi32(lowA, a, low);
    highA = _mm512_dpbusd_epi32(highA, a, high);
  }
  const __m512i highs = _mm512_slli_epi32(_mm512_add_epi32(highA, highB), 8);
  const __m512i lows = _mm512_add_epi32(lowA, lowB);
  return static_cast<uint32_t>(_mm512_reduce_add_epi32(_mm512_add_epi32(lows, highs)));
}

template <bool copy>
HAWSER_VNNI uint64_t sumAvx512(uint8_t* to, const uint8_t* from, size_t length) {
  uint64_t sum = 0;
  while (length > kLaneBytes) {
    sum += sumLanes<copy>(to, from, kLaneBytes);
    if constexpr (copy) to += kLaneBytes;
    from += kLaneBytes;
    length -= kLaneBytes;
  }
  return sum + sumLanes<copy>(to, from, length);
}
#endif

using SumFunction = uint64_t (*)(uint8_t* to, const uint8_t* from, size_t length);

/** One way to sum. */
struct ChecksumKind {
  const char* name;
  SumFunction sum;
  SumFunction copy;
  /** Whether this CPU can. */
  bool (*there)();
};

/** The best first. */
inline constexpr ChecksumKind kChecksumKinds[] = {
#if defined(__x86_64__)
    {"avx512", sumAvx512<false>, sumAvx512<true>,
     [] { return kAvx512 && __builtin_cpu_supports("avx512vnni") != 0; }},
    {"avx2", sumAvx2<false>, sumAvx2<true>, [] { return __builtin_cpu_supports("avx2") != 0; }},
#endif
    {"scalar", sumScalar<false>, sumScalar<true>, [] { return true; }},
};

}  // namespace hawser
