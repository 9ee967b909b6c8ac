// AF_XDP sockets: UMEM registration, rings mapped over the arena, bind, close, and the two burst
// calls that wake the kernel. Kernel documentation: Documentation/networking/af_xdp.rst.
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "arena.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

// linux/if_xdp.h of kernel 6.8: a metadata area in front of each transmitted packet.
constexpr uint32_t kUmemTxMetadataLen = 1u << 2;  // XDP_UMEM_TX_METADATA_LEN
// linux/if_xdp.h of kernel 6.18: frames that one sendto() may transmit (32 without it).
constexpr int kMaxTxSkbBudget = 9;  // XDP_MAX_TX_SKB_BUDGET
constexpr uint32_t kTxBudget = 256;

/** struct xdp_umem_reg of kernel 6.8; older kernels read it without the last field. */
struct UmemReg {
  uint64_t addr;
  uint64_t len;
  uint32_t chunk_size;
  uint32_t headroom;
  uint32_t flags;
  uint32_t tx_metadata_len;
};
static_assert(sizeof(UmemReg) == 32);

constexpr uint32_t kMaxRingEntries = 1u << 20;

/** One of the four rings: how it is set up, and where it goes. */
struct Ring {
  const char* name;
  const char* sizeName;
  int option;
  off_t pageOffset;
  size_t entryBytes;
  xdp_ring_offset xdp_mmap_offsets::*fields;
  /** From the caller: arena offset (0 = none) and entries. */
  int64_t offset = 0;
  uint32_t entries = 0;

  size_t mappedBytes(const xdp_mmap_offsets& offsets) const {
    return static_cast<size_t>((offsets.*fields).desc) + entries * entryBytes;
  }
};
using Rings = std::array<Ring, 4>;

Rings emptyRings() {
  return {{
      {"fill", "fillSize", XDP_UMEM_FILL_RING, static_cast<off_t>(XDP_UMEM_PGOFF_FILL_RING),
       sizeof(uint64_t), &xdp_mmap_offsets::fr},
      {"completion", "completionSize", XDP_UMEM_COMPLETION_RING,
       static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING), sizeof(uint64_t), &xdp_mmap_offsets::cr},
      {"rx", "rxSize", XDP_RX_RING, XDP_PGOFF_RX_RING, sizeof(xdp_desc), &xdp_mmap_offsets::rx},
      {"tx", "txSize", XDP_TX_RING, static_cast<off_t>(XDP_PGOFF_TX_RING), sizeof(xdp_desc),
       &xdp_mmap_offsets::tx},
  }};
}

size_t pageBytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }

size_t wholePages(size_t bytes) { return (bytes + pageBytes() - 1) / pageBytes() * pageBytes(); }

std::string socketName(int fd) { return "AF_XDP socket " + std::to_string(fd); }

/** Field `name` of `object` as an integer in [0, high]. */
int64_t field(Napi::Env env, const Napi::Object& object, const char* name, int64_t high) {
  const Napi::Value value = object.Get(name);
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number == std::trunc(number) && number >= 0 && number <= static_cast<double>(high)) {
      return static_cast<int64_t>(number);
    }
  }
  throwErrno(env, std::string("rings.") + name, EINVAL,
             "an integer from 0 to " + std::to_string(high));
}

xdp_mmap_offsets mmapOffsets(Napi::Env env, int fd) {
  xdp_mmap_offsets offsets = {};
  socklen_t length = sizeof offsets;
  if (::getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) != 0) {
    throwErrno(env, socketName(fd) + ": ring offsets", errno);
  }
  if (length != sizeof offsets) {
    throwErrno(env, socketName(fd) + ": ring offsets", ENOSYS, "needs kernel 5.4 or newer");
  }
  return offsets;
}

/**
 * Reads the rings of argument 1. With `offsets`, proves that each lies on whole pages inside the
 * arena of this thread and overlaps no other.
 */
