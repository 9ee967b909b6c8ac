// The native twin of dataplane/fib/dir24_8/dir24_8.ts, over the same tables; that file has their
// layout and says why no reader sees a third value. Here are only loads:
//
// * every entry is one aligned load of 16 bits, or the aligned 32 bits around it, which the gathers
//   take: so none reads behind the region, and none can tear;
// * a group's entry is loaded from an address that depends on the entry of `first`;
// * "only the default route" needs two independent loads, so a batch that met one compares the
//   version before and after, and goes address by address when it moved.
//
// What costs time is waiting for memory: `first` is larger than most caches. So many loads must be
// under way at a time: entries are fetched AHEAD addresses before they are needed.
#include "avx512.h"
#include "lookup.h"
#include "version.h"

namespace {

using hawser::Batch;

constexpr uint32_t kHeaderBytes = 64;
constexpr uint32_t kFirst = 1 << 24;
constexpr uint32_t kExtended = 0x8000;
constexpr uint32_t kGroupBits = 0x7fff;
/** A word of the header. */
constexpr uint32_t kDefault = 1;
/** Addresses between a prefetch and its use: more than a core has misses under way, few enough that
 * none is evicted before. */
constexpr uint32_t kAhead = 32;

struct Tables : hawser::Versioned {
  const uint32_t* header;
  const uint16_t* first;
  const uint16_t* groups;

  explicit Tables(const uint8_t* region)
      : Versioned(region),
        header(reinterpret_cast<const uint32_t*>(region)),
        first(reinterpret_cast<const uint16_t*>(region + kHeaderBytes)),
        groups(first + kFirst) {}

  uint16_t otherwise() const {
    return static_cast<uint16_t>(__atomic_load_n(header + kDefault, __ATOMIC_ACQUIRE));
  }

  /** Next hop of the address's longest route, 0 when it has none but the default one. */
  uint16_t entry(uint32_t address) const {
    const uint16_t entry = __atomic_load_n(first + (address >> 8), __ATOMIC_RELAXED);
    if (entry < kExtended) return entry;
    const uint32_t at = (entry & kGroupBits) << 8 | (address & 255);
    return __atomic_load_n(groups + at, __ATOMIC_RELAXED);
  }

  void fetch(uint32_t address) const { __builtin_prefetch(first + (address >> 8)); }
};

/** Answers `n` addresses; returns how many got `otherwise`. */
uint32_t lookupScalar(const Tables& tables, const uint32_t* keys, uint32_t n, uint16_t otherwise,
                      uint16_t* answers) {
  uint32_t defaults = 0;
  for (uint32_t i = 0; i < kAhead && i < n; i++) tables.fetch(keys[i]);
  for (uint32_t i = 0; i < n; i++) {
    if (i + kAhead < n) tables.fetch(keys[i + kAhead]);
    const uint16_t entry = tables.entry(keys[i]);
    defaults += entry == 0;
    answers[i] = entry == 0 ? otherwise : entry;
  }
  return defaults;
}

#if defined(__x86_64__)
/** The 16-bit halves number `at` of `table` in the lanes of `mask`, 0 in the others. */
HAWSER_AVX512 inline __m512i gatherHalves(__mmask16 mask, __m512i at, const uint16_t* table) {
  const __m512i words =
      _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, _mm512_srli_epi32(at, 1), table, 4);
  const __m512i shift = _mm512_slli_epi32(_mm512_and_si512(at, _mm512_set1_epi32(1)), 4);
  return _mm512_and_si512(_mm512_srlv_epi32(words, shift), _mm512_set1_epi32(0xffff));
}

/** As lookupScalar, 16 addresses at a time. */
HAWSER_AVX512 uint32_t lookupAvx512(const Tables& tables, const uint32_t* keys, uint32_t n,
                                    uint16_t otherwise, uint16_t* answers) {
  constexpr uint32_t kLanes = 16;
  uint32_t defaults = 0;
  for (uint32_t i = 0; i < kAhead && i < n; i++) tables.fetch(keys[i]);
  uint32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    if (i + kLanes + kAhead <= n) {
      for (uint32_t lane = 0; lane < kLanes; lane++) tables.fetch(keys[i + kAhead + lane]);
    }
    const __m512i addresses = _mm512_loadu_si512(keys + i);
    __m512i entries = gatherHalves(0xffff, _mm512_srli_epi32(addresses, 8), tables.first);
    const __mmask16 longer = _mm512_test_epi32_mask(entries, _mm512_set1_epi32(kExtended));
    if (longer != 0) {
      const __m512i groups = _mm512_and_si512(entries, _mm512_set1_epi32(kGroupBits));
      const __m512i low = _mm512_and_si512(addresses, _mm512_set1_epi32(255));
      const __m512i at = _mm512_or_si512(_mm512_slli_epi32(groups, 8), low);
      entries = _mm512_mask_mov_epi32(entries, longer, gatherHalves(longer, at, tables.groups));
    }
    const __mmask16 none = _mm512_testn_epi32_mask(entries, entries);
    defaults += static_cast<uint32_t>(__builtin_popcount(none));
    entries = _mm512_mask_mov_epi32(entries, none, _mm512_set1_epi32(otherwise));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(answers + i), _mm512_cvtepi32_epi16(entries));
  }
  return defaults + lookupScalar(tables, keys + i, n - i, otherwise, answers + i);
}
#endif

using Lookup = uint32_t (*)(const Tables&, const uint32_t*, uint32_t, uint16_t, uint16_t*);

/** One address while the table changes. */
uint16_t settle(const Tables& tables, uint32_t address) {
  for (;;) {
    const uint32_t version = tables.version();
    const uint16_t otherwise = tables.otherwise();
    const uint16_t entry = tables.entry(address);
    if (entry != 0) return entry;
    if (tables.unmoved(version)) return otherwise;
  }
}

napi_value lookupWith(napi_env env, napi_callback_info info, Lookup lookup) {
  const Batch batch = hawser::batchOf(env, info, 1);
  if (batch.regionLength < kHeaderBytes + kFirst * sizeof(uint16_t)) return nullptr;
  const Tables tables(batch.region);
  const uint32_t version = tables.version();
  const uint32_t defaults = lookup(tables, batch.keys, batch.n, tables.otherwise(), batch.answers);
  if (defaults == 0 || tables.unmoved(version)) return nullptr;
  for (uint32_t i = 0; i < batch.n; i++) batch.answers[i] = settle(tables, batch.keys[i]);
  return nullptr;
}

napi_value dir24_8Scalar(napi_env env, napi_callback_info info) {
  return lookupWith(env, info, lookupScalar);
}

napi_value dir24_8Lookup(napi_env env, napi_callback_info info) {
#if defined(__x86_64__)
  if (hawser::kAvx512) return lookupWith(env, info, lookupAvx512);
#endif
  return lookupWith(env, info, lookupScalar);
}

}  // namespace

void registerLookupDir24_8(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "lookupDir24_8", dir24_8Lookup);
  hawser::setFunction(env, exports, "lookupDir24_8Scalar", dir24_8Scalar);
}
