// Descriptors, deadlines, and writing all of something.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace hawser {

/** Owns a descriptor. */
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline int64_t milliseconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

/** A point in time. */
class Deadline {
 public:
  explicit Deadline(int ms) : end_(milliseconds() + ms) {}
  int leftMs() const {
    const int64_t left = end_ - milliseconds();
    return left > 0 ? static_cast<int>(left) : 0;
  }

 private:
  int64_t end_;
};

/** Waits until `fd` is ready for `events` (or broken). False when the time is over. */
inline bool ready(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd one = {fd, events, 0};
    const int left = deadline.leftMs();
    const int found = ::poll(&one, 1, left);
    if (found > 0) return true;
    if (left == 0) return false;
  }
}

/** Writes all of `bytes`; false with errno when that fails, or takes longer than ten seconds. */
inline bool writeAll(int fd, std::string_view bytes) {
  const Deadline deadline(10'000);
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote >= 0) {
      bytes.remove_prefix(static_cast<size_t>(wrote));
    } else if (errno == EAGAIN) {
      if (!ready(fd, POLLOUT, deadline)) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace hawser
