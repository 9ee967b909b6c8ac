// DPDK's environment layer without devices, files, root or reserved huge pages, and a heap for
// tables in transparent huge pages.
#pragma once

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <sched.h>
#include <sys/mman.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

/// Throws with DPDK's errno when `made` is null.
template <typename T>
T* made_or_throw(T* made, const char* what) {
  if (made == nullptr) {
    throw std::runtime_error(std::string(what) + ": " + rte_strerror(rte_errno));
  }
  return made;
}

/// Starts the environment layer: no device, no huge page that root would have to reserve, and what
/// files it must have in `folder`.
inline void start_environment(const std::string& folder) {
  setenv("RUNTIME_DIRECTORY", folder.c_str(), 1);
  // One logical core that may run on every CPU this process may run on: by default it is pinned.
  std::string cpus;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (!cpus.empty()) cpus += ',';
    cpus += std::to_string(cpu);
  }
  std::vector<std::string> words{"driver", "--no-huge", "-m", "64", "--no-shconf", "--no-pci",
                                 "--no-telemetry", "--log-level=error", "--lcores=0@(" + cpus + ")",
                                 // Without it AVX-512 is not used, even where the CPU has it.
                                 "--force-max-simd-bitwidth=512"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) {
    throw std::runtime_error(std::string("rte_eal_init: ") + rte_strerror(rte_errno));
  }
}

/// A heap of `bytes` for tables, in transparent huge pages where the kernel gives them on request.
/// One at a time; there until `close` or the end of the process.
class Heap {
 public:
  explicit Heap(size_t bytes) {
    constexpr size_t kPage = 2U << 20;
    constexpr size_t kSlack = 8U << 20;  // for the small things that come with a table
    const size_t length = (bytes + kSlack + kPage - 1) / kPage * kPage;
    mapped_bytes_ = length + kPage;
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::runtime_error("no memory for the table");
    const auto address = (reinterpret_cast<uintptr_t>(mapped_) + kPage - 1) / kPage * kPage;
    at_ = reinterpret_cast<void*>(address);
    bytes_ = length;
    madvise(at_, bytes_, MADV_HUGEPAGE);
    if (rte_malloc_heap_create(kName) != 0 ||
        rte_malloc_heap_memory_add(kName, at_, bytes_, nullptr, 0, kPage) != 0) {
      throw std::runtime_error(std::string("rte_malloc_heap: ") + rte_strerror(rte_errno));
    }
    socket = rte_malloc_heap_get_socket(kName);
  }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  /// Gives the memory back; nothing may be allocated in it any more.
  void close() {
    if (rte_malloc_heap_memory_remove(kName, at_, bytes_) != 0 ||
        rte_malloc_heap_destroy(kName) != 0) {
      throw std::runtime_error(std::string("rte_malloc_heap: ") + rte_strerror(rte_errno));
    }
    munmap(mapped_, mapped_bytes_);
  }

  size_t allocated() const {
    rte_malloc_socket_stats stats;
    return rte_malloc_get_socket_stats(socket, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
  }

  /// What the library's functions take as the socket to allocate on.
  int socket;

 private:
  static constexpr const char* kName = "tables";
  void* mapped_;
  size_t mapped_bytes_;
  void* at_;
  size_t bytes_;
};

/// Bytes of this process that lie in huge pages.
inline size_t huge_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("AnonHugePages:")) return std::stoul(line.substr(14)) * 1024;
  }
  return 0;
}

}  // namespace bench
