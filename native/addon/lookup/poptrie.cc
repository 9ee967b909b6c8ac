// The native twins of poptrie4 and poptrie6, over the same tables; dataplane/fib/poptrie/layout.ts
// has their layout and says why no reader sees a third value. Here are only loads: slots and leaves
// from the aligned 32 bits that they lie in, which cannot tear; the maps of a node, which never
// change while anything leads to it; and the version, before and after.
//
// What costs time is waiting for memory, so many addresses are on their way at a time: kLanes of
// them go down together, level by level. A step finds the next node of its address and asks for it;
// when the round comes to that address again, it is there. Those that have arrived leave the round.
// With AVX-512, lookup-poptrie-avx512.cc does the same with eight addresses a step.
#include "poptrie.h"

namespace {

using namespace hawser::poptrie;
using hawser::Batch;

/** More than a core has misses under way, few enough that none is evicted before its turn. */
constexpr uint32_t kLanes = 64;

inline uint64_t word64(const uint32_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(at), __ATOMIC_RELAXED);
}

/** An address on its way: the bits that are not decided yet, the next one on top. */
template <int kFamily>
struct Rest;

template <>
struct Rest<4> {
  uint32_t bits;

  /** Begins below the top; returns the slot there. */
  uint32_t begin(const uint32_t* words, const uint32_t* key) {
    constexpr uint32_t kBits = Shape<4>::kDirectBits;
    bits = key[0] << kBits;
    return word32(words + kHeaderWords + (key[0] >> (32 - kBits)));
  }

  uint32_t cell() const { return bits >> (32 - kStride); }
  void pass(uint32_t count) { bits <<= count; }
};

template <>
struct Rest<6> {
  uint64_t high;
  uint64_t low;

  uint32_t begin(const uint32_t* words, const uint32_t* key) {
    constexpr uint32_t kBits = Shape<6>::kDirectBits;
    high = static_cast<uint64_t>(key[0]) << 32 | key[1];
    low = static_cast<uint64_t>(key[2]) << 32 | key[3];
    const uint32_t slot = word32(words + kHeaderWords + (high >> (64 - kBits)));
    pass(kBits);
    const uint64_t cell = high >> (64 - kTableBits);
    pass(kTableBits);
    // The direct table is never anything else: what its slots point to are tables.
    return (slot & kPointer) != 0 ? word32(words + (slot & kWord) + cell) : slot;
  }

  uint32_t cell() const { return static_cast<uint32_t>(high >> (64 - kStride)); }
  /** `count`: 1 .. 63. */
  void pass(uint32_t count) {
    high = high << count | low >> (64 - count);
    low <<= count;
  }
};

/** What stands in the address's cell of the node at `node`: a slot or a next hop. */
[[gnu::always_inline]] inline uint32_t follow(const uint32_t* words, uint32_t node, uint32_t cell) {
  const uint64_t vector = word64(words + node);
  const uint64_t leafvec = word64(words + node + kLeafvec);
  const uint64_t upTo = (uint64_t{2} << cell) - 1;
  if ((vector >> cell & 1) != 0) {
    const auto rank = static_cast<uint32_t>(__builtin_popcountll(vector & upTo));
    return word32(words + node + kSlots - 1 + rank);
  }
  const uint32_t half = 2 * node - static_cast<uint32_t>(__builtin_popcountll(leafvec & upTo));
  return word32(words + (half >> 1)) >> 16 * (half & 1) & 0xffff;
}

/** The slot, or the next hop, behind a skip. */
[[gnu::always_inline]] inline uint32_t jump(const uint32_t* words, uint32_t skip, Rest<6>& rest) {
  const uint32_t head = word32(words + skip);
  const uint32_t count = head >> 16 & 31;
  // No skip has 0 bits; but what was read may be no skip.
  if (count == 0) return 0;
  const bool same = rest.high >> (64 - count) == word32(words + skip + 1);
  rest.pass(count);
  return same ? word32(words + skip + 2) : head & 0xffff;
}

/** Next hops of `n` <= kLanes addresses. */
template <int kFamily>
[[gnu::always_inline]] inline void descend(const Tables<kFamily>& tables, const uint32_t* keys,
                                           uint32_t n, uint16_t otherwise, uint16_t* answers) {
  const uint32_t* words = tables.words;
  Rest<kFamily> rest[kLanes];
  uint32_t slots[kLanes];
  uint8_t lanes[kLanes];
  uint32_t active = 0;
  for (uint32_t i = 0; i < n; i++) {
    slots[i] = rest[i].begin(words, keys + i * Shape<kFamily>::kKeyWords);
  }
  for (uint32_t i = 0; i < n; i++) {
    __builtin_prefetch(words + (slots[i] & kWord));
    lanes[active] = static_cast<uint8_t>(i);
    active += slots[i] >> 31;
  }
  for (uint32_t step = 0; step < Shape<kFamily>::kSteps && active > 0; step++) {
    uint32_t stay = 0;
    for (uint32_t k = 0; k < active; k++) {
      const uint32_t i = lanes[k];
      const uint32_t at = slots[i] & kWord;
      uint32_t slot = 0;
      if (tables.holds(at)) {
        bool skip = false;
        if constexpr (kFamily == 6) {
          skip = (slots[i] & kSkip) != 0;
          if (skip) slot = jump(words, at, rest[i]);
        }
        if (!skip) {
          slot = follow(words, at, rest[i].cell());
          rest[i].pass(kStride);
        }
      }
      slots[i] = slot;
      __builtin_prefetch(words + (slot & kWord));
      lanes[stay] = static_cast<uint8_t>(i);
      stay += slot >> 31;
    }
    active = stay;
  }
  for (uint32_t i = 0; i < n; i++) {
    answers[i] = slots[i] == 0 ? otherwise : static_cast<uint16_t>(slots[i]);
  }
}

