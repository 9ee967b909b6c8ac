// The line protocol of a driver. It prints "ready", then answers each line on stdin, and ends with
// its input.
//
//   build FILE                       {"working":N} each second, then {"buildMs":N,"bytes":N,
//                                    "refused":N,"hugeBytes":N,"kinds":"a b "}
//   trace KIND KEYS ANSWERS          {"keys":N}; one word in the file ANSWERS for each key
//   rate KIND SECONDS batch|chain    {"perSecond":N}
//
// Files are 32-bit words in the byte order of the machine. A KIND is a way to look up in the table
// that was built (scalar, AVX-512). `batch` gives the library kBatch keys a call, which is what a
// batch of ours has; `chain` gives it one, which depends on the answer before: latency.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "environment.h"
#include "kind.h"

namespace bench {

using Words = std::vector<uint32_t>;

inline Words read_words(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  Words words(static_cast<size_t>(file.tellg()) / 4);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * 4));
  return words;
}

inline void write_words(const std::string& path, const Words& words) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(words.data()),
             static_cast<std::streamsize>(words.size() * 4));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

inline double now_ms() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(since).count();
}

/// What a driver makes of a table's file.
struct Built {
  double ms = 0;
  /// What the library allocated for it.
  size_t bytes = 0;
  size_t refused = 0;
  std::map<std::string, std::unique_ptr<Kind>> kinds;

  template <typename Lookup>
  void add(const std::string& name, Lookup lookup) {
    kinds[name] = std::make_unique<KindOf<Lookup>>(lookup);
  }

  Kind& kind(const std::string& name) const {
    const auto found = kinds.find(name);
    if (found == kinds.end()) throw std::runtime_error("there is no kind " + name);
    return *found->second;
  }
};

/// Says each second that work goes on, until `stop` asks for its end.
inline void beat(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  for (int second = 1;; second++) {
    never.wait_for(lock, stop, std::chrono::seconds(1), [] { return false; });
    if (stop.stop_requested()) return;
    std::printf("{\"working\":%d}\n", second);
    std::fflush(stdout);
  }
}

/// Passes over the trace for `least_ms`; returns keys a second.
inline double rate(const Kind& kind, double least_ms, bool chain) {
  volatile uint64_t sink = 0;
  const auto pass = [&] { sink = sink + (chain ? kind.chain() : kind.pass()); };
  pass();  // warms caches and predictors
  const double started = now_ms();
  double elapsed = 0;
  for (size_t passes = 1;; passes++) {
    pass();
    elapsed = now_ms() - started;
    if (elapsed >= least_ms) return static_cast<double>(passes * kind.keys()) * 1000 / elapsed;
  }
}

inline int serve(const std::function<Built(const Words&)>& build) {
  Built built;
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, name, first, second;
    words >> verb >> name >> first >> second;
    if (verb == "build") {
      const Words table = read_words(name);
      {
        const std::jthread heart(beat);
        built = build(table);
      }
      std::string kinds;
      for (const auto& [each, unused] : built.kinds) kinds.append(each).append(" ");
      std::printf("{\"buildMs\":%.3f,\"bytes\":%zu,\"refused\":%zu,\"hugeBytes\":%zu,", built.ms,
                  built.bytes, built.refused, huge_bytes());
      std::printf("\"kinds\":\"%s\"}\n", kinds.c_str());
    } else if (verb == "trace") {
      Kind& kind = built.kind(name);
      kind.load(read_words(first));
      write_words(second, kind.answers());
      std::printf("{\"keys\":%zu}\n", kind.keys());
    } else if (verb == "rate") {
      const double perSecond = rate(built.kind(name), std::stod(first) * 1000, second == "chain");
      std::printf("{\"perSecond\":%.1f}\n", perSecond);
    } else {
      throw std::runtime_error("not understood: " + line);
    }
    std::fflush(stdout);
  }
  return 0;
}

/// Argument `i` of the program; throws nothing, so that it may be used before `drive`.
inline std::string word(int argc, char** argv, int i) { return i < argc ? argv[i] : ""; }

/// `main` of a driver: starts the environment, serves, says errors on stderr. The first argument is
/// a folder of its own.
inline int drive(int argc, char** argv, const std::function<Built(const Words&)>& build) {
  try {
    start_environment(word(argc, argv, 1));
    return serve(build);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

}  // namespace bench
