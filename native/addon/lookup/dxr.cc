// The native twin of dataplane/fib/dxr/dxr.ts, over the same tables. dxr_tables.ts has their
// layout, dxr.ts says why no reader sees a third value, dxr_lanes.ts what a lane is for; this file
// keeps the same order of loads.
//
// A block of addresses goes through three passes, each of which fetches what the next one needs:
// direct entries, edges, values. So the memory accesses of a whole block are under way together.
// Most chunks of a large table are bitmaps, which the passes take; the others are looked up in the
// last.
#include "lookup.h"
#include "version.h"

namespace {

using hawser::Batch;

constexpr uint32_t kLanes = 64;
constexpr uint32_t kLaneWords = 16;
constexpr uint32_t kLanesAt = 64;
constexpr uint32_t kDirectAt = kLanesAt + kLanes * kLaneWords * 4;
constexpr uint32_t kChunks = 1 << 16;
constexpr uint32_t kInheritedAt = kDirectAt + kChunks * 4;
constexpr uint32_t kHeapAt = kInheritedAt + kChunks * 2;
/** What every table has at least for its ranges. */
constexpr uint32_t kHeapLeast = 1 << 16;
/** Words of the header. */
constexpr uint32_t kDefault = 1;
constexpr uint32_t kCrowd = 3;

constexpr uint32_t kKindBits = 8;
constexpr uint32_t kKindMask = 0xff;
constexpr uint32_t kGranule = 8;
constexpr uint32_t kWide = 254;
constexpr uint32_t kBitmap = 255;
/** Bytes of a bitmap chunk before its counts, and before its values. */
constexpr uint32_t kCounts = 32;
constexpr uint32_t kValues = 40;

/** Addresses of a block. */
constexpr uint32_t kBlock = 32;

struct Tables : hawser::Versioned {
  uint32_t* header;
  uint32_t* lanes;
  const uint32_t* direct;
  const uint16_t* inherited;
  const uint8_t* heap;

  /** Lanes and the crowd are what a reader writes. */
  explicit Tables(const uint8_t* region)
      : Versioned(region),
        header(reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(region))),
        lanes(header + kLanesAt / 4),
        direct(reinterpret_cast<const uint32_t*>(region + kDirectAt)),
        inherited(reinterpret_cast<const uint16_t*>(region + kInheritedAt)),
        heap(region + kHeapAt) {}

  /** In one order with the lanes, which a reader writes. */
  uint32_t version() const { return __atomic_load_n(versionAt, __ATOMIC_SEQ_CST); }

  uint16_t otherwise() const {
    return static_cast<uint16_t>(__atomic_load_n(header + kDefault, __ATOMIC_ACQUIRE));
  }

  uint32_t entry(uint32_t address) const {
    return __atomic_load_n(direct + (address >> 16), __ATOMIC_RELAXED);
  }

  uint16_t shorter(uint32_t address) const {
    return __atomic_load_n(inherited + (address >> 16), __ATOMIC_RELAXED);
  }

  const uint8_t* chunk(uint32_t entry) const {
    return heap + static_cast<size_t>(entry >> kKindBits) * kGranule;
  }
};

/** A lane of the region for as long as this lives; as `enter` and `leave` of dxr_lanes.ts. */
class Lane {
 public:
  explicit Lane(const Tables& tables) : tables_(tables) {
    static uint32_t threads = 0;
    static thread_local const uint32_t hint = __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
    const uint32_t mark = tables.version() << 1 | 1;
    for (uint32_t i = 0; i < kLanes; i++) {
      uint32_t* lane = tables.lanes + ((hint + i) & (kLanes - 1)) * kLaneWords;
      uint32_t empty = 0;
      if (__atomic_compare_exchange_n(lane, &empty, mark, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED)) {
        lane_ = lane;
        return;
      }
    }
    __atomic_fetch_add(tables.header + kCrowd, 1, __ATOMIC_SEQ_CST);
  }

  ~Lane() {
    if (lane_ != nullptr) {
      __atomic_store_n(lane_, 0, __ATOMIC_RELEASE);
    } else {
      __atomic_fetch_sub(tables_.header + kCrowd, 1, __ATOMIC_RELEASE);
    }
  }

  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

 private:
  const Tables& tables_;
  uint32_t* lane_ = nullptr;
};

inline bool isBitmap(uint32_t entry) { return (entry & kKindMask) == kBitmap; }

/** The 64 bits of a bitmap chunk that hold the one of `address`; pairs of 32, little endian. */
inline const uint64_t* bitsOf(const uint8_t* chunk, uint32_t address) {
  return reinterpret_cast<const uint64_t*>(chunk) + (address >> 14 & 3);
}

/** Where a bitmap chunk has the value of `address`. */
__attribute__((always_inline)) inline const uint8_t* inBitmap(const uint8_t* chunk,
                                                              uint32_t address) {
  const uint64_t upTo = *bitsOf(chunk, address) << (~(address >> 8) & 63);
  const uint32_t before = chunk[kCounts + (address >> 14 & 3) * 2];
  return chunk + kValues + before + static_cast<uint32_t>(__builtin_popcountll(upTo));
}

