// rte_acl, five-tuples.
//
//   dpdk-acl FOLDER 4|6
//
// Table: records of id, priority (the largest wins), source address (one word or four) and length,
// destination address and length, protocol, its mask, first and last of the source ports, then of
// the destination ports.
//
// A key is a header of dataplane/acl/acl.ts: two addresses, ports, protocol. ICMP's type and code
// stand in the place of the ports, in rules too.
#include <rte_acl.h>
#include <rte_byteorder.h>

#include <cstdint>

#include "serve.h"

namespace {

using namespace bench;

// Trie nodes for a rule, by experience with firewalls of 10,000 rules, and what any table takes.
constexpr size_t kHeapBytes = 64U << 20;
constexpr size_t kRuleBytes = 64U << 10;

/// A function has the same name.
using Algorithm = enum rte_acl_classify_alg;

/// Fields of a rule: protocol, the words of both addresses, both ports.
template <size_t W>
constexpr size_t kFields = 2 * W + 3;

/// What the library reads: the protocol's octet, padding, then both addresses and ports as they are
/// in a packet.
template <size_t W>
using Packet = std::array<uint32_t, 2 * W + 2>;

template <size_t W>
struct Classify {
  using Key = Packet<W>;
  using Answer = uint32_t;
  static constexpr unsigned kWords = 2 * W + 2;
  rte_acl_ctx* context;
  Algorithm algorithm;

  void select() const { rte_acl_set_ctx_classify(context, algorithm); }
  static Key key(const uint32_t* words) {
    Key packet;
    packet[0] = rte_cpu_to_le_32(words[2 * W + 1]);
    for (size_t w = 0; w < 2 * W + 1; w++) packet[w + 1] = rte_cpu_to_be_32(words[w]);
    return packet;
  }
  void find(const Key*, const void* const* pointers, unsigned n, Answer* found) const {
    auto** data = reinterpret_cast<const uint8_t**>(const_cast<const void**>(pointers));
    rte_acl_classify(context, data, found, n, 1);
  }
  static uint32_t answer(Answer found) { return found; }
};

const std::map<std::string, Algorithm> kKinds{
    {"scalar", RTE_ACL_CLASSIFY_SCALAR},       {"sse", RTE_ACL_CLASSIFY_SSE},
    {"avx2", RTE_ACL_CLASSIFY_AVX2},           {"avx512x16", RTE_ACL_CLASSIFY_AVX512X16},
    {"avx512x32", RTE_ACL_CLASSIFY_AVX512X32},
};

template <size_t W>
rte_acl_config configuration() {
  rte_acl_config config{};
  config.num_categories = 1;
  config.num_fields = kFields<W>;
  const auto field = [&](uint8_t type, uint8_t size, size_t word, uint32_t offset) {
    static_assert(kFields<W> <= RTE_ACL_MAX_FIELDS);
    uint8_t index = 0;
    while (config.defs[index].size != 0) index++;
    config.defs[index] = {type, size, index, static_cast<uint8_t>(word), offset};
  };
  field(RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0);
  for (uint32_t w = 0; w < 2 * W; w++) field(RTE_ACL_FIELD_TYPE_MASK, 4, w + 1, 4 * (w + 1));
  // Two fields of two octets each are one word of input.
  field(RTE_ACL_FIELD_TYPE_RANGE, 2, 2 * W + 1, 4 * (2 * W + 1));
  field(RTE_ACL_FIELD_TYPE_RANGE, 2, 2 * W + 1, 4 * (2 * W + 1) + 2);
  return config;
}

/// Writes the fields of an address and returns what follows its record.
template <size_t W>
const uint32_t* put_address(const uint32_t* record, rte_acl_field* fields) {
  const uint32_t length = record[W];
  for (uint32_t w = 0; w < W; w++) {
    fields[w].value.u32 = record[w];
    fields[w].mask_range.u32 = length > 32 * w ? std::min(32U, length - 32 * w) : 0;
  }
  return record + W + 1;
}

template <size_t W>
Built build(const Words& words) {
  RTE_ACL_RULE_DEF(Rule, kFields<W>);
  constexpr size_t kRecord = 2 + 2 * (W + 1) + 6;
  const size_t count = words.size() / kRecord;
  const Heap heap(kHeapBytes + count * kRuleBytes);
  rte_acl_param param{};
  param.name = "acl";
  param.socket_id = heap.socket;
  param.rule_size = RTE_ACL_RULE_SZ(kFields<W>);
  param.max_rule_num = static_cast<uint32_t>(count);
  Built built;
  const double started = now_ms();
  rte_acl_ctx* context = made_or_throw(rte_acl_create(&param), "rte_acl_create");
  for (size_t i = 0; i < count; i++) {
    const uint32_t* at = &words[i * kRecord];
    Rule rule{};
    rule.data = {1, static_cast<int32_t>(at[1]), at[0]};
    at = put_address<W>(at + 2, rule.field + 1);
    at = put_address<W>(at, rule.field + 1 + W);
    rule.field[0].value.u8 = static_cast<uint8_t>(at[0]);
    rule.field[0].mask_range.u8 = static_cast<uint8_t>(at[1]);
    for (size_t port = 0; port < 2; port++) {
      rte_acl_field& field = rule.field[1 + 2 * W + port];
      field.value.u16 = static_cast<uint16_t>(at[2 + 2 * port]);
      field.mask_range.u16 = static_cast<uint16_t>(at[3 + 2 * port]);
    }
    const auto* any = reinterpret_cast<const rte_acl_rule*>(&rule);
    if (rte_acl_add_rules(context, any, 1) != 0) built.refused++;
  }
  const size_t before = heap.allocated();
  const rte_acl_config config = configuration<W>();
  const int error = rte_acl_build(context, &config);
  if (error != 0) throw std::runtime_error(std::string("rte_acl_build: ") + rte_strerror(-error));
  built.ms = now_ms() - started;
  built.bytes = heap.allocated() - before;
  for (const auto& [name, algorithm] : kKinds) {
    if (rte_acl_set_ctx_classify(context, algorithm) == 0) {
      built.add(name, Classify<W>{context, algorithm});
    }
  }
  return built;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::drive(argc, argv, bench::word(argc, argv, 2) == "6" ? build<4> : build<1>);
}
