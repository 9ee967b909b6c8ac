// Control sockets: netlink, the peers of unix sockets, interface indices.
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <vector>

#include "arena.h"
#include "background.h"
#include "clock.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

std::string socketName(int fd) { return "socket " + std::to_string(fd); }

/** Makes the socket of netlinkOpen in the namespace of the calling thread. Returns 0 or an errno.
 */
int makeNetlink(int protocol, uint32_t groups, bool everywhere, Fd& into) {
  into.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (into.get() < 0) return errno;
  const int on = 1;
  if (::setsockopt(into.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) != 0) return errno;
  if (everywhere &&
      ::setsockopt(into.get(), SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on) != 0) {
    return errno;
  }
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  const auto* bound = reinterpret_cast<const sockaddr*>(&address);
  return ::bind(into.get(), bound, sizeof address) == 0 ? 0 : errno;
}

Napi::Value netlinkOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const auto protocol = static_cast<int>(integerArg(info, 1, "protocol", 0, 255));
  const auto groups = static_cast<uint32_t>(integerArg(info, 2, "groups", 0, UINT32_MAX));
  const bool everywhere = info[3].IsBoolean() && info[3].As<Napi::Boolean>().Value();
  Fd fd;
  inNetns(env, netns, "netlink socket of protocol " + std::to_string(protocol),
          [&] { return makeNetlink(protocol, groups, everywhere, fd); });
  return Napi::Number::New(env, fd.release());
}

Napi::Value sendDatagram(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info, 0);
  Napi::Uint8Array data = bytesArg(info, 1, "data");
  for (;;) {
    const ssize_t sent = ::send(fd, data.Data(), data.ByteLength(), MSG_NOSIGNAL);
    if (sent >= 0) return Napi::Number::New(info.Env(), static_cast<double>(sent));
    if (errno != EINTR) throwErrno(info.Env(), socketName(fd) + ": send", errno);
  }
}

/**
 * Takes the datagram that is waiting. Netlink datagrams that another process sent (a port that is
 * not 0) are thrown away: only the kernel's are answers. Returns the full length or -errno.
 */
ssize_t takeDatagram(int fd, uint8_t* into, size_t capacity) {
  for (;;) {
    sockaddr_storage from = {};
    iovec part = {into, capacity};
    msghdr message = {};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t got = ::recvmsg(fd, &message, MSG_TRUNC | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (message.msg_namelen >= sizeof(sockaddr_nl) && from.ss_family == AF_NETLINK) {
      sockaddr_nl sender = {};
      std::memcpy(&sender, &from, sizeof sender);
      if (sender.nl_pid != 0) continue;
    }
    return got;
  }
}

Napi::Value receiveDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  Napi::Uint8Array into = bytesArg(info, 1, "into");
  const int64_t timeoutMs = integerArg(info, 2, "timeoutMs", -1, INT32_MAX);
  const Deadline deadline(timeoutMs);
  for (bool last = timeoutMs == 0;;) {
    const ssize_t got = takeDatagram(fd, into.Data(), into.ByteLength());
    if (got >= 0) return Napi::Number::New(env, static_cast<double>(got));
    if (got != -EAGAIN) {
      throwErrno(env, socketName(fd) + ": receive", static_cast<int>(-got),
                 got == -ENOBUFS ? "messages were lost: read the whole state again" : "");
    }
    if (last) return Napi::Number::New(env, 0);
    const int left = deadline.leftMs();
    last = left == 0;
    pollfd waiting = {fd, POLLIN, 0};
    if (::poll(&waiting, 1, left) < 0 && errno != EINTR) {
      throwErrno(env, socketName(fd) + ": poll", errno);
    }
  }
}

Napi::Value peerCredentials(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  int domain = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) {
    throwErrno(env, socketName(fd) + ": peer credentials", errno);
  }
  if (domain != AF_UNIX) {
    throwErrno(env, socketName(fd) + ": peer credentials", EOPNOTSUPP, "not a unix socket");
  }
  ucred peer = {};
  length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    throwErrno(env, socketName(fd) + ": peer credentials", errno);
  }
  // The kernel answers uid -1 when there is no peer; nobody may take that for a user.
  if (peer.uid == static_cast<uid_t>(-1)) {
    throwErrno(env, socketName(fd) + ": peer credentials", ENOTCONN);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", Napi::Number::New(env, peer.pid));
  result.Set("uid", Napi::Number::New(env, peer.uid));
  result.Set("gid", Napi::Number::New(env, peer.gid));
  return result;
}

/** As `send`: the kernel carries a netlink request out before send(2) returns. */
Napi::Value sendInBackground(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info, 0);
  const Napi::Uint8Array data = bytesArg(info, 1, "data");
  std::vector<uint8_t> copy(data.Data(), data.Data() + data.ByteLength());
  return inBackground(info.Env(), socketName(fd) + ": send", [fd, copy = std::move(copy)] {
    for (;;) {
      if (::send(fd, copy.data(), copy.size(), MSG_NOSIGNAL) >= 0) return 0;
      if (errno != EINTR) return errno;
    }
  });
}

/** SIOCGIFINDEX asks in the namespace of the socket, of whatever family that is. */
Napi::Value socketInterface(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  const std::string name = stringArg(info, 1, "name");
  if (name.empty() || name.size() >= IFNAMSIZ) return Napi::Number::New(env, 0);
  ifreq request = {};
  std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
  if (::ioctl(fd, SIOCGIFINDEX, &request) == 0) return Napi::Number::New(env, request.ifr_ifindex);
  if (errno != ENODEV) throwErrno(env, "interface " + name, errno);
  return Napi::Number::New(env, 0);
}

/** ETHTOOL_GCHANNELS asks in the namespace of the socket; a driver without channels has one queue.
 */
Napi::Value receiveQueues(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info, 0);
  const std::string name = stringArg(info, 1, "name");
  if (name.empty() || name.size() >= IFNAMSIZ) return Napi::Number::New(info.Env(), 0);
  ethtool_channels channels = {};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request = {};
  std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
  request.ifr_data = reinterpret_cast<char*>(&channels);
  if (::ioctl(fd, SIOCETHTOOL, &request) != 0) return Napi::Number::New(info.Env(), 0);
  return Napi::Number::New(info.Env(), channels.rx_count + channels.combined_count);
}

Napi::Value interfaceIndex(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const std::string name = stringArg(info, 1, "name");
  unsigned index = 0;
  // A longer name can't belong to an interface; the kernel would compare its first bytes only.
  if (name.empty() || name.size() >= IFNAMSIZ) return Napi::Number::New(env, 0);
  inNetns(env, netns, "interface " + name, [&] {
    index = ::if_nametoindex(name.c_str());
    return index != 0 || errno == ENODEV || errno == ENXIO ? 0 : errno;
  });
  return Napi::Number::New(env, index);
}

}  // namespace

void registerSockets(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "netlinkOpen", netlinkOpen);
  exportControl(env, exports, "send", sendDatagram);
  exportControl(env, exports, "receive", receiveDatagram);
  exportControl(env, exports, "peerCredentials", peerCredentials);
  exportControl(env, exports, "interfaceIndex", interfaceIndex);
  exportControl(env, exports, "socketInterface", socketInterface);
  exportControl(env, exports, "receiveQueues", receiveQueues);
  exportControl(env, exports, "sendInBackground", sendInBackground);
}
