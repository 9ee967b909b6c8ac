// TUN and TAP queues with a virtio_net_hdr in front of each packet: open, and the two burst calls.
// Kernel documentation: Documentation/networking/tuntap.rst; linux/if_tun.h, drivers/net/tun.c.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "arena.h"
#include "background.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

constexpr const char* kDevice = "/dev/net/tun";
/** sizeof(struct virtio_net_hdr). */
constexpr int kVnetHeaderBytes = 10;
/** MAX_TAP_QUEUES of drivers/net/tun.c. */
constexpr int64_t kMaxQueues = 256;

/** True for a name that the kernel gives to a device as it is (dev_valid_name; no '%' pattern). */
bool isDeviceName(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == "..") return false;
  return name.find_first_of("/:% \t\n\v\f\r\xa0") == std::string::npos;
}

/** What helps when opening /dev/net/tun failed. */
const char* deviceRemedy(int error) {
  switch (error) {
    case ENOENT:
      return "/dev/net/tun is missing: load the tun module and give the container the device";
    case ENODEV:
    case ENXIO:
      return "/dev/net/tun has no driver: load the tun module";
    case EPERM:
    case EACCES:
      return "/dev/net/tun may not be opened: needs the rights to it, in the device cgroup too";
    default:
      return "";
  }
}

/** What helps when the kernel refused the device. */
const char* queueRemedy(int error) {
  switch (error) {
    case EINVAL:
      return "a device of this name and another kind is there, or one without multi-queue";
    case E2BIG:
      return "the device has 256 queues open already";
    case EBUSY:
      return "another process holds the device";
    default:
      return "";
  }
}

