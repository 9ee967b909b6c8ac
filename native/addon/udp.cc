// UDP sockets of the underlay: bursts by recvmmsg and sendmmsg, with TOS and TTL (ip(7), ipv6(7)).
// Datagrams of one size to one address are one message to the kernel (UDP_SEGMENT), and it may hand
// them over as one (UDP_GRO), both in udp(7).
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "arena.h"
#include "clock.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

/** Messages a system call; longer bursts take several. Its arrays are on the stack (60 KiB). */
constexpr int64_t kBurst = 256;
/** Segments of a message (UDP_MAX_SEGMENTS; newer kernels take more), and its bytes. */
constexpr int64_t kMaxSegments = 64;
constexpr size_t kMaxMessage = 65507;

// linux/udp.h, which can't be included beside netinet/udp.h.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/** What stands beside each packet in the arena: META of dataplane/ports/udp-meta.ts. */
struct Meta {
  uint8_t family;
  uint8_t tos;
  uint8_t ttl;
  /** Received: 1 when it was cut off. Of the first packet of a burst that was sent: SENT. */
  uint8_t flags;
  uint16_t port;
  uint16_t segment;
  uint8_t address[16];
  uint8_t padding[8];
};
static_assert(sizeof(Meta) == 32);
static_assert(offsetof(Meta, flags) == 3 && offsetof(Meta, port) == 4);
static_assert(offsetof(Meta, segment) == 6 && offsetof(Meta, address) == 8);

/** SENT of udp-meta.ts: what a burst tells of its messages of several packets. */
constexpr uint8_t kSegmentsTaken = 1;
constexpr uint8_t kSegmentsRefused = 2;

/** An address with its port; `length` 0 when there is none. */
struct Endpoint {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

Endpoint parseEndpoint(const std::string& address, uint16_t port) {
  Endpoint result;
  sockaddr_in v4 = {};
  sockaddr_in6 v6 = {};
  if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&result.storage, &v4, sizeof v4);
    result.length = sizeof v4;
  } else if (::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&result.storage, &v6, sizeof v6);
    result.length = sizeof v6;
  }
  return result;
}

struct Options {
  bool reusePort;
  bool noChecksum;
  int bufferBytes;
};

int turnOn(int fd, int level, int option) {
  const int on = 1;
  return ::setsockopt(fd, level, option, &on, sizeof on) == 0 ? 0 : errno;
}

/** Sets a buffer size beyond the system's limit where we may, else up to it. */
int setBuffer(int fd, int force, int plain, int bytes) {
  if (::setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) == 0) return 0;
  return ::setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes) == 0 ? 0 : errno;
}

/** Makes the socket in the namespace of the calling thread. Returns 0 or an errno. */
int makeSocket(const Endpoint& local, const Options& options, Fd& into) {
  const int family = local.storage.ss_family;
  into.reset(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = into.get();
  if (fd < 0) return errno;
  int error = turnOn(fd, SOL_SOCKET, SO_REUSEADDR);
  if (error == 0 && options.reusePort) error = turnOn(fd, SOL_SOCKET, SO_REUSEPORT);
  if (family == AF_INET) {
    // As the kernel's vxlan sends by default: a router on the way may fragment.
    const int fragment = IP_PMTUDISC_DONT;
    if (error == 0 &&
        ::setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &fragment, sizeof fragment) != 0) {
      error = errno;
    }
    if (error == 0 && options.noChecksum) error = turnOn(fd, SOL_SOCKET, SO_NO_CHECK);
    if (error == 0) error = turnOn(fd, IPPROTO_IP, IP_RECVTOS);
    if (error == 0) error = turnOn(fd, IPPROTO_IP, IP_RECVTTL);
  } else {
    if (error == 0) error = turnOn(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (error == 0) error = turnOn(fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
    if (error == 0) error = turnOn(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
  }
  const int bytes = options.bufferBytes;
  if (error == 0 && bytes > 0) error = setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bytes);
  if (error == 0 && bytes > 0) error = setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bytes);
  if (error != 0) return error;
  const auto* address = reinterpret_cast<const sockaddr*>(&local.storage);
  return ::bind(fd, address, local.length) == 0 ? 0 : errno;
}

/** `bufferBytes` 0 keeps the system's sizes. */
Napi::Value udpOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const std::string address = stringArg(info, 1, "address");
  const auto port = static_cast<uint16_t>(integerArg(info, 2, "port", 0, UINT16_MAX));
  const Options options = {
      booleanArg(info, 3, "reusePort"),
      booleanArg(info, 4, "noChecksum"),
      static_cast<int>(integerArg(info, 5, "bufferBytes", 0, INT32_MAX / 2)),
  };
  const std::string object = "UDP socket " + address + " port " + std::to_string(port);
  const Endpoint local = parseEndpoint(address, port);
  if (local.length == 0) throwErrno(env, object, EINVAL, "an IPv4 or IPv6 address without scope");
  Fd fd;
  std::string remedy;
  inNetns(
      env, netns, object,
      [&] {
        const int error = makeSocket(local, options, fd);
        if (error == EACCES) remedy = "ports below 1024 need CAP_NET_BIND_SERVICE";
        return error;
      },
      remedy);
  return Napi::Number::New(env, fd.release());
}

