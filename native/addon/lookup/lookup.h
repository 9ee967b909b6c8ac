// What the native twins of the lookup algorithms share: a handle for the region of one table, and
// the arrays of one batch.
//
// These functions take raw Node-API values: the wrappers of node-addon-api would cost as much as a
// dozen lookups.
#pragma once
#include "arena.h"

namespace hawser {

/** The shared region of one table. Its handle in JavaScript keeps it alive. */
struct Region {
  uint8_t* at;
  size_t length;
  napi_ref array;
};

/** `native.openTable(memory)`: the handle that every twin's batch function takes first. */
napi_value openTable(napi_env env, napi_callback_info info);

/** Keys in, 16-bit answers out. All zero when the arguments are not what they should be. */
struct Batch {
  const uint8_t* region;
  size_t regionLength;
  const uint32_t* keys;
  uint16_t* answers;
  /** Never more than the arrays hold. */
  uint32_t n;
};

/**
 * The arguments `(table, keys: Uint32Array, n, answers: Uint16Array)`; a key is `words` words.
 * Their bytes are counted, whatever kind of array they are: asking for the kind costs 20 ns each
 * time.
 */
inline Batch batchOf(napi_env env, napi_callback_info info, uint32_t words) {
  size_t count = 4;
  napi_value values[4];
  void* region = nullptr;
  size_t keyBytes = 0;
  size_t answerBytes = 0;
  void* keys = nullptr;
  void* answers = nullptr;
  uint32_t n = 0;
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 4 ||
      napi_get_value_external(env, values[0], &region) != napi_ok ||
      napi_get_buffer_info(env, values[1], &keys, &keyBytes) != napi_ok ||
      napi_get_value_uint32(env, values[2], &n) != napi_ok ||
      napi_get_buffer_info(env, values[3], &answers, &answerBytes) != napi_ok ||
      reinterpret_cast<uintptr_t>(keys) % alignof(uint32_t) != 0 ||
      reinterpret_cast<uintptr_t>(answers) % alignof(uint16_t) != 0) {
    return {};
  }
  const size_t keyRoom = keyBytes / (words * sizeof(uint32_t));
  const size_t answerRoom = answerBytes / sizeof(uint16_t);
  const size_t room = keyRoom < answerRoom ? keyRoom : answerRoom;
  const Region* table = static_cast<const Region*>(region);
  return {table->at, table->length, static_cast<const uint32_t*>(keys),
          static_cast<uint16_t*>(answers), n < room ? n : static_cast<uint32_t>(room)};
}

/** Puts a raw function into the addon's exports. */
inline void setFunction(Napi::Env env, Napi::Object exports, const char* name,
                        napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok) {
    exports.Set(name, Napi::Value(env, function));
  }
}

}  // namespace hawser
