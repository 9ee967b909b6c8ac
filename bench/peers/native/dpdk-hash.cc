// rte_hash: cuckoo hashing with CRC32 of the whole key.
//
//   dpdk-hash FOLDER plain|lf whole|padded
//
// `lf`: readers need no lock beside a writer (RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF). `padded`: a
// key has 12 words, the last two zero. Table: the keys, of ten words (dataplane/hash/flow-key.ts).
//
// The answer is the key's place in the file, from 1.
#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <cstdint>

#include "serve.h"

namespace {

using namespace bench;

// Entries are this much more than keys: a cuckoo table can't be filled to the last entry.
constexpr double kRoom = 1.15;
// Memory of an entry besides its key: buckets, the ring of free entries, alignment.
constexpr size_t kEntryBytes = 128;

constexpr unsigned kFlowWords = 10;

/// A key padded to `P` words. The library compares 48 bytes by vectors and 40 by memcmp, and an
/// entry of 48 bytes lies in one cache line; a key of 40 bytes takes less to hash.
template <size_t P>
struct Bulk {
  using Key = std::array<uint32_t, P>;
  using Answer = int32_t;
  static constexpr unsigned kWords = kFlowWords;
  const rte_hash* hash;
  std::shared_ptr<const Words> numbers;

  static Key key(const uint32_t* words) {
    Key key{};
    std::copy_n(words, kWords, key.begin());
    return key;
  }
  void find(const Key*, const void* const* pointers, unsigned n, Answer* found) const {
    for (unsigned i = 0; i < n; i += RTE_HASH_LOOKUP_BULK_MAX) {
      auto** keys = const_cast<const void**>(pointers + i);
      rte_hash_lookup_bulk(hash, keys, std::min(n - i, unsigned{RTE_HASH_LOOKUP_BULK_MAX}),
                           found + i);
    }
  }
  uint32_t answer(Answer found) const {
    return found < 0 ? 0 : (*numbers)[static_cast<size_t>(found)];
  }
};

template <size_t P>
Built build(const Words& words, bool lock_free) {
  using Lookup = Bulk<P>;
  const size_t count = words.size() / kFlowWords;
  const auto entries = static_cast<uint32_t>(kRoom * static_cast<double>(count)) + 8;
  const Heap heap(std::bit_ceil(entries) * (kEntryBytes + 4 * P));
  rte_hash_parameters parameters{};
  parameters.name = "hash";
  parameters.entries = entries;
  parameters.key_len = 4 * P;
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = heap.socket;
  if (lock_free) parameters.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
  auto numbers = std::make_shared<Words>(2 * entries);
  Built built;
  const double started = now_ms();
  rte_hash* hash = made_or_throw(rte_hash_create(&parameters), "rte_hash_create");
  for (size_t i = 0; i < count; i++) {
    const typename Lookup::Key key = Lookup::key(&words[i * kFlowWords]);
    const int32_t at = rte_hash_add_key(hash, &key);
    if (at < 0) {
      built.refused++;
      continue;
    }
    // A key that comes again keeps its first number.
    uint32_t& number = numbers->at(static_cast<size_t>(at));
    if (number == 0) number = static_cast<uint32_t>(i + 1);
  }
  built.ms = now_ms() - started;
  built.bytes = heap.allocated();
  built.add("bulk", Lookup{hash, numbers});
  return built;
}

}  // namespace

int main(int argc, char** argv) {
  const bool lock_free = bench::word(argc, argv, 2) == "lf";
  const bool padded = bench::word(argc, argv, 3) == "padded";
  return bench::drive(argc, argv, [&](const Words& words) {
    return padded ? build<12>(words, lock_free) : build<kFlowWords>(words, lock_free);
  });
}
