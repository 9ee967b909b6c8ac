// AF_XDP with raw system calls: one UMEM that any number of sockets share, copy mode, need-wakeup.
// Rings are single producer, single consumer; indices run freely and are masked.
#pragma once

#include <linux/if_xdp.h>
#include <sys/mman.h>

#include <atomic>

#include "os.h"

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9  // Linux 6.18
#endif

namespace bench {

constexpr uint32_t kChunk = 2048;
constexpr uint32_t kRing = 2048;
constexpr uint32_t kBurst = 64;

/// One mapped ring. `T` is xdp_desc (rx, tx) or uint64_t (fill, completion).
template <typename T>
class Ring {
 public:
  void map(int fd, uint32_t entries, off_t page, const xdp_ring_offset& at) {
    void* base = mmap(nullptr, at.desc + entries * sizeof(T), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, fd, page);
    if (base == MAP_FAILED) fail("mapping an AF_XDP ring");
    auto* bytes = static_cast<uint8_t*>(base);
    producer_ = reinterpret_cast<std::atomic<uint32_t>*>(bytes + at.producer);
    consumer_ = reinterpret_cast<std::atomic<uint32_t>*>(bytes + at.consumer);
    flags_ = reinterpret_cast<std::atomic<uint32_t>*>(bytes + at.flags);
    entries_ = reinterpret_cast<T*>(bytes + at.desc);
    mask_ = entries - 1;
  }

  T& at(uint32_t index) { return entries_[index & mask_]; }
  bool needs_wakeup() const {
    return (flags_->load(std::memory_order_relaxed) & XDP_RING_NEED_WAKEUP) != 0;
  }

  /// Producer side: room left, then `submit` what was written from `head()` on.
  uint32_t head() const { return producer_->load(std::memory_order_relaxed); }
  uint32_t room() const {
    return mask_ + 1 - (head() - consumer_->load(std::memory_order_acquire));
  }
  uint32_t unsent() const { return head() - consumer_->load(std::memory_order_acquire); }
  void submit(uint32_t n) { producer_->store(head() + n, std::memory_order_release); }

  /// Consumer side: entries there, then `release` what was read from `tail()` on.
  uint32_t tail() const { return consumer_->load(std::memory_order_relaxed); }
  uint32_t available() const { return producer_->load(std::memory_order_acquire) - tail(); }
  void release(uint32_t n) { consumer_->store(tail() + n, std::memory_order_release); }

 private:
  std::atomic<uint32_t>* producer_ = nullptr;
  std::atomic<uint32_t>* consumer_ = nullptr;
  std::atomic<uint32_t>* flags_ = nullptr;
  T* entries_ = nullptr;
  uint32_t mask_ = 0;
};

/// Frames of `kChunk` bytes, page aligned.
struct Umem {
  explicit Umem(uint32_t frames) : bytes(static_cast<uint64_t>(frames) * kChunk) {
    void* area = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (area == MAP_FAILED) fail("UMEM");
    base = static_cast<uint8_t*>(area);
  }
  uint8_t* base;
  uint64_t bytes;
};

/// One AF_XDP socket with the rings it needs, bound to queue 0 of a device.
class Socket {
 public:
  /// `shared` = a bound socket whose UMEM this one shares, or nullptr to register `umem`.
  Socket(const Umem& umem, unsigned ifindex, bool receive, bool transmit, const Socket* shared) {
    fd = check(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), "AF_XDP socket");
    if (shared == nullptr) {
      xdp_umem_reg reg{};
      reg.addr = reinterpret_cast<uint64_t>(umem.base);
      reg.len = umem.bytes;
      reg.chunk_size = kChunk;
      set(XDP_UMEM_REG, &reg, sizeof reg, "AF_XDP UMEM");
    }
    const uint32_t entries = kRing;
    set(XDP_UMEM_FILL_RING, &entries, sizeof entries, "fill ring");
    set(XDP_UMEM_COMPLETION_RING, &entries, sizeof entries, "completion ring");
    if (receive) set(XDP_RX_RING, &entries, sizeof entries, "rx ring");
    if (transmit) set(XDP_TX_RING, &entries, sizeof entries, "tx ring");
    xdp_mmap_offsets at{};
    socklen_t length = sizeof at;
    check(getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length), "AF_XDP ring offsets");
    fill.map(fd, entries, static_cast<off_t>(XDP_UMEM_PGOFF_FILL_RING), at.fr);
    completion.map(fd, entries, static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING), at.cr);
    if (receive) rx.map(fd, entries, XDP_PGOFF_RX_RING, at.rx);
    if (transmit) tx.map(fd, entries, XDP_PGOFF_TX_RING, at.tx);
    sockaddr_xdp address{};
    address.sxdp_family = AF_XDP;
    address.sxdp_ifindex = ifindex;
    address.sxdp_flags =
        shared ? XDP_SHARED_UMEM : static_cast<uint16_t>(XDP_COPY | XDP_USE_NEED_WAKEUP);
    if (shared) address.sxdp_shared_umem_fd = static_cast<uint32_t>(shared->fd);
    check(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "AF_XDP bind");
  }

  /// Lets one send call take more than 32 frames; returns false where the kernel has no such
  /// option.
  bool raise_tx_budget(int frames) const {
    return setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &frames, sizeof frames) == 0;
  }

  /// Asks the kernel to send. EAGAIN (budget used, completion ring full), EBUSY (that packet was
  /// dropped) and ENOBUFS are its everyday answers.
  void kick() const {
    if (sendto(fd, nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0) return;
    if (errno != EAGAIN && errno != EBUSY && errno != ENOBUFS && errno != EINTR) {
      fail("AF_XDP send");
    }
  }
  void wake_rx() const { recvfrom(fd, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr); }

  int fd = -1;
  Ring<uint64_t> fill;
  Ring<uint64_t> completion;
  Ring<xdp_desc> rx;
  Ring<xdp_desc> tx;

 private:
  void set(int option, const void* value, socklen_t bytes, const char* what) const {
    check(setsockopt(fd, SOL_XDP, option, value, bytes), what);
  }
};

}  // namespace bench