/**
 * A raw socket that gets what `filter` (struct sock_filter[]) lets through of the UDP packets to
 * `local` that no XDP program has taken. Returns 0 or an errno.
 */
int makeRaw(const Endpoint& local, const std::vector<sock_filter>& filter, int bufferBytes,
            bool hearErrors, Fd& into) {
  const int family = local.storage.ss_family;
  into.reset(::socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  const int fd = into.get();
  if (fd < 0) return errno;
  sock_fprog program = {};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = const_cast<sock_filter*>(filter.data());
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) return errno;
  // What came before the filter was there.
  uint8_t byte = 0;
  while (::recv(fd, &byte, sizeof byte, MSG_DONTWAIT) >= 0) {
  }
  const int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  int error = turnOn(fd, level, family == AF_INET ? IP_RECVTOS : IPV6_RECVTCLASS);
  if (error == 0) error = turnOn(fd, level, family == AF_INET ? IP_RECVTTL : IPV6_RECVHOPLIMIT);
  if (error == 0) error = setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bufferBytes);
  if (error == 0 && hearErrors) {
    error = turnOn(fd, level, family == AF_INET ? IP_RECVERR : IPV6_RECVERR);
  }
  if (error != 0) return error;
  const auto* address = reinterpret_cast<const sockaddr*>(&local.storage);
  return ::bind(fd, address, local.length) == 0 ? 0 : errno;
}

/** The instructions of a classic BPF program, 8 bytes each. */
std::vector<sock_filter> filterArg(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Uint8Array bytes = bytesArg(info, index, "filter");
  const size_t count = bytes.ByteLength() / sizeof(sock_filter);
  if (count == 0 || count > BPF_MAXINSNS || bytes.ByteLength() % sizeof(sock_filter) != 0) {
    throw Napi::RangeError::New(info.Env(), "filter is no list of instructions");
  }
  std::vector<sock_filter> filter(count);
  std::memcpy(filter.data(), bytes.Data(), bytes.ByteLength());
  return filter;
}

Napi::Value udpOpenRaw(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const std::string address = stringArg(info, 1, "address");
  const std::vector<sock_filter> filter = filterArg(info, 2);
  const auto buffer = static_cast<int>(integerArg(info, 3, "bufferBytes", 1, INT32_MAX / 2));
  const bool hearErrors = booleanArg(info, 4, "hearErrors");
  const std::string object = "raw UDP socket " + address;
  const Endpoint local = parseEndpoint(address, 0);
  if (local.length == 0) throwErrno(env, object, EINVAL, "an IPv4 or IPv6 address without scope");
  Fd fd;
  inNetns(env, netns, object, [&] { return makeRaw(local, filter, buffer, hearErrors, fd); });
  return Napi::Number::New(env, fd.release());
}

/** Another filter in the place of the one before. */
void socketFilter(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(integerArg(info, 0, "fd", 0, INT32_MAX));
  std::vector<sock_filter> filter = filterArg(info, 1);
  sock_fprog program = {};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = filter.data();
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
    throwErrno(info.Env(), "filter of socket " + std::to_string(fd), errno);
  }
}

