// The native twin of dataplane/fib/planb/planb6.ts, over the same tables; that file has their
// layout and says why no reader sees a third value. Here are only loads:
//
// * a value is one aligned load of 32 bits, and where the walk goes next depends on it;
// * keys never change while a node can be reached from the root. A walk that came to a node which
//   is being made anew may read half of them and go anywhere in the table (every value that was
//   ever stored is a next hop or a node), but the version has moved by then: it is compared once a
//   group, and a group that saw it move is done again, address by address.
//
// A lookup is a chain of nodes, each of two cache lines, often not in the first caches. So GROUP
// addresses go down together: a round takes each of those that have not arrived one node further
// and fetches the next one, which is needed a round later.
#include "avx512.h"
#include "lookup.h"
#include "version.h"

namespace {

using hawser::Batch;

constexpr uint32_t kHeaderBytes = 128;
constexpr uint32_t kRootBits = 20;
constexpr uint32_t kTail = 32 - kRootBits;
constexpr uint32_t kRoot = 1 << kRootBits;
constexpr uint32_t kWidth = 16;
constexpr size_t kPoolAt = kHeaderBytes + size_t{6} * kRoot;
/** Flags of a value; without kNode it is a next hop, shifted. */
constexpr uint32_t kNode = 1;
constexpr uint32_t kDeeper = 2;
constexpr uint32_t kFan = 4;
constexpr uint32_t kFlags = 7;
constexpr uint32_t kHopShift = 2;
/** What a cell of a fan has of the slice's bits. */
constexpr uint32_t kCellBits = 20;
constexpr uint32_t kLastLayer = 3;
/** A word of the header. */
constexpr uint32_t kDefault = 1;
/** Addresses that go down together: their nodes are a quarter of a first cache. */
constexpr uint32_t kGroup = 64;

struct Tables : hawser::Versioned {
  const uint32_t* header;
  const uint32_t* rootValues;
  const uint16_t* rootHops;
  const uint8_t* pool;

  explicit Tables(const uint8_t* region)
      : Versioned(region),
        header(reinterpret_cast<const uint32_t*>(region)),
        rootValues(reinterpret_cast<const uint32_t*>(region + kHeaderBytes)),
        rootHops(reinterpret_cast<const uint16_t*>(rootValues + kRoot)),
        pool(region + kPoolAt) {}

  /** What a value says: a node's place, with its flags, is all the arithmetic that there is. */
  const uint32_t* node(uint32_t value) const {
    return reinterpret_cast<const uint32_t*>(pool + value - kNode);
  }

  /** The cell of a fan that a slice belongs to. */
  const uint32_t* cell(uint32_t fan, uint32_t slice) const {
    return reinterpret_cast<const uint32_t*>(pool + (fan & ~kFlags)) + (slice >> kCellBits);
  }

  /** The next hop of an address that no longer route than the root's has. */
  uint16_t fromRoot(uint32_t top) const {
    const uint16_t hop = __atomic_load_n(rootHops + top, __ATOMIC_RELAXED);
    if (hop != 0) return hop;
    return static_cast<uint16_t>(__atomic_load_n(header + kDefault, __ATOMIC_RELAXED));
  }
};

/** The bits of an address that `layer` decides. */
uint32_t sliceOf(const uint32_t* address, uint32_t layer) {
  const uint32_t head = address[layer] << kRootBits;
  return layer < kLastLayer ? head | address[layer + 1] >> kTail : head;
}

bool isFan(uint32_t value) { return (value & (kNode | kFan)) == (kNode | kFan); }

/** Addresses on their way down, kGroup at most. */
struct Walkers {
  alignas(64) uint32_t values[kGroup];
  alignas(64) uint32_t slices[kGroup];
};

/** What is done for each node, and with a group before and behind. */
struct Scalar {
  /** Number of the node's last key that isn't greater than the slice: 0, or of those behind key 0.
   */
  static uint32_t place(const uint32_t* node, uint32_t slice) {
    uint32_t at = node[8] <= slice ? 8 : 0;
    at += node[at + 4] <= slice ? 4 : 0;
    at += node[at + 2] <= slice ? 2 : 0;
    return at + (node[at + 1] <= slice ? 1 : 0);
  }

