// Servers and probes of many network namespaces in one process.
//
//   prober POD...                   POD: netns,ipv4,ipv6
//
// In every pod it serves ports 80 and 81: TCP and UDP echo what comes, SCTP (RFC 9260) answers INIT
// with INIT ACK on raw sockets, since few kernels have SCTP. A line on stdin is a round of probes,
// all at once:
//
//   300 tcp:80:0>3/4 -udp:81:0>3/6   milliseconds; protocol, port, from pod 0 to pod 3 by IPv4, by
//   IPv6; with a minus one that should not be answered
//
// and a line on stdout says which of them were answered, as JSON: ["tcp:80:0>3/4"]. A round ends
// when all are, when its time is over, or with the line `end`. When it has those with a minus, and
// all others are answered, a line says `waiting`. It ends with stdin.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr std::array<uint16_t, 2> kPorts = {80, 81};
constexpr size_t kSctpHeader = 12;
constexpr uint8_t kInit = 1;
constexpr uint8_t kInitAck = 2;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

struct Pod {
  int netns = -1;
  std::array<Address, 2> addresses;  // IPv4, IPv6; port 0
  std::array<int, 2> sctp = {-1, -1};
};

struct Probe {
  std::string text;
  uint32_t tag = 0;
  bool unwanted = false;
  bool answered = false;
};

[[noreturn]] void fail(const std::string& what) {
  std::perror(what.c_str());
  std::exit(1);
}

