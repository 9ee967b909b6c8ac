// Huge pages under lookup tables: one of tens of megabytes, read at random, misses the TLB as often
// as the cache. A full table in 32 MiB answers in two thirds of the time.
#include <sys/mman.h>

#include "arena.h"
#include "errors.h"

// Linux 6.1; older headers don't have it, older kernels answer EINVAL.
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

using namespace hawser;

namespace {

constexpr uintptr_t kHugePage = uintptr_t{2} << 20;

/**
 * The whole huge pages inside `memory`: those touched from now on come as such (MADV_HUGEPAGE), and
 * those that already have small pages are gathered (MADV_COLLAPSE). Both are wishes: a kernel that
 * doesn't grant them changes nothing. Returns how many huge pages the memory has room for, 0 also
 * when the kernel refuses.
 */
Napi::Value adviseHugePages(const Napi::CallbackInfo& info) {
  Napi::Uint8Array memory = bytesArg(info, 0, "memory");
  const auto start = reinterpret_cast<uintptr_t>(memory.Data());
  const uintptr_t first = (start + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (start + memory.ByteLength()) & ~(kHugePage - 1);
  if (end <= first) return Napi::Number::New(info.Env(), 0);
  if (::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE) != 0) {
    return Napi::Number::New(info.Env(), 0);
  }
  for (uintptr_t page = first; page < end; page += kHugePage) {
    // A page that was never touched has nothing to gather: the call would give it memory.
    unsigned char resident[kHugePage / 4096];
    if (::mincore(reinterpret_cast<void*>(page), kHugePage, resident) != 0) continue;
    bool touched = false;
    for (unsigned char each : resident) touched |= (each & 1) != 0;
    if (touched) ::madvise(reinterpret_cast<void*>(page), kHugePage, MADV_COLLAPSE);
  }
  return Napi::Number::New(info.Env(), static_cast<double>((end - first) / kHugePage));
}

}  // namespace

void registerHugePages(Napi::Env env, Napi::Object exports) {
  exportControl(env, exports, "adviseHugePages", adviseHugePages);
}
