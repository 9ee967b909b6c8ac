// What runs in the pods of the tests: one static program, in both images and on the test's own
// side.
//
//   agent pause                      waits for SIGTERM: the sandbox's first process
//   agent serve PORT NAME            HTTP on [::]:PORT, IPv4 too; a thread a connection. NAME to
//                                    every datagram that comes to that port
//   agent fetch ADDRESS PORT PATH    GET; the body on stdout, exit 0 exactly for status 200
//   agent ask ADDRESS PORT           a datagram, again until one comes back: it is on stdout
//   agent follow ADDRESS PORT PATH   GET of a stream: how many bytes have come, a line now and
//   then;
//                                    exit 1 when it breaks, 2 when a byte is wrong
//
// What the server answers:
//
//   /                        NAME
//   /fetch/ADDRESS/PORT      what GET / there gives, or 502
//   /stream                  bytes without end, byte p is p mod 251; about 8 MB/s
//   /health  /ready          200, or 503 once /sick  /busy were asked for; /idle ends /busy
//   /crash                   ends the process with code 3, without an answer
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

namespace {

constexpr size_t kMaxRequest = 4096;
constexpr size_t kMaxBody = 16 << 20;
constexpr size_t kStreamChunk = 16 << 10;
constexpr auto kStreamPause = std::chrono::milliseconds(2);
constexpr auto kTellEvery = std::chrono::milliseconds(50);
constexpr int kPeriod = 251;
constexpr int kFetchSeconds = 5;
// A datagram is sent this often, and waited for this long each time.
constexpr int kAsks = 10;
constexpr int kAskMs = 500;
// A stream may rest this long (a daemon that restarts) before it counts as broken.
constexpr int kFollowSeconds = 60;

std::atomic<bool> sick{false};
std::atomic<bool> busy{false};

bool SendAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// A connected socket of `type`, or -1 with errno. `seconds` bounds the connect, each send and each
// receive.
int Connect(int type, const std::string& address, uint16_t port, int seconds) {
  const bool six = address.find(':') != std::string::npos;
  sockaddr_in6 to6{};
  sockaddr_in to4{};
  to6.sin6_family = AF_INET6;
  to6.sin6_port = htons(port);
  to4.sin_family = AF_INET;
  to4.sin_port = htons(port);
  void* const place = six ? static_cast<void*>(&to6.sin6_addr) : static_cast<void*>(&to4.sin_addr);
  if (inet_pton(six ? AF_INET6 : AF_INET, address.c_str(), place) != 1) {
    errno = EINVAL;
    return -1;
  }
  const int fd = socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const timeval limit{seconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const auto* const to =
      six ? reinterpret_cast<sockaddr*>(&to6) : reinterpret_cast<sockaddr*>(&to4);
  if (connect(fd, to, six ? sizeof to6 : sizeof to4) == 0) return fd;
  const int cause = errno;
  close(fd);
  errno = cause;
  return -1;
}

int Request(const std::string& address, uint16_t port, const std::string& path, int seconds) {
  const int fd = Connect(SOCK_STREAM, address, port, seconds);
  if (fd < 0) return -1;
  if (SendAll(fd, "GET " + path + " HTTP/1.0\r\nHost: agent\r\n\r\n")) return fd;
  const int cause = errno;
  close(fd);
  errno = cause;
  return -1;
}

// Sends a datagram until one comes back, and prints that. A refusal by the other side ends it too.
int Ask(const std::string& address, uint16_t port) {
  const int fd = Connect(SOCK_DGRAM, address, port, kFetchSeconds);
  for (int k = 0; fd >= 0 && k < kAsks; ++k) {
    if (send(fd, "?", 1, MSG_NOSIGNAL) != 1) break;
    errno = ETIMEDOUT;
    pollfd answer{fd, POLLIN, 0};
    if (poll(&answer, 1, kAskMs) <= 0) continue;
    std::array<char, 1024> name;
    const ssize_t got = recv(fd, name.data(), name.size(), 0);
    if (got < 0) break;
    std::fwrite(name.data(), 1, static_cast<size_t>(got), stdout);
    return 0;
  }
  std::fputs(std::strerror(errno), stderr);
  return 1;
}

// Status and body of GET `path`; status 0 with the cause as the body when there was no answer.
std::pair<int, std::string> Get(const std::string& address, uint16_t port,
                                const std::string& path) {
  const int fd = Request(address, port, path, kFetchSeconds);
  if (fd < 0) return {0, std::strerror(errno)};
  std::string answer;
  std::array<char, 16384> chunk;
  ssize_t got = 0;
  while (answer.size() < kMaxBody && (got = recv(fd, chunk.data(), chunk.size(), 0)) > 0) {
    answer.append(chunk.data(), static_cast<size_t>(got));
  }
  const int cause = errno;
  close(fd);
  if (got < 0) return {0, std::strerror(cause)};
  const size_t head = answer.find("\r\n\r\n");
  const size_t space = answer.find(' ');
  if (head == std::string::npos || space == std::string::npos) return {0, "not an HTTP answer"};
  int status = 0;
  std::from_chars(answer.data() + space + 1, answer.data() + answer.size(), status);
  return {status, answer.substr(head + 4)};
}

// 1 .. 65535, or 0 for anything else.
uint16_t ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() ? port : 0;
}

void Reply(int fd, int status, std::string_view body) {
  SendAll(fd, "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK" : " Unavailable") +
                  "\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
}

void Stream(int fd) {
  if (!SendAll(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")) return;
  std::string chunk(kStreamChunk, '\0');
  for (uint64_t at = 0;; at += kStreamChunk) {
    for (size_t k = 0; k < kStreamChunk; ++k) chunk[k] = static_cast<char>((at + k) % kPeriod);
    if (!SendAll(fd, chunk)) return;
    std::this_thread::sleep_for(kStreamPause);
  }
}

void Fetch(int fd, std::string_view rest) {
  const size_t slash = rest.find('/');
  const uint16_t port = slash == std::string_view::npos ? 0 : ParsePort(rest.substr(slash + 1));
  if (port == 0) return Reply(fd, 400, "want /fetch/ADDRESS/PORT");
  const auto [status, body] = Get(std::string(rest.substr(0, slash)), port, "/");
  Reply(fd, status == 200 ? 200 : 502, body);
}

void Answer(int fd, std::string_view path, const std::string& name) {
  constexpr std::string_view kFetch = "/fetch/";
  if (path == "/crash") _exit(3);
  if (path == "/sick") sick = true;
  if (path == "/busy" || path == "/idle") busy = path == "/busy";
  if (path == "/stream") return Stream(fd);
  if (path.starts_with(kFetch)) return Fetch(fd, path.substr(kFetch.size()));
  const bool refused = (path == "/health" && sick) || (path == "/ready" && busy);
  Reply(fd, refused ? 503 : 200, name);
}

void Serve(int fd, const std::string& name) {
  std::string request;
  std::array<char, 1024> chunk;
  while (request.find("\r\n\r\n") == std::string::npos && request.size() < kMaxRequest) {
    const ssize_t got = recv(fd, chunk.data(), chunk.size(), 0);
    if (got <= 0) break;
    request.append(chunk.data(), static_cast<size_t>(got));
  }
  const size_t end = request.find(' ', 4);
  if (request.starts_with("GET /") && end != std::string::npos) {
    Answer(fd, std::string_view(request).substr(4, end - 4), name);
  }
  shutdown(fd, SHUT_WR);
  close(fd);
}

// A socket of `type` on [::]:port, IPv4 too; -1 with errno.
int Bound(int type, uint16_t port) {
  const int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
  const int off = 0;
  const int on = 1;
  sockaddr_in6 here{};
  here.sin6_family = AF_INET6;
  here.sin6_port = htons(port);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&here), sizeof here) == 0 ? fd : -1;
}

void AnswerDatagrams(int fd, const std::string& name) {
  for (char request[1];;) {
    sockaddr_in6 from{};
    socklen_t length = sizeof from;
    auto* const peer = reinterpret_cast<sockaddr*>(&from);
    if (recvfrom(fd, request, sizeof request, 0, peer, &length) < 0) continue;
    sendto(fd, name.data(), name.size(), 0, peer, length);
  }
}

int Listen(uint16_t port, const std::string& name) {
  const int fd = Bound(SOCK_STREAM, port);
  const int datagrams = Bound(SOCK_DGRAM, port);
  if (fd < 0 || datagrams < 0 || listen(fd, SOMAXCONN) != 0) {
    std::perror("listen");
    return 1;
  }
  std::thread(AnswerDatagrams, datagrams, name).detach();
  std::printf("%s listens\n", name.c_str());
  std::fflush(stdout);
  for (;;) {
    const int client = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) std::thread(Serve, client, name).detach();
  }
}

