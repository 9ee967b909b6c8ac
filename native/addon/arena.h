// The arena of a thread, and how burst functions read their arguments.
//
// Every environment (the main thread and each worker) that loads the addon has one Instance. `bind`
// puts the arena of that thread into it. A burst function is a bare napi_callback whose data
// pointer is the Instance: it reads integers, checks them against the arena and returns an integer.
#pragma once

#include <napi.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace hawser {

/** What one environment owns. */
struct Instance {
  uint8_t* base = nullptr;
  int64_t length = 0;
  /** Keeps the memory under `base` alive. */
  Napi::Reference<Napi::Uint8Array> arena;
};

/** A packet in the arena, as TypeScript sees it. */
struct Descriptor {
  uint32_t offset;
  uint32_t length;
};
static_assert(sizeof(Descriptor) == 8);

/** Address of arena bytes [offset, offset + length), or nullptr when any of them lies outside. */
inline uint8_t* arenaAt(const Instance& instance, int64_t offset, int64_t length) {
  if (offset < 0 || length < 0 || offset > instance.length || length > instance.length - offset) {
    return nullptr;
  }
  return instance.base == nullptr ? nullptr : instance.base + offset;
}

/** An array of `count` items of T in the arena; nullptr when outside or not aligned for T. */
template <typename T>
T* arenaArray(const Instance& instance, int64_t offset, int64_t count) {
  if (count < 0 || count > INT32_MAX) return nullptr;
  uint8_t* at = arenaAt(instance, offset, count * static_cast<int64_t>(sizeof(T)));
  if (reinterpret_cast<uintptr_t>(at) % alignof(T) != 0) return nullptr;
  return reinterpret_cast<T*>(at);
}

/** The instance of this environment, for control functions. */
inline Instance& instanceOf(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

/** The N integer arguments of a burst function. When `ok` is false one was missing or no number. */
template <size_t N>
struct BurstArgs {
  bool ok = true;
  Instance* instance = nullptr;
  int64_t value[N == 0 ? 1 : N];

  BurstArgs(napi_env env, napi_callback_info info) {
    napi_value raw[N == 0 ? 1 : N];
    size_t count = N;
    void* data = nullptr;
    ok = napi_get_cb_info(env, info, &count, raw, nullptr, &data) == napi_ok;
    instance = static_cast<Instance*>(data);
    for (size_t i = 0; i < N && ok; i++) {
      ok = napi_get_value_int64(env, raw[i], &value[i]) == napi_ok;
    }
  }

  int64_t operator[](size_t i) const { return value[i]; }
  /** The argument as a file descriptor (or another int); -1 when it doesn't fit. */
  int fd(size_t i) const {
    return value[i] < 0 || value[i] > INT32_MAX ? -1 : static_cast<int>(value[i]);
  }
};

/** The return value of a burst function: a count or -errno. */
inline napi_value reply(napi_env env, int64_t number) {
  napi_value result = nullptr;
  if (number >= INT32_MIN && number <= INT32_MAX) {
    napi_create_int32(env, static_cast<int32_t>(number), &result);
  } else {
    napi_create_int64(env, number, &result);
  }
  return result;
}

/** -errno as burst functions return it: an empty or full queue is no error but 0. */
inline int64_t burstError(int error) {
  return error == EAGAIN || error == EWOULDBLOCK ? 0 : -error;
}

/** Adds a burst function to the addon's exports. */
inline void exportBurst(Napi::Env env, Napi::Object exports, const char* name, napi_callback call) {
  napi_value function = nullptr;
  napi_status status = napi_create_function(env, name, NAPI_AUTO_LENGTH, call,
                                            env.GetInstanceData<Instance>(), &function);
  if (status != napi_ok) throw Napi::Error::New(env);
  exports.Set(name, Napi::Value(env, function));
}

/** Adds a control function to the addon's exports. */
template <typename Call>
void exportControl(Napi::Env env, Napi::Object exports, const char* name, Call call) {
  exports.Set(name, Napi::Function::New(env, call, name));
}

}  // namespace hawser
