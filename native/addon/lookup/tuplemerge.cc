// The native twin of tuplemerge: dataplane/acl/tuple/memory.ts says what lies where,
// tuple-tables.ts by which steps it changes.
//
// A batch goes through one table after another, so that the loads of many headers overlap: hash,
// slots, then the rules that were met. Headers whose rule is better than all that is left drop out.
// With AVX-512 sixteen headers share an instruction, and the headers that are left are moved
// together; without, slots and rules are prefetched a table ahead of being read.
//
// As in TypeScript, what was found holds only if the writer made no step meanwhile. A reader that
// is late reads words that mean something else, but each word it follows stays in bounds.
//
// It is long because both walks, for both families, lie beside the layout that they share.
#include <atomic>
#include <cstring>

#include "avx512.h"
#include "lookup.h"

namespace hawser {
namespace {

/** Headers that go through the tables together, and those that begin anew after a step. */
constexpr uint32_t kChunk = 256;
constexpr uint32_t kPiece = 16;
/** Fewer than these are not worth a vector. */
constexpr uint32_t kFew = 4;
/** Rules met that are compared together, and how far ahead they are prefetched. */
constexpr uint32_t kMet = 1024;
constexpr uint32_t kAhead = 12;
/** Slots that are looked at together. */
constexpr uint32_t kWindow = 8;

/** Words of the region's header, of a table and of a node, as tuple-memory.ts has them. */
constexpr uint32_t kVersion = 0;
constexpr uint32_t kDirectory = 1;
constexpr uint32_t kDirectories = 2;
constexpr uint32_t kNodes = 4;
constexpr uint32_t kDirectoryHeader = 16;
constexpr uint32_t kBest = 0;
constexpr uint32_t kSlots = 1;
constexpr uint32_t kPortsMask = 2;
constexpr uint32_t kProtocolMask = 3;
constexpr uint32_t kAddressMasks = 4;
constexpr uint32_t kTagBits = 15;
constexpr uint32_t kTag = (1u << kTagBits) - 1;
constexpr uint32_t kMultipliers[10] = {0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1,
                                       0xd3a2646d, 0xfd7046c5, 0xb55a4f09, 0x5851f42d, 0x4c957f2d};
constexpr uint32_t kMix = 0x2c1b3c6d;
/** No rule; the answer is what follows it. */
constexpr uint32_t kNoRank = 0xffffffff;

/** W is the number of words of an address. */
template <uint32_t W>
constexpr uint32_t kStride = W == 1 ? 8 : 16;
template <uint32_t W>
constexpr uint32_t kHeaderWords = 2 * W + 2;
/** Words of a node where a header has them too, and how far they go. */
template <uint32_t W>
constexpr uint32_t kPorts = 2 * W;
template <uint32_t W>
constexpr uint32_t kProtocol = 2 * W + 1;
template <uint32_t W>
constexpr uint32_t kPortsFar = W == 1 ? 6 : 10;
template <uint32_t W>
constexpr uint32_t kProtocolFar = kPortsFar<W> + 1;
/** IPv4: bits behind the source's prefix, then the destination's. */
constexpr uint32_t kBehind = 4;
/** IPv6: the lengths of the prefixes. */
constexpr uint32_t kLengths = 12;

uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

template <uint32_t W>
uint32_t rankOf(const uint32_t* node) {
  return (load(node + kProtocolFar<W>) & 0xffff0000) | load(node + kProtocol<W>) >> 16;
}

/** Masks of IPv6 prefixes, by length. */
struct PrefixMasks {
  uint32_t of[129][4];
};
constexpr PrefixMasks prefixMasks() {
  PrefixMasks masks{};
  for (uint32_t length = 0; length <= 128; length++) {
    for (uint32_t bit = 0; bit < length; bit++) masks.of[length][bit / 32] |= 1u << (31 - bit % 32);
  }
  return masks;
}
constexpr PrefixMasks kPrefix = prefixMasks();

struct Words4 {
  uint64_t high, low;
};
Words4 wordsAt(const uint32_t* at) {
  Words4 words;
  std::memcpy(&words, at, sizeof words);
  return words;
}
bool inPrefix(const uint32_t* prefix, uint32_t length, const uint32_t* address) {
  const Words4 a = wordsAt(prefix);
  const Words4 b = wordsAt(address);
  const Words4 mask = wordsAt(kPrefix.of[length <= 128 ? length : 128]);
  return (((a.high ^ b.high) & mask.high) | ((a.low ^ b.low) & mask.low)) == 0;
}

/** Whether the rule of a node matches a header. Without branches: it is about as likely as not. */
template <uint32_t W>
bool matches(const uint32_t* node, const uint32_t* header) {
  const uint32_t ports = header[kPorts<W>];
  const uint32_t first = load(node + kPorts<W>);
  const uint32_t far = load(node + kPortsFar<W>);
  const uint32_t protocol = header[kProtocol<W>] - load(node + kProtocol<W>);
  const bool sourceIn = (((ports >> 16) - (first >> 16)) & 0xffff) <= far >> 16;
  const bool destinationIn = ((ports - first) & 0xffff) <= (far & 0xffff);
  const bool protocolIn = (protocol & 0xffff) <= (load(node + kProtocolFar<W>) & 0xffff);
  if constexpr (W == 1) {
    const uint32_t differ = ((header[0] ^ load(node)) & ~load(node + kBehind)) |
                            ((header[1] ^ load(node + 1)) & ~load(node + kBehind + 1));
    return sourceIn & destinationIn & protocolIn & (differ == 0);
  } else {
    const uint32_t lengths = load(node + kLengths);
    return sourceIn & destinationIn & protocolIn & inPrefix(node, lengths & 255, header) &
           inPrefix(node + W, lengths >> 8 & 255, header + W);
  }
}

/** The directory that is valid now. */
struct Directory {
  const uint32_t* first;
  uint32_t tables;
};
Directory directoryOf(const uint32_t* words) {
  const uint32_t which = __atomic_load_n(words + kDirectory, __ATOMIC_ACQUIRE) & 1;
  const uint32_t* at = words + load(words + kDirectories + which);
  return {at + kDirectoryHeader, __atomic_load_n(at, __ATOMIC_ACQUIRE)};
}

uint32_t folded(uint32_t word, uint32_t by) { return (word ^ word >> 16) * by; }

template <uint32_t W>
void classifyScalar(const uint32_t* words, const uint32_t* headers, uint32_t n, uint32_t* best) {
  const Directory directory = directoryOf(words);
  const uint32_t* nodes = words + load(words + kNodes);
  uint16_t active[kChunk];
  uint32_t hashes[kChunk];
  for (uint32_t i = 0; i < n; i++) {
    best[i] = kNoRank;
    active[i] = static_cast<uint16_t>(i);
  }
  uint32_t count = n;
  for (uint32_t t = 0; t < directory.tables; t++) {
    const uint32_t* table = directory.first + t * kStride<W>;
    const uint32_t tableBest = load(table + kBest);
    uint32_t left = 0;
    for (uint32_t k = 0; k < count; k++) {
      active[left] = active[k];
      left += best[active[k]] > tableBest;
    }
    count = left;
    if (count == 0) return;
    const uint32_t place = load(table + kSlots);
    const uint32_t shift = place & 31;
    const uint32_t mask = 0xffffffffu >> shift;
    const uint32_t* slots = words + (place >> 4 & ~1u);
    for (uint32_t k = 0; k < count; k++) {
      const uint32_t* header = headers + active[k] * kHeaderWords<W>;
      uint32_t sum = (header[2 * W] & load(table + kPortsMask)) * kMultipliers[0] +
                     (header[2 * W + 1] & load(table + kProtocolMask)) * kMultipliers[1];
      for (uint32_t w = 0; w < 2 * W; w++) {
        sum += folded(header[w] & load(table + kAddressMasks + w), kMultipliers[2 + w]);
      }
      hashes[k] = (sum ^ sum >> 15) * kMix | 1;
      __builtin_prefetch(slots + (hashes[k] >> shift));
    }
    for (uint32_t k = 0; k < count; k++) {
      const uint32_t slot = load(slots + (hashes[k] >> shift));
      if (slot != 0) __builtin_prefetch(nodes + (slot >> kTagBits) * kStride<W>);
    }
    for (uint32_t k = 0; k < count; k++) {
      const uint32_t* header = headers + active[k] * kHeaderWords<W>;
      uint32_t& found = best[active[k]];
      uint32_t p = hashes[k] >> shift;
      for (uint32_t steps = 0; steps <= mask; steps++, p = (p + 1) & mask) {
        const uint32_t slot = load(slots + p);
        if (slot == 0) break;
        if (((slot ^ hashes[k]) & kTag) != 0) continue;
        const uint32_t* node = nodes + (slot >> kTagBits) * kStride<W>;
        const uint32_t rank = rankOf<W>(node);
        if (rank < found && matches<W>(node, header)) found = rank;
      }
    }
  }
}

#if defined(__x86_64__)
/** Headers as columns, sixteen of them in a vector, and the best rank that each has found. */
template <uint32_t W>
struct Columns {
  alignas(64) uint32_t of[kHeaderWords<W>][kChunk];
  alignas(64) uint32_t best[kChunk];
};

/** The headers that a table is asked for: their number, the hash of their keys, the first slot. */
struct Asked {
  uint32_t count;
  uint32_t header[kChunk + 16];
  uint32_t hash[kChunk + 16];
  uint32_t slot[kChunk + 16];
};

/** The rules met there: the header's number, and the node. */
struct Met {
  uint32_t count;
  uint32_t header[kMet + 16];
  uint32_t node[kMet + 16];
};

HAWSER_AVX512 inline __m512i vectorOf(uint32_t word) {
  return _mm512_set1_epi32(static_cast<int>(word));
}

HAWSER_AVX512 inline void append(uint32_t* to, __mmask16 which, __m512i values) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(which, values));
}

