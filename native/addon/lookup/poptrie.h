// The tables of poptrie4 and poptrie6 as the native twins see them; dataplane/fib/poptrie/layout.ts
// has their layout.
#pragma once
#include "lookup.h"
#include "version.h"

namespace hawser::poptrie {

constexpr uint32_t kHeaderWords = 16;
/** A word of the header. */
constexpr uint32_t kDefault = 1;
/** Bits of a slot. */
constexpr uint32_t kPointer = 1u << 31;
constexpr uint32_t kSkip = 1u << 30;
/** The word that a slot points to; all begin at multiples of four. */
constexpr uint32_t kWord = kSkip - 4;
/** Words behind the start of a node: its second map, its slots. */
constexpr uint32_t kLeafvec = 2;
constexpr uint32_t kSlots = 4;
constexpr uint32_t kStride = 6;
/** Words behind the last block that a block may be read into. */
constexpr uint32_t kTailWords = kSlots + 64;
/** The table behind a slot of the direct one (IPv6). */
constexpr uint32_t kTableBits = 8;

template <int kFamily>
struct Shape;

template <>
struct Shape<4> {
  static constexpr uint32_t kKeyWords = 1;
  static constexpr uint32_t kDirectBits = 18;
  /** Most nodes on a way. */
  static constexpr uint32_t kSteps = 3;
};

template <>
struct Shape<6> {
  static constexpr uint32_t kKeyWords = 4;
  static constexpr uint32_t kDirectBits = 16;
  static constexpr uint32_t kSteps = 18;
};

inline uint32_t word32(const uint32_t* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

template <int kFamily>
struct Tables : hawser::Versioned {
  /** First word of the blocks. */
  static constexpr uint32_t kBase = kHeaderWords + (1u << Shape<kFamily>::kDirectBits);
  const uint32_t* words;
  /** Words that blocks may begin at, from kBase. */
  uint32_t room;

  /**
   * Whether a block may begin there. One always does where a slot points to, but memory that was
   * taken away from a lookup, which will be done again, can hold anything.
   */
  bool holds(uint32_t at) const { return at - kBase < room; }

  uint16_t otherwise() const {
    return static_cast<uint16_t>(__atomic_load_n(words + kDefault, __ATOMIC_ACQUIRE));
  }
};

/** Writes the next hops of `n` addresses, `otherwise` for those without one. */
template <int kFamily>
using Walk = void (*)(const Tables<kFamily>&, const uint32_t* keys, uint32_t n, uint16_t otherwise,
                      uint16_t* answers);

/** How many addresses at the front a `Walk` of 8 at a time took; nullptr if the CPU can't. */
template <int kFamily>
using WalkEights = uint32_t (*)(const Tables<kFamily>&, const uint32_t* keys, uint32_t n,
                                uint16_t otherwise, uint16_t* answers);
extern const WalkEights<4> kWalkEights4;
extern const WalkEights<6> kWalkEights6;

}  // namespace hawser::poptrie