Rings ringsArg(const Napi::CallbackInfo& info, const Instance& instance,
               const xdp_mmap_offsets& offsets) {
  const Napi::Env env = info.Env();
  if (!info[1].IsObject()) throwErrno(env, "argument rings", EINVAL, "an object");
  const Napi::Object object = info[1].As<Napi::Object>();
  Rings rings = emptyRings();
  for (Ring& ring : rings) {
    const std::string name = std::string("ring ") + ring.name;
    ring.offset = field(env, object, ring.name, INT64_MAX / 2);
    if (ring.offset == 0) continue;
    ring.entries = static_cast<uint32_t>(field(env, object, ring.sizeName, kMaxRingEntries));
    if (ring.entries == 0 || (ring.entries & (ring.entries - 1)) != 0) {
      throwErrno(env, name, EINVAL, "the size is a power of two up to 1048576");
    }
    const auto bytes = static_cast<int64_t>(wholePages(ring.mappedBytes(offsets)));
    const uint8_t* at = arenaAt(instance, ring.offset, bytes);
    if (at == nullptr) {
      throwErrno(env, name, EINVAL, "lies outside the arena that this thread has bound");
    }
    if (reinterpret_cast<uintptr_t>(at) % pageBytes() != 0) {
      throwErrno(env, name, EINVAL, "starts on a page boundary");
    }
    for (const Ring& other : rings) {
      if (&other == &ring) break;
      if (other.offset == 0) continue;
      const auto otherBytes = static_cast<int64_t>(wholePages(other.mappedBytes(offsets)));
      if (ring.offset < other.offset + otherBytes && other.offset < ring.offset + bytes) {
        throwErrno(env, name, EINVAL, std::string("overlaps the ring ") + other.name);
      }
    }
  }
  return rings;
}

/** Puts anonymous zero pages over the mapping of `ring`: it is plain arena memory again. */
int unmapRing(const Instance& instance, const Ring& ring, const xdp_mmap_offsets& offsets) {
  void* at = instance.base + ring.offset;
  const size_t bytes = wholePages(ring.mappedBytes(offsets));
  void* mapped =
      ::mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return mapped == MAP_FAILED ? errno : 0;
}

Napi::Object fieldOffsets(Napi::Env env, const xdp_ring_offset& ring) {
  Napi::Object made = Napi::Object::New(env);
  made.Set("producer", static_cast<double>(ring.producer));
  made.Set("consumer", static_cast<double>(ring.consumer));
  made.Set("desc", static_cast<double>(ring.desc));
  made.Set("flags", static_cast<double>(ring.flags));
  return made;
}

Napi::Value xskOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  Fd fd;
  inNetns(
      env, netns, "AF_XDP socket",
      [&] {
        fd.reset(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
        return fd.get() < 0 ? errno : 0;
      },
      "needs CAP_NET_RAW and a kernel with CONFIG_XDP_SOCKETS");
  return Napi::Number::New(env, fd.release());
}

Napi::Value xskRegisterUmem(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Instance& instance = instanceOf(env);
  const int fd = fdArg(info, 0);
  const int64_t offset = integerArg(info, 1, "offset", 0, INT64_MAX / 2);
  const int64_t bytes = integerArg(info, 2, "bytes", 1, INT64_MAX / 2);
  UmemReg reg = {};
  reg.chunk_size = static_cast<uint32_t>(integerArg(info, 3, "chunkBytes", 1, UINT32_MAX));
  reg.headroom = static_cast<uint32_t>(integerArg(info, 4, "headroom", 0, UINT32_MAX));
  reg.tx_metadata_len = static_cast<uint32_t>(integerArg(info, 5, "txMetadataBytes", 0, 255));
  const uint8_t* at = arenaAt(instance, offset, bytes);
  if (at == nullptr) {
    throwErrno(env, "UMEM", EINVAL, "lies outside the arena that this thread has bound");
  }
  if (reinterpret_cast<uintptr_t>(at) % pageBytes() != 0) {
    throwErrno(env, "UMEM", EINVAL, "starts on a page boundary");
  }
  reg.addr = reinterpret_cast<uintptr_t>(at);
  reg.len = static_cast<uint64_t>(bytes);
  if (reg.tx_metadata_len != 0) reg.flags = kUmemTxMetadataLen;
  const int result = ::setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg);
  return Napi::Number::New(env, result == 0 ? 0 : -errno);
}

