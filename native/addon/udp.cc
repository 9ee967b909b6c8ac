// UDP sockets of the underlay: bursts by recvmmsg and sendmmsg, with TOS and TTL (ip(7), ipv6(7)).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "arena.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

/** Messages a system call; longer bursts take several. Its arrays are on the stack (40 KiB). */
constexpr int64_t kBurst = 256;

/** What stands beside each packet in the arena; see udpReceive in native.ts. */
struct Meta {
  uint8_t family;
  uint8_t tos;
  uint8_t ttl;
  uint8_t truncated;
  uint16_t port;
  uint16_t unused;
  uint8_t address[16];
  uint8_t padding[8];
};
static_assert(sizeof(Meta) == 32);

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

/** What one message of a burst needs beside its payload. */
struct Slot {
  iovec payload;
  sockaddr_in6 address;  // an IPv4 address fits
  alignas(cmsghdr) uint8_t control[2 * CMSG_SPACE(sizeof(int))];
};

void prepare(msghdr& header, Slot& slot, uint8_t* at, size_t bytes) {
  header = {};
  slot.payload = {at, bytes};
  slot.address.sin6_family = AF_UNSPEC;
  header.msg_name = &slot.address;
  header.msg_namelen = sizeof slot.address;
  header.msg_iov = &slot.payload;
  header.msg_iovlen = 1;
  header.msg_control = slot.control;
  header.msg_controllen = sizeof slot.control;
}

/** Sets TOS and TTL from the ancillary data: IP_TOS is one byte, the other three are ints. */
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
    }
  }
}

void describe(msghdr& header, const Slot& slot, Meta& meta) {
  meta = {};
  meta.truncated = (header.msg_flags & MSG_TRUNC) != 0 ? 1 : 0;
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
  const BurstArgs<6> args(env, info);
  if (!args.ok || args[3] < 0) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int fd = args.fd(0);
  const int64_t count = args[1];
  const int64_t cap = args[3];
  const auto* frames = arenaArray<uint32_t>(arena, args[2], count);
  auto* out = arenaArray<Descriptor>(arena, args[4], count);
  auto* metas = arenaArray<Meta>(arena, args[5], count);
  if (frames == nullptr || out == nullptr || metas == nullptr) return reply(env, -EFAULT);

  mmsghdr messages[kBurst];
  Slot slots[kBurst];
  uint32_t offsets[kBurst];
  int64_t done = 0;
  while (done < count) {
    int64_t n = 0;
    for (; n < std::min(count - done, kBurst); n++) {
      offsets[n] = frames[done + n];
      uint8_t* at = arenaAt(arena, offsets[n], cap);
      if (at == nullptr) break;
      prepare(messages[n].msg_hdr, slots[n], at, static_cast<size_t>(cap));
    }
    if (n == 0) return reply(env, done > 0 ? done : -EFAULT);
    const int got = ::recvmmsg(fd, messages, static_cast<unsigned>(n), MSG_DONTWAIT, nullptr);
    if (got < 0) return reply(env, done > 0 ? done : burstError(errno));
    for (int i = 0; i < got; i++, done++) {
      out[done] = {offsets[i], messages[i].msg_len};
      describe(messages[i].msg_hdr, slots[i], metas[done]);
    }
    if (got < n) break;
  }
  return reply(env, done);
}

void putAncillary(msghdr& header, int level, int type, int value) {
  header.msg_controllen = CMSG_SPACE(sizeof value);
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(c), &value, sizeof value);
}

/** Makes the message of one packet. Returns 0 or the errno that keeps it from being sent. */
int compose(const Instance& arena, const Descriptor& packet, const Meta& meta, msghdr& header,
            Slot& slot) {
  uint8_t* at = arenaAt(arena, packet.offset, packet.length);
  if (at == nullptr) return EFAULT;
  prepare(header, slot, at, packet.length);
  slot.address = {};
  std::memset(slot.control, 0, sizeof slot.control);
  if (meta.family == 4) {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(meta.port);
    std::memcpy(&v4.sin_addr, meta.address, 4);
    std::memcpy(&slot.address, &v4, sizeof v4);
    header.msg_namelen = sizeof v4;
    putAncillary(header, IPPROTO_IP, IP_TOS, meta.tos);
  } else if (meta.family == 6) {
    slot.address.sin6_family = AF_INET6;
    slot.address.sin6_port = htons(meta.port);
    std::memcpy(&slot.address.sin6_addr, meta.address, 16);
    putAncillary(header, IPPROTO_IPV6, IPV6_TCLASS, meta.tos);
  } else {
    return EAFNOSUPPORT;
  }
  return 0;
}

/**
 * Sends `n` messages; results[i] becomes 0 or the errno of message i. sendmmsg stops in front of a
 * message that fails and gives its errno only to the next call, which is why it goes on from there.
 * Returns false when the socket is full: the rest was not tried.
 */
bool sendAll(int fd, mmsghdr* messages, int64_t n, int* results) {
  for (int64_t i = 0; i < n;) {
    const int sent = ::sendmmsg(fd, messages + i, static_cast<unsigned>(n - i), MSG_DONTWAIT);
    if (sent > 0) {
      for (int64_t end = i + sent; i < end; i++) results[i] = 0;
    } else if (errno == EAGAIN) {
      for (; i < n; i++) results[i] = EAGAIN;
      return false;
    } else {
      results[i++] = errno;
    }
  }
  return true;
}

/** Negative only when the arguments are wrong: what the kernel refuses stands in its descriptor. */
napi_value udpSend(napi_env env, napi_callback_info info) {
  const BurstArgs<4> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int fd = args.fd(0);
  const int64_t count = args[3];
  auto* descs = arenaArray<Descriptor>(arena, args[1], count);
  const auto* metas = arenaArray<Meta>(arena, args[2], count);
  if (descs == nullptr || metas == nullptr) return reply(env, -EFAULT);

  mmsghdr messages[kBurst];
  Slot slots[kBurst];
  int64_t indices[kBurst];
  int results[kBurst];
  int64_t taken = 0;
  bool open = true;
  for (int64_t next = 0; next < count;) {
    int64_t n = 0;
    for (; next < count && n < kBurst; next++) {
      const Descriptor packet = descs[next];
      const int error =
          open ? compose(arena, packet, metas[next], messages[n].msg_hdr, slots[n]) : EAGAIN;
      if (error != 0) {
        descs[next].length = static_cast<uint32_t>(error);
      } else {
        indices[n++] = next;
      }
    }
    if (n == 0) continue;
    open = sendAll(fd, messages, n, results);
    for (int64_t i = 0; i < n; i++) {
      descs[indices[i]].length = static_cast<uint32_t>(results[i]);
      if (results[i] == 0) taken++;
    }
  }
  return reply(env, taken);
}

}  // namespace

void registerUdp(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "udpOpen", udpOpen);
  exportBurst(env, exports, "udpReceive", udpReceive);
  exportBurst(env, exports, "udpSend", udpSend);
}
