// The Internet checksum (RFC 1071) over arena bytes: one call a piece, or one a batch of packets.
// The loops are in checksum.h; which one is used is decided once, by what the CPU has.
#include "checksum.h"

#include <atomic>
#include <string>

#include "arena.h"

using namespace hawser;

namespace {

const ChecksumKind* bestKind() {
  const ChecksumKind* kind = kChecksumKinds;
  while (!kind->there()) kind++;
  return kind;
}

/** One for the process, so that a test which forces a kind finds it in its workers too. */
std::atomic<const ChecksumKind*> chosen = bestKind();

const ChecksumKind& kind() { return *chosen.load(std::memory_order_relaxed); }

/** In place of a sum that could not be made. */
constexpr uint32_t kNoSum = 0xffffffff;

/** A seed is a sum of 16-bit words, not folded: anything that isn't negative. */
template <bool scalar>
napi_value checksum(napi_env env, napi_callback_info info) {
  const BurstArgs<3> args(env, info);
  if (!args.ok || args[2] < 0) return reply(env, -EINVAL);
  const uint8_t* at = arenaAt(*args.instance, args[0], args[1]);
  if (at == nullptr) return reply(env, -EFAULT);
  const auto length = static_cast<size_t>(args[1]);
  const uint64_t sum =
      scalar ? sumScalar<false>(nullptr, at, length) : kind().sum(nullptr, at, length);
  return reply(env, finish(sum, static_cast<uint64_t>(args[2])));
}

napi_value copyChecksum(napi_env env, napi_callback_info info) {
  const BurstArgs<4> args(env, info);
  if (!args.ok || args[3] < 0) return reply(env, -EINVAL);
  uint8_t* to = arenaAt(*args.instance, args[0], args[2]);
  const uint8_t* from = arenaAt(*args.instance, args[1], args[2]);
  if (to == nullptr || from == nullptr) return reply(env, -EFAULT);
  const auto length = static_cast<size_t>(args[2]);
  uint64_t sum = 0;
  if (to < from + length && from < to + length) {
    // One pass over ranges that overlap would read what it has just written.
    sum = kind().sum(nullptr, from, length);
    std::memmove(to, from, length);
  } else {
    sum = kind().copy(to, from, length);
  }
  return reply(env, finish(sum, static_cast<uint64_t>(args[3])));
}

napi_value checksumBatch(napi_env env, napi_callback_info info) {
  const BurstArgs<3> args(env, info);
  if (!args.ok) return reply(env, -EINVAL);
  const auto* packets = arenaArray<const Descriptor>(*args.instance, args[0], args[1]);
  auto* sums = arenaArray<uint32_t>(*args.instance, args[2], args[1]);
  if (packets == nullptr || sums == nullptr) return reply(env, -EFAULT);
  const SumFunction sum = kind().sum;
  int64_t done = 0;
  for (int64_t i = 0; i < args[1]; i++) {
    const Descriptor packet = packets[i];
    const uint8_t* at = arenaAt(*args.instance, packet.offset, packet.length);
    sums[i] = at == nullptr ? kNoSum : finish(sum(nullptr, at, packet.length), sums[i]);
    if (at != nullptr) done++;
  }
  return reply(env, done);
}

Napi::Value checksumKind(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), kind().name);
}

Napi::Value checksumKinds(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const ChecksumKind& each : kChecksumKinds) {
    if (each.there()) names.Set(names.Length(), each.name);
  }
  return names;
}

void checksumForce(const Napi::CallbackInfo& info) {
  const std::string name = info[0].ToString();
  for (const ChecksumKind& each : kChecksumKinds) {
    if (name != each.name || !each.there()) continue;
    chosen.store(&each, std::memory_order_relaxed);
    return;
  }
  throw Napi::RangeError::New(info.Env(), "checksum kind " + name + ": not on this CPU");
}

}  // namespace

void registerChecksum(Napi::Env env, Napi::Object exports) {
  exportBurst(env, exports, "checksum", checksum<false>);
  exportBurst(env, exports, "checksumScalar", checksum<true>);
  exportBurst(env, exports, "copyChecksum", copyChecksum);
  exportBurst(env, exports, "checksumBatch", checksumBatch);
  exportControl(env, exports, "checksumKind", checksumKind);
  exportControl(env, exports, "checksumKinds", checksumKinds);
  exportControl(env, exports, "checksumForce", checksumForce);
}
