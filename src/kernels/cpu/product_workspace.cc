#include "kernels/cpu/product_workspace.h"

#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/error.h"

namespace sluice {

void* product_workspace(size_t bytes) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local size_t size = 0;
  if (bytes <= size) return memory.get();
  constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
  const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
  memory.reset();
  size = 0;
  memory.reset(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
  if (!memory) throw RunError("out of memory: a matrix product needs {} bytes to work in", bytes);
  size = bytes;
  if (alignment == kHugePage) madvise(memory.get(), bytes, MADV_HUGEPAGE);  // a wish; without it only slower
  return memory.get();
}

size_t second_level_cache() {
  static const size_t bytes = [] {
    const long told = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return told > 0 ? std::clamp(size_t(told), size_t{256} << 10, size_t{4} << 20) : size_t{1} << 20;
  }();
  return bytes;
}

size_t product_workspace_bytes() {
  // A small B packed at once, in f64, or sums of a panel; and each thread's panel of A, slivers of B and sums.
  constexpr size_t kOfAllThreads = size_t{8} << 20, kOfEach = size_t{1} << 20;
  return kOfAllThreads + size_t(omp_get_max_threads()) * (second_level_cache() + kOfEach);
}

}  // namespace sluice
