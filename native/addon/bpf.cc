// BPF maps, XDP and tc programs and how they are attached, by the bpf(2) system call: no libbpf.
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <vector>

#include "arena.h"
#include "errors.h"
#include "netns.h"

using namespace hawser;

namespace {

/** Bytes of the verifier's log that an error carries at the most. */
constexpr size_t kLogBytes = 64 * 1024;
/** BPF_MAXINSNS: the programs here are far below it. */
constexpr size_t kMaxInstructions = 4096;
constexpr int kLoadAttempts = 10;
constexpr const char* kRemedy = "needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN";
/** BPF_TCX_INGRESS of enum bpf_attach_type, and BPF_F_BEFORE (linux/bpf.h, kernel 6.6). */
constexpr uint32_t kTcxIngress = 46;
constexpr uint32_t kBefore = 8;
/** Programs of one device that are looked at; BPF_MPROG_MAX of kernel/bpf/mprog.c. */
constexpr size_t kMaxPrograms = 64;

int bpf(bpf_cmd command, bpf_attr& attr) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr));
}

uint64_t pointer(const void* at) { return reinterpret_cast<uintptr_t>(at); }

/** CPUs that may ever be there: a per-CPU map has a value for each (/sys: "0-3" or "0,2-5"). */
int possibleCpuCount() {
  std::ifstream file("/sys/devices/system/cpu/possible");
  int highest = -1;
  int number = -1;
  for (char c = 0; file.get(c);) {
    if (c >= '0' && c <= '9') {
      number = (number < 0 ? 0 : number * 10) + (c - '0');
      if (number > 1'000'000) return 0;
    } else {
      if (number > highest) highest = number;
      number = -1;
    }
  }
  return (number > highest ? number : highest) + 1;
}

/** What a value of this map takes in user space, and its key. */
struct MapShape {
  size_t keyBytes = 0;
  size_t valueBytes = 0;
};

MapShape mapShape(Napi::Env env, int fd) {
  bpf_map_info details = {};
  bpf_attr attr = {};
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof details;
  attr.info.info = pointer(&details);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, attr) != 0) {
    throwErrno(env, "BPF map " + std::to_string(fd), errno);
  }
  MapShape shape{details.key_size, details.value_size};
  switch (details.type) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      shape.valueBytes = (shape.valueBytes + 7) / 8 * 8 * static_cast<size_t>(possibleCpuCount());
      break;
    default:
      break;
  }
  return shape;
}

/** Bytes of argument `index`, proven to be as long as the kernel will read or write. */
uint8_t* sizedBytes(const Napi::CallbackInfo& info, size_t index, const char* name, size_t bytes) {
  Napi::Uint8Array array = bytesArg(info, index, name);
  if (array.ByteLength() != bytes) {
    throwErrno(info.Env(), std::string("argument ") + name, EINVAL,
               "this map takes " + std::to_string(bytes) + " bytes");
  }
  return array.Data();
}

/** Copies `name` to a bpf_attr name: at most 15 letters, digits, '_' or '.'. */
void setName(Napi::Env env, char (&into)[BPF_OBJ_NAME_LEN], const std::string& name) {
  bool good = name.size() < BPF_OBJ_NAME_LEN;
  for (const char c : name) {
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '.');
  }
  if (!good) throwErrno(env, "BPF name " + name, EINVAL, "at most 15 of A-Z a-z 0-9 _ .");
  std::memcpy(into, name.c_str(), name.size() + 1);
}

Napi::Value bpfMapCreate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  bpf_attr attr = {};
  attr.map_type = static_cast<uint32_t>(integerArg(info, 0, "type", 1, 255));
  attr.key_size = static_cast<uint32_t>(integerArg(info, 1, "keyBytes", 0, 4096));
  attr.value_size = static_cast<uint32_t>(integerArg(info, 2, "valueBytes", 0, 1 << 20));
  attr.max_entries = static_cast<uint32_t>(integerArg(info, 3, "entries", 0, UINT32_MAX));
  const std::string name = stringArg(info, 4, "name");
  setName(env, attr.map_name, name);
  const int fd = bpf(BPF_MAP_CREATE, attr);  // close-on-exec
  if (fd < 0) throwErrno(env, "BPF map " + name, errno, errno == EPERM ? kRemedy : "");
  return Napi::Number::New(env, fd);
}

Napi::Value bpfMapUpdate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  const MapShape shape = mapShape(env, fd);
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = pointer(sizedBytes(info, 1, "key", shape.keyBytes));
  attr.value = pointer(sizedBytes(info, 2, "value", shape.valueBytes));
  attr.flags = BPF_ANY;
  if (bpf(BPF_MAP_UPDATE_ELEM, attr) != 0) {
    throwErrno(env, "BPF map " + std::to_string(fd) + ": update", errno);
  }
  return env.Undefined();
}