  /** Root values and first slices of addresses `from` .. `n - 1`; fetches the cells of fans. */
  static void enter(const Tables& tables, const uint32_t* addresses, uint32_t from, uint32_t n,
                    Walkers& walkers) {
    for (uint32_t i = from; i < n; i++) {
      const uint32_t* address = addresses + 4 * i;
      const uint32_t value =
          __atomic_load_n(tables.rootValues + (address[0] >> kTail), __ATOMIC_RELAXED);
      const uint32_t slice = sliceOf(address, 0);
      walkers.values[i] = value;
      walkers.slices[i] = slice;
      if (isFan(value)) __builtin_prefetch(tables.cell(value, slice));
    }
  }

  /** From the fans to their cells. */
  static void spread(const Tables& tables, uint32_t from, uint32_t n, Walkers& walkers) {
    for (uint32_t i = from; i < n; i++) {
      const uint32_t value = walkers.values[i];
      if (!isFan(value)) continue;
      walkers.values[i] = __atomic_load_n(tables.cell(value, walkers.slices[i]), __ATOMIC_RELAXED);
    }
  }

  /** Answers of addresses `from` .. `n - 1`, which have arrived. */
  static void leave(const Tables& tables, const uint32_t* addresses, uint32_t from, uint32_t n,
                    const Walkers& walkers, uint16_t* answers) {
    for (uint32_t i = from; i < n; i++) {
      const uint32_t value = walkers.values[i];
      answers[i] = value != 0 ? static_cast<uint16_t>(value >> kHopShift)
                              : tables.fromRoot(addresses[4 * i] >> kTail);
    }
  }
};

/** `n` addresses, kGroup at most. */
template <class Kind>
inline __attribute__((always_inline)) void walk(const Tables& tables, const uint32_t* addresses,
                                                uint32_t n, uint16_t* answers) {
  Walkers walkers;
  uint8_t layers[kGroup] = {};
  /** Those that have not arrived. */
  uint8_t under[kGroup + 1];
  uint32_t left = 0;
  // A next hop is fetched as if it were a node: cheaper than a branch that can't be foretold.
  const auto goOn = [&](uint32_t i, uint32_t value) {
    under[left] = static_cast<uint8_t>(i);
    left += value & kNode;
    const uint8_t* node = tables.pool + value;
    __builtin_prefetch(node);
    __builtin_prefetch(node + kWidth * sizeof(uint32_t));
  };
  Kind::enter(tables, addresses, 0, n, walkers);
  Kind::spread(tables, 0, n, walkers);
  for (uint32_t i = 0; i < n; i++) goOn(i, walkers.values[i]);
  while (left > 0) {
    const uint32_t round = left;
    left = 0;
    for (uint32_t q = 0; q < round; q++) {
      const uint32_t i = under[q];
      const uint32_t* node = tables.node(walkers.values[i]);
      const uint32_t place = Kind::place(node, walkers.slices[i]);
      uint32_t value = __atomic_load_n(node + kWidth + place, __ATOMIC_RELAXED);
      if (__builtin_expect((value & kDeeper) != 0, 0)) {
        value -= kDeeper;
        if (layers[i] < kLastLayer) layers[i]++;
        walkers.slices[i] = sliceOf(addresses + 4 * i, layers[i]);
      }
      walkers.values[i] = value;
      goOn(i, value);
    }
  }
  Kind::leave(tables, addresses, 0, n, walkers, answers);
}

void walkScalar(const Tables& tables, const uint32_t* addresses, uint32_t n, uint16_t* answers) {
  walk<Scalar>(tables, addresses, n, answers);
}

#if defined(__x86_64__)
#define HAWSER_AVX2 __attribute__((target("avx2,popcnt")))

struct Avx2 : Scalar {
  HAWSER_AVX2 static inline uint32_t place(const uint32_t* node, uint32_t slice) {
    const __m256i wanted = _mm256_set1_epi32(static_cast<int>(slice));
    const uint32_t reached = notGreater(node, wanted) | notGreater(node + 8, wanted) << 8;
    return static_cast<uint32_t>(__builtin_popcount(reached & ~1U));
  }

