// The packets of a batch whose flows are known and allowed: key, hash, probe and the word of the
// flow's action in one call. It is a fast lane: what it lets pass is a packet like any other of its
// flow. Whatever asks for a look (it begins or ends a connection, is a fragment or an ICMP error,
// its flow is not there, was judged by an older policy, or is routed by a next hop that has
// changed) stays unknown, and goes the way of dataplane/stages/policy, which finds the same flows
// by the same keys (rows.ts, packet/icmp-ports.ts, hash/flow-key.ts, hash/halfsip13.ts).
#include <array>

#include "errors.h"
#include "flow.h"

namespace {

using namespace hawser::flow;

/** Columns of dataplane/packet/batch.ts, in the order that `openKnownFlows` takes them. */
enum Column : uint32_t { kDrop, kFlags, kProto, kL3, kL4, kLen, kSrc4, kDst4, kNetwork, kKnown };
constexpr uint32_t kColumns = 10;
/** Most packets of a batch: BATCH_SIZE. */
constexpr uint32_t kPackets = 256;

/** Bits of a packet's flags: batch.ts. */
constexpr uint16_t kIpv6 = 1;
constexpr uint16_t kFragment = 4;

constexpr uint8_t kIcmp = 1;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint8_t kIcmpv6 = 58;
constexpr uint8_t kSctp = 132;
/** FIN, SYN, RST. */
constexpr uint8_t kTcpMarks = 7;

/** An action: dataplane/policy/judge.ts. */
constexpr uint32_t kAllowed = 1;
constexpr uint32_t kIncarnationShift = 2;
constexpr uint32_t kIncarnationMask = 0x3fff;
constexpr uint32_t kHopShift = 16;
/** A next hop: dataplane/tables/next-hops.ts. */
constexpr uint32_t kHopBytes = 128;
constexpr uint32_t kHopIncarnation = 108;

struct KnownFlows {
  const FlowTable* table;
  const uint8_t* arena;
  uint64_t arenaBytes;
  const uint8_t* drop;
  const uint16_t* flags;
  const uint8_t* proto;
  const uint32_t* l3;
  const uint32_t* l4;
  const uint32_t* len;
  const uint32_t* src4;
  const uint32_t* dst4;
  const uint8_t* network;
  uint32_t* known;
  /** The worker's copy of the next hops. */
  const uint8_t* hops;
  uint32_t hopCount;
  uint32_t seed[2];
  napi_ref kept;
};

/** Rows of one go. */
struct Rows {
  uint32_t n = 0;
  uint16_t packets[kBatch];
  uint32_t words[kBatch * kKeyWords];
  uint32_t hashes[kBatch];
  uint8_t directions[kBatch];
  int32_t slots[kBatch];
  uint32_t actions[kBatch];
  uint8_t found[kBatch];
};

inline uint32_t word(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}

inline uint32_t turn(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

/** HalfSipHash-1-3 of `count` words: hash/halfsip13.ts. */
template <uint32_t count>
inline uint32_t halfsip13(const uint32_t* seed, const uint32_t* key) {
  uint32_t v0 = seed[0];
  uint32_t v1 = seed[1];
  uint32_t v2 = 0x6c796765 ^ seed[0];
  uint32_t v3 = 0x74656462 ^ seed[1];
  for (uint32_t w = 0; w <= count + 3; w++) {
    const uint32_t in = w < count ? key[w] : w == count ? count << 26 : 0;
    v3 ^= in;
    v0 += v1;
    v1 = turn(v1, 5) ^ v0;
    v0 = turn(v0, 16);
    v2 += v3;
    v3 = turn(v3, 8) ^ v2;
    v0 += v3;
    v3 = turn(v3, 7) ^ v0;
    v2 += v1;
    v1 = turn(v1, 13) ^ v2;
    v2 = turn(v2, 16);
    v0 ^= in;
    if (w == count) v2 ^= 0xff;
  }
  return v1 ^ v3;
}

/** Both ports of packet `i` as flow keys have them, from its transport header; false: it needs a
 * look. */
inline bool portsOf(uint8_t proto, bool ipv6, const uint8_t* l4, uint32_t left, uint32_t* ports) {
  if (proto == kTcp) {
    if ((l4[13] & kTcpMarks) != 0) return false;
    *ports = word(l4);
  } else if (proto == kUdp) {
    *ports = word(l4);
  } else if (proto == kSctp) {
    if (left < 4) return false;
    *ports = word(l4);
  } else if (proto == (ipv6 ? kIcmpv6 : kIcmp)) {
    // An echo without a code alone (packet/icmp-ports.ts); errors quote other flows, and the others
    // are rare.
    const bool request = l4[0] == (ipv6 ? 128 : 8);
    if ((!request && l4[0] != (ipv6 ? 129 : 0)) || l4[1] != 0) return false;
    const uint32_t id = word(l4 + 4) >> 16;
    const uint32_t next = (id + 1) & 0xffff;
    *ports = request ? id << 16 | next : next << 16 | id;
  } else {
    *ports = 0;
  }
  return true;
}

inline uint32_t turned(uint32_t ports) { return ports << 16 | ports >> 16; }

/** Key, hash and direction of packet `i` to the next row; false when it needs a look. */
inline bool gather(const KnownFlows& of, uint32_t i, uint32_t network, Rows* rows) {
  const uint32_t l4 = of.l4[i];
  const uint32_t l3 = of.l3[i];
  if (of.drop[i] != 0 || l4 == 0 || (of.flags[i] & kFragment) != 0) return false;
  const bool ipv6 = (of.flags[i] & kIpv6) != 0;
  // What is read of headers, whatever is behind the packet.
  if (l3 + uint64_t{40} > of.arenaBytes || l4 + uint64_t{14} > of.arenaBytes) return false;
  const uint8_t* ip = of.arena + l3;
  uint32_t ports;
  if (!portsOf(of.proto[i], ipv6, of.arena + l4, l3 + of.len[i] - l4, &ports)) return false;
  const uint32_t row = rows->n;
  uint32_t* key = rows->words + row * kKeyWords;
  key[9] = of.proto[i] | (ipv6 ? 6u : 4u) << 8 | network << 16;
  bool reverse;
  if (ipv6) {
    uint32_t from[4];
    uint32_t to[4];
    for (uint32_t w = 0; w < 4; w++) {
      from[w] = word(ip + 8 + 4 * w);
      to[w] = word(ip + 24 + 4 * w);
    }
    uint32_t w = 0;
    while (w < 3 && from[w] == to[w]) w++;
    reverse = from[w] > to[w] || (from[w] == to[w] && ports > turned(ports));
    std::memcpy(key, reverse ? to : from, sizeof to);
    std::memcpy(key + 4, reverse ? from : to, sizeof to);
  } else {
    const uint32_t from = of.src4[i];
    const uint32_t to = of.dst4[i];
    reverse = from > to || (from == to && ports > turned(ports));
    key[0] = key[1] = key[2] = key[4] = key[5] = key[6] = 0;
    key[3] = reverse ? to : from;
    key[7] = reverse ? from : to;
  }
  key[8] = reverse ? turned(ports) : ports;
  if (ipv6) {
    rows->hashes[row] = halfsip13<kKeyWords>(of.seed, key);
  } else {
    const uint32_t four[4] = {key[3], key[7], key[8], key[9]};
    rows->hashes[row] = halfsip13<4>(of.seed, four);
  }
  rows->directions[row] = reverse ? 1 : 0;
  rows->packets[row] = static_cast<uint16_t>(i);
  rows->n++;
  return true;
}

/** Whether the next hop that an action names is the one that was meant when it was written. */
inline bool isRouted(const KnownFlows& of, uint32_t action) {
  const uint32_t hop = action >> kHopShift;
  if (hop == 0 || hop >= of.hopCount) return false;
  uint16_t incarnation;
  std::memcpy(&incarnation, of.hops + size_t{hop} * kHopBytes + kHopIncarnation, 2);
  return ((action >> kIncarnationShift ^ incarnation) & kIncarnationMask) == 0;
}

/** What packets of one flow behind each other add to its account. */
struct Sum {
  int32_t slot = -1;
  uint64_t packets = 0;
  uint64_t bytes = 0;

  void add(const FlowTable& table, int32_t to, uint32_t length) {
    if (to != slot) {
      write(table);
      *this = {to, 0, 0};
    }
    packets++;
    bytes += length;
  }

  void write(const FlowTable& table) const {
    if (slot < 0) return;
    uint64_t* account = table.accounts + size_t{kAccountWords} * static_cast<uint32_t>(slot);
    __atomic_fetch_add(account, packets, __ATOMIC_RELAXED);
    __atomic_fetch_add(account + 1, bytes, __ATOMIC_RELAXED);
  }
};

/** Packets `from` .. `to`, at most kBatch. Returns how many of them are to be looked at. */
uint32_t passSome(const KnownFlows& of, uint32_t from, uint32_t to, int32_t network, uint32_t epoch,
                  uint16_t tick) {
  Rows rows;
  uint32_t unknown = 0;
  for (uint32_t i = from; i < to; i++) {
    of.known[i] = 0;
    const uint32_t zone = network < 0 ? of.network[i] : static_cast<uint32_t>(network);
    if (!gather(of, i, zone, &rows) && of.drop[i] == 0) unknown++;
  }
  probeSome({of.table, rows.words, rows.hashes, rows.directions, epoch, rows.slots, rows.actions,
             rows.found},
            0, rows.n);
  for (uint32_t row = 0; row < rows.n; row++) {
    if (rows.slots[row] < 0) continue;
    __builtin_prefetch(
        of.table->accounts + size_t{kAccountWords} * static_cast<uint32_t>(rows.slots[row]), 1);
  }
  Sum sum;
  for (uint32_t row = 0; row < rows.n; row++) {
    const uint32_t action = rows.actions[row];
    if (rows.found[row] != kCurrent || (action & kAllowed) == 0 || !isRouted(of, action)) {
      unknown++;
      continue;
    }
    of.known[rows.packets[row]] = action;
    sum.add(*of.table, rows.slots[row], of.len[rows.packets[row]]);
    // The tick of the last packet: the low half of the tail. A line that nobody writes stays in
    // every core's cache.
    uint16_t* touched = const_cast<uint16_t*>(
        reinterpret_cast<const uint16_t*>(&of.table->entries[rows.slots[row]].tail));
    if (__atomic_load_n(touched, __ATOMIC_RELAXED) != tick) {
      __atomic_store_n(touched, tick, __ATOMIC_RELAXED);
    }
  }
  sum.write(*of.table);
  return unknown;
}

/** `(known, n, network, epoch, tick)`: see native.ts. */
napi_value knownFlows(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value values[5];
  void* handle = nullptr;
  uint32_t n = 0;
  int32_t network = 0;
  uint32_t epoch = 0;
  uint32_t tick = 0;
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 5 ||
      napi_get_value_external(env, values[0], &handle) != napi_ok ||
      napi_get_value_uint32(env, values[1], &n) != napi_ok ||
      napi_get_value_int32(env, values[2], &network) != napi_ok ||
      napi_get_value_uint32(env, values[3], &epoch) != napi_ok ||
      napi_get_value_uint32(env, values[4], &tick) != napi_ok || n > kPackets) {
    return hawser::reply(env, -EINVAL);
  }
  const KnownFlows& of = *static_cast<const KnownFlows*>(handle);
  uint32_t unknown = 0;
  for (uint32_t from = 0; from < n; from += kBatch) {
    const uint32_t to = n - from < kBatch ? n : from + kBatch;
    unknown += passSome(of, from, to, network, epoch, static_cast<uint16_t>(tick));
  }
  return hawser::reply(env, unknown);
}

void closeKnownFlows(napi_env env, void* data, void*) {
  KnownFlows* of = static_cast<KnownFlows*>(data);
  napi_delete_reference(env, of->kept);
  delete of;
}

/** `openKnownFlows(table, arena, seed0, seed1, nextHops, columns)`: see native.ts. */
Napi::Value openKnownFlows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  void* table = nullptr;
  if (info.Length() != 6 || napi_get_value_external(env, info[0], &table) != napi_ok ||
      !info[5].IsArray()) {
    hawser::throwErrno(env, "known flows", EINVAL, "(table, arena, seed, seed, nextHops, columns)");
  }
  const uint32_t seed0 = static_cast<uint32_t>(hawser::integerArg(info, 2, "seed0", 0, UINT32_MAX));
  const uint32_t seed1 = static_cast<uint32_t>(hawser::integerArg(info, 3, "seed1", 0, UINT32_MAX));
  Napi::Uint8Array arena = hawser::bytesArg(info, 1, "arena");
  Napi::Uint8Array hops = hawser::bytesArg(info, 4, "nextHops");
  const Napi::Array columns = info[5].As<Napi::Array>();
  constexpr std::array<napi_typedarray_type, kColumns> types = {
      napi_uint8_array,  napi_uint16_array, napi_uint8_array,  napi_uint32_array,
      napi_uint32_array, napi_uint32_array, napi_uint32_array, napi_uint32_array,
      napi_uint8_array,  napi_uint32_array};
  std::array<void*, kColumns> at = {};
  for (uint32_t c = 0; c < kColumns; c++) {
    napi_typedarray_type type;
    size_t length = 0;
    const Napi::Value column = columns.Get(c);
    if (napi_get_typedarray_info(env, column, &type, &length, &at[c], nullptr, nullptr) !=
            napi_ok ||
        type != types[c] || length < kPackets) {
      hawser::throwErrno(env, "known flows", EINVAL, "columns must be those of a batch");
    }
  }
  Napi::Array kept = Napi::Array::New(env, 4);
  kept.Set(0u, info[0]);
  kept.Set(1u, hops);
  kept.Set(2u, columns);
  kept.Set(3u, arena);
  KnownFlows* of = new KnownFlows{static_cast<const FlowTable*>(table),
                                  arena.Data(),
                                  arena.ByteLength(),
                                  static_cast<const uint8_t*>(at[kDrop]),
                                  static_cast<const uint16_t*>(at[kFlags]),
                                  static_cast<const uint8_t*>(at[kProto]),
                                  static_cast<const uint32_t*>(at[kL3]),
                                  static_cast<const uint32_t*>(at[kL4]),
                                  static_cast<const uint32_t*>(at[kLen]),
                                  static_cast<const uint32_t*>(at[kSrc4]),
                                  static_cast<const uint32_t*>(at[kDst4]),
                                  static_cast<const uint8_t*>(at[kNetwork]),
                                  static_cast<uint32_t*>(at[kKnown]),
                                  hops.Data(),
                                  static_cast<uint32_t>(hops.ByteLength() / kHopBytes),
                                  {seed0, seed1},
                                  nullptr};
  napi_value handle = nullptr;
  if (napi_create_reference(env, kept, 1, &of->kept) != napi_ok ||
      napi_create_external(env, of, closeKnownFlows, nullptr, &handle) != napi_ok) {
    delete of;
    hawser::throwErrno(env, "known flows", ENOMEM);
  }
  return Napi::Value(env, handle);
}

}  // namespace

void registerLookupKnownFlows(Napi::Env env, Napi::Object exports) {
  hawser::exportControl(env, exports, "openKnownFlows", openKnownFlows);
  hawser::setFunction(env, exports, "knownFlows", knownFlows);
}