/** Turns UDP_GRO on, and asks for UDP_SEGMENT; false when the kernel lacks one of them. */
Napi::Value udpSegments(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(integerArg(info, 0, "fd", 0, INT32_MAX));
  int size = 0;
  socklen_t bytes = sizeof size;
  const bool can = ::getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, &bytes) == 0 &&
                   turnOn(fd, IPPROTO_UDP, UDP_GRO) == 0;
  return Napi::Boolean::New(info.Env(), can);
}

/** Segments of a trial, their bytes, and how long it waits for them. */
constexpr int kTrialSegments = 4;
constexpr int kTrialBytes = 100;
constexpr int kTrialMs = 1000;

/** Sends segments from one socket on `address` to another one. 0 when all of them arrive. */
int trySegments(const std::string& address) {
  Fd sender, receiver;
  const Endpoint local = parseEndpoint(address, 0);
  for (Fd* each : {&sender, &receiver}) {
    if (const int error = makeSocket(local, {false, false, 0}, *each); error != 0) return error;
  }
  const int size = kTrialBytes;
  if (::setsockopt(sender.get(), IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size) != 0) return errno;
  if (const int error = turnOn(receiver.get(), IPPROTO_UDP, UDP_GRO); error != 0) return error;
  Endpoint to;
  to.length = sizeof to.storage;
  auto* name = reinterpret_cast<sockaddr*>(&to.storage);
  if (::getsockname(receiver.get(), name, &to.length) != 0) return errno;
  uint8_t bytes[kTrialSegments * kTrialBytes] = {};
  if (::sendto(sender.get(), bytes, sizeof bytes, 0, name, to.length) < 0) return errno;
  const Deadline deadline(kTrialMs);
  for (size_t got = 0; got < sizeof bytes;) {
    pollfd ready = {receiver.get(), POLLIN, 0};
    const int count = ::poll(&ready, 1, deadline.leftMs());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : ETIMEDOUT;
    const ssize_t length = ::recv(receiver.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (length < 0) return errno;
    got += static_cast<size_t>(length);
  }
  return 0;
}

Napi::Value udpTrySegments(const Napi::CallbackInfo& info) {
  const std::string netns = stringArg(info, 0, "netns");
  const std::string address = stringArg(info, 1, "address");
  const int error = runInNetns(netns, [&] { return trySegments(address); });
  return Napi::Number::New(info.Env(), -error);
}

/** What one message of a burst needs beside its payload. */
struct Slot {
  sockaddr_in6 address;  // an IPv4 address fits
  alignas(cmsghdr) uint8_t control[3 * CMSG_SPACE(sizeof(int))];
};

void prepare(msghdr& header, Slot& slot, iovec* parts, size_t count) {
  header = {};
  slot.address.sin6_family = AF_UNSPEC;
  header.msg_name = &slot.address;
  header.msg_namelen = sizeof slot.address;
  header.msg_iov = parts;
  header.msg_iovlen = count;
  header.msg_control = slot.control;
  header.msg_controllen = sizeof slot.control;
}

/** Sets TOS, TTL and size of a segment: IP_TOS is one byte, the others are ints. */
void readAncillary(msghdr& header, Meta& meta) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    const bool v4 = c->cmsg_level == IPPROTO_IP;
    const bool v6 = c->cmsg_level == IPPROTO_IPV6;
    int number = 0;
    if (v4 && c->cmsg_type == IP_TOS) {
      meta.tos = *CMSG_DATA(c);
    } else if (c->cmsg_len >= CMSG_LEN(sizeof number)) {
      std::memcpy(&number, CMSG_DATA(c), sizeof number);
      if (v6 && c->cmsg_type == IPV6_TCLASS) meta.tos = static_cast<uint8_t>(number);
      if (v4 && c->cmsg_type == IP_TTL) meta.ttl = static_cast<uint8_t>(number);
      if (v6 && c->cmsg_type == IPV6_HOPLIMIT) meta.ttl = static_cast<uint8_t>(number);
      if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && number > 0 &&
          number <= UINT16_MAX) {
        meta.segment = static_cast<uint16_t>(number);
      }
    }
  }
}