int Follow(const std::string& address, uint16_t port, const std::string& path) {
  const int fd = Request(address, port, path, kFollowSeconds);
  if (fd < 0) {
    std::perror("follow");
    return 1;
  }
  std::string data;
  bool head = true;
  uint64_t total = 0;
  auto told = std::chrono::steady_clock::now();
  std::array<char, 65536> chunk;
  for (ssize_t got; (got = recv(fd, chunk.data(), chunk.size(), 0)) > 0; data.clear()) {
    data.append(chunk.data(), static_cast<size_t>(got));
    if (head) {
      const size_t end = data.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      data.erase(0, end + 4);
      head = false;
    }
    for (const char byte : data) {
      if (static_cast<unsigned char>(byte) != total++ % kPeriod) return 2;
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - told < kTellEvery) continue;
    told = now;
    std::printf("%llu\n", static_cast<unsigned long long>(total));
    std::fflush(stdout);
  }
  std::perror("follow");
  return 1;
}

int Pause() {
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  // The first process of a PID namespace has no default handlers.
  std::signal(SIGTERM, [](int) { _exit(0); });
  std::signal(SIGINT, [](int) { _exit(0); });
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGCHLD, SIG_IGN);
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "pause") return Pause();
  if (role == "serve" && argc == 4) return Listen(ParsePort(argv[2]), argv[3]);
  if (role == "follow" && argc == 5) return Follow(argv[2], ParsePort(argv[3]), argv[4]);
  if (role == "fetch" && argc == 5) {
    const auto [status, body] = Get(argv[2], ParsePort(argv[3]), argv[4]);
    std::fwrite(body.data(), 1, body.size(), status == 200 ? stdout : stderr);
    return status == 200 ? 0 : 1;
  }
  if (role == "ask" && argc == 4) return Ask(argv[2], ParsePort(argv[3]));
  std::fputs(
      "usage: agent pause | serve PORT NAME | fetch|follow ADDRESS PORT PATH | ask ADDRESS PORT\n",
      stderr);
  return 64;
}