 private:
  /** There is no unsigned comparison: a key isn't greater when it is the smaller one. */
  HAWSER_AVX2 static inline uint32_t notGreater(const uint32_t* keys, __m256i wanted) {
    const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys));
    const __m256i same = _mm256_cmpeq_epi32(_mm256_min_epu32(eight, wanted), eight);
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(same)));
  }
};

HAWSER_AVX2 void walkAvx2(const Tables& tables, const uint32_t* addresses, uint32_t n,
                          uint16_t* answers) {
  walk<Avx2>(tables, addresses, n, answers);
}

/** Gathers for the root and the fans were tried: they take longer than the loads one by one. */
struct Avx512 : Scalar {
  HAWSER_AVX512 static inline uint32_t place(const uint32_t* node, uint32_t slice) {
    const __m512i wanted = _mm512_set1_epi32(static_cast<int>(slice));
    const __mmask16 behind =
        _mm512_mask_cmple_epu32_mask(kBehindFirst, _mm512_loadu_si512(node), wanted);
    return static_cast<uint32_t>(__builtin_popcount(behind));
  }

  HAWSER_AVX512 static inline void leave(const Tables& tables, const uint32_t* addresses,
                                         uint32_t from, uint32_t n, const Walkers& walkers,
                                         uint16_t* answers) {
    uint32_t i = from;
    for (; i + kLanes <= n; i += kLanes) {
      const __m512i values = _mm512_load_si512(walkers.values + i);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(answers + i),
                          _mm512_cvtepi32_epi16(_mm512_srli_epi32(values, kHopShift)));
      for (uint32_t none = _mm512_testn_epi32_mask(values, values); none != 0; none &= none - 1) {
        const uint32_t at = i + static_cast<uint32_t>(__builtin_ctz(none));
        answers[at] = tables.fromRoot(addresses[4 * at] >> kTail);
      }
    }
    Scalar::leave(tables, addresses, i, n, walkers, answers);
  }

 private:
  static constexpr __mmask16 kBehindFirst = 0xfffe;
  static constexpr uint32_t kLanes = 16;
};

HAWSER_AVX512 void walkAvx512(const Tables& tables, const uint32_t* addresses, uint32_t n,
                              uint16_t* answers) {
  walk<Avx512>(tables, addresses, n, answers);
}
#endif

using Walk = void (*)(const Tables&, const uint32_t*, uint32_t, uint16_t*);

/** One address while the table changes. */
void settle(const Tables& tables, Walk walk, const uint32_t* address, uint16_t* answer) {
  uint32_t version;
  do {
    version = tables.version();
    walk(tables, address, 1, answer);
  } while (!tables.unmoved(version));
}

napi_value lookupWith(napi_env env, napi_callback_info info, Walk walk) {
  const Batch batch = hawser::batchOf(env, info, 4);
  if (batch.regionLength < kPoolAt) return nullptr;
  const Tables tables(batch.region);
  for (uint32_t from = 0; from < batch.n; from += kGroup) {
    const uint32_t n = batch.n - from < kGroup ? batch.n - from : kGroup;
    const uint32_t* addresses = batch.keys + size_t{4} * from;
    uint16_t* answers = batch.answers + from;
    const uint32_t version = tables.version();
    walk(tables, addresses, n, answers);
    if (tables.unmoved(version)) continue;
    for (uint32_t i = 0; i < n; i++) settle(tables, walk, addresses + size_t{4} * i, answers + i);
  }
  return nullptr;
}

napi_value planb6Scalar(napi_env env, napi_callback_info info) {
  return lookupWith(env, info, walkScalar);
}

napi_value planb6Avx2(napi_env env, napi_callback_info info) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return lookupWith(env, info, walkAvx2);
#endif
  return planb6Scalar(env, info);
}

napi_value planb6Lookup(napi_env env, napi_callback_info info) {
#if defined(__x86_64__)
  if (hawser::kAvx512) return lookupWith(env, info, walkAvx512);
#endif
  return planb6Avx2(env, info);
}

}  // namespace

void registerLookupPlanb6(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "lookupPlanb6", planb6Lookup);
  hawser::setFunction(env, exports, "lookupPlanb6Avx2", planb6Avx2);
  hawser::setFunction(env, exports, "lookupPlanb6Scalar", planb6Scalar);
}
