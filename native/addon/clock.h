// The clock that deadlines are counted by.
#pragma once

#include <cstdint>
#include <ctime>

namespace hawser {

/** A clock in nanoseconds. */
inline int64_t clockNs(clockid_t clock) {
  timespec now = {};
  ::clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

/** A point in time `timeoutMs` from now; -1 is never, 0 is already. */
class Deadline {
 public:
  explicit Deadline(int64_t timeoutMs)
      : timeoutMs_(timeoutMs),
        end_(timeoutMs > 0 ? clockNs(CLOCK_MONOTONIC) + timeoutMs * 1'000'000 : 0) {}

  /** Milliseconds left, rounded up, as poll and epoll_wait take them: -1 for ever. */
  int leftMs() const {
    if (timeoutMs_ <= 0) return timeoutMs_ < 0 ? -1 : 0;
    const int64_t left = end_ - clockNs(CLOCK_MONOTONIC);
    if (left <= 0) return 0;
    const int64_t ms = (left + 999'999) / 1'000'000;
    return static_cast<int>(ms < INT32_MAX ? ms : INT32_MAX);
  }

 private:
  int64_t timeoutMs_;
  int64_t end_;
};

}  // namespace hawser