Napi::Value bpfMapDelete(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = pointer(sizedBytes(info, 1, "key", mapShape(env, fd).keyBytes));
  if (bpf(BPF_MAP_DELETE_ELEM, attr) != 0) {
    throwErrno(env, "BPF map " + std::to_string(fd) + ": delete", errno);
  }
  return env.Undefined();
}

Napi::Value bpfMapLookup(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = fdArg(info, 0);
  const MapShape shape = mapShape(env, fd);
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = pointer(sizedBytes(info, 1, "key", shape.keyBytes));
  attr.value = pointer(sizedBytes(info, 2, "value", shape.valueBytes));
  if (bpf(BPF_MAP_LOOKUP_ELEM, attr) == 0) return Napi::Boolean::New(env, true);
  if (errno == ENOENT) return Napi::Boolean::New(env, false);
  throwErrno(env, "BPF map " + std::to_string(fd) + ": lookup", errno);
}

/** The verifier's log, or "" when the program was not refused by it. */
std::string verifierLog(bpf_attr attr) {
  std::vector<char> log(kLogBytes, '\0');
  attr.log_level = 1;
  attr.log_size = static_cast<uint32_t>(log.size());
  attr.log_buf = pointer(log.data());
  const Fd loaded(bpf(BPF_PROG_LOAD, attr));
  return std::string(log.data(), ::strnlen(log.data(), log.size()));
}

/** Loads a program of `type`; `what` is how errors call it. */
Napi::Value load(const Napi::CallbackInfo& info, bpf_prog_type type, bpf_attach_type attach,
                 const char* what) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array instructions = bytesArg(info, 0, "instructions");
  const std::string name = stringArg(info, 1, "name");
  const std::string object = std::string(what) + " program " + name;
  const size_t bytes = instructions.ByteLength();
  if (bytes == 0 || bytes % sizeof(bpf_insn) != 0 || bytes / sizeof(bpf_insn) > kMaxInstructions) {
    throwErrno(env, "argument instructions", EINVAL, "1 to 4096 instructions of 8 bytes");
  }
  bpf_attr attr = {};
  attr.prog_type = type;
  attr.expected_attach_type = attach;
  attr.insn_cnt = static_cast<uint32_t>(bytes / sizeof(bpf_insn));
  attr.insns = pointer(instructions.Data());
  attr.license = pointer("GPL");
  setName(env, attr.prog_name, name);
  // The verifier gives up with EAGAIN when the thread gets a signal.
  int fd = -1;
  for (int attempt = 0; attempt < kLoadAttempts; attempt++) {
    fd = bpf(BPF_PROG_LOAD, attr);
    if (fd >= 0 || errno != EAGAIN) break;
  }
  if (fd >= 0) return Napi::Number::New(env, fd);
  const int error = errno;
  if (error == EPERM) throwErrno(env, object, error, kRemedy);
  Napi::Error refused = errnoError(env, object, error);
  if (const std::string log = verifierLog(attr); !log.empty()) {
    refused.Set("message", Napi::String::New(env, refused.Message() + "\n" + log));
  }
  throw refused;
}

Napi::Value bpfLoadXdp(const Napi::CallbackInfo& info) {
  return load(info, BPF_PROG_TYPE_XDP, BPF_XDP, "XDP");
}

Napi::Value bpfLoadTc(const Napi::CallbackInfo& info) {
  return load(info, BPF_PROG_TYPE_SCHED_CLS, static_cast<bpf_attach_type>(0), "tc");
}

Napi::Value bpfAttachXdp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  bpf_attr attr = {};
  attr.link_create.prog_fd = static_cast<uint32_t>(integerArg(info, 1, "program", 0, INT32_MAX));
  const int64_t ifindex = integerArg(info, 2, "ifindex", 1, INT32_MAX);
  attr.link_create.target_ifindex = static_cast<uint32_t>(ifindex);
  attr.link_create.attach_type = BPF_XDP;
  attr.link_create.flags = static_cast<uint32_t>(integerArg(info, 3, "flags", 0, 15));
  Fd link;
  inNetns(env, netns, "XDP on interface " + std::to_string(ifindex), [&] {
    link.reset(bpf(BPF_LINK_CREATE, attr));  // close-on-exec
    return link.get() < 0 ? errno : 0;
  });
  return Napi::Number::New(env, link.release());
}

/** Ids of the programs that a device has in its TCX ingress hook, in order. Returns 0 or an errno.
 */