/** In sixteen bits each: is header - first <= far? A prefix is two such ranges, one for each half.
 */
HAWSER_AVX512 inline __m128i beyond(__m128i header, __m128i first, __m128i far) {
  return _mm_subs_epu16(_mm_sub_epi16(header, first), far);
}

HAWSER_AVX512 inline __m128i quad(const uint32_t* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/** `matches`, with vectors. What stands beside the protocol is a half of the rank. */
template <uint32_t W>
HAWSER_AVX512 inline bool matchesWide(const uint32_t* node, const uint32_t* header) {
  if constexpr (W == 1) {
    const __m128i fields = _mm_setr_epi32(-1, -1, -1, 0xffff);
    return _mm_testz_si128(beyond(quad(header), quad(node), quad(node + kBehind)), fields);
  } else {
    const auto pair = [](const uint32_t* at) HAWSER_AVX512 {
      return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    };
    const __m128i fields = _mm_setr_epi32(-1, 0xffff, 0, 0);
    const __m128i out =
        beyond(pair(header + kPorts<W>), pair(node + kPorts<W>), pair(node + kPortsFar<W>));
    const uint32_t lengths = load(node + kLengths);
    const uint32_t source = (lengths & 255) <= 128 ? lengths & 255 : 128;
    const uint32_t destination = (lengths >> 8 & 255) <= 128 ? lengths >> 8 & 255 : 128;
    const __m256i prefixes = _mm256_inserti128_si256(
        _mm256_castsi128_si256(quad(kPrefix.of[source])), quad(kPrefix.of[destination]), 1);
    const __m256i differ =
        _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(node)),
                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(header)));
    return _mm256_testz_si256(differ, prefixes) & _mm_testz_si128(out, fields);
  }
}

