#include "daemon.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "answer.h"
#include "io.h"
#include "json.h"
#include "protocol.h"

namespace hawser {

namespace {

constexpr int kFirstPauseMs = 10;
constexpr int kLongestPauseMs = 200;

constexpr char kStart[] =
    "start the hawser daemon on this node and see its log; if it runs, \"socket\" in the network "
    "configuration is not the daemon's";

class Conversation {
 public:
  Conversation(const std::string& path, int answerMs, int away)
      : path_(path), away_(away), deadline_(answerMs) {}

  /** A connection to a daemon that root runs. */
  Fd connect(int connectMs) const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    const Deadline patience(connectMs);
    for (int pause = kFirstPauseMs;; pause = std::min(2 * pause, kLongestPauseMs)) {
      Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (fd.get() < 0) fail(std::strerror(errno), "free memory or descriptors on this node");
      if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
        checkPeer(fd.get());
        return fd;
      }
      const int error = errno;
      // EAGAIN: the daemon is there, and its backlog is full (unix(7)).
      const bool passing = error == ENOENT || error == ECONNREFUSED || error == EINTR;
      const int left = error == EAGAIN ? deadline_.leftMs()
                       : passing       ? std::min(patience.leftMs(), deadline_.leftMs())
                                       : 0;
      if (left == 0) explain(error);
      ::poll(nullptr, 0, std::min(pause, left));
    }
  }

  /** Sends all of it, or as much as the other side takes before it hangs up. */
  void send(int fd, std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EAGAIN) {
        wait(fd, POLLOUT);
      } else if (errno != EINTR) {
        return;  // what it said before it hung up is read by `receive`
      }
    }
  }

  /**
   * The reply to a request of version `asked`; nothing from a daemon of the first version. With
   * `json` it must be that, or empty.
   */
  std::optional<Reply> receive(int fd, uint32_t asked, bool json) const {
    const std::string header = take(fd, kHeaderBytes);
    const uint32_t magic = getNumber(header.data());
    const uint32_t word = getNumber(header.data() + 4);
    const uint32_t length = getNumber(header.data() + 8);
    if (magic >> 8 != kMagic >> 8) misunderstood("is not of our protocol");
    if (magic != asked) {
      if (magic == kFirstMagic && word == kWordError && length == 0) return std::nullopt;
      misunderstood("is of version " + std::to_string(magic & 0xff) + " of the protocol, not " +
                    std::to_string(asked & 0xff));
    }
    if (word != kWordSuccess && word != kWordError) misunderstood("is neither success nor error");
    Reply reply = {word == kWordError, "", asked == kFirstMagic ? "" : takeSaid(fd, length)};
    const size_t rest = length - (asked == kFirstMagic ? 0 : 4 + reply.said.size());
    if (rest > kMaxReplyBytes) misunderstood("is too long");
    reply.text = take(fd, rest);
    if (!json) return reply;
    if (reply.text.empty() ? reply.error : !isJsonObject(reply.text)) {
      misunderstood("is not one JSON object");
    }
    return reply;
  }

 private:
  [[noreturn]] void fail(const std::string& cause, const std::string& remedy) const {
    throw Failure{away_, path_ + ": " + cause, remedy};
  }

  [[noreturn]] void explain(int error) const {
    if (error == ENOENT) fail("no such socket: the hawser daemon is not running", kStart);
    if (error == ECONNREFUSED) fail("nobody answers: the hawser daemon is not running", kStart);
    if (error == EAGAIN) fail("too many requests wait for the hawser daemon", "try again");
    if (error == EACCES || error == EPERM) fail(std::strerror(error), "run the plugin as root");
    fail(std::strerror(error), kStart);
  }

  [[noreturn]] void misunderstood(const std::string& how) const {
    throw Failure{kProtocolError, path_ + ": the answer " + how,
                  "install plugin and daemon from the same release"};
  }

  void checkPeer(int fd) const {
    ucred peer = {};
    socklen_t length = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
      fail(std::strerror(errno), kStart);
    }
    if (peer.uid == 0) return;
    throw Failure{kPeerError,
                  path_ + ": served by user " + std::to_string(peer.uid) + ", not by root",
                  "find out who took the daemon's socket, and start the daemon as root"};
  }

  void wait(int fd, short events) const {
    if (!ready(fd, events, deadline_)) {
      fail("the hawser daemon did not answer in time", "see the daemon's log; try again");
    }
  }

  /** What a reply of `length` bytes has for stderr, in front of the rest. */
  std::string takeSaid(int fd, size_t length) const {
    if (length < 4) misunderstood("is cut");
    const size_t said = getNumber(take(fd, 4).data());
    if (said > length - 4) misunderstood("is cut");
    if (said > kMaxStderrBytes) misunderstood("is too long");
    return take(fd, said);
  }

  std::string take(int fd, size_t count) const {
    std::string bytes(count, '\0');
    for (size_t have = 0; have < count;) {
      const ssize_t got = ::recv(fd, bytes.data() + have, count - have, 0);
      if (got > 0) {
        have += static_cast<size_t>(got);
      } else if (got < 0 && errno == EAGAIN) {
        wait(fd, POLLIN);
      } else if (got == 0 || errno != EINTR) {
        fail("the hawser daemon hung up before it answered",
             "it was stopped, or it refused the request: see its log; try again");
      }
    }
    return bytes;
  }

  const std::string& path_;
  int away_;
  Deadline deadline_;
};

}  // namespace

Reply query(const std::string& socket, std::string_view name, int ms) {
  std::string message;
  putNumber(message, kFirstMagic);
  putNumber(message, kWordQuery);
  putText(message, name);
  const Conversation conversation(socket, ms, kNotAvailable);
  const Fd fd = conversation.connect(0);
  conversation.send(fd.get(), message);
  return *conversation.receive(fd.get(), kFirstMagic, false);
}

int printReply(const Reply& reply) {
  // Whether it can be written or not: the answer counts.
  (void)writeAll(STDERR_FILENO, reply.said);
  return print(reply.text, reply.error ? 1 : 0);
}

std::string encodeRequest(const Environment& environment, std::string_view config) {
  size_t length = 4 + config.size();
  for (const std::string_view value : environment.values) length += 4 + value.size();
  std::string message;
  message.reserve(kHeaderBytes + length);
  putNumber(message, kFirstMagic);
  putNumber(message, kWordCni);
  putNumber(message, static_cast<uint32_t>(length));
  for (const std::string_view value : environment.values) putText(message, value);
  putText(message, config);
  return message;
}

Reply ask(const std::string& socket, std::string message, int connectMs, int answerMs, int away) {
  const Conversation conversation(socket, answerMs, away);
  for (uint32_t magic = kMagic;; magic = kFirstMagic) {
    message[3] = static_cast<char>(magic & 0xff);
    const Fd fd = conversation.connect(connectMs);
    conversation.send(fd.get(), message);
    if (std::optional<Reply> reply = conversation.receive(fd.get(), magic, true)) return *reply;
  }
}

}  // namespace hawser
