#include "kernels/cpu/product_workspace.h"

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
  constexpr size_t kLine = 64;
  memory.reset();
  size = 0;
  memory.reset(std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine));
  if (!memory) throw RunError("out of memory: a matrix product needs {} bytes to work in", bytes);
  size = bytes;
  return memory.get();
}

}  // namespace sluice
