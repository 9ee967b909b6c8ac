// The packets of a batch whose flows are known and allowed: key, hash, probe and the word of the
// flow's action in one call. It is a fast lane: what it lets pass is a packet like any other of its
// flow. Whatever asks for a look (it begins or ends a connection, or the connection is half open,
// is a fragment or an ICMP error,
// its flow is not there, was judged by an older policy, or is routed by a next hop that has
// changed) stays unknown, and goes the way of dataplane/stages/policy, which finds the same flows
// by the same keys (rows.ts, packet/icmp-ports.ts, hash/flow-key.ts, hash/halfsip13.ts).
#include "batch.h"
#include "errors.h"
#include "flow.h"

namespace {

using namespace hawser::flow;

using namespace hawser;

/** FIN, SYN, RST. */
constexpr uint8_t kTcpMarks = 7;

/** An action: dataplane/policy/action.ts. */
constexpr uint32_t kAllowed = 1;
constexpr uint32_t kIncarnationShift = 2;
constexpr uint32_t kIncarnationMask = 0x3fff;
constexpr uint32_t kHopShift = 16;
/** Classes of flows that are half open, as bits, and where a tail has the class: flow/flow.ts. */
constexpr uint32_t kPendingClasses = 0b0110'0001;
constexpr uint32_t kClassShift = 28;

/** A flow table, and the seed of its keys' hash. */
struct KnownFlows {
  const FlowTable* table;
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
  uint32_t reverses[kBatch];
  uint8_t found[kBatch];
};

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
  if (proto == kProtoTcp) {
    if ((l4[13] & kTcpMarks) != 0) return false;
    *ports = be32(l4);
  } else if (proto == kProtoUdp) {
    *ports = be32(l4);
  } else if (proto == kProtoSctp) {
    if (left < 4) return false;
    *ports = be32(l4);
  } else if (proto == (ipv6 ? kProtoIcmpv6 : kProtoIcmp)) {
    // An echo without a code alone (packet/icmp-ports.ts); errors quote other flows, and the others
    // are rare.
    const bool request = l4[0] == (ipv6 ? 128 : 8);
    if ((!request && l4[0] != (ipv6 ? 129 : 0)) || l4[1] != 0) return false;
    const uint32_t id = be32(l4 + 4) >> 16;
    const uint32_t next = (id + 1) & 0xffff;
    *ports = request ? id << 16 | next : next << 16 | id;
  } else {
    *ports = 0;
  }
  return true;
}

inline uint32_t turned(uint32_t ports) { return ports << 16 | ports >> 16; }

/** Key, hash and direction of packet `i` to the next row; false when it needs a look. */
inline bool gather(const Columns& of, const uint32_t* seed, uint32_t i, uint32_t network,
                   Rows* rows) {
  const uint32_t l4 = of.l4[i];
  const uint32_t l3 = of.l3[i];
  if (of.drop[i] != 0 || l4 == 0 || (of.flags[i] & kFlagFragment) != 0) return false;
  const bool ipv6 = (of.flags[i] & kFlagIpv6) != 0;
  // What is read of headers, whatever is behind the packet.
  if (!of.holds(l3, 40) || !of.holds(l4, 14)) return false;
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
      from[w] = be32(ip + 8 + 4 * w);
      to[w] = be32(ip + 24 + 4 * w);
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
    rows->hashes[row] = halfsip13<kKeyWords>(seed, key);
  } else {
    const uint32_t four[4] = {key[3], key[7], key[8], key[9]};
    rows->hashes[row] = halfsip13<4>(seed, four);
  }
  rows->directions[row] = reverse ? 1 : 0;
  rows->packets[row] = static_cast<uint16_t>(i);
  rows->n++;
  return true;
}

/** Whether the next hop that an action names is the one that was meant when it was written. */
inline bool isRouted(const Columns& of, uint32_t action) {
  const uint32_t hop = action >> kHopShift;
  if (hop == 0 || hop >= of.hopCount) return false;
  uint16_t incarnation;
  std::memcpy(&incarnation, of.hops + size_t{hop} * kHopBytes + kHopIncarnation, 2);
  return ((action >> kIncarnationShift ^ incarnation) & kIncarnationMask) == 0;
}

/** How the node that has sent a packet is known: not at all, by the outer header in front of it, by
 * its next hop. */
enum Sender : uint32_t { kNobody = 0, kOuterHeader = 1, kSourceHop = 2 };

/**
 * Whether packet `i` comes from where the answers of its flow go: from the node that the next hop
 * of `reverse` leads to. Who sends in the name of another node's pod is not let through by what
 * that pod may.
 */
