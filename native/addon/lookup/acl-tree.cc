// The native twin of dataplane/acl/tree/tree.ts: the same walk over the same nodes and blocks. The
// layout is in tree-layout.ts and rebuild.ts.
//
// A batch goes in groups of headers, level by level: each level of a tree is one loop without
// branches that depend on data, so that the CPU has many node loads under way at once; with AVX-512
// it is sixteen headers at a time. Headers that have come to a leaf are collected, their blocks are
// prefetched, and then compared, eight rules at a time.
//
// Nodes and blocks are ours, made by tree-build.ts, so their numbers are not checked; headers only
// choose among the children of a node.
#include "acl-tree.h"

namespace hawser::tree {
namespace {

constexpr uint32_t kRoots = 32;

/** The child of a cut that a header goes on with. */
template <uint32_t words>
inline Node childOf(const uint8_t* nodes, Node node, const uint32_t* header) {
  const uint32_t bits = header[node.how >> 4 & 15] >> (node.how >> 8 & 31);
  const uint32_t child = node.base + (bits & ((1u << (node.how & 15)) - 1));
  return load<Node>(nodes + child * sizeof(Node));
}

/** Appends if `keep`; else writes what the next one overwrites. */
inline void append(List& list, bool keep, uint32_t header, Node node) {
  list.header[list.count] = header;
  list.base[list.count] = node.base;
  list.how[list.count] = node.how;
  list.count += keep;
}

/** Puts a header that has come to `node` where it belongs: in one of the lists, or in none. */
inline void sortIn(Walk& walk, uint32_t header, Node node) {
  const bool better = node.how >> 16 < walk.best[header] >> 16;
  append(walk.walking, better & !isLeaf(node.how), header, node);
  append(walk.atLeaf, better & isLeaf(node.how), header, node);
}

/** Walks one tree with all headers of the group that it may hold a better rule for. */
template <uint32_t words>
void descendScalar(Walk& walk, Node root, const uint8_t* nodes, const uint32_t* headers,
                   uint32_t n) {
  // The root is the same for all, so that its fields are loop invariants.
  if (isLeaf(root.how)) {
    for (uint32_t i = 0; i < n; i++) sortIn(walk, i, root);
  } else {
    for (uint32_t i = 0; i < n; i++) {
      sortIn(walk, i, childOf<words>(nodes, root, headers + i * words));
    }
  }
  List& list = walk.walking;
  while (list.count > 0) {
    const uint32_t count = list.count;
    list.count = 0;
    for (uint32_t k = 0; k < count; k++) {
      const uint32_t i = list.header[k];
      const Node node = {list.base[k], list.how[k]};
      sortIn(walk, i, childOf<words>(nodes, node, headers + i * words));
    }
  }
}

#ifdef __x86_64__
/** Sixteen headers at nodes. */
struct Nodes16 {
  __m512i base;
  __m512i how;
};

HAWSER_AVX512 inline __m512i gather16(__mmask16 lanes, __m512i at, const void* from) {
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, at, from, 4);
}

template <uint32_t words>
HAWSER_AVX512 inline Nodes16 children16(const uint8_t* nodes, __mmask16 lanes, __m512i header,
                                        Nodes16 node, const uint32_t* headers) {
  const __m512i word = _mm512_and_si512(_mm512_srli_epi32(node.how, 4), _mm512_set1_epi32(15));
  const __m512i shift = _mm512_and_si512(_mm512_srli_epi32(node.how, 8), _mm512_set1_epi32(31));
  const __m512i width = _mm512_and_si512(node.how, _mm512_set1_epi32(15));
  const __m512i row = _mm512_mullo_epi32(header, _mm512_set1_epi32(words));
  const __m512i bits =
      _mm512_srlv_epi32(gather16(lanes, _mm512_add_epi32(row, word), headers), shift);
  const __m512i open = _mm512_sllv_epi32(_mm512_set1_epi32(-1), width);
  const __m512i child = _mm512_add_epi32(node.base, _mm512_andnot_si512(open, bits));
  const __m512i at = _mm512_slli_epi32(child, 1);
  return {gather16(lanes, at, nodes), gather16(lanes, at, nodes + 4)};
}

HAWSER_AVX512 inline void append16(List& list, __mmask16 keep, __m512i header, Nodes16 node) {
  _mm512_storeu_si512(list.header + list.count, _mm512_maskz_compress_epi32(keep, header));
  _mm512_storeu_si512(list.base + list.count, _mm512_maskz_compress_epi32(keep, node.base));
  _mm512_storeu_si512(list.how + list.count, _mm512_maskz_compress_epi32(keep, node.how));
  list.count += static_cast<uint32_t>(std::popcount(keep));
}

HAWSER_AVX512 inline void sortIn16(Walk& walk, __mmask16 lanes, __m512i header, Nodes16 node,
                                   __m512i best) {
  const __mmask16 better = _mm512_mask_cmplt_epu32_mask(lanes, _mm512_srli_epi32(node.how, 16),
                                                        _mm512_srli_epi32(best, 16));
  const __mmask16 cuts = _mm512_test_epi32_mask(node.how, _mm512_set1_epi32(15));
  append16(walk.walking, better & cuts, header, node);
  append16(walk.atLeaf, better & ~cuts, header, node);
}

/** Lanes that hold items `k` and on of `count`. */
inline __mmask16 lanesOf(uint32_t k, uint32_t count) {
  return static_cast<__mmask16>(count - k < 16 ? (1u << (count - k)) - 1 : 0xffff);
}

/** As `descendScalar`, sixteen headers at a time. */
template <uint32_t words>
HAWSER_AVX512 void descendAvx512(Walk& walk, Node root, const uint8_t* nodes,
                                 const uint32_t* headers, uint32_t n) {
  const __m512i first = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const Nodes16 roots = {_mm512_set1_epi32(static_cast<int>(root.base)),
                         _mm512_set1_epi32(static_cast<int>(root.how))};
  for (uint32_t i = 0; i < n; i += 16) {
    const __m512i header = _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(i)));
    const __m512i best = _mm512_loadu_si512(walk.best + i);
    const __mmask16 lanes = _mm512_mask_cmplt_epu32_mask(
        lanesOf(i, n), _mm512_srli_epi32(roots.how, 16), _mm512_srli_epi32(best, 16));
    const Nodes16 next =
        isLeaf(root.how) ? roots : children16<words>(nodes, lanes, header, roots, headers);
    sortIn16(walk, lanes, header, next, best);
  }
  List& list = walk.walking;
  while (list.count > 0) {
    const uint32_t count = list.count;
    list.count = 0;
    for (uint32_t k = 0; k < count; k += 16) {
      const __mmask16 lanes = lanesOf(k, count);
      const __m512i header = _mm512_loadu_si512(list.header + k);
      const Nodes16 node = {_mm512_loadu_si512(list.base + k), _mm512_loadu_si512(list.how + k)};
      const __m512i best = gather16(lanes, header, walk.best);
      sortIn16(walk, lanes, header, children16<words>(nodes, lanes, header, node, headers), best);
    }
  }
}
#endif

