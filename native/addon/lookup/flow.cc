// The native twin of the probe of dataplane/flow/cuckoo.ts, over the same table; that file and
// region.ts have the layout, and say why an answer never belongs to another key and why no flow is
// missed. The passes over a batch are the same; here a pass asks for the lines that the next one
// needs, and the tags of both buckets of a key are compared at once.
//
// State words, tags and counts are loaded by relaxed atomics with acquire fences between the
// passes. Fields of an entry are read as aligned words of 64 bits: a writer that is at them has
// changed the state, and a probe that met one looks again.
//
// And bpfRun, for tests: what a program makes of a packet.
#include "flow.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errors.h"

namespace hawser::flow {
namespace {

/** One key, with everything that the passes leave out. */
void settle(const Probe& probe, uint32_t i) {
  const FlowTable& table = *probe.table;
  const uint32_t hash = probe.hashes[i];
  const uint16_t tag = tagOf(hash);
  const uint32_t buckets[2] = {hash & table.mask, otherBucket(hash, tag, table.mask)};
  for (uint32_t look = 0; look < kLooks; look++) {
    uint32_t moves[2];
    for (int b = 0; b < 2; b++) {
      moves[b] = __atomic_load_n(&table.locks[buckets[b] % kStripes], __ATOMIC_ACQUIRE) >> 1;
    }
    bool changed = false;
    for (uint32_t k = 0; k < 2 * kBucket; k++) {
      const uint32_t slot = buckets[k / kBucket] * kBucket + k % kBucket;
      if (__atomic_load_n(&table.tags[slot], __ATOMIC_RELAXED) != tag) continue;
      const Entry& entry = table.entries[slot];
      const uint32_t state = __atomic_load_n(&entry.state, __ATOMIC_ACQUIRE);
      const bool same = differ(entry, probe.words + i * kKeyWords) == 0;
      const uint32_t action = load(entry.action[probe.directions[i] & 1]);
      const uint32_t reverse = load(entry.action[~probe.directions[i] & 1]);
      const bool current = load(entry.generation) == probe.generation;
      __atomic_thread_fence(__ATOMIC_ACQUIRE);
      if ((state & kThere) == 0 || stateOf(entry) != state) {
        changed = true;
      } else if (same) {
        probe.slots[i] = static_cast<int32_t>(slot);
        probe.actions[i] = action;
        if (probe.reverses != nullptr) probe.reverses[i] = reverse;
        probe.found[i] = current && (state & kStateBits) == kLive ? kCurrent : kStale;
        return;
      }
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    bool still = !changed;
    for (int b = 0; b < 2; b++) {
      still = still && load(table.locks[buckets[b] % kStripes]) >> 1 == moves[b];
    }
    if (still) break;
  }
  probe.slots[i] = -1;
  probe.found[i] = kMiss;
}

}  // namespace

void probeSome(const Probe& probe, uint32_t from, uint32_t to) {
  const FlowTable& table = *probe.table;
  uint32_t states[kBatch];
  uint32_t seconds[kBatch];
  const uint32_t moves = __atomic_load_n(table.moves, __ATOMIC_ACQUIRE);
  for (uint32_t i = from; i < to; i++) {
    const uint32_t hash = probe.hashes[i];
    const uint32_t second = otherBucket(hash, tagOf(hash), table.mask);
    seconds[i - from] = second;
    __builtin_prefetch(table.tags + (hash & table.mask) * kBucket);
    __builtin_prefetch(table.tags + second * kBucket);
  }
  for (uint32_t i = from; i < to; i++) {
    const uint32_t hash = probe.hashes[i];
    const uint32_t first = hash & table.mask;
    const uint32_t second = seconds[i - from];
    const uint32_t same = matches(tagsOf(table, first), tagsOf(table, second), tagOf(hash));
    const uint32_t k = static_cast<uint32_t>(__builtin_ctz(same | 0x100));
    const uint32_t slot = (k < kBucket ? first : second) * kBucket + k % kBucket;
    probe.slots[i] = same == 0 ? -1 : static_cast<int32_t>(slot);
    __builtin_prefetch(&table.entries[same == 0 ? 0 : slot]);
  }
  for (uint32_t i = from; i < to; i++) {
    const int32_t slot = probe.slots[i];
    states[i - from] = stateOf(table.entries[slot < 0 ? 0 : slot]);
  }
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  uint32_t unlike[kBatch];
  uint32_t count = 0;
  for (uint32_t i = from; i < to; i++) {
    if (probe.slots[i] < 0) {
      probe.found[i] = kMiss;
      continue;
    }
    const Entry& entry = table.entries[probe.slots[i]];
    const uint64_t other = differ(entry, probe.words + i * kKeyWords);
    probe.actions[i] = load(entry.action[probe.directions[i] & 1]);
    if (probe.reverses != nullptr) probe.reverses[i] = load(entry.action[~probe.directions[i] & 1]);
    const uint32_t stale = (load(entry.generation) ^ probe.generation) | (states[i - from] & 1);
    probe.found[i] = stale == 0 ? kCurrent : kStale;
    unlike[count] = i;
    count += other != 0;
  }
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  const bool moved = load(*table.moves) != moves;
  for (uint32_t i = from; i < to; i++) {
    const int32_t slot = probe.slots[i];
    const uint32_t state = states[i - from];
    const bool good =
        slot < 0 ? !moved : stateOf(table.entries[slot]) == state && (state & kThere) != 0;
    if (!good) settle(probe, i);
  }
  for (uint32_t k = 0; k < count; k++) settle(probe, unlike[k]);
}

}  // namespace hawser::flow

namespace {

using namespace hawser::flow;

/** A column of at least `n` items of a type; nullptr when it is not. */
template <typename T>
T* column(napi_env env, napi_value value, napi_typedarray_type type, uint64_t n) {
  napi_typedarray_type is;
  size_t length = 0;
  void* at = nullptr;
  if (napi_get_typedarray_info(env, value, &is, &length, &at, nullptr, nullptr) != napi_ok ||
      is != type || length < n) {
    return nullptr;
  }
  return static_cast<T*>(at);
}

/** `(table, words, hashes, directions, n, generation, slots, actions, found)`: does nothing when
 * they are not what they should be. */
napi_value probeFlows(napi_env env, napi_callback_info info) {
  size_t count = 9;
  napi_value values[9];
  void* table = nullptr;
  uint32_t n = 0;
  Probe probe = {};
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 9 ||
      napi_get_value_external(env, values[0], &table) != napi_ok ||
      napi_get_value_uint32(env, values[4], &n) != napi_ok ||
      napi_get_value_uint32(env, values[5], &probe.generation) != napi_ok) {
    return nullptr;
  }
  probe.table = static_cast<const FlowTable*>(table);
  const uint64_t words = uint64_t{n} * kKeyWords;
  probe.words = column<uint32_t>(env, values[1], napi_uint32_array, words);
  probe.hashes = column<uint32_t>(env, values[2], napi_uint32_array, n);
  probe.directions = column<uint8_t>(env, values[3], napi_uint8_array, n);
  probe.slots = column<int32_t>(env, values[6], napi_int32_array, n);
  probe.actions = column<uint32_t>(env, values[7], napi_uint32_array, n);
  probe.found = column<uint8_t>(env, values[8], napi_uint8_array, n);
  if (!probe.words || !probe.hashes || !probe.directions || !probe.slots || !probe.actions ||
      !probe.found) {
    return nullptr;
  }
  for (uint32_t from = 0; from < n; from += kBatch) {
    probeSome(probe, from, n - from < kBatch ? n : from + kBatch);
  }
  return nullptr;
}

void closeFlowTable(napi_env env, void* data, void*) {
  FlowTable* table = static_cast<FlowTable*>(data);
  napi_delete_reference(env, table->array);
  delete table;
}

/** `openFlowTable(memory, locks, tags, entries, slots, accounts)`: byte offsets of the parts in
 * `memory`. */
Napi::Value openFlowTable(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array memory = hawser::bytesArg(info, 0, "memory");
  const int64_t length = static_cast<int64_t>(memory.ByteLength());
  const int64_t locks = hawser::integerArg(info, 1, "locks", 0, length);
  const int64_t tags = hawser::integerArg(info, 2, "tags", 0, length);
  const int64_t entries = hawser::integerArg(info, 3, "entries", 0, length);
  const int64_t slots = hawser::integerArg(info, 4, "slots", kBucket, int64_t{1} << 26);
  const int64_t accounts = hawser::integerArg(info, 5, "accounts", 0, length);
  uint8_t* at = memory.Data();
  const bool fits = accounts + slots * int64_t{kAccountWords} * 8 <= length &&
                    locks + int64_t{kStripes} * 4 <= length && tags + slots * 2 <= length &&
                    entries + slots * int64_t{kEntryBytes} <= length;
  const bool aligned = reinterpret_cast<uintptr_t>(at + entries) % kEntryBytes == 0 &&
                       reinterpret_cast<uintptr_t>(at + accounts) % 8 == 0 &&
                       reinterpret_cast<uintptr_t>(at + tags) % 8 == 0 &&
                       reinterpret_cast<uintptr_t>(at + locks) % 4 == 0;
  if (!fits || !aligned || (slots & (slots - 1)) != 0) {
    hawser::throwErrno(env, "flow table", EINVAL, "its parts must lie in the memory, aligned");
  }
  FlowTable* table = new FlowTable{reinterpret_cast<const uint32_t*>(at),
                                   reinterpret_cast<const uint32_t*>(at + locks),
                                   reinterpret_cast<const uint16_t*>(at + tags),
                                   reinterpret_cast<const Entry*>(at + entries),
                                   reinterpret_cast<uint64_t*>(at + accounts),
                                   static_cast<uint32_t>(slots / kBucket - 1),
                                   nullptr};
  napi_value handle = nullptr;
  if (napi_create_reference(env, info[0], 1, &table->array) != napi_ok ||
      napi_create_external(env, table, closeFlowTable, nullptr, &handle) != napi_ok) {
    delete table;
    hawser::throwErrno(env, "flow table", ENOMEM);
  }
  return Napi::Value(env, handle);
}

/** BPF_PROG_TEST_RUN. */
Napi::Value bpfRun(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int program = hawser::fdArg(info, 0);
  Napi::Uint8Array packet = hawser::bytesArg(info, 1, "packet");
  bpf_attr attr = {};
  attr.test.prog_fd = static_cast<uint32_t>(program);
  attr.test.data_in = reinterpret_cast<uintptr_t>(packet.Data());
  attr.test.data_size_in = static_cast<uint32_t>(packet.ByteLength());
  attr.test.data_out = attr.test.data_in;
  attr.test.data_size_out = attr.test.data_size_in;
  attr.test.repeat = 1;
  if (::syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof attr) != 0) {
    hawser::throwErrno(env, "run of BPF program " + std::to_string(program), errno,
                       errno == EPERM ? "needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN" : "");
  }
  return Napi::Number::New(env, attr.test.retval);
}

}  // namespace

void registerLookupFlow(Napi::Env env, Napi::Object exports) {
  hawser::exportControl(env, exports, "openFlowTable", openFlowTable);
  hawser::setFunction(env, exports, "probeFlows", probeFlows);
  hawser::exportControl(env, exports, "bpfRun", bpfRun);
}
