// rte_fib6, IPv6, of type TRIE: 2^24 entries for the first 24 bits, then tables of 256.
//
//   dpdk-fib6 FOLDER BYTES
//
// BYTES of an entry: 2 or 4. Table: records of address (four words), length, next hop.
#include <rte_byteorder.h>
#include <rte_fib6.h>

#include <cstdint>

#include "routes.h"
#include "serve.h"

namespace {

using namespace bench;

/// Second-level tables that are tried at most: 2 GiB of them with entries of four bytes.
constexpr uint32_t kMostTables = 1U << 21;

using Address = std::array<uint32_t, 4>;

/// The octets of an address as they are in a packet.
Address octets_of(const uint32_t* words) {
  Address address;
  for (size_t w = 0; w < 4; w++) address[w] = rte_cpu_to_be_32(words[w]);
  return address;
}

struct Bulk {
  using Key = Address;
  using Answer = uint64_t;
  static constexpr unsigned kWords = 4;
  rte_fib6* fib;
  rte_fib6_lookup_type type;

  void select() const { rte_fib6_select_lookup(fib, type); }
  static Key key(const uint32_t* words) { return octets_of(words); }
  void find(const Key* keys, const void* const*, unsigned n, Answer* found) const {
    auto* octets = reinterpret_cast<uint8_t(*)[16]>(const_cast<Key*>(keys));
    rte_fib6_lookup_bulk(fib, octets, found, static_cast<int>(n));
  }
  static uint32_t answer(Answer found) { return static_cast<uint32_t>(found); }
};

const std::map<std::string, rte_fib6_lookup_type> kKinds{
    {"scalar", RTE_FIB6_LOOKUP_TRIE_SCALAR},
    {"avx512", RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512},
};

/// A table with `tables` tables of 256 entries, and those of the routes that it takes.
class Table {
 public:
  Table(const std::vector<Route<4>>& routes, unsigned entry_bytes, uint32_t tables)
      : bytes((entry_bytes << 24) + 256UL * entry_bytes * tables),
        heap_(bytes + routes.size() * 2 * kNodeBytes) {
    rte_fib6_conf config{};
    config.type = RTE_FIB6_TRIE;
    config.max_routes = static_cast<int>(routes.size());
    config.trie.nh_sz = static_cast<rte_fib_trie_nh_sz>(std::countr_zero(entry_bytes));
    config.trie.num_tbl8 = tables;
    const double started = now_ms();
    fib = made_or_throw(rte_fib6_create("fib6", heap_.socket, &config), "rte_fib6_create");
    for (const auto& [address, length, next_hop] : routes) {
      const Address octets = octets_of(address.data());
      const auto* first = reinterpret_cast<const uint8_t*>(octets.data());
      if (rte_fib6_add(fib, first, static_cast<uint8_t>(length), next_hop) != 0) refused++;
    }
    ms = now_ms() - started;
  }

  void close() {
    rte_fib6_free(fib);
    heap_.close();
  }

  size_t bytes;
  rte_fib6* fib;
  size_t refused = 0;
  double ms;

 private:
  Heap heap_;
};

Built build(const Words& words, unsigned entry_bytes) {
  const std::vector<Route<4>> routes = routes_of<4>(words);
  // One bit of an entry tells a table's number from a next hop; one number more than tables.
  const uint32_t most = std::min(kMostTables, (1U << (8 * entry_bytes - 1)) - 1);
  uint32_t tables = std::clamp<uint32_t>(groups_of(routes) + 1, 1, most);
  auto table = std::make_unique<Table>(routes, entry_bytes, tables);
  // It reserves more tables than it uses; how many can't be told before.
  while (table->refused > 0 && tables < most) {
    table->close();
    tables = std::min(most, tables + tables / 4 + 1);
    table = std::make_unique<Table>(routes, entry_bytes, tables);
  }
  Built built;
  built.ms = table->ms;
  built.bytes = table->bytes;
  built.refused = table->refused;
  for (const auto& [name, type] : kKinds) {
    if (rte_fib6_select_lookup(table->fib, type) == 0) built.add(name, Bulk{table->fib, type});
  }
  return built;
}

}  // namespace

int main(int argc, char** argv) {
  const auto entry_bytes =
      static_cast<unsigned>(std::strtoul(bench::word(argc, argv, 2).c_str(), nullptr, 10));
  return bench::drive(argc, argv, [&](const Words& words) { return build(words, entry_bytes); });
}
