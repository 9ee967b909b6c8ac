// Small pieces of the operating system that the bench programs share: errors, clocks, pinning, and
// the one-line protocol they speak with the harness (a line on stdin asks, a JSON line on stdout
// answers; SIGTERM or end of input ends the program).
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bench {

/// Throws with the object, the cause and errno's text.
[[noreturn]] inline void fail(const std::string& object, int error = errno) {
  throw std::runtime_error(object + ": " + std::strerror(error));
}

template <typename T>
T check(T result, const std::string& object) {
  if (result < 0) fail(object);
  return result;
}

inline uint64_t clock_ns(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(t.tv_nsec);
}

inline uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
inline uint64_t cpu_ns() { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

inline void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  check(sched_setaffinity(0, sizeof set, &set), "pinning to CPU " + std::to_string(cpu));
}

inline unsigned device_index(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  if (index == 0) fail("device " + name);
  return index;
}

/// The value after `--name`; throws if there is none.
inline std::string argument(int argc, char** argv, std::string_view name) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (argv[i] == name) return argv[i + 1];
  }
  throw std::runtime_error(std::string(name) + ": missing");
}

inline volatile sig_atomic_t stopping = 0;

inline void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stopping = 1; };
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaction(signal, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

/// True when the harness asks for figures. Waits at most `timeout_ms`; end of input means stop.
inline bool asked(int timeout_ms) {
  pollfd in{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (poll(&in, 1, timeout_ms) <= 0) return false;
  char line[256];
  const ssize_t n = read(STDIN_FILENO, line, sizeof line);
  if (n <= 0) stopping = 1;
  return n > 0;
}

}  // namespace bench
