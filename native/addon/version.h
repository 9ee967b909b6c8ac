// How a reader without a lock notices that a FIB moved: the C++ side of dataplane/fib/version.ts.
#pragma once
#include <cstdint>

namespace hawser {

/** The version is the first word of a FIB's region. */
struct Versioned {
  const uint32_t* versionAt;

  explicit Versioned(const uint8_t* region)
      : versionAt(reinterpret_cast<const uint32_t*>(region)) {}

  /** The version, before whatever is loaded next. */
  uint32_t version() const { return __atomic_load_n(versionAt, __ATOMIC_ACQUIRE); }

  /** Whether the version is still that, after whatever was loaded before. */
  bool unmoved(uint32_t version) const {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(versionAt, __ATOMIC_RELAXED) == version;
  }
};

}  // namespace hawser
