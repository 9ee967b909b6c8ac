// How long after a file took its place policy does what it says: a stream of UDP packets that the
// file allows or denies, and beside it one that is allowed all the time.
//
//   latency --from NETNS --judged NETNS,ADDRESS --steady NETNS,ADDRESS --port P
//
// Each stream sends a packet every 100 us from --from to its own pod. Prints "ready". A line on
// stdin, `allow NEW FILE` or `deny NEW FILE`, renames NEW to FILE; the answer is {"ns":N,"lost":N}:
// from the rename until the first packet that arrives, or that is sent and never does; and how many
// of the steady stream's packets did not arrive since the last answer.
#include <arpa/inet.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <sstream>
#include <thread>

#include "../../path/native/os.h"

namespace {

using namespace bench;

constexpr int kIntervalNs = 100'000;
/// So long nothing must arrive for a stream to be called denied.
constexpr uint64_t kSilenceNs = 200'000'000;
constexpr uint64_t kPatienceNs = 10'000'000'000;

void enter(const std::string& netns) {
  const int fd = check(open(netns.c_str(), O_RDONLY | O_CLOEXEC), netns);
  check(setns(fd, CLONE_NEWNET), netns);
  close(fd);
}

void pause_ns(long ns) {
  const timespec time{.tv_sec = 0, .tv_nsec = ns};
  nanosleep(&time, nullptr);
}

class Stream {
 public:
  /// `to`: namespace and address, with a comma between.
  Stream(const std::string& from, const std::string& to, uint16_t port) {
    sockaddr_in address{};
    const size_t comma = to.find(',');
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (comma == std::string::npos ||
        inet_pton(AF_INET, to.c_str() + comma + 1, &address.sin_addr) != 1) {
      throw std::runtime_error(to + ": not a namespace and an address");
    }
    enter(to.substr(0, comma));
    in_ = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "UDP socket");
    const int bytes = 1 << 24;
    check(setsockopt(in_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), "UDP socket");
    check(bind(in_, reinterpret_cast<sockaddr*>(&address), sizeof address), "UDP socket");
    enter(from);
    out_ = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "UDP socket");
    check(connect(out_, reinterpret_cast<sockaddr*>(&address), sizeof address), "UDP socket");
    std::thread([this] { receive(); }).detach();
    std::thread([this] { send_all(); }).detach();
  }

  /// When the last packet that arrived was sent, and when it arrived.
  uint64_t last_sent() const { return last_sent_; }
  uint64_t last_arrival() const { return last_arrival_; }
  /// Packets that were sent, and that arrived.
  uint64_t sent() const { return sent_; }
  uint64_t arrived() const { return arrived_; }

 private:
  /// A packet carries the time when it was sent. One that the kernel answers with an error was not.
  void send_all() {
    for (;;) {
      const uint64_t now = monotonic_ns();
      if (send(out_, &now, sizeof now, 0) >= 0) sent_++;
      pause_ns(kIntervalNs);
    }
  }

  void receive() {
    for (uint64_t sent = 0;;) {
      if (recv(in_, &sent, sizeof sent, 0) != sizeof sent) continue;
      last_arrival_ = monotonic_ns();
      last_sent_ = sent;
      arrived_++;
    }
  }

  int in_ = -1;
  int out_ = -1;
  std::atomic<uint64_t> last_sent_ = 0;
  std::atomic<uint64_t> last_arrival_ = 0;
  std::atomic<uint64_t> sent_ = 0;
  std::atomic<uint64_t> arrived_ = 0;
};

void be_patient(uint64_t since, const char* what) {
  if (monotonic_ns() - since > kPatienceNs) throw std::runtime_error(std::string("never ") + what);
  pause_ns(kIntervalNs);
}

/// Until the first packet arrives that was sent since `began`.
uint64_t until_allowed(const Stream& stream, uint64_t began) {
  while (stream.last_sent() < began) be_patient(began, "allowed");
  return stream.last_arrival() - began;
}

/// Until the first packet was sent of those that never arrive: the one behind the last that did.
uint64_t until_denied(const Stream& stream, uint64_t began) {
  while (monotonic_ns() - std::max(stream.last_arrival(), began) < kSilenceNs) {
    be_patient(began, "denied");
  }
  return std::max(stream.last_sent(), began) + kIntervalNs - began;
}

/// Packets of the stream that did not arrive; those on their way are waited for.
uint64_t missing(const Stream& stream) {
  const uint64_t sent = stream.sent();
  const uint64_t until = monotonic_ns() + kSilenceNs;
  while (stream.arrived() < sent && monotonic_ns() < until) pause_ns(kIntervalNs);
  return sent - std::min(sent, stream.arrived());
}

void run(int argc, char** argv) {
  const std::string from = argument(argc, argv, "--from");
  const auto port = static_cast<uint16_t>(std::stoi(argument(argc, argv, "--port")));
  const Stream judged(from, argument(argc, argv, "--judged"), port);
  const Stream steady(from, argument(argc, argv, "--steady"), port);
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; !stopping && std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, fresh, file;
    words >> verb >> fresh >> file;
    const uint64_t before = steady.sent() - std::min(steady.sent(), steady.arrived());
    const uint64_t began = monotonic_ns();
    check(rename(fresh.c_str(), file.c_str()), fresh);
    const uint64_t ns =
        verb == "allow" ? until_allowed(judged, began) : until_denied(judged, began);
    const uint64_t after = missing(steady);
    std::printf("{\"ns\":%lu,\"lost\":%lu}\n", ns, after - std::min(before, after));
    std::fflush(stdout);
  }
  std::_Exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::stop_on_signals();
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "latency: %s\n", error.what());
    std::_Exit(1);
  }
}