int tcxIds(uint32_t ifindex, std::vector<uint32_t>& ids) {
  ids.assign(kMaxPrograms, 0);
  bpf_attr attr = {};
  attr.query.target_fd = ifindex;  // target_ifindex, in a union with it
  attr.query.attach_type = kTcxIngress;
  attr.query.prog_ids = pointer(ids.data());
  attr.query.prog_cnt = static_cast<uint32_t>(ids.size());
  const int error = bpf(BPF_PROG_QUERY, attr) == 0 ? 0 : errno;
  ids.resize(error == 0 ? attr.query.prog_cnt : 0);
  return error == ENOENT ? 0 : error;
}

/** What the kernel says of a program. False when it can't be told. */
bool programInfo(int fd, bpf_prog_info& details) {
  details = {};
  bpf_attr attr = {};
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof details;
  attr.info.info = pointer(&details);
  return bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0;
}

/** The program with that id and its name. False when it is gone. */
bool programById(uint32_t id, Fd& into, std::string& name) {
  bpf_attr attr = {};
  attr.prog_id = id;
  into.reset(bpf(BPF_PROG_GET_FD_BY_ID, attr));
  bpf_prog_info details;
  if (into.get() < 0 || !programInfo(into.get(), details)) return false;
  name.assign(details.name, ::strnlen(details.name, sizeof details.name));
  return true;
}

/** Puts `program` into the hook: in the place of the one called `name`, else in front. */
int attachTcx(int program, uint32_t ifindex, const std::string& name) {
  std::vector<uint32_t> ids;
  if (const int error = tcxIds(ifindex, ids); error != 0) return error;
  bpf_prog_info own;
  if (!programInfo(program, own)) return errno;
  bpf_attr attr = {};
  attr.target_fd = ifindex;  // target_ifindex, in a union with it
  attr.attach_bpf_fd = static_cast<uint32_t>(program);
  attr.attach_type = kTcxIngress;
  attr.attach_flags = kBefore;
  Fd there;
  std::string called;
  for (const uint32_t id : ids) {
    // The kernel refuses a program in its own place.
    if (id == own.id) return 0;
    if (!programById(id, there, called) || called != name) continue;
    attr.attach_flags = BPF_F_REPLACE;
    attr.replace_bpf_fd = static_cast<uint32_t>(there.get());
    break;
  }
  return bpf(BPF_PROG_ATTACH, attr) == 0 ? 0 : errno;
}

Napi::Value bpfAttachTcx(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const auto program = static_cast<int>(integerArg(info, 1, "program", 0, INT32_MAX));
  const auto ifindex = static_cast<uint32_t>(integerArg(info, 2, "ifindex", 1, INT32_MAX));
  const std::string name = stringArg(info, 3, "name");
  inNetns(env, netns, "tc program " + name + " on interface " + std::to_string(ifindex),
          [&] { return attachTcx(program, ifindex, name); });
  return env.Undefined();
}

Napi::Value bpfTcxNames(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string netns = stringArg(info, 0, "netns");
  const auto ifindex = static_cast<uint32_t>(integerArg(info, 1, "ifindex", 1, INT32_MAX));
  std::vector<std::string> names;
  inNetns(env, netns, "tc programs of interface " + std::to_string(ifindex), [&] {
    std::vector<uint32_t> ids;
    if (const int error = tcxIds(ifindex, ids); error != 0) return error;
    for (const uint32_t id : ids) {
      Fd program;
      std::string name;
      if (programById(id, program, name)) names.push_back(name);
    }
    return 0;
  });
  Napi::Array result = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); i++) result.Set(i, Napi::String::New(env, names[i]));
  return result;
}

Napi::Value possibleCpus(const Napi::CallbackInfo& info) {
  const int count = possibleCpuCount();
  if (count == 0) {
    throwErrno(info.Env(), "/sys/devices/system/cpu/possible", ENOENT, "mount /sys");
  }
  return Napi::Number::New(info.Env(), count);
}

}  // namespace

void registerBpf(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "bpfMapCreate", bpfMapCreate);
  exportControl(env, exports, "bpfMapUpdate", bpfMapUpdate);
  exportControl(env, exports, "bpfMapDelete", bpfMapDelete);
  exportControl(env, exports, "bpfMapLookup", bpfMapLookup);
  exportControl(env, exports, "bpfLoadXdp", bpfLoadXdp);
  exportControl(env, exports, "bpfAttachXdp", bpfAttachXdp);
  exportControl(env, exports, "bpfLoadTc", bpfLoadTc);
  exportControl(env, exports, "bpfAttachTcx", bpfAttachTcx);
  exportControl(env, exports, "bpfTcxNames", bpfTcxNames);
  exportControl(env, exports, "possibleCpus", possibleCpus);
}