void describe(msghdr& header, const Slot& slot, Meta& meta) {
  meta = {};
  meta.flags = (header.msg_flags & MSG_TRUNC) != 0 ? 1 : 0;
  if (slot.address.sin6_family == AF_INET6) {
    meta.family = 6;
    meta.port = ntohs(slot.address.sin6_port);
    std::memcpy(meta.address, &slot.address.sin6_addr, 16);
  } else if (slot.address.sin6_family == AF_INET) {
    sockaddr_in v4 = {};
    std::memcpy(&v4, &slot.address, sizeof v4);
    meta.family = 4;
    meta.port = ntohs(v4.sin_port);
    std::memcpy(meta.address, &v4.sin_addr, 4);
  }
  readAncillary(header, meta);
}

napi_value udpReceive(napi_env env, napi_callback_info info) {
  const BurstArgs<8> args(env, info);
  if (!args.ok || args[3] < 0 || (args[5] > 0 && args[5] < args[3])) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int fd = args.fd(0);
  const int64_t count = args[1];
  const auto cap = static_cast<size_t>(args[3]);
  const auto largeCap = static_cast<size_t>(std::max<int64_t>(args[5], 0));
  const auto* frames = arenaArray<uint32_t>(arena, args[2], count);
  const auto* larges = largeCap > 0 ? arenaArray<uint32_t>(arena, args[4], count) : nullptr;
  auto* out = arenaArray<Descriptor>(arena, args[6], count);
  auto* metas = arenaArray<Meta>(arena, args[7], count);
  if (frames == nullptr || out == nullptr || metas == nullptr) return reply(env, -EFAULT);
  if (largeCap > 0 && larges == nullptr) return reply(env, -EFAULT);

  mmsghdr messages[kBurst];
  Slot slots[kBurst];
  iovec parts[kBurst][2];
  uint32_t offsets[kBurst];
  uint32_t wholes[kBurst];
  int64_t done = 0;
  while (done < count) {
    int64_t n = 0;
    for (; n < std::min(count - done, kBurst); n++) {
      offsets[n] = frames[done + n];
      wholes[n] = larges != nullptr ? larges[done + n] : 0;
      uint8_t* head = arenaAt(arena, offsets[n], args[3]);
      uint8_t* whole = larges != nullptr ? arenaAt(arena, wholes[n], args[5]) : nullptr;
      if (head == nullptr || (larges != nullptr && whole == nullptr)) break;
      parts[n][0] = {head, cap};
      if (whole != nullptr) parts[n][1] = {whole + cap, largeCap - cap};
      prepare(messages[n].msg_hdr, slots[n], parts[n], whole != nullptr ? 2 : 1);
    }
    if (n == 0) return reply(env, done > 0 ? done : -EFAULT);
    const int got = ::recvmmsg(fd, messages, static_cast<unsigned>(n), MSG_DONTWAIT, nullptr);
    if (got < 0) return reply(env, done > 0 ? done : burstError(errno));
    for (int i = 0; i < got; i++, done++) {
      const uint32_t length = messages[i].msg_len;
      const bool spilled = length > cap;
      // The head joins what went past it.
      if (spilled) std::memcpy(arena.base + wholes[i], parts[i][0].iov_base, cap);
      out[done] = {spilled ? wholes[i] : offsets[i], length};
      describe(messages[i].msg_hdr, slots[i], metas[done]);
    }
    if (got < n) break;
  }
  return reply(env, done);
}

/** Deals `length` bytes out to frames, `size` to each. */
napi_value scatter(napi_env env, napi_callback_info info) {
  const BurstArgs<5> args(env, info);
  if (!args.ok || args[2] < 1) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int64_t length = args[1];
  const int64_t size = args[2];
  const uint8_t* from = arenaAt(arena, args[0], length);
  const auto* frames = arenaArray<uint32_t>(arena, args[3], args[4]);
  if (from == nullptr || frames == nullptr) return reply(env, -EFAULT);
  int64_t done = 0;
  for (int64_t at = 0; at < length && done < args[4]; at += size, done++) {
    const int64_t bytes = std::min(size, length - at);
    uint8_t* to = arenaAt(arena, frames[done], bytes);
    if (to == nullptr) return reply(env, done > 0 ? done : -EFAULT);
    std::memmove(to, from + at, static_cast<size_t>(bytes));
  }
  return reply(env, done);
}

