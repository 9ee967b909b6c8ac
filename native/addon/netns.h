// Work inside another network namespace, on a short-lived thread of its own: the threads of Node
// never leave theirs, so no other code can run in the wrong one.
#pragma once

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <string>
#include <system_error>
#include <thread>

#include "errors.h"

namespace hawser {

/**
 * Opens a network namespace file. Looks at it through O_PATH first, so that a device or a pipe at
 * `path` is refused (EINVAL) without ever being opened. Returns 0 or the errno.
 */
inline int openNetns(const std::string& path, Fd& into) {
  const Fd probe(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (probe.get() < 0) return errno;
  struct statfs filesystem;
  if (::fstatfs(probe.get(), &filesystem) != 0) return errno;
  if (filesystem.f_type != NSFS_MAGIC) return EINVAL;
  const std::string again = "/proc/self/fd/" + std::to_string(probe.get());
  into.reset(::open(again.c_str(), O_RDONLY | O_CLOEXEC));
  if (into.get() < 0) return errno;
  const int type = ::ioctl(into.get(), NS_GET_NSTYPE);
  if (type < 0) return errno;
  return type == CLONE_NEWNET ? 0 : EINVAL;
}

/**
 * Runs `work` (a callable that returns 0 or an errno) in the namespace at `path`; '' runs it in
 * place. Returns its result, or the errno that kept it from running; `entered` tells which.
 * `work` must not touch JavaScript.
 */
template <typename Work>
int runInNetns(const std::string& path, Work&& work, bool* entered = nullptr) {
  if (entered != nullptr) *entered = path.empty();
  if (path.empty()) return work();
  Fd target;
  if (const int error = openNetns(path, target); error != 0) return error;
  int result = 0;
  try {
    std::thread visitor([&] {
      if (::setns(target.get(), CLONE_NEWNET) != 0) {
        result = errno;
        return;
      }
      if (entered != nullptr) *entered = true;
      result = work();
    });
    visitor.join();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return result;
}

/** " in PATH", or nothing for the caller's own namespace: for the object of a message. */
inline std::string inWhere(const std::string& netns) { return netns.empty() ? "" : " in " + netns; }

/**
 * runInNetns for control functions: throws. The error names the namespace when it could not be
 * entered, else `object` and where.
 */
template <typename Work>
void inNetns(Napi::Env env, const std::string& netns, const std::string& object, Work&& work,
             const std::string& remedy = "") {
  bool entered = false;
  const int error = runInNetns(netns, work, &entered);
  if (error == 0) return;
  if (entered) throwErrno(env, object + inWhere(netns), error, remedy);
  const char* help = error == EINVAL   ? "not a network namespace file"
                     : error == EPERM  ? "needs CAP_SYS_ADMIN"
                     : error == ENOENT ? "the namespace is gone"
                                       : "";
  throwErrno(env, "network namespace " + netns, error, help);
}

}  // namespace hawser
