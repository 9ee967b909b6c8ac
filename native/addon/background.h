// System calls that hold their thread up for long, on a thread of their own: RCU grace periods of a
// device that goes are some 20 ms each, and Node's pool has four threads. The kernel lets any
// number of callers wait for the same grace period, so they wait side by side.
#pragma once

#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "errors.h"

namespace hawser {

/** A call under way: what to run, and whom to tell. */
template <typename Work>
struct Background {
  Napi::Promise::Deferred deferred;
  std::string object;
  Work work;
  /** What `work` returned: 0 or an errno. */
  int error = 0;

  void settle(Napi::Env env) {
    if (error == 0) {
      deferred.Resolve(env.Undefined());
    } else {
      deferred.Reject(errnoError(env, object, error).Value());
    }
  }
};

/** What becomes of work without a thread, and of a process with nothing else to do. */
enum class Duty {
  /** It runs here and now: it is never left out. The process waits for it. */
  must,
  /** It is given up (EAGAIN): it only waits. So may the process, which ends all the same. */
  idle,
};

/**
 * Runs `work` (a callable that returns 0 or an errno, and does not touch JavaScript) on a thread of
 * its own and settles the promise when it returns; the error names `object`.
 */
template <typename Work>
Napi::Value inBackground(Napi::Env env, std::string object, Work work, Duty duty = Duty::must) {
  using Job = Background<Work>;
  auto job = std::make_unique<Job>(
      Job{Napi::Promise::Deferred::New(env), std::move(object), std::move(work)});
  const Napi::Promise promise = job->deferred.Promise();
  Napi::ThreadSafeFunction settled = Napi::ThreadSafeFunction::New(
      env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "hawser background", 0, 1);
  if (duty == Duty::idle) settled.Unref(env);
  Job* const raw = job.get();
  try {
    std::thread([raw, settled] {
      raw->error = raw->work();
      const auto settle = [](Napi::Env callee, Napi::Function, Job* done) {
        done->settle(callee);
        delete done;
      };
      // Refused only when the environment ends: nobody is left to be told.
      if (settled.BlockingCall(raw, settle) != napi_ok) delete raw;
      settled.Release();
    }).detach();
    job.release();
  } catch (const std::system_error&) {
    raw->error = duty == Duty::idle ? EAGAIN : raw->work();
    raw->settle(env);
    settled.Release();
  }
  return promise;
}

}  // namespace hawser