template <typename T>
void putAncillary(msghdr& header, int level, int type, T value) {
  auto* c =
      reinterpret_cast<cmsghdr*>(static_cast<uint8_t*>(header.msg_control) + header.msg_controllen);
  header.msg_controllen += CMSG_SPACE(sizeof value);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(c), &value, sizeof value);
}

/** Makes the message of `count` packets to one place. Returns 0 or the errno that forbids it. */
int address(const Meta& meta, msghdr& header, Slot& slot, iovec* parts, size_t count) {
  prepare(header, slot, parts, count);
  header.msg_controllen = 0;
  slot.address = {};
  std::memset(slot.control, 0, sizeof slot.control);
  if (meta.family == 4) {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(meta.port);
    std::memcpy(&v4.sin_addr, meta.address, 4);
    std::memcpy(&slot.address, &v4, sizeof v4);
    header.msg_namelen = sizeof v4;
    putAncillary<int>(header, IPPROTO_IP, IP_TOS, meta.tos);
  } else if (meta.family == 6) {
    slot.address.sin6_family = AF_INET6;
    slot.address.sin6_port = htons(meta.port);
    std::memcpy(&slot.address.sin6_addr, meta.address, 16);
    putAncillary<int>(header, IPPROTO_IPV6, IPV6_TCLASS, meta.tos);
  } else {
    return EAFNOSUPPORT;
  }
  if (count > 1) {
    putAncillary(header, IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(parts[0].iov_len));
  }
  return 0;
}

bool samePlace(const Meta& a, const Meta& b) {
  return a.family == b.family && a.tos == b.tos && a.port == b.port &&
         std::memcmp(a.address, b.address, a.family == 4 ? 4 : 16) == 0;
}

/** Packets from `first` on that are one message: of the first one's size, but the last may be
 * shorter. */
int64_t runLength(const Descriptor* packets, const Meta* metas, int64_t first, int64_t end,
                  int64_t segments) {
  const uint32_t size = packets[first].length;
  size_t bytes = size;
  int64_t next = first + 1;
  if (size == 0) return 1;
  for (; next < end && next - first < segments; next++) {
    const uint32_t length = packets[next].length;
    bytes += length;
    if (length == 0 || length > size || bytes > kMaxMessage) break;
    if (!samePlace(metas[first], metas[next])) break;
    if (length < size) return next + 1 - first;
  }
  return next - first;
}

/** Whether the packets of a message that met `error` may go one by one. */
bool worthApart(int error) {
  return error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP;
}

/**
 * Whether it says that the socket or the device can't send segments at all (udp_send_skb in
 * net/ipv4/udp.c): if one of the packets then goes by itself. EMSGSIZE doesn't: these are longer
 * than the way to one peer lets.
 */
bool refusesSegments(int error) { return error != EMSGSIZE; }

/** Whether it is the device that is not there, or down: the next message would meet the same. */
bool deviceFails(int error) {
  return error == ENETDOWN || error == ENODEV || error == EADDRNOTAVAIL;
}

/** The packets of one burst on their way. */
struct Sending {
  int fd;
  mmsghdr messages[kBurst];
  Slot slots[kBurst];
  iovec parts[kBurst];
  /** Packet of each part, and the first part of each message. */
  Descriptor* packets[kBurst];
  int64_t firsts[kBurst + 1];
  int64_t messageCount = 0;
  int64_t partCount = 0;
  int64_t taken = 0;
  /** kSegmentsTaken, kSegmentsRefused. */
  uint8_t segments = 0;
  /** Why nothing more is tried: the socket is full (EAGAIN), or its device fails; or 0. */
  int stopped = 0;

  /** Writes what became of the parts [from, to). */
  void settle(int64_t from, int64_t to, int error) {
    for (int64_t i = from; i < to; i++) packets[i]->length = static_cast<uint32_t>(error);
    if (error == 0) taken += to - from;
  }