uint16_t inWide(const uint8_t* chunk, uint32_t position) {
  const uint32_t count = *reinterpret_cast<const uint32_t*>(chunk);
  const uint16_t* edges = reinterpret_cast<const uint16_t*>(chunk + 4);
  uint32_t rank = 0;
  for (uint32_t left = count; left > 0;) {
    const uint32_t half = (left + 1) >> 1;
    // A mask, so that the compiler has no branch to predict.
    const uint32_t passed = edges[rank + half - 1] <= position;
    rank += half & -passed;
    left -= half;
  }
  return __atomic_load_n(edges + count + rank, __ATOMIC_RELAXED);
}

uint16_t inList(const uint8_t* chunk, uint32_t edges, uint32_t position) {
  uint32_t rank = 0;
  for (uint32_t i = 0; i < edges; i++) rank += chunk[i] <= position >> 8;
  return __atomic_load_n(chunk + edges + rank, __ATOMIC_RELAXED);
}

/** What a chunk (its entry, 0 for none) says of an address: a next hop, or 0. */
__attribute__((always_inline)) inline uint16_t valueAt(const Tables& tables, uint32_t entry,
                                                       uint32_t address) {
  if (entry == 0) return 0;
  const uint8_t* chunk = tables.chunk(entry);
  const uint32_t kind = entry & kKindMask;
  if (kind == kBitmap) return __atomic_load_n(inBitmap(chunk, address), __ATOMIC_RELAXED);
  return kind == kWide ? inWide(chunk, address & 0xffff) : inList(chunk, kind, address & 0xffff);
}

/** Answers `n` addresses; returns how many had no route longer than /16. */
__attribute__((always_inline)) inline uint32_t lookup(const Tables& tables, const uint32_t* keys,
                                                      uint32_t n, uint16_t otherwise,
                                                      uint16_t* answers) {
  uint32_t shorter = 0;
  uint32_t entries[kBlock];
  const uint8_t* values[kBlock];
  for (uint32_t from = 0; from < n; from += kBlock) {
    const uint32_t* block = keys + from;
    const uint32_t count = n - from < kBlock ? n - from : kBlock;
    for (uint32_t i = 0; i < count; i++) {
      entries[i] = tables.entry(block[i]);
      __builtin_prefetch(bitsOf(tables.chunk(entries[i]), block[i]));
    }
    for (uint32_t i = 0; i < count; i++) {
      if (!isBitmap(entries[i])) continue;
      values[i] = inBitmap(tables.chunk(entries[i]), block[i]);
      __builtin_prefetch(values[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
      uint16_t value = isBitmap(entries[i]) ? __atomic_load_n(values[i], __ATOMIC_RELAXED)
                                            : valueAt(tables, entries[i], block[i]);
      if (value == 0) {
        value = tables.shorter(block[i]);
        if (value == 0) value = otherwise;
        shorter++;
      }
      answers[from + i] = value;
    }
  }
  return shorter;
}

uint32_t lookupPortable(const Tables& tables, const uint32_t* keys, uint32_t n, uint16_t otherwise,
                        uint16_t* answers) {
  return lookup(tables, keys, n, otherwise, answers);
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) uint32_t lookupPopcnt(const Tables& tables, const uint32_t* keys,
                                                        uint32_t n, uint16_t otherwise,
                                                        uint16_t* answers) {
  return lookup(tables, keys, n, otherwise, answers);
}

const bool kPopcnt = __builtin_cpu_supports("popcnt") != 0;
#endif

using Lookup = uint32_t (*)(const Tables&, const uint32_t*, uint32_t, uint16_t, uint16_t*);

/** One address while the table changes. */
uint16_t settle(const Tables& tables, uint32_t address) {
  for (;;) {
    const uint32_t version = tables.version();
    const uint16_t otherwise = tables.otherwise();
    const uint16_t value = valueAt(tables, tables.entry(address), address);
    if (value != 0) return value;
    const uint16_t shorter = tables.shorter(address);
    if (tables.unmoved(version)) return shorter != 0 ? shorter : otherwise;
  }
}

napi_value lookupWith(napi_env env, napi_callback_info info, Lookup call) {
  const Batch batch = hawser::batchOf(env, info, 1);
  if (batch.regionLength < kHeapAt + kHeapLeast) return nullptr;
  const Tables tables(batch.region);
  const Lane lane(tables);
  const uint32_t version = tables.version();
  const uint32_t shorter = call(tables, batch.keys, batch.n, tables.otherwise(), batch.answers);
  if (shorter == 0 || tables.unmoved(version)) return nullptr;
  for (uint32_t i = 0; i < batch.n; i++) batch.answers[i] = settle(tables, batch.keys[i]);
  return nullptr;
}

napi_value dxrPortable(napi_env env, napi_callback_info info) {
  return lookupWith(env, info, lookupPortable);
}

napi_value dxrLookup(napi_env env, napi_callback_info info) {
#if defined(__x86_64__)
  if (kPopcnt) return lookupWith(env, info, lookupPopcnt);
#endif
  return lookupWith(env, info, lookupPortable);
}

}  // namespace

void registerLookupDxr(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "lookupDxr", dxrLookup);
  hawser::setFunction(env, exports, "lookupDxrPortable", dxrPortable);
}
