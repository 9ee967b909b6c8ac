// The native twin of dataplane/fib/trie6/trie6.ts, over the same tables; that file
// has their layout and says why no reader sees a third value. Here are only
// loads:
//
// * a child is one aligned load of 32 bits, a next hop one of 16, and where the
// walk goes next
//   depends on the child;
// * a lookup loads from several nodes, so the version is compared once a group,
// and a group that saw
//   it move is done again, address by address.
//
// A lookup is a chain of nodes of two cache lines. So GROUP addresses go down
// together: a round takes each of those that have not arrived one node further
// and fetches the next one, which is needed a round later.
#include "lookup.h"
#include "version.h"

namespace {

using hawser::Batch;

constexpr uint32_t kHeaderBytes = 64;
constexpr uint32_t kRootBits = 16;
constexpr uint32_t kRoot = 1 << kRootBits;
constexpr uint32_t kStride = 4;
constexpr uint32_t kBranches = 1 << kStride;
constexpr uint32_t kNodeWords = 32;
constexpr size_t kNodesAt = kHeaderBytes + size_t{6} * kRoot;
/** Offsets in a node, words. */
constexpr uint32_t kHops = 16;
constexpr uint32_t kPrefix = 24;
constexpr uint32_t kDepth = 28;
/** Addresses that go down together: their nodes are a quarter of a first cache.
 */
constexpr uint32_t kGroup = 64;

struct Tables : hawser::Versioned {
  const uint32_t *rootChildren;
  const uint16_t *rootHops;
  const uint32_t *nodes;

  explicit Tables(const uint8_t *region)
      : Versioned(region),
        rootChildren(reinterpret_cast<const uint32_t *>(region + kHeaderBytes)),
        rootHops(reinterpret_cast<const uint16_t *>(rootChildren + kRoot)),
        nodes(reinterpret_cast<const uint32_t *>(region + kNodesAt)) {}

  const uint32_t *node(uint32_t index) const { return nodes + size_t{index} * kNodeWords; }

  void fetch(uint32_t index) const {
    // The depth, the address above and the next hops are in the second line,
    // the children in the first.
    __builtin_prefetch(node(index));
    __builtin_prefetch(node(index) + kHops);
  }
};

/** Whether the address and the node have the `depth` bits above the node in
 * common. */
inline bool follows(const uint32_t *node, const uint32_t *address, uint32_t depth) {
  uint32_t w = 0;
  for (; w < depth >> 5; w++) {
    if (node[kPrefix + w] != address[w]) return false;
  }
  const uint32_t bits = depth & 31;
  return bits == 0 || (node[kPrefix + w] ^ address[w]) >> (32 - bits) == 0;
}

/** `n` addresses, GROUP at most. */
void walk(const Tables &tables, const uint32_t *addresses, uint32_t n, uint16_t *answers) {
  uint32_t nodes[kGroup];
  /** Those that have not arrived. */
  uint8_t under[kGroup];
  uint32_t left = 0;
  for (uint32_t i = 0; i < n; i++) {
    const uint32_t top = addresses[4 * i] >> (32 - kRootBits);
    answers[i] = __atomic_load_n(tables.rootHops + top, __ATOMIC_RELAXED);
    nodes[i] = __atomic_load_n(tables.rootChildren + top, __ATOMIC_RELAXED);
    under[left] = static_cast<uint8_t>(i);
    left += nodes[i] != 0;
    tables.fetch(nodes[i]);
  }
  while (left > 0) {
    const uint32_t round = left;
    left = 0;
    for (uint32_t q = 0; q < round; q++) {
      const uint32_t i = under[q];
      const uint32_t *node = tables.node(nodes[i]);
      const uint32_t *address = addresses + 4 * i;
      // Masked, so that a node which is being made anew can't lead out of the
      // address.
      const uint32_t depth = node[kDepth] & 127;
      if (!follows(node, address, depth)) continue;
      const uint32_t shift = 32 - kStride - (depth & 31);
      const uint32_t branch = address[depth >> 5] >> shift & (kBranches - 1);
      const uint16_t hop = __atomic_load_n(
          reinterpret_cast<const uint16_t *>(node + kHops) + branch, __ATOMIC_RELAXED);
      answers[i] = hop != 0 ? hop : answers[i];
      nodes[i] = __atomic_load_n(node + branch, __ATOMIC_RELAXED);
      under[left] = static_cast<uint8_t>(i);
      left += nodes[i] != 0;
      tables.fetch(nodes[i]);
    }
  }
}

/** One address while the table changes. */
void settle(const Tables &tables, const uint32_t *address, uint16_t *answer) {
  uint32_t version;
  do {
    version = tables.version();
    walk(tables, address, 1, answer);
  } while (!tables.unmoved(version));
}

napi_value trie6Lookup(napi_env env, napi_callback_info info) {
  const Batch batch = hawser::batchOf(env, info, 4);
  if (batch.regionLength < kNodesAt) return nullptr;
  const Tables tables(batch.region);
  for (uint32_t from = 0; from < batch.n; from += kGroup) {
    const uint32_t n = batch.n - from < kGroup ? batch.n - from : kGroup;
    const uint32_t *addresses = batch.keys + size_t{4} * from;
    uint16_t *answers = batch.answers + from;
    const uint32_t version = tables.version();
    walk(tables, addresses, n, answers);
    if (tables.unmoved(version)) continue;
    for (uint32_t i = 0; i < n; i++) settle(tables, addresses + size_t{4} * i, answers + i);
  }
  return nullptr;
}

}  // namespace

void registerLookupTrie6(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "lookupTrie6", trie6Lookup);
}