inline bool isFromBehind(const Columns& of, uint32_t i, uint32_t reverse, uint32_t sender) {
  if (!isRouted(of, reverse)) return false;
  const uint32_t id = reverse >> kHopShift;
  if (sender == kSourceHop) return of.source[i] == id;
  const uint8_t* hop = of.hops + size_t{id} * kHopBytes;
  uint32_t header;
  std::memcpy(&header, hop + kHopHeaderBytes, sizeof header);
  const uint32_t l3 = of.l3[i];
  if (l3 < 70) return false;
  const uint8_t* outer = of.arena + l3 - header;
  const uint8_t* there = hop + kHopHeader;
  // Source of what came, destination of what goes there (IPv4, IPv6).
  if (header == 50) return std::memcmp(outer + 12, there + 16, 4) == 0;
  return header == 70 && std::memcmp(outer + 8, there + 24, 16) == 0;
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

/** A flow that is missing will be put into the first free place of its bucket: asks for these
 * lines. */
inline void askForRoom(const FlowTable& table, uint32_t hash) {
  const uint32_t bucket = hash & table.mask;
  const uint32_t free = matches(tagsOf(table, bucket), ~uint64_t{0}, 0);
  if (free == 0) return;
  const size_t slot = size_t{bucket} * kBucket + static_cast<uint32_t>(__builtin_ctz(free));
  __builtin_prefetch(table.entries + slot, 1);
  __builtin_prefetch(table.accounts + kAccountWords * slot, 1);
}

/** Packets `from` .. `to`, at most kBatch. Returns how many of them are to be looked at. */
uint32_t passSome(const Columns& of, const KnownFlows& known, uint32_t from, uint32_t to,
                  int32_t network, uint32_t epoch, uint16_t tick, uint32_t sender) {
  Rows rows;
  uint32_t unknown = 0;
  for (uint32_t i = from; i < to; i++) {
    of.known[i] = 0;
    const uint32_t zone = network < 0 ? of.network[i] : static_cast<uint32_t>(network);
    if (!gather(of, known.seed, i, zone, &rows) && of.drop[i] == 0) unknown++;
  }
  probeSome({known.table, rows.words, rows.hashes, rows.directions, epoch, rows.slots, rows.actions,
             rows.found, rows.reverses},
            0, rows.n);
  for (uint32_t row = 0; row < rows.n; row++) {
    if (rows.slots[row] < 0) {
      askForRoom(*known.table, rows.hashes[row]);
      continue;
    }
    __builtin_prefetch(
        known.table->accounts + size_t{kAccountWords} * static_cast<uint32_t>(rows.slots[row]), 1);
  }
  Sum sum;
  for (uint32_t row = 0; row < rows.n; row++) {
    const uint32_t action = rows.actions[row];
    if (rows.found[row] != kCurrent || (action & kAllowed) == 0 || !isRouted(of, action)) {
      unknown++;
      continue;
    }
    if (sender != kNobody && !isFromBehind(of, rows.packets[row], rows.reverses[row], sender)) {
      unknown++;
      continue;
    }
    const uint32_t tail =
        __atomic_load_n(&known.table->entries[rows.slots[row]].tail, __ATOMIC_RELAXED);
    if ((kPendingClasses >> (tail >> kClassShift & 7) & 1) != 0) {
      unknown++;
      continue;
    }
    of.known[rows.packets[row]] = action;
    sum.add(*known.table, rows.slots[row], of.len[rows.packets[row]]);
    // The tick of the last packet: the low half of the tail. A line that nobody writes stays in
    // every core's cache.
    uint16_t* touched = const_cast<uint16_t*>(
        reinterpret_cast<const uint16_t*>(&known.table->entries[rows.slots[row]].tail));
    if (__atomic_load_n(touched, __ATOMIC_RELAXED) != tick) {
      __atomic_store_n(touched, tick, __ATOMIC_RELAXED);
    }
  }
  sum.write(*known.table);
  return unknown;
}

/** `(known, batch, n, network, epoch, tick, sender)`: see native.ts. */
napi_value knownFlows(napi_env env, napi_callback_info info) {
  size_t count = 7;
  napi_value values[7];
  void* flows = nullptr;
  void* batch = nullptr;
  uint32_t n = 0;
  int32_t network = 0;
  uint32_t epoch = 0;
  uint32_t tick = 0;
  uint32_t sender = 0;
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok || count != 7 ||
      napi_get_value_external(env, values[0], &flows) != napi_ok ||
      napi_get_value_external(env, values[1], &batch) != napi_ok ||
      napi_get_value_uint32(env, values[2], &n) != napi_ok ||
      napi_get_value_int32(env, values[3], &network) != napi_ok ||
      napi_get_value_uint32(env, values[4], &epoch) != napi_ok ||
      napi_get_value_uint32(env, values[5], &tick) != napi_ok ||
      napi_get_value_uint32(env, values[6], &sender) != napi_ok || n > kBatchPackets) {
    return reply(env, -EINVAL);
  }
  const KnownFlows& known = *static_cast<const KnownFlows*>(flows);
  const Columns& of = *static_cast<const Columns*>(batch);
  uint32_t unknown = 0;
  for (uint32_t from = 0; from < n; from += kBatch) {
    const uint32_t to = n - from < kBatch ? n : from + kBatch;
    unknown += passSome(of, known, from, to, network, epoch, static_cast<uint16_t>(tick), sender);
  }
  return reply(env, unknown);
}

void closeKnownFlows(napi_env env, void* data, void*) {
  KnownFlows* of = static_cast<KnownFlows*>(data);
  napi_delete_reference(env, of->kept);
  delete of;
}

/** `openKnownFlows(table, seed0, seed1)`: see native.ts. */
Napi::Value openKnownFlows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  void* table = nullptr;
  if (info.Length() != 3 || napi_get_value_external(env, info[0], &table) != napi_ok) {
    throwErrno(env, "known flows", EINVAL, "(table, seed, seed)");
  }
  const uint32_t seed0 = static_cast<uint32_t>(integerArg(info, 1, "seed0", 0, UINT32_MAX));
  const uint32_t seed1 = static_cast<uint32_t>(integerArg(info, 2, "seed1", 0, UINT32_MAX));
  KnownFlows* of = new KnownFlows{static_cast<const FlowTable*>(table), {seed0, seed1}, nullptr};
  napi_value handle = nullptr;
  if (napi_create_reference(env, info[0], 1, &of->kept) != napi_ok ||
      napi_create_external(env, of, closeKnownFlows, nullptr, &handle) != napi_ok) {
    delete of;
    throwErrno(env, "known flows", ENOMEM);
  }
  return Napi::Value(env, handle);
}

}  // namespace

void registerLookupKnownFlows(Napi::Env env, Napi::Object exports) {
  hawser::exportControl(env, exports, "openKnownFlows", openKnownFlows);
  hawser::setFunction(env, exports, "knownFlows", knownFlows);
}
