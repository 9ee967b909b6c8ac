// Which namespace a file is, and the sysctls of a namespace.
//
// The kernel looks names below /proc/sys/net up in the network namespace of the thread that opens
// them (net/sysctl_net.c), so opening them on the visiting thread is all it takes.
#include "netns.h"

#include <sys/stat.h>

#include <algorithm>

#include "arena.h"

using namespace hawser;

namespace {

/** A sysctl's text is at most this long; the longest in the kernel are tables of a few KiB. */
constexpr size_t kMaxSysctlBytes = 64 * 1024;

/** The caller's own namespace: the thread's, which is what a visit with '' runs in. */
constexpr const char* kOwnNetns = "/proc/thread-self/ns/net";

Napi::Value netnsIdentity(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string path = stringArg(info, 0, "path");
  if (path.empty()) path = kOwnNetns;
  Fd file;
  struct stat status = {};
  int error = openNetns(path, file);
  if (error == 0 && ::fstat(file.get(), &status) != 0) error = errno;
  if (error != 0) {
    throwErrno(env, "network namespace " + path, error,
               error == EINVAL   ? "not a network namespace file"
               : error == ENOENT ? "the namespace is gone"
               : error == EACCES ? "needs CAP_SYS_PTRACE or the rights to the file"
                                 : "");
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("dev", Napi::BigInt::New(env, static_cast<uint64_t>(status.st_dev)));
  result.Set("ino", Napi::BigInt::New(env, static_cast<uint64_t>(status.st_ino)));
  return result;
}

/** True when every part of `key` names something below the folder that it is in. */
bool staysBelow(const std::string& key) {
  for (size_t start = 0; start <= key.size();) {
    const size_t end = std::min(key.find('/', start), key.size());
    const std::string part = key.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return false;
    start = end + 1;
  }
  return true;
}

/** The key of a sysctl, argument 1: parts separated by '/', so that interface names keep dots. */
std::string keyArg(const Napi::CallbackInfo& info) {
  const std::string key = stringArg(info, 1, "key");
  if (!staysBelow(key)) {
    throwErrno(info.Env(), "sysctl net/" + key, EINVAL, "a key such as ipv4/ip_forward");
  }
  return key;
}

/** What helps when opening, reading or writing a sysctl failed. */
const char* sysctlRemedy(int error) {
  switch (error) {
    case ENOENT:
      return "no such interface, or this kernel has no such setting";
    case EROFS:
      return "/proc/sys is read-only here: run privileged";
    case EPERM:
    case EACCES:
      return "needs CAP_NET_ADMIN and write access to /proc/sys";
    case EINVAL:
      return "the kernel refuses this value";
    default:
      return "";
  }
}

void sysctlWrite(const Napi::CallbackInfo& info) {
  const std::string netns = stringArg(info, 0, "netns");
  const std::string key = keyArg(info);
  const std::string value = stringArg(info, 2, "value");
  const std::string path = "/proc/sys/net/" + key;
  std::string remedy;
  inNetns(
      info.Env(), netns, "sysctl net/" + key + " = " + value,
      [&] {
        const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        int error = file.get() < 0 ? errno : 0;
        if (error == 0) {
          // The kernel takes a value whole, at offset 0, or not at all.
          const ssize_t written = ::write(file.get(), value.data(), value.size());
          if (written < 0) {
            error = errno;
          } else if (static_cast<size_t>(written) != value.size()) {
            error = EINVAL;
          }
        }
        remedy = sysctlRemedy(error);
        return error;
      },
      remedy);
}

Napi::Value sysctlRead(const Napi::CallbackInfo& info) {
  const std::string netns = stringArg(info, 0, "netns");
  const std::string key = keyArg(info);
  const std::string path = "/proc/sys/net/" + key;
  std::string text;
  std::string remedy;
  inNetns(
      info.Env(), netns, "sysctl net/" + key,
      [&] {
        const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        int error = file.get() < 0 ? errno : 0;
        while (error == 0) {
          char part[4096];
          const ssize_t got = ::read(file.get(), part, sizeof part);
          if (got == 0) break;
          if (got < 0) {
            error = errno;
          } else if (text.size() + static_cast<size_t>(got) > kMaxSysctlBytes) {
            error = EFBIG;
          } else {
            text.append(part, static_cast<size_t>(got));
          }
        }
        remedy = sysctlRemedy(error);
        return error;
      },
      remedy);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return Napi::String::New(info.Env(), text);
}

}  // namespace

void registerNetns(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "netnsIdentity", netnsIdentity);
  exportControl(env, exports, "sysctlWrite", sysctlWrite);
  exportControl(env, exports, "sysctlRead", sysctlRead);
}