  /** Sends the segments of message `m`, which met `refusal`, one by one. */
  void sendApart(int64_t m, int refusal) {
    const int64_t before = taken;
    msghdr header = messages[m].msg_hdr;
    header.msg_iovlen = 1;
    // The segment size is the last item.
    header.msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
    for (int64_t i = firsts[m]; i < firsts[m + 1]; i++) {
      header.msg_iov = &parts[i];
      int error = stopped;
      if (error == 0 && ::sendmsg(fd, &header, MSG_DONTWAIT) < 0) error = errno;
      if (error == EAGAIN || deviceFails(error)) stopped = error;
      settle(i, i + 1, error);
    }
    if (taken > before && refusesSegments(refusal)) segments |= kSegmentsRefused;
  }

  /**
   * Sends what has been gathered. sendmmsg stops in front of a message that fails and gives its
   * errno only to the next call, which is why it goes on from there. When the socket is full, or
   * its device fails, the rest is not tried.
   */
  void flush() {
    for (int64_t m = 0; m < messageCount;) {
      const auto left = static_cast<unsigned>(messageCount - m);
      const int sent = stopped == 0 ? ::sendmmsg(fd, messages + m, left, MSG_DONTWAIT) : -1;
      const int error = stopped == 0 ? errno : stopped;
      if (sent > 0) {
        if (firsts[m + sent] - firsts[m] > sent) segments |= kSegmentsTaken;
        settle(firsts[m], firsts[m + sent], 0);
        m += sent;
      } else if (error == EAGAIN || deviceFails(error)) {
        stopped = error;
        settle(firsts[m], partCount, error);
        break;
      } else {
        const bool several = firsts[m + 1] - firsts[m] > 1;
        if (several && worthApart(error))
          sendApart(m, error);
        else
          settle(firsts[m], firsts[m + 1], error);
        m++;
      }
    }
    messageCount = 0;
    partCount = 0;
  }
};

/** Negative only when the arguments are wrong: what the kernel refuses stands in its descriptor. */
napi_value udpSend(napi_env env, napi_callback_info info) {
  const BurstArgs<5> args(env, info);
  if (!args.ok || args[4] < 1) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int64_t count = args[3];
  const int64_t segments = std::min(args[4], kMaxSegments);
  auto* descs = arenaArray<Descriptor>(arena, args[1], count);
  auto* metas = arenaArray<Meta>(arena, args[2], count);
  if (descs == nullptr || metas == nullptr) return reply(env, -EFAULT);

  Sending burst;
  burst.fd = args.fd(0);
  for (int64_t next = 0; next < count;) {
    const int64_t first = burst.partCount;
    const int64_t most = std::min(segments, kBurst - first);
    const int64_t length = runLength(descs, metas, next, count, most);
    const int64_t m = burst.messageCount;
    int error = burst.stopped;
    int64_t n = 0;
    for (; n < length && error == 0; n++) {
      Descriptor& packet = descs[next + n];
      uint8_t* at = arenaAt(arena, packet.offset, packet.length);
      // One that lies outside ends the run in front of it, and is told when its turn comes.
      if (at == nullptr) {
        if (n == 0) error = EFAULT;
        break;
      }
      burst.parts[first + n] = {at, packet.length};
      burst.packets[first + n] = &packet;
    }
    if (error == 0) {
      error = address(metas[next], burst.messages[m].msg_hdr, burst.slots[m], &burst.parts[first],
                      static_cast<size_t>(n));
    }
    if (error != 0) {
      descs[next++].length = static_cast<uint32_t>(error);
      continue;
    }
    burst.firsts[m] = first;
    burst.firsts[m + 1] = first + n;
    burst.messageCount++;
    burst.partCount += n;
    next += n;
    if (burst.partCount == kBurst) burst.flush();
  }
  burst.flush();
  if (count > 0) metas[0].flags = burst.segments;
  return reply(env, burst.taken);
}

}  // namespace

void registerUdp(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "udpOpen", udpOpen);
  exportControl(env, exports, "udpOpenRaw", udpOpenRaw);
  exportControl(env, exports, "socketFilter", socketFilter);
  exportControl(env, exports, "udpSegments", udpSegments);
  exportControl(env, exports, "udpTrySegments", udpTrySegments);
  exportBurst(env, exports, "udpReceive", udpReceive);
  exportBurst(env, exports, "udpSend", udpSend);
  exportBurst(env, exports, "scatter", scatter);
}
