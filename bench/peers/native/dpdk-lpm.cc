// rte_lpm, IPv4: DIR-24-8 with 32-bit entries.
//
//   dpdk-lpm FOLDER
//
// Table: records of address, length, next hop.
//
// Adding compares with every route of the same length there is, so a full table takes the best part
// of a minute, in whatever order its routes come.
#include <rte_lpm.h>

#include <cstdint>

#include "routes.h"
#include "serve.h"

namespace {

using namespace bench;

struct Bulk {
  using Key = uint32_t;
  using Answer = uint32_t;
  static constexpr unsigned kWords = 1;
  rte_lpm* lpm;
  uint32_t fallback;

  static Key key(const uint32_t* words) { return *words; }
  void find(const Key* keys, const void* const*, unsigned n, Answer* found) const {
    rte_lpm_lookup_bulk(lpm, keys, found, n);
  }
  uint32_t answer(Answer found) const {
    return (found & RTE_LPM_LOOKUP_SUCCESS) != 0 ? found & 0xffffff : fallback;
  }
};

/// Four addresses a call, in vector registers where the CPU has them.
struct Four : Bulk {
  void find(const Key* keys, const void* const*, unsigned n, Answer* found) const {
    unsigned i = 0;
    for (; i + 4 <= n; i += 4) find_four(keys + i, found + i);
    if (i == n) return;
    Key last[4] = {};
    Answer answers[4];
    std::copy_n(keys + i, n - i, last);
    find_four(last, answers);
    std::copy_n(answers, n - i, found + i);
  }
  void find_four(const Key* keys, Answer* found) const {
    xmm_t four;
    std::memcpy(&four, keys, sizeof four);
    rte_lpm_lookupx4(lpm, four, found, 0);
  }
  uint32_t answer(Answer found) const { return found == 0 ? fallback : found; }
};

Built build(const Words& words) {
  const std::vector<Route<1>> routes = routes_of<1>(words);
  rte_lpm_config config{};
  config.max_rules = static_cast<uint32_t>(routes.size());
  config.number_tbl8s = std::max<uint32_t>(1, groups_of(routes));
  const Heap heap((4U << 24) + config.number_tbl8s * 1024UL + routes.size() * 16);
  Built built;
  const double started = now_ms();
  rte_lpm* lpm = made_or_throw(rte_lpm_create("lpm", heap.socket, &config), "rte_lpm_create");
  uint32_t fallback = 0;
  for (const auto& [address, length, next_hop] : routes) {
    // It takes no length 0: the default route is what a miss means.
    if (length == 0) {
      fallback = next_hop;
      continue;
    }
    if (rte_lpm_add(lpm, address[0], static_cast<uint8_t>(length), next_hop) != 0) built.refused++;
  }
  built.ms = now_ms() - started;
  built.bytes = heap.allocated();
  built.add("bulk", Bulk{lpm, fallback});
  built.add("x4", Four{{lpm, fallback}});
  return built;
}

}  // namespace

int main(int argc, char** argv) { return bench::drive(argc, argv, build); }