template <uint32_t W>
HAWSER_AVX512 void compare(const uint32_t* nodes, const uint32_t* headers, uint32_t* best,
                           Met& met) {
  for (uint32_t k = 0; k < met.count; k++) {
    // Behind the last one are the nodes of an earlier table, or none (0).
    __builtin_prefetch(nodes + met.node[k + kAhead] * kStride<W>);
    const uint32_t at = met.header[k];
    const uint32_t* node = nodes + met.node[k] * kStride<W>;
    const uint32_t rank = rankOf<W>(node);
    const uint32_t found = best[at];
    const bool better = (rank < found) & matchesWide<W>(node, headers + at * kHeaderWords<W>);
    best[at] = better ? rank : found;
  }
  met.count = 0;
}

/** Notes the nodes of a window of slots whose tag is the header's. */
HAWSER_AVX512 inline void meet(__m512i window, __m512i hashes, __m512i headers, Met& met) {
  const __mmask16 same = _mm512_testn_epi32_mask(_mm512_xor_si512(window, hashes), vectorOf(kTag));
  append(met.node + met.count, same, _mm512_srli_epi32(window, kTagBits));
  append(met.header + met.count, same, headers);
  met.count += static_cast<uint32_t>(__builtin_popcount(same));
}

/** Follows the run of one header that went on for `seen` slots. */
template <typename Flush>
HAWSER_AVX512 void walkOn(const uint32_t* slots, uint32_t mask, const Asked& asked, uint32_t k,
                          uint32_t seen, Met& met, Flush flush) {
  const uint32_t last = mask + 1 - kWindow;
  for (uint32_t back = 0; seen <= mask; seen += kWindow - back) {
    const uint32_t first = (asked.slot[k] + seen) & mask;
    // A window is never beyond the table's end, and begins with what was seen instead.
    back = first < last ? 0 : first - last;
    const __m512i window = _mm512_maskz_loadu_epi32(static_cast<__mmask16>((0xff << back) & 0xff),
                                                    slots + first - back);
    meet(window, vectorOf(asked.hash[k]), vectorOf(asked.header[k]), met);
    if (met.count > kMet - 16) flush();
    const uint32_t free = _mm512_testn_epi32_mask(window, window) & 0xff;
    if (free >> back != 0) return;
  }
}

