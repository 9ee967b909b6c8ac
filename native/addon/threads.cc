// Threads and clocks.
#include <sched.h>

#include "arena.h"
#include "clock.h"

using namespace hawser;

namespace {

/** The largest NR_CPUS a kernel is built with. */
constexpr int64_t kMaxCpus = 8192;

napi_value pinThread(napi_env env, napi_callback_info info) {
  const BurstArgs<1> args(env, info);
  if (!args.ok || args[0] < 0 || args[0] >= kMaxCpus) return reply(env, -EINVAL);
  cpu_set_t set[kMaxCpus / CPU_SETSIZE];
  CPU_ZERO_S(sizeof set, set);
  CPU_SET_S(static_cast<size_t>(args[0]), sizeof set, set);
  return reply(env, ::sched_setaffinity(0, sizeof set, set) == 0 ? 0 : -errno);
}

napi_value threadCpuTime(napi_env env, napi_callback_info) {
  return reply(env, clockNs(CLOCK_THREAD_CPUTIME_ID));
}

napi_value monotonic(napi_env env, napi_callback_info) {
  return reply(env, clockNs(CLOCK_MONOTONIC));
}

}  // namespace

void registerThreads(Napi::Env env, Napi::Object exports) {
  exportBurst(env, exports, "pinThread", pinThread);
  exportBurst(env, exports, "threadCpuTime", threadCpuTime);
  exportBurst(env, exports, "monotonic", monotonic);
}
