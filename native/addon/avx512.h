// The AVX-512 intrinsics, and whether this CPU has what the lookups use of them.
//
// Functions that use them are marked HAWSER_AVX512 and called only where `kAvx512` is true. With
// GCC 12 the intrinsics that leave a register undefined warn of it where they are inlined; the
// warning says nothing about our code.
#pragma once

#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#define HAWSER_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

namespace hawser {

inline const bool kAvx512 = __builtin_cpu_supports("avx512f") &&
                            __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl");

}  // namespace hawser
#endif