/**
 * Finds the nodes that the headers' keys meet in a table of `mask` + 1 slots. The windows of two
 * headers are one vector, and are read as a whole, whichever slots belong to the run: all are rules
 * of the table, and what the hash doesn't tell apart is compared anyway. A table that is not larger
 * than a window is one.
 */
template <typename Flush>
HAWSER_AVX512 void walk(const uint32_t* slots, uint32_t mask, Asked& asked, Met& met, Flush flush) {
  const bool whole = mask < kWindow;
  const __mmask8 valid = static_cast<__mmask8>(whole ? (2u << mask) - 1 : 0xff);
  const uint32_t last = whole ? 0 : mask + 1 - kWindow;
  // In a whole table every run ends.
  const uint32_t ends = whole ? 0xffff : 0;
  const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const auto twice = [&](const uint32_t* at) HAWSER_AVX512 {
    return _mm512_permutexvar_epi32(
        halves, _mm512_castsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  };
  // An odd one makes a pair with itself.
  asked.header[asked.count] = asked.header[asked.count - 1];
  asked.hash[asked.count] = asked.hash[asked.count - 1];
  asked.slot[asked.count] = asked.slot[asked.count - 1];
  for (uint32_t k = 0; k < asked.count; k += 2) {
    const uint32_t a = whole ? 0 : asked.slot[k];
    const uint32_t b = whole ? 0 : asked.slot[k + 1];
    const __m512i window = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_maskz_loadu_epi32(valid, slots + (a < last ? a : last))),
        _mm256_maskz_loadu_epi32(valid, slots + (b < last ? b : last)), 1);
    meet(window, twice(asked.hash + k), twice(asked.header + k), met);
    if (met.count > kMet - 16) flush();
    const uint32_t free = _mm512_testn_epi32_mask(window, window) | ends;
    const uint32_t nearA = a > last ? a - last : 0;
    const uint32_t nearB = b > last ? b - last : 0;
    if ((free & 0xff) >> nearA == 0) [[unlikely]] {
      walkOn(slots, mask, asked, k, kWindow - nearA, met, flush);
    }
    if (free >> 8 >> nearB == 0) [[unlikely]] {
      walkOn(slots, mask, asked, k + 1, kWindow - nearB, met, flush);
    }
  }
}

