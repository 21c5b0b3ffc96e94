// The memory plan: buffers are declared with a lifetime on the step's timeline, laid out once, allocated once.
//
// Two buffers whose lifetimes do not overlap may share memory. `plan` places the largest first at the lowest offset
// that is free over its whole lifetime; the arena's size is then known before step 0, and nothing allocates inside a
// step.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/types/tensor.h"

namespace sluice {

class Backend;

struct BufferId {
  int index = -1;
  explicit operator bool() const { return index >= 0; }
};

// First and last use, inclusive, in ticks of the step's timeline.
struct Lifetime {
  int first = 0, last = 0;
};

class MemoryPlan {
 public:
  // Declares a buffer. `kind` groups rows of the printed table ("activations", "scratch", ...).
  // With `again` it has two lives, and what it held is lost in between: something recomputed for the backward pass.
  BufferId declare(std::string name, std::string kind, Shape shape, DType dtype, Lifetime life,
                   std::optional<Lifetime> again = {});
  // Fixes every offset. No declaration afterwards.
  void plan();
  size_t total_bytes() const { return total_; }

  struct Buffer {
    std::string name, kind;
    Shape shape;
    DType dtype;
    Lifetime life;
    std::optional<Lifetime> again;
    size_t bytes = 0, offset = 0;
  };
  const std::vector<Buffer>& buffers() const { return buffers_; }
  const Buffer& buffer(BufferId id) const { return buffers_[size_t(id.index)]; }
  // The first that was declared with this name; an empty id if none was.
  BufferId find(const std::string& name) const;

 private:
  std::vector<Buffer> buffers_;
  size_t total_ = 0;
  bool planned_ = false;
};

// One allocation on a backend, 64-byte aligned, zeroed; freed with the object.
class Arena {
 public:
  Arena() = default;
  Arena(Backend& backend, size_t bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  size_t bytes() const { return bytes_; }
  Tensor at(size_t offset, DType dtype, Shape shape) const;

 private:
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace sluice