Napi::Value xskMapRings(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Instance& instance = instanceOf(env);
  const int fd = fdArg(info, 0);
  const xdp_mmap_offsets offsets = mmapOffsets(env, fd);
  const Rings rings = ringsArg(info, instance, offsets);
  size_t done = 0;
  int error = 0;
  for (; done < rings.size(); done++) {
    const Ring& ring = rings[done];
    if (ring.offset == 0) continue;
    if (::setsockopt(fd, SOL_XDP, ring.option, &ring.entries, sizeof ring.entries) != 0) {
      error = errno;
      break;
    }
    const size_t bytes = wholePages(ring.mappedBytes(offsets));
    void* at = ::mmap(instance.base + ring.offset, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, ring.pageOffset);
    if (at == MAP_FAILED) {
      error = errno;
      break;
    }
    // A child between fork and exec would keep the socket alive, and with it its device's queue.
    ::madvise(at, bytes, MADV_DONTFORK);
  }
  if (error != 0) {
    const std::string name = socketName(fd) + ": ring " + rings[done].name;
    // mmap with MAP_FIXED may have taken the old pages away before it failed: that ring too.
    for (size_t i = 0; i <= done; i++) {
      if (rings[i].offset != 0) unmapRing(instance, rings[i], offsets);
    }
    throwErrno(env, name, error);
  }
  const Ring& tx = rings[3];
  if (tx.offset != 0) {
    const uint32_t budget = tx.entries < kTxBudget ? tx.entries : kTxBudget;
    // An older kernel refuses it and transmits 32 frames a call.
    (void)::setsockopt(fd, SOL_XDP, kMaxTxSkbBudget, &budget, sizeof budget);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("rx", fieldOffsets(env, offsets.rx));
  result.Set("tx", fieldOffsets(env, offsets.tx));
  result.Set("fill", fieldOffsets(env, offsets.fr));
  result.Set("completion", fieldOffsets(env, offsets.cr));
  return result;
}

Napi::Value xskBind(const Napi::CallbackInfo& info) {
  sockaddr_xdp address = {};
  const int fd = fdArg(info, 0);
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = static_cast<uint32_t>(integerArg(info, 1, "ifindex", 1, INT32_MAX));
  address.sxdp_queue_id = static_cast<uint32_t>(integerArg(info, 2, "queue", 0, UINT16_MAX));
  address.sxdp_flags = static_cast<uint16_t>(integerArg(info, 3, "flags", 0, UINT16_MAX));
  const int64_t shared = integerArg(info, 4, "sharedFd", -1, INT32_MAX);
  if ((address.sxdp_flags & XDP_SHARED_UMEM) != 0) {
    if (shared < 0) throwErrno(info.Env(), "argument sharedFd", EINVAL, "the socket of the UMEM");
    address.sxdp_shared_umem_fd = static_cast<uint32_t>(shared);
  }
  const int result = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return Napi::Number::New(info.Env(), result == 0 ? 0 : -errno);
}

Napi::Value xskClose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Instance& instance = instanceOf(env);
  const int fd = fdArg(info, 0);
  const xdp_mmap_offsets offsets = mmapOffsets(env, fd);
  const Rings rings = ringsArg(info, instance, offsets);
  // A ring mapping keeps the socket alive, so the mappings go first.
  for (const Ring& ring : rings) {
    if (ring.offset == 0) continue;
    if (const int error = unmapRing(instance, ring, offsets); error != 0) {
      throwErrno(env, socketName(fd) + ": unmapping ring " + ring.name, error);
    }
  }
  if (::close(fd) != 0 && errno != EINTR) throwErrno(env, socketName(fd) + ": close", errno);
  return env.Undefined();
}

Napi::Value xskStatistics(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  // Kernels before 5.9 fill the first three fields only; the others stay 0.
  xdp_statistics statistics = {};
  socklen_t length = sizeof statistics;
  if (::getsockopt(fd, SOL_XDP, XDP_STATISTICS, &statistics, &length) != 0) {
    throwErrno(env, socketName(fd) + ": statistics", errno);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("rxDropped", static_cast<double>(statistics.rx_dropped));
  result.Set("rxInvalidDescs", static_cast<double>(statistics.rx_invalid_descs));
  result.Set("txInvalidDescs", static_cast<double>(statistics.tx_invalid_descs));
  result.Set("rxRingFull", static_cast<double>(statistics.rx_ring_full));
  result.Set("rxFillRingEmpty", static_cast<double>(statistics.rx_fill_ring_empty_descs));
  result.Set("txRingEmpty", static_cast<double>(statistics.tx_ring_empty_descs));
  return result;
}

napi_value xskKick(napi_env env, napi_callback_info info) {
  const BurstArgs<1> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const ssize_t sent = ::sendto(args.fd(0), nullptr, 0, MSG_DONTWAIT, nullptr, 0);
  return reply(env, sent < 0 ? burstError(errno) : 0);
}

napi_value xskWakeRx(napi_env env, napi_callback_info info) {
  const BurstArgs<1> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const ssize_t got = ::recvfrom(args.fd(0), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  return reply(env, got < 0 ? burstError(errno) : 0);
}

}  // namespace

void registerXsk(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "xskOpen", xskOpen);
  exportControl(env, exports, "xskRegisterUmem", xskRegisterUmem);
  exportControl(env, exports, "xskMapRings", xskMapRings);
  exportControl(env, exports, "xskBind", xskBind);
  exportControl(env, exports, "xskClose", xskClose);
  exportControl(env, exports, "xskStatistics", xskStatistics);
  exportBurst(env, exports, "xskKick", xskKick);
  exportBurst(env, exports, "xskWakeRx", xskWakeRx);
}
