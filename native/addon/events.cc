// Descriptors, eventfd and epoll: how a worker sleeps and is woken.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "arena.h"
#include "background.h"
#include "clock.h"
#include "errors.h"

using namespace hawser;

namespace {

/** Ready descriptors that one epollWait reports at the most; the others come with the next call. */
constexpr int kMaxReady = 256;

void closeFd(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info, 0);
  // Linux has freed the descriptor when close says EINTR: closing again could hit a stranger's.
  if (::close(fd) != 0 && errno != EINTR) {
    throwErrno(info.Env(), "descriptor " + std::to_string(fd), errno,
               errno == EBADF ? "it is closed already" : "");
  }
}

/**
 * The kernel grows a table of descriptors that threads share by doubling it, and waits for a grace
 * period of RCU each time (expand_fdtable in fs/file.c); it never shrinks it.
 */
Napi::Value reserveDescriptors(const Napi::CallbackInfo& info) {
  const int64_t count = integerArg(info, 0, "count", 1, INT32_MAX);
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throwErrno(info.Env(), "RLIMIT_NOFILE", errno);
  const auto room = static_cast<int>(std::min<rlim_t>(static_cast<rlim_t>(count), limit.rlim_cur));
  const Fd any(::eventfd(0, EFD_CLOEXEC));
  const Fd last(::fcntl(any.get(), F_DUPFD_CLOEXEC, room - 1));
  // A larger number than asked for is as good; none means that all are taken, and the table is
  // full.
  return Napi::Number::New(info.Env(), room);
}

Napi::Value eventFd(const Napi::CallbackInfo& info) {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throwErrno(info.Env(), "eventfd", errno);
  return Napi::Number::New(info.Env(), fd);
}

/** Returns 0 or -errno. A counter that is full (EAGAIN) wakes its reader all the same. */
napi_value eventfdSignal(napi_env env, napi_callback_info info) {
  const BurstArgs<1> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const uint64_t one = 1;
  return reply(env, ::write(args.fd(0), &one, sizeof one) < 0 ? burstError(errno) : 0);
}

/** Returns how many signals were waiting, 0 for none, or -errno. */
napi_value eventfdDrain(napi_env env, napi_callback_info info) {
  const BurstArgs<1> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  uint64_t signals = 0;
  if (::read(args.fd(0), &signals, sizeof signals) < 0) return reply(env, burstError(errno));
  return reply(env, static_cast<int64_t>(std::min<uint64_t>(signals, INT64_MAX)));
}

Napi::Value epollCreate(const Napi::CallbackInfo& info) {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) throwErrno(info.Env(), "epoll", errno);
  return Napi::Number::New(info.Env(), fd);
}

std::string inEpoll(int epfd, int fd) {
  return "descriptor " + std::to_string(fd) + " in epoll " + std::to_string(epfd);
}

void epollAdd(const Napi::CallbackInfo& info) {
  const auto epfd = static_cast<int>(integerArg(info, 0, "epfd", 0, INT32_MAX));
  const int fd = fdArg(info, 1);
  epoll_event event = {};
  event.data.u64 = static_cast<uint64_t>(integerArg(info, 2, "data", 0, UINT32_MAX));
  event.events = static_cast<uint32_t>(integerArg(info, 3, "events", 0, UINT32_MAX));
  if (::epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) {
    throwErrno(info.Env(), inEpoll(epfd, fd), errno,
               errno == EEXIST  ? "it was added before"
               : errno == EPERM ? "this kind of descriptor can't be waited for"
                                : "");
  }
}

void epollRemove(const Napi::CallbackInfo& info) {
  const auto epfd = static_cast<int>(integerArg(info, 0, "epfd", 0, INT32_MAX));
  const int fd = fdArg(info, 1);
  epoll_event ignored = {};
  if (::epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &ignored) != 0) {
    throwErrno(info.Env(), inEpoll(epfd, fd), errno, errno == ENOENT ? "it was never added" : "");
  }
}

/** epoll_wait that a signal handler on this thread doesn't end early. */
int waitReady(int epfd, epoll_event* ready, int max, int64_t timeoutMs) {
  const Deadline deadline(timeoutMs);
  for (;;) {
    const int count = ::epoll_wait(epfd, ready, max, deadline.leftMs());
    if (count >= 0 || errno != EINTR) return count;
  }
}

napi_value epollWait(napi_env env, napi_callback_info info) {
  const BurstArgs<4> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const auto max = static_cast<int>(std::clamp<int64_t>(args[2], 0, kMaxReady));
  if (max == 0 || args[3] < -1 || args[3] > INT32_MAX) return reply(env, -EINVAL);
  auto* out = arenaArray<uint32_t>(*args.instance, args[1], max);
  if (out == nullptr) return reply(env, -EFAULT);
  epoll_event ready[kMaxReady];
  const int count = waitReady(args.fd(0), ready, max, args[3]);
  if (count < 0) return reply(env, burstError(errno));
  for (int i = 0; i < count; i++) out[i] = static_cast<uint32_t>(ready[i].data.u64);
  return reply(env, count);
}

/** A thread that does nothing but wait: the calling one goes on with its work. */
Napi::Value waitReadable(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "fds is not an array");
  const auto list = info[0].As<Napi::Array>();
  std::vector<pollfd> waiting;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value each = list[i];
    const double fd = each.IsNumber() ? each.As<Napi::Number>().DoubleValue() : -1;
    if (!(fd >= 0 && fd <= INT32_MAX)) throw Napi::RangeError::New(env, "fds holds no descriptor");
    waiting.push_back({static_cast<int>(fd), POLLIN, 0});
  }
  const auto wait = [waiting]() mutable {
    // poll(2) writes its answers into the list.
    while (::poll(waiting.data(), waiting.size(), -1) < 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  };
  return inBackground(env, "waiting for descriptors", wait, Duty::idle);
}

}  // namespace

void registerEvents(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "close", closeFd);
  exportControl(env, exports, "reserveDescriptors", reserveDescriptors);
  exportControl(env, exports, "eventfd", eventFd);
  exportBurst(env, exports, "eventfdSignal", eventfdSignal);
  exportBurst(env, exports, "eventfdDrain", eventfdDrain);
  exportControl(env, exports, "epollCreate", epollCreate);
  exportControl(env, exports, "epollAdd", epollAdd);
  exportControl(env, exports, "epollRemove", epollRemove);
  exportBurst(env, exports, "epollWait", epollWait);
  exportControl(env, exports, "waitReadable", waitReadable);
}
