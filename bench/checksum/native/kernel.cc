// The loops of the checksum without Node-API around them.
//
//   kernel
//
// Prints "ready", then {"bytesPerSecond":N,"sum":N} for each line `KIND SIZE SECONDS` on stdin:
// pieces of SIZE bytes behind each other, together kBytes, which lie in the cache. `sum` is that of
// all their sums, modulo 2^32.
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "checksum.h"

namespace {

using namespace hawser;

/// CALL_BYTES of suite.ts.
constexpr size_t kBytes = 1U << 18;

/// Of this process: nothing here waits, and others on the machine don't count.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

struct Rate {
  double bytes_per_second;
  uint32_t sum;
};

Rate rate(const ChecksumKind& kind, const std::vector<uint8_t>& bytes, size_t size, double least) {
  const size_t pieces = bytes.size() / size;
  volatile uint32_t sink = 0;
  const auto pass = [&] {
    uint32_t sum = 0;
    for (size_t i = 0; i < pieces; i++) {
      sum += finish(kind.sum(nullptr, bytes.data() + i * size, size), 0);
    }
    sink = sum;
  };
  pass();
  const double started = cpu_seconds();
  for (size_t passes = 1;; passes++) {
    pass();
    const double elapsed = cpu_seconds() - started;
    if (elapsed >= least) return {static_cast<double>(passes * pieces * size) / elapsed, sink};
  }
}

}  // namespace

int main() {
  std::vector<uint8_t> bytes(kBytes);
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 8));
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name;
    size_t size = 0;
    double seconds = 0;
    words >> name >> size >> seconds;
    Rate found{0, 0};
    for (const ChecksumKind& kind : kChecksumKinds) {
      if (name == kind.name && kind.there()) found = rate(kind, bytes, size, seconds);
    }
    std::printf("{\"bytesPerSecond\":%.0f,\"sum\":%u}\n", found.bytes_per_second, found.sum);
    std::fflush(stdout);
  }
}