template <int kFamily>
[[gnu::always_inline]] inline void walk(const Tables<kFamily>& tables, const uint32_t* keys,
                                        uint32_t n, uint16_t otherwise, uint16_t* answers) {
  for (uint32_t i = 0; i < n; i += kLanes) {
    const uint32_t lanes = n - i < kLanes ? n - i : kLanes;
    descend(tables, keys + i * Shape<kFamily>::kKeyWords, lanes, otherwise, answers + i);
  }
}

template <int kFamily>
void walkAnywhere(const Tables<kFamily>& tables, const uint32_t* keys, uint32_t n,
                  uint16_t otherwise, uint16_t* answers) {
  walk(tables, keys, n, otherwise, answers);
}

#if defined(__x86_64__)
/** With the CPU's own bit count and shifts; all that is inlined here takes them. */
template <int kFamily>
__attribute__((target("popcnt,bmi,bmi2"))) void walkCounting(const Tables<kFamily>& tables,
                                                             const uint32_t* keys, uint32_t n,
                                                             uint16_t otherwise,
                                                             uint16_t* answers) {
  walk(tables, keys, n, otherwise, answers);
}

const bool kCounting = __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi") &&
                       __builtin_cpu_supports("bmi2");
#endif

template <int kFamily>
void walkScalar(const Tables<kFamily>& tables, const uint32_t* keys, uint32_t n, uint16_t otherwise,
                uint16_t* answers) {
#if defined(__x86_64__)
  if (kCounting) return walkCounting(tables, keys, n, otherwise, answers);
#endif
  walkAnywhere(tables, keys, n, otherwise, answers);
}

template <int kFamily>
void walkBest(const Tables<kFamily>& tables, const uint32_t* keys, uint32_t n, uint16_t otherwise,
              uint16_t* answers) {
  WalkEights<kFamily> eights;
  if constexpr (kFamily == 4) {
    eights = kWalkEights4;
  } else {
    eights = kWalkEights6;
  }
  const uint32_t done = eights == nullptr ? 0 : eights(tables, keys, n, otherwise, answers);
  walkScalar(tables, keys + done * Shape<kFamily>::kKeyWords, n - done, otherwise, answers + done);
}

/** In halves, down to one address, when what was read may not belong together. */
template <int kFamily>
void settle(const Tables<kFamily>& tables, Walk<kFamily> walk, const uint32_t* keys, uint32_t n,
            uint16_t* answers) {
  do {
    const uint32_t version = tables.version();
    walk(tables, keys, n, tables.otherwise(), answers);
    if (tables.unmoved(version)) return;
  } while (n <= 1);
  const uint32_t half = n / 2;
  settle(tables, walk, keys, half, answers);
  settle(tables, walk, keys + half * Shape<kFamily>::kKeyWords, n - half, answers + half);
}

template <int kFamily, Walk<kFamily> kWalk>
napi_value lookup(napi_env env, napi_callback_info info) {
  const Batch batch = hawser::batchOf(env, info, Shape<kFamily>::kKeyWords);
  constexpr size_t kLeast = Tables<kFamily>::kBase + kTailWords;
  const size_t words = batch.regionLength / sizeof(uint32_t);
  if (words <= kLeast || batch.n == 0) return nullptr;
  const Tables<kFamily> tables{hawser::Versioned(batch.region),
                               reinterpret_cast<const uint32_t*>(batch.region),
                               static_cast<uint32_t>(words - kLeast)};
  settle(tables, kWalk, batch.keys, batch.n, batch.answers);
  return nullptr;
}

}  // namespace

void registerLookupPoptrie(Napi::Env env, Napi::Object exports) {
  using hawser::setFunction;
  setFunction(env, exports, "lookupPoptrie4", lookup<4, walkBest<4>>);
  setFunction(env, exports, "lookupPoptrie6", lookup<6, walkBest<6>>);
  setFunction(env, exports, "lookupPoptrie4Scalar", lookup<4, walkScalar<4>>);
  setFunction(env, exports, "lookupPoptrie6Scalar", lookup<6, walkScalar<6>>);
}
