// rte_fib, IPv4, of type DIR24_8.
//
//   dpdk-fib FOLDER BYTES
//
// BYTES of an entry: 1, 2 or 4. Table: records of address, length, next hop.
#include <rte_fib.h>

#include <cstdint>

#include "routes.h"
#include "serve.h"

namespace {

using namespace bench;

struct Bulk {
  using Key = uint32_t;
  using Answer = uint64_t;
  static constexpr unsigned kWords = 1;
  rte_fib* fib;
  rte_fib_lookup_type type;

  void select() const { rte_fib_select_lookup(fib, type); }
  static Key key(const uint32_t* words) { return *words; }
  void find(const Key* keys, const void* const*, unsigned n, Answer* found) const {
    rte_fib_lookup_bulk(fib, const_cast<Key*>(keys), found, static_cast<int>(n));
  }
  static uint32_t answer(Answer found) { return static_cast<uint32_t>(found); }
};

// Of the three scalar functions the one of macros is the fastest here, with every size of an entry.
const std::map<std::string, rte_fib_lookup_type> kKinds{
    {"scalar", RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO},
    {"avx512", RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512},
};

Built build(const Words& words, unsigned entry_bytes) {
  const std::vector<Route<1>> routes = routes_of<1>(words);
  rte_fib_conf config{};
  config.type = RTE_FIB_DIR24_8;
  config.max_routes = static_cast<int>(routes.size());
  config.dir24_8.nh_sz = static_cast<rte_fib_dir24_8_nh_sz>(std::countr_zero(entry_bytes));
  // One bit of an entry tells a group's number from a next hop; one number more than groups.
  const uint32_t most = (1U << (8 * entry_bytes - 1)) - 1;
  config.dir24_8.num_tbl8 = std::clamp<uint32_t>(groups_of(routes) + 1, 1, most);
  const size_t table = (entry_bytes << 24) + 256UL * entry_bytes * config.dir24_8.num_tbl8;
  const Heap heap(table + routes.size() * 2 * kNodeBytes);
  Built built;
  const double started = now_ms();
  rte_fib* fib = made_or_throw(rte_fib_create("fib", heap.socket, &config), "rte_fib_create");
  for (const auto& [address, length, next_hop] : routes) {
    const auto depth = static_cast<uint8_t>(length);
    if (rte_fib_add(fib, address[0], depth, next_hop) != 0) built.refused++;
  }
  built.ms = now_ms() - started;
  built.bytes = table;
  for (const auto& [name, type] : kKinds) {
    if (rte_fib_select_lookup(fib, type) == 0) built.add(name, Bulk{fib, type});
  }
  return built;
}

}  // namespace

int main(int argc, char** argv) {
  const auto entry_bytes =
      static_cast<unsigned>(std::strtoul(bench::word(argc, argv, 2).c_str(), nullptr, 10));
  return bench::drive(argc, argv, [&](const Words& words) { return build(words, entry_bytes); });
}
