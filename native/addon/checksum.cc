// The Internet checksum (RFC 1071) over arena bytes, scalar and AVX2.
//
// Both add words in the byte order of the machine, wider than 16 bits, and fold at the end: a
// one's-complement sum doesn't care about the width of the words (RFC 1071 section 2(C)) and, up to
// a swap of the two bytes of the result, about their byte order (2(B)).
#include <bit>
#include <cstring>

#include "arena.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAWSER_AVX2 1
#endif

using namespace hawser;

namespace {

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

inline uint64_t load(const uint8_t* at, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, at, bytes);
  return word;
}

/** Sums, and with `copy` writes what it read to `to`. Every loop below has this shape. */
template <bool copy>
uint64_t sumScalar(uint8_t* to, const uint8_t* from, size_t length, uint64_t sum) {
  size_t i = 0;
  for (; i + 32 <= length; i += 32) {
    uint64_t words[4];
    std::memcpy(words, from + i, sizeof words);
    if constexpr (copy) std::memcpy(to + i, words, sizeof words);
    for (const uint64_t word : words) sum = addCarry(sum, word);
  }
  for (; i + 8 <= length; i += 8) {
    const uint64_t word = load(from + i, 8);
    if constexpr (copy) std::memcpy(to + i, &word, 8);
    sum = addCarry(sum, word);
  }
  if (i < length) {
    const uint64_t word = load(from + i, length - i);
    if constexpr (copy) std::memcpy(to + i, &word, length - i);
    sum = addCarry(sum, word);
  }
  return sum;
}

#ifdef HAWSER_AVX2
/** Shorter than this the vectors don't pay for themselves. */
constexpr size_t kVectorBytes = 128;

/**
 * Four 64-bit lanes take the low and the high half of each 64-bit word apart, so that no carry is
 * lost: they could overflow after 2^31 rounds, which are 128 GiB.
 */
template <bool copy>
__attribute__((target("avx2"))) uint64_t sumAvx2(uint8_t* to, const uint8_t* from, size_t length) {
  if (length < kVectorBytes) return sumScalar<copy>(to, from, length, 0);
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
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum = addCarry(sum, lane);
  return sumScalar<copy>(copy ? to + i : nullptr, from + i, length - i, sum);
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
#else
constexpr bool kHasAvx2 = false;
#endif

template <bool copy>
uint64_t sumBest(uint8_t* to, const uint8_t* from, size_t length) {
#ifdef HAWSER_AVX2
  if (kHasAvx2) return sumAvx2<copy>(to, from, length);
#endif
  return sumScalar<copy>(to, from, length, 0);
}

/** The sum as the field's big-endian value, plus `seed`, which is one already. */
uint32_t finish(uint64_t sum, uint64_t seed) {
  uint32_t field = fold(sum);
  if constexpr (std::endian::native == std::endian::little) {
    field = static_cast<uint32_t>(__builtin_bswap16(static_cast<uint16_t>(field)));
  }
  return fold(static_cast<uint64_t>(field) + fold(seed));
}

/** A seed is a sum of 16-bit words, not folded: anything that isn't negative. */
template <bool scalar>
napi_value checksum(napi_env env, napi_callback_info info) {
  const BurstArgs<3> args(env, info);
  if (!args.ok || args[2] < 0) return reply(env, -EINVAL);
  const uint8_t* at = arenaAt(*args.instance, args[0], args[1]);
  if (at == nullptr) return reply(env, -EFAULT);
  const auto length = static_cast<size_t>(args[1]);
  const uint64_t sum =
      scalar ? sumScalar<false>(nullptr, at, length, 0) : sumBest<false>(nullptr, at, length);
  return reply(env, finish(sum, static_cast<uint64_t>(args[2])));
}

napi_value copyChecksum(napi_env env, napi_callback_info info) {
  const BurstArgs<4> args(env, info);
  if (!args.ok || args[3] < 0) return reply(env, -EINVAL);
  uint8_t* to = arenaAt(*args.instance, args[0], args[2]);
  const uint8_t* from = arenaAt(*args.instance, args[1], args[2]);
  if (to == nullptr || from == nullptr) return reply(env, -EFAULT);
  const auto length = static_cast<size_t>(args[2]);
  uint64_t sum = 0;
  if (to < from + length && from < to + length) {
    // One pass over ranges that overlap would read what it has just written.
    sum = sumBest<false>(nullptr, from, length);
    std::memmove(to, from, length);
  } else {
    sum = sumBest<true>(to, from, length);
  }
  return reply(env, finish(sum, static_cast<uint64_t>(args[3])));
}

Napi::Value checksumKind(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), kHasAvx2 ? "avx2" : "scalar");
}

}  // namespace

void registerChecksum(Napi::Env env, Napi::Object exports) {
  exportBurst(env, exports, "checksum", checksum<false>);
  exportBurst(env, exports, "checksumScalar", checksum<true>);
  exportBurst(env, exports, "copyChecksum", copyChecksum);
  exportControl(env, exports, "checksumKind", checksumKind);
}