/** Opens one queue on the calling thread. Returns 0 or an errno, with what helps in `remedy`. */
int openQueue(const std::string& name, bool ethernet, Fd& into, std::string& remedy) {
  into.reset(::open(kDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (into.get() < 0) {
    const int error = errno;
    remedy = deviceRemedy(error);
    return error;
  }
  ifreq request = {};
  std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
  const int layer = ethernet ? IFF_TAP : IFF_TUN;
  request.ifr_flags = static_cast<short>(layer | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
  const int header = kVnetHeaderBytes;
  const int littleEndian = 1;
  if (::ioctl(into.get(), TUNSETIFF, &request) != 0 ||
      ::ioctl(into.get(), TUNSETVNETHDRSZ, &header) != 0 ||
      ::ioctl(into.get(), TUNSETVNETLE, &littleEndian) != 0) {
    const int error = errno;
    remedy = queueRemedy(error);
    return error;
  }
  return 0;
}

/** A device that was persistent before stays so, whatever `persistent` says. */
Napi::Value tunOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const std::string name = stringArg(info, 1, "name");
  const auto queues = static_cast<size_t>(integerArg(info, 2, "queues", 1, kMaxQueues));
  const bool persistent = booleanArg(info, 3, "persistent");
  const bool ethernet = info[4].IsUndefined() ? false : booleanArg(info, 4, "ethernet");
  const std::string object = (ethernet ? "TAP " : "TUN ") + name;
  if (!isDeviceName(name)) {
    throwErrno(env, object, EINVAL, "a device name has 1 to 15 bytes without / : % space");
  }
  std::vector<Fd> opened(queues);
  std::string remedy;
  inNetns(
      env, netns, object,
      [&] {
        for (Fd& queue : opened) {
          if (const int error = openQueue(name, ethernet, queue, remedy); error != 0) return error;
        }
        // Last, so that closing the queues undoes everything until here.
        if (persistent && ::ioctl(opened[0].get(), TUNSETPERSIST, 1) != 0) return errno;
        return 0;
      },
      remedy);
  Napi::Array result = Napi::Array::New(env, queues);
  for (uint32_t i = 0; i < queues; i++) result.Set(i, Napi::Number::New(env, opened[i].get()));
  for (Fd& queue : opened) queue.release();
  return result;
}

napi_value tunSetOffload(napi_env env, napi_callback_info info) {
  const BurstArgs<2> args(env, info);
  if (!args.ok || args[1] < 0 || args[1] > UINT32_MAX) return reply(env, -EINVAL);
  const auto mask = static_cast<unsigned long>(args[1]);
  return reply(env, ::ioctl(args.fd(0), TUNSETOFFLOAD, mask) == 0 ? 0 : -errno);
}

void tunSetPersistent(const Napi::CallbackInfo& info) {
  const int fd = fdArg(info, 0);
  const bool persistent = booleanArg(info, 1, "persistent");
  if (::ioctl(fd, TUNSETPERSIST, persistent ? 1 : 0) != 0) {
    throwErrno(info.Env(), "TUN queue " + std::to_string(fd) + ": persistence", errno,
               errno == ENOTTY || errno == EBADFD ? "not an open TUN queue" : "");
  }
}

/** Between two looks whether a device has left its namespace. */
constexpr auto kLook = std::chrono::microseconds(100);

/**
 * close(2) of a device's last queue takes its name away at once and then waits for the kernel's own
 * readers (netdev_run_todo in net/core/dev.c) before it returns. So one thread closes while another
 * looks, from inside the namespace, and the caller is told when either is done.
 */
int closeUntilGone(const std::string& netns, const std::string& name, unsigned index,
                   const std::vector<int>& fds) {
  const auto closed = std::make_shared<std::atomic<bool>>(false);
  const auto closeAll = [fds, closed] {
    for (const int fd : fds) ::close(fd);
    closed->store(true);
  };
  try {
    std::thread(closeAll).detach();
  } catch (const std::system_error&) {
    closeAll();
  }
  // A namespace that can't be entered any more has taken the device with it.
  runInNetns(netns, [&] {
    const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request = {};
    std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
    while (!closed->load() && ::ioctl(socket.get(), SIOCGIFINDEX, &request) == 0 &&
           static_cast<unsigned>(request.ifr_ifindex) == index) {
      std::this_thread::sleep_for(kLook);
    }
    return 0;
  });
  return 0;
}

Napi::Value tunVanish(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const std::string name = stringArg(info, 1, "name");
  const auto index = static_cast<unsigned>(integerArg(info, 2, "index", 1, INT32_MAX));
  if (!isDeviceName(name) || !info[3].IsArray()) {
    throwErrno(env, "TUN " + name, EINVAL, "a device name and a list of descriptors");
  }
  const auto list = info[3].As<Napi::Array>();
  std::vector<int> fds;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value fd = list.Get(i);
    if (!fd.IsNumber() || fd.As<Napi::Number>().Int32Value() < 0) {
      throwErrno(env, "TUN " + name, EINVAL, "a list of descriptors");
    }
    fds.push_back(fd.As<Napi::Number>().Int32Value());
  }
  return inBackground(env, "TUN " + name, [netns, name, index, fds] {
    return closeUntilGone(netns, name, index, fds);
  });
}

/** A burst of superframes ends here: what is written next should still lie in the core's cache. */
constexpr int64_t kEnoughBytes = 128 << 10;

/**
 * One readv a packet. The kernel fills the small frame first and goes on in the large one, behind
 * the room that the small part is then copied to. The last byte tells a packet that fits exactly
 * from one that was cut: cut packets are told by their length, never delivered as whole ones.
 */
napi_value tunRead(napi_env env, napi_callback_info info) {
  const BurstArgs<9> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const Instance& arena = *args.instance;
  const int fd = args.fd(0);
  const int64_t count = args[1];
  const int64_t smalls = args[3];
  const int64_t smallCap = args[4];
  const int64_t larges = args[6];
  const int64_t largeCap = args[7];
  if (smallCap <= 0 || (larges > 0 && largeCap < smallCap)) return reply(env, -EINVAL);
  const auto* small = arenaArray<uint32_t>(arena, args[2], smalls);
  const auto* large = arenaArray<uint32_t>(arena, args[5], larges);
  auto* out = arenaArray<Descriptor>(arena, args[8], count);
  if (small == nullptr || large == nullptr || out == nullptr) return reply(env, -EFAULT);

  int64_t done = 0;
  int64_t nextSmall = 0;
  int64_t nextLarge = 0;
  int64_t bytes = 0;
  int error = 0;
  for (int64_t tried = 0; tried < count && nextSmall < smalls && bytes < kEnoughBytes; tried++) {
    if (larges > 0 && nextLarge == larges) break;
    const uint32_t smallAt = small[nextSmall];
    const uint32_t largeAt = larges > 0 ? large[nextLarge] : 0;
    uint8_t* head = arenaAt(arena, smallAt, smallCap);
    uint8_t* whole = larges > 0 ? arenaAt(arena, largeAt, largeCap) : nullptr;
    if (head == nullptr || (larges > 0 && whole == nullptr)) {
      error = EFAULT;
      break;
    }
    const int64_t cap = larges > 0 ? largeCap : smallCap;
    uint8_t beyond = 0;
    iovec parts[3] = {{head, static_cast<size_t>(smallCap)}, {&beyond, 1}, {&beyond, 1}};
    int nParts = 2;
    if (larges > 0) {
      parts[1] = {whole + smallCap, static_cast<size_t>(largeCap - smallCap)};
      nParts = 3;
    }
    const ssize_t got = ::readv(fd, parts, nParts);
    if (got <= 0) {
      error = got < 0 ? errno : 0;
      break;
    }
    bytes += got;
    if (got > cap) {
      // Cut. The length, beyond the cap, says so: the caller counts it.
      out[done++] = {smallAt, static_cast<uint32_t>(got)};
      nextSmall++;
    } else if (got <= smallCap) {
      out[done++] = {smallAt, static_cast<uint32_t>(got)};
      nextSmall++;
    } else {
      std::memcpy(whole, head, static_cast<size_t>(smallCap));
      out[done++] = {largeAt, static_cast<uint32_t>(got)};
      nextLarge++;
    }
  }
  return reply(env, done > 0 || error == 0 ? done : burstError(error));
}

/** Negative only when the arguments are wrong: what the kernel refuses stands in its descriptor. */
napi_value tunWrite(napi_env env, napi_callback_info info) {
  const BurstArgs<3> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const int fd = args.fd(0);
  auto* descs = arenaArray<Descriptor>(*args.instance, args[1], args[2]);
  if (descs == nullptr) return reply(env, -EFAULT);
  int64_t taken = 0;
  // EIO: the device is down. EBADFD: it is gone. The next packet would meet the same.
  int stopped = 0;
  for (int64_t i = 0; i < args[2]; i++) {
    const Descriptor packet = descs[i];
    const uint8_t* at = arenaAt(*args.instance, packet.offset, packet.length);
    if (stopped != 0) {
      descs[i].length = static_cast<uint32_t>(stopped);
    } else if (at == nullptr) {
      descs[i].length = EFAULT;
    } else if (::write(fd, at, packet.length) < 0) {
      const int error = errno;
      descs[i].length = static_cast<uint32_t>(error);
      if (error == EIO || error == EBADFD) stopped = error;
    } else {
      descs[i].length = 0;
      taken++;
    }
  }
  return reply(env, taken);
}

}  // namespace

void registerTun(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "tunOpen", tunOpen);
  exportBurst(env, exports, "tunSetOffload", tunSetOffload);
  exportControl(env, exports, "tunSetPersistent", tunSetPersistent);
  exportControl(env, exports, "tunVanish", tunVanish);
  exportBurst(env, exports, "tunRead", tunRead);
  exportBurst(env, exports, "tunWrite", tunWrite);
}