/** What a table's keys are made of: columns, their masks and multipliers, and how far they fold. */
struct Terms {
  uint32_t count;
  uint32_t column[10];
  uint32_t mask[10];
  uint32_t multiplier[10];
  uint32_t fold[10];
};

/** Columns without a mask are left out. Ports and protocol don't fold: a shift by 32 leaves none.
 */
template <uint32_t W>
Terms termsOf(const uint32_t* table) {
  Terms terms;
  terms.count = 0;
  const auto add = [&](uint32_t column, uint32_t mask, uint32_t multiplier, uint32_t fold) {
    if (mask == 0) return;
    terms.column[terms.count] = column;
    terms.mask[terms.count] = mask;
    terms.multiplier[terms.count] = multiplier;
    terms.fold[terms.count] = fold;
    terms.count++;
  };
  add(kPorts<W>, load(table + kPortsMask), kMultipliers[0], 32);
  add(kProtocol<W>, load(table + kProtocolMask), kMultipliers[1], 32);
  for (uint32_t w = 0; w < 2 * W; w++) {
    add(w, load(table + kAddressMasks + w), kMultipliers[2 + w], 16);
  }
  return terms;
}

/** Hashes the keys of the headers that the table may serve; false when there is none. */
template <uint32_t W>
HAWSER_AVX512 bool ask(const uint32_t* table, const Columns<W>& columns, uint32_t n, Asked& asked) {
  const __m512i limit = vectorOf(load(table + kBest));
  const Terms terms = termsOf<W>(table);
  const __m128i by = _mm_cvtsi32_si128(static_cast<int>(load(table + kSlots) & 31));
  __m512i header = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  asked.count = 0;
  for (uint32_t from = 0; from < n; from += 16, header = _mm512_add_epi32(header, vectorOf(16))) {
    const __mmask16 open = _mm512_cmplt_epu32_mask(limit, _mm512_load_si512(columns.best + from));
    if (open == 0) continue;
    __m512i sum = _mm512_setzero_si512();
    for (uint32_t t = 0; t < terms.count; t++) {
      const __m512i word = _mm512_and_si512(_mm512_load_si512(columns.of[terms.column[t]] + from),
                                            vectorOf(terms.mask[t]));
      const __m512i upper =
          _mm512_srl_epi32(word, _mm_cvtsi32_si128(static_cast<int>(terms.fold[t])));
      sum = _mm512_add_epi32(
          sum, _mm512_mullo_epi32(_mm512_xor_si512(word, upper), vectorOf(terms.multiplier[t])));
    }
    const __m512i mixed =
        _mm512_mullo_epi32(_mm512_xor_si512(sum, _mm512_srli_epi32(sum, 15)), vectorOf(kMix));
    append(asked.header + asked.count, open, header);
    append(asked.hash + asked.count, open, _mm512_or_si512(mixed, vectorOf(1)));
    append(asked.slot + asked.count, open, _mm512_srl_epi32(mixed, by));
    asked.count += static_cast<uint32_t>(__builtin_popcount(open));
  }
  return asked.count != 0;
}

