// The arena of a thread: where burst functions read and write, and where rings are mapped.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "arena.h"
#include "errors.h"

using namespace hawser;

namespace {

Napi::Value pageSize(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

Napi::Value addressOf(const Napi::CallbackInfo& info) {
  Napi::Uint8Array view = bytesArg(info, 0, "view");
  const auto address = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(view.Data()));
  return Napi::BigInt::New(info.Env(), address);
}

/**
 * The reference keeps the memory of `arena` from being freed. It can't keep an ArrayBuffer from
 * being transferred to another thread: an arena is a SharedArrayBuffer, or one that stays.
 */
void bind(const Napi::CallbackInfo& info) {
  Napi::Uint8Array arena = bytesArg(info, 0, "arena");
  if (arena.ByteLength() == 0) throwErrno(info.Env(), "argument arena", EINVAL, "it is empty");
  Instance& instance = instanceOf(info.Env());
  instance.arena = Napi::Persistent(arena);
  instance.base = arena.Data();
  instance.length = static_cast<int64_t>(arena.ByteLength());
}

/**
 * The whole pages inside `view` are the kernel's again and read as zeros; what is left of the first
 * and the last one is zeroed here. The memory of an ArrayBuffer is private and anonymous, for which
 * MADV_DONTNEED promises this (madvise(2)).
 */
void discard(const Napi::CallbackInfo& info) {
  Napi::Uint8Array view = bytesArg(info, 0, "view");
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(view.Data());
  const uintptr_t end = start + view.ByteLength();
  const uintptr_t first = (start + page - 1) / page * page;
  const uintptr_t last = end / page * page;
  if (first >= last) {
    std::memset(view.Data(), 0, view.ByteLength());
    return;
  }
  std::memset(view.Data(), 0, first - start);
  std::memset(reinterpret_cast<void*>(last), 0, end - last);
  if (::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0) {
    std::memset(reinterpret_cast<void*>(first), 0, last - first);
  }
}

}  // namespace

void registerMemory(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "pageSize", pageSize);
  exportControl(env, exports, "addressOf", addressOf);
  exportControl(env, exports, "bind", bind);
  exportControl(env, exports, "discard", discard);
}