int check(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

// CRC32c as SCTP has it (RFC 9260, appendix A), over what has a checksum of 0.
uint32_t crc32c(const uint8_t* bytes, size_t length) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

void put16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

void put32(uint8_t* at, uint32_t value) {
  put16(at, static_cast<uint16_t>(value >> 16));
  put16(at + 2, static_cast<uint16_t>(value));
}

uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

uint32_t get32(const uint8_t* at) { return uint32_t{get16(at)} << 16 | get16(at + 2); }

// A packet with one chunk, INIT or INIT ACK (RFC 9260, 3.3.2 and 3.3.3).
std::vector<uint8_t> sctp_packet(uint16_t from, uint16_t to, uint32_t verification, uint8_t type,
                                 uint32_t initiate) {
  const size_t chunk = type == kInit ? 20 : 28;  // INIT ACK: with a state cookie of four bytes
  std::vector<uint8_t> bytes(kSctpHeader + chunk);
  put16(&bytes[0], from);
  put16(&bytes[2], to);
  put32(&bytes[4], verification);
  uint8_t* const init = &bytes[kSctpHeader];
  init[0] = type;
  put16(init + 2, static_cast<uint16_t>(chunk));
  put32(init + 4, initiate);
  put32(init + 8, 65536);  // receive window
  put16(init + 12, 1);     // streams out
  put16(init + 14, 1);     // streams in
  put32(init + 16, initiate);
  if (type == kInitAck) {
    put16(init + 20, 7);  // state cookie
    put16(init + 22, 8);
  }
  const uint32_t crc = crc32c(bytes.data(), bytes.size());
  for (int i = 0; i < 4; i++) bytes[8 + i] = static_cast<uint8_t>(crc >> (8 * i));
  return bytes;
}

class Prober {
 public:
  explicit Prober(const std::vector<std::string>& pods) : epoll_(check(epoll_create1(0), "epoll")) {
    for (const std::string& each : pods) add(each);
    watch(STDIN_FILENO, EPOLLIN, [this](uint32_t) { read_lines(); });
  }

  void run() {
    while (!ended_) wait(-1);
  }

 private:
  using Handler = std::function<void(uint32_t)>;

  void watch(int fd, uint32_t events, Handler handler) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    check(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    handlers_[fd] = std::move(handler);
  }

  void forget(int fd) {
    handlers_.erase(fd);
    close(fd);
  }

  void wait(int milliseconds) {
    std::array<epoll_event, 256> events;
    const int count = epoll_wait(epoll_, events.data(), events.size(), milliseconds);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      const auto found = handlers_.find(events[i].data.fd);
      if (found == handlers_.end()) continue;
      const Handler handler = found->second;  // it may take itself away
      handler(events[i].events);
    }
  }

  void add(const std::string& text) {
    std::istringstream words(text);
    std::string path, four, six;
    std::getline(words, path, ',');
    std::getline(words, four, ',');
    std::getline(words, six, ',');
    Pod pod;
    pod.netns = check(open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str());
    auto* const in = reinterpret_cast<sockaddr_in*>(&pod.addresses[0].storage);
    auto* const in6 = reinterpret_cast<sockaddr_in6*>(&pod.addresses[1].storage);
    in->sin_family = AF_INET;
    in6->sin6_family = AF_INET6;
    pod.addresses[0].length = sizeof *in;
    pod.addresses[1].length = sizeof *in6;
    if (inet_pton(AF_INET, four.c_str(), &in->sin_addr) != 1 ||
        inet_pton(AF_INET6, six.c_str(), &in6->sin6_addr) != 1) {
      std::fprintf(stderr, "not a pod: %s\n", text.c_str());
      std::exit(2);
    }
    check(setns(pod.netns, CLONE_NEWNET), "setns");
    for (const uint16_t port : kPorts) {
      serve(SOCK_STREAM, port);
      serve(SOCK_DGRAM, port);
    }
    for (const int version : {0, 1}) {
      const int family = version ? AF_INET6 : AF_INET;
      const int fd = check(socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_SCTP),
                           "raw socket");
      pod.sctp[version] = fd;
      watch(fd, EPOLLIN, [this, fd, version](uint32_t) { receive_sctp(fd, version == 0); });
    }
    pods_.push_back(pod);
  }

  // Both families, in the namespace that the thread is in.
  void serve(int type, uint16_t port) {
    const int fd = check(socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(port);
    check(bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any), "bind");
    if (type == SOCK_DGRAM) {
      check(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on), "IPV6_RECVPKTINFO");
      watch(fd, EPOLLIN, [fd](uint32_t) { echo_datagrams(fd); });
      return;
    }
    check(listen(fd, 1024), "listen");
    watch(fd, EPOLLIN, [this, fd](uint32_t) {
      const int client = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (client < 0) return;
      watch(client, EPOLLIN, [this, client](uint32_t) { echo_stream(client); });
    });
  }

  // The answer goes out from the address that was asked: a node has several.
  static void echo_datagrams(int fd) {
    uint8_t bytes[64];
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo))];
    Address from;
    for (;;) {
      iovec data{.iov_base = bytes, .iov_len = sizeof bytes};
      msghdr message{};
      message.msg_name = &from.storage;
      message.msg_namelen = sizeof from.storage;
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      const ssize_t length = recvmsg(fd, &message, 0);
      if (length < 0) return;
      data.iov_len = static_cast<size_t>(length);
      message.msg_flags = 0;
      if (cmsghdr* const asked = CMSG_FIRSTHDR(&message); asked != nullptr) {
        reinterpret_cast<in6_pktinfo*>(CMSG_DATA(asked))->ipi6_ifindex = 0;
      }
      sendmsg(fd, &message, 0);
    }
  }

  void echo_stream(int fd) {
    uint8_t bytes[64];
    const ssize_t length = read(fd, bytes, sizeof bytes);
    if (length < 0 && errno == EAGAIN) return;
    if (length > 0 && write(fd, bytes, static_cast<size_t>(length)) == length) return;
    forget(fd);
  }

  // Of IPv4, raw sockets get the header, too.
  void receive_sctp(int fd, bool four) {
    uint8_t bytes[256];
    Address from;
    for (;;) {
      from.length = sizeof from.storage;
      auto* const address = reinterpret_cast<sockaddr*>(&from.storage);
      const ssize_t got = recvfrom(fd, bytes, sizeof bytes, 0, address, &from.length);
      if (got < 0) return;
      const size_t skip = four ? (bytes[0] & 15u) * 4u : 0u;
      if (static_cast<size_t>(got) < skip + kSctpHeader + 20) continue;
      const uint8_t* const packet = bytes + skip;
      const uint16_t port = get16(packet + 2);
      const uint8_t type = packet[kSctpHeader];
      if (type == kInitAck) answer(get32(packet + 4));
      if (type != kInit || (port != kPorts[0] && port != kPorts[1])) continue;
      const uint32_t tag = get32(packet + kSctpHeader + 4);
      const auto reply = sctp_packet(port, get16(packet), tag, kInitAck, tag);
      if (!four) reinterpret_cast<sockaddr_in6*>(address)->sin6_port = 0;
      sendto(fd, reply.data(), reply.size(), 0, address, from.length);
    }
  }

  void answer(uint32_t tag) {
    const auto found = open_.find(tag);
    if (found == open_.end() || probes_[found->second].answered) return;
    probes_[found->second].answered = true;
    if (probes_[found->second].unwanted) {
      unwanted_--;
    } else {
      missing_--;
    }
  }

  void read_lines() {
    char bytes[65536];
    const ssize_t length = read(STDIN_FILENO, bytes, sizeof bytes);
    if (length <= 0) {
      ended_ = true;
      return;
    }
    input_.append(bytes, static_cast<size_t>(length));
    for (size_t end; (end = input_.find('\n')) != std::string::npos;) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      if (line == "end") {
        over_ = true;
      } else {
        round(line);
      }
    }
  }

  void round(const std::string& line) {
    std::istringstream words(line);
    int milliseconds = 0;
    words >> milliseconds;
    probes_.clear();
    open_.clear();
    missing_ = unwanted_ = 0;
    over_ = false;
    for (Probe probe; words >> probe.text;) {
      probe.unwanted = probe.text.front() == '-';
      if (probe.unwanted) probe.text.erase(0, 1);
      (probe.unwanted ? unwanted_ : missing_)++;
      probe.tag = ++last_tag_;
      open_[probe.tag] = probes_.size();
      probes_.push_back(probe);
    }
    std::vector<int> sockets;
    for (const Probe& probe : probes_) start(probe, sockets);
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
    bool told = false;
    while (!over_ && !ended_ && missing_ + unwanted_ > 0) {
      if (missing_ == 0 && !told) {
        std::cout << "waiting" << std::endl;
        told = true;
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) break;
      wait(static_cast<int>(left));
    }
    for (const int fd : sockets) forget(fd);
    std::string answered;
    for (const Probe& probe : probes_) {
      if (probe.answered) answered += (answered.empty() ? "\"" : ",\"") + probe.text + "\"";
    }
    std::cout << "[" << answered << "]" << std::endl;
  }

  void start(const Probe& probe, std::vector<int>& sockets) {
    char name[5] = "";
    unsigned port = 0, from = 0, to = 0, version = 0;
    const int fields =
        std::sscanf(probe.text.c_str(), "%4[a-z]:%u:%u>%u/%u", name, &port, &from, &to, &version);
    const std::string protocol = name;
    if (fields != 5 || port > 65535 || from >= pods_.size() || to >= pods_.size() ||
        (version != 4 && version != 6)) {
      std::fprintf(stderr, "not a probe: %s\n", probe.text.c_str());
      std::exit(2);
    }
    const int family = version == 6;
    Address target = pods_[to].addresses[family];
    auto* const address = reinterpret_cast<sockaddr*>(&target.storage);
    const uint32_t tag = probe.tag;
    if (protocol == "sctp") {
      const auto own = static_cast<uint16_t>(1024 + tag % 60000);
      const auto packet = sctp_packet(own, static_cast<uint16_t>(port), 0, kInit, tag);
      sendto(pods_[from].sctp[family], packet.data(), packet.size(), 0, address, target.length);
      return;
    }
    // sin_port and sin6_port lie at the same place.
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(static_cast<uint16_t>(port));
    check(setns(pods_[from].netns, CLONE_NEWNET), "setns");
    const int type = protocol == "tcp" ? SOCK_STREAM : SOCK_DGRAM;
    const int fd =
        check(socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    sockets.push_back(fd);
    if (type == SOCK_STREAM) {
      const linger reset{.l_onoff = 1, .l_linger = 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    const bool under_way = connect(fd, address, target.length) == 0 || errno == EINPROGRESS;
    if (type == SOCK_DGRAM && under_way) send(fd, &tag, sizeof tag, 0);
    watch(fd, type == SOCK_DGRAM ? EPOLLIN : EPOLLOUT,
          [this, fd, tag](uint32_t events) { follow(fd, tag, events); });
  }

  // A connection that stands sends its tag; what comes back answers. An error is no answer.
  void follow(int fd, uint32_t tag, uint32_t events) {
    if (events & EPOLLOUT) {
      const bool sent =
          !(events & EPOLLERR) && send(fd, &tag, sizeof tag, MSG_NOSIGNAL) == sizeof tag;
      epoll_event event{.events = sent ? EPOLLIN : 0u, .data = {.fd = fd}};
      if (sent)
        check(epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event), "epoll_ctl");
      else
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
      return;
    }
    uint32_t echoed = 0;
    if (recv(fd, &echoed, sizeof echoed, 0) == sizeof echoed && echoed == tag) answer(tag);
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  }

  const int epoll_;
  std::unordered_map<int, Handler> handlers_;
  std::vector<Pod> pods_;
  std::string input_;
  bool ended_ = false;
  std::vector<Probe> probes_;
  std::unordered_map<uint32_t, size_t> open_;  // tag → its place in probes_
  size_t missing_ = 0;  // not answered yet, of those that should be, and of those that should not
  size_t unwanted_ = 0;
  bool over_ = false;
  uint32_t last_tag_ = 0;
};

}  // namespace

int main(int argc, char** argv) { Prober({argv + 1, argv + argc}).run(); }