template <uint32_t W>
HAWSER_AVX512 void classifyWide(const uint32_t* words, const uint32_t* headers, uint32_t n,
                                uint32_t* done) {
  const Directory directory = directoryOf(words);
  const uint32_t* nodes = words + load(words + kNodes);
  Columns<W> columns;
  Asked asked;
  Met met;
  met.count = 0;
  std::memset(met.node, 0, sizeof met.node);
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t c = 0; c < kHeaderWords<W>; c++) {
      columns.of[c][i] = headers[i * kHeaderWords<W> + c];
    }
  }
  // What is behind the last header has the rank 0, which no table is better than.
  std::memset(columns.best, 0, sizeof columns.best);
  std::memset(columns.best, 0xff, n * sizeof(uint32_t));
  const auto flush = [&]() { compare<W>(nodes, headers, columns.best, met); };
  for (uint32_t t = 0; t < directory.tables; t++) {
    const uint32_t* table = directory.first + t * kStride<W>;
    if (!ask<W>(table, columns, n, asked)) break;
    const uint32_t place = load(table + kSlots);
    walk(words + (place >> 4 & ~1u), 0xffffffffu >> (place & 31), asked, met, flush);
    flush();
  }
  std::memcpy(done, columns.best, n * sizeof(uint32_t));
}

#endif

/** Classifies up to kChunk headers; false when the writer made a step meanwhile. */
template <uint32_t W, bool wide>
bool tryChunk(const uint32_t* words, const uint32_t* headers, uint32_t n, uint16_t* rules) {
  const uint32_t version = __atomic_load_n(words + kVersion, __ATOMIC_ACQUIRE);
  uint32_t best[kChunk];
#if defined(__x86_64__)
  if constexpr (wide) {
    classifyWide<W>(words, headers, n, best);
  } else {
    classifyScalar<W>(words, headers, n, best);
  }
#else
  classifyScalar<W>(words, headers, n, best);
#endif
  std::atomic_thread_fence(std::memory_order_acquire);
  if (load(words + kVersion) != version) return false;
  for (uint32_t i = 0; i < n; i++) rules[i] = static_cast<uint16_t>(best[i] + 1);
  return true;
}

/** As many at a time as go through between two steps: a chunk, a piece, one. */
template <uint32_t W, bool wide>
void classifyAll(const Batch& batch) {
  const uint32_t* words = reinterpret_cast<const uint32_t*>(batch.region);
  for (uint32_t from = 0; from < batch.n; from += kChunk) {
    const uint32_t n = batch.n - from < kChunk ? batch.n - from : kChunk;
    const uint32_t* headers = batch.keys + from * kHeaderWords<W>;
    uint16_t* rules = batch.answers + from;
    uint32_t size = n;
    for (uint32_t at = 0; at < n;) {
      const uint32_t some = n - at < size ? n - at : size;
      const bool done =
          some < kFew ? tryChunk<W, false>(words, headers + at * kHeaderWords<W>, some, rules + at)
                      : tryChunk<W, wide>(words, headers + at * kHeaderWords<W>, some, rules + at);
      if (done) {
        at += some;
      } else {
        size = some > kPiece ? kPiece : 1;
      }
    }
  }
}

template <uint32_t W>
napi_value classify(napi_env env, napi_callback_info info) {
  const Batch batch = batchOf(env, info, kHeaderWords<W>);
#if defined(__x86_64__)
  if (kAvx512) {
    classifyAll<W, true>(batch);
    return nullptr;
  }
#endif
  classifyAll<W, false>(batch);
  return nullptr;
}

template <uint32_t W>
napi_value classifyScalarOnly(napi_env env, napi_callback_info info) {
  classifyAll<W, false>(batchOf(env, info, kHeaderWords<W>));
  return nullptr;
}

}  // namespace
}  // namespace hawser

void registerLookupTuplemerge(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "classifyTuples4", hawser::classify<1>);
  hawser::setFunction(env, exports, "classifyTuples6", hawser::classify<4>);
  hawser::setFunction(env, exports, "classifyTuples4Scalar", hawser::classifyScalarOnly<1>);
  hawser::setFunction(env, exports, "classifyTuples6Scalar", hawser::classifyScalarOnly<4>);
}
