// Routes as the drivers get them, and how many second-level tables they need.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace bench {

/// Bytes of a route in the library's own trie, which it keeps beside the table and never looks up
/// in; a route can take two of them.
constexpr size_t kNodeBytes = 256;

/// `W` words of address in host order, the most significant first.
template <size_t W>
struct Route {
  std::array<uint32_t, W> address;
  uint32_t length;
  uint32_t next_hop;
};

template <size_t W>
std::vector<Route<W>> routes_of(const std::vector<uint32_t>& words) {
  std::vector<Route<W>> routes(words.size() / (W + 2));
  for (size_t i = 0; i < routes.size(); i++) {
    const uint32_t* at = &words[i * (W + 2)];
    std::copy_n(at, W, routes[i].address.begin());
    routes[i].length = at[W];
    routes[i].next_hop = at[W + 1];
  }
  return routes;
}

/// Tables of 256 entries below one of 2^24: one for each different prefix of 24, 32, 40 .. bits
/// that is shorter than a route in it.
template <size_t W>
uint32_t groups_of(const std::vector<Route<W>>& routes) {
  std::vector<std::array<uint32_t, W + 1>> groups;
  for (const Route<W>& route : routes) {
    for (uint32_t bits = 24; bits < route.length; bits += 8) {
      std::array<uint32_t, W + 1> group{};
      for (size_t w = 0; w < W && 32 * w < bits; w++) {
        const uint32_t left = bits - static_cast<uint32_t>(32 * w);
        group[w] = left >= 32 ? route.address[w] : route.address[w] & ~(~0U >> left);
      }
      group[W] = bits;
      groups.push_back(group);
    }
  }
  std::sort(groups.begin(), groups.end());
  return static_cast<uint32_t>(std::unique(groups.begin(), groups.end()) - groups.begin());
}

}  // namespace bench