enum class Simd { none, avx2, avx512 };

/** What a machine does best. */
struct Ways {
  void (*descend)(Walk&, Node, const uint8_t*, const uint32_t*, uint32_t);
  void (*compare)(Walk&, const uint8_t*, const uint32_t*);
};

/** With the widest vectors that this machine has, up to `most`. */
template <uint32_t words>
Ways waysWith(Simd most) {
#ifdef __x86_64__
  if (most == Simd::avx512 && kAvx512) {
    return {descendAvx512<words>, compareAvx512<words>};
  }
  if (most != Simd::none && __builtin_cpu_supports("avx2")) {
    return {descendScalar<words>, compareAvx2<words>};
  }
#else
  (void)most;
#endif
  return {descendScalar<words>, compareScalar<words>};
}

/** Asks for the blocks of the leaves; they are compared one after the other. */
template <uint32_t words>
void prefetch(const List& list, const uint8_t* blocks) {
  for (uint32_t k = 0; k < list.count; k++) {
    const uint8_t* block = blocks + list.base[k] * size_t{Block<words>::bytes};
    for (uint32_t at = 0; at < Block<words>::bytes; at += kLine) __builtin_prefetch(block + at);
  }
}

template <uint32_t words>
void classify(const uint8_t* half, const uint32_t* headers, uint32_t n, uint16_t* answers,
              const Ways& ways) {
  const uint32_t trees = load<uint32_t>(half);
  const uint8_t* nodes = half + load<uint32_t>(half + 4);
  const uint8_t* blocks = half + load<uint32_t>(half + 8);
  Walk walk;
  for (uint32_t from = 0; from < n; from += kGroup) {
    const uint32_t group = n - from < kGroup ? n - from : kGroup;
    const uint32_t* own = headers + size_t{from} * words;
    for (uint32_t i = 0; i < group; i++) walk.best[i] = kNothing;
    for (uint32_t tree = 0; tree < trees; tree++) {
      const Node root = load<Node>(half + kRoots + tree * sizeof(Node));
      walk.walking.count = 0;
      walk.atLeaf.count = 0;
      ways.descend(walk, root, nodes, own, group);
      prefetch<words>(walk.atLeaf, blocks);
      ways.compare(walk, blocks, own);
    }
    for (uint32_t i = 0; i < group; i++) answers[from + i] = static_cast<uint16_t>(walk.best[i]);
  }
}

template <uint32_t words, Simd most>
napi_value classifyTree(napi_env env, napi_callback_info info) {
  static const Ways ways = waysWith<words>(most);
  const Batch batch = batchOf(env, info, words);
  if (batch.n == 0) return nullptr;
  const auto* header = reinterpret_cast<const uint32_t*>(batch.region);
  const uint32_t published = __atomic_load_n(header, __ATOMIC_ACQUIRE);
  if (published == 0) {
    std::memset(batch.answers, 0, batch.n * sizeof(uint16_t));
    return nullptr;
  }
  const uint8_t* half = batch.region + size_t{header[published]} * kLine;
  classify<words>(half, batch.keys, batch.n, batch.answers, ways);
  return nullptr;
}

}  // namespace
}  // namespace hawser::tree

void registerLookupAclTree(Napi::Env env, Napi::Object exports) {
  using namespace hawser::tree;
  using hawser::setFunction;
  setFunction(env, exports, "classifyTree4", classifyTree<4, Simd::avx512>);
  setFunction(env, exports, "classifyTree6", classifyTree<10, Simd::avx512>);
  setFunction(env, exports, "classifyTree4Avx2", classifyTree<4, Simd::avx2>);
  setFunction(env, exports, "classifyTree6Avx2", classifyTree<10, Simd::avx2>);
  setFunction(env, exports, "classifyTree4Scalar", classifyTree<4, Simd::none>);
  setFunction(env, exports, "classifyTree6Scalar", classifyTree<10, Simd::none>);
}
