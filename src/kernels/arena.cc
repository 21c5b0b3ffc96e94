// The planner is the greedy one of "Efficient Memory Management for Deep Neural Net Inference" (Pisarchyk &
// Lee 2020), "by size": big buffers first, each into the lowest gap that is free over its whole lifetime.
#include "kernels/arena.h"

#include <algorithm>
#include <numeric>

#include "kernels/backend.h"

namespace sluice {
namespace {

constexpr size_t kAlignment = 64;

// A buffer that no machine has counts as this much: sums of many stay below 2^64, and who allocates is told of it.
constexpr size_t kMostBytes = size_t{1} << 48;

size_t bytes_of(const Shape& shape, DType dtype) {
  size_t bytes = size_of(dtype);
  for (int i = 0; i < shape.rank(); ++i) {
    check_le(int64_t{0}, shape[i], "a buffer's dimension");
    if (shape[i] == 0) return 0;
    if (bytes > kMostBytes / size_t(shape[i])) bytes = kMostBytes;
    else bytes *= size_t(shape[i]);
  }
  return bytes;
}

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool overlap(const Lifetime& a, const std::optional<Lifetime>& b) {
  return b && a.first <= b->last && b->first <= a.last;
}

bool overlap(const MemoryPlan::Buffer& a, const MemoryPlan::Buffer& b) {
  return overlap(a.life, b.life) || overlap(a.life, b.again) || overlap(b.life, a.again) ||
         (a.again && overlap(*a.again, b.again));
}

// The lowest offset at which the buffer fits between the placed ones that live at the same time, given in order of
// offset.
size_t lowest_gap(const MemoryPlan::Buffer& buffer, const std::vector<const MemoryPlan::Buffer*>& placed) {
  size_t offset = 0;
  for (const MemoryPlan::Buffer* other : placed) {
    if (!overlap(buffer, *other)) continue;
    if (offset + aligned(buffer.bytes) <= other->offset) break;
    offset = std::max(offset, other->offset + aligned(other->bytes));
  }
  return offset;
}

}  // namespace

BufferId MemoryPlan::declare(std::string name, std::string kind, Shape shape, DType dtype, Lifetime life,
                             std::optional<Lifetime> again) {
  check(!planned_, "MemoryPlan: a buffer was declared after plan()");
  check_le(life.first, life.last, "MemoryPlan: a buffer's first use must not follow its last");
  if (again) check_le(again->first, again->last, "MemoryPlan: a buffer's first use must not follow its last");
  const size_t bytes = bytes_of(shape, dtype);
  buffers_.push_back({std::move(name), std::move(kind), shape, dtype, life, again, bytes, 0});
  return {int(buffers_.size()) - 1};
}

BufferId MemoryPlan::find(const std::string& name) const {
  for (size_t i = 0; i < buffers_.size(); ++i)
    if (buffers_[i].name == name) return {int(i)};
  return {};
}

void MemoryPlan::plan() {
  check(!planned_, "MemoryPlan: plan() was called twice");
  planned_ = true;
  std::vector<size_t> order(buffers_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers_[a].bytes > buffers_[b].bytes; });
  std::vector<const Buffer*> placed;
  for (size_t index : order) {
    Buffer& buffer = buffers_[index];
    buffer.offset = lowest_gap(buffer, placed);
    total_ = std::max(total_, buffer.offset + aligned(buffer.bytes));
    const auto after = std::upper_bound(placed.begin(), placed.end(), &buffer,
                                        [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; });
    placed.insert(after, &buffer);
  }
}

Arena::Arena(Backend& backend, size_t bytes) : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}

Arena::~Arena() {
  if (data_) backend_->release(data_);
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Tensor Arena::at(size_t offset, DType dtype, Shape shape) const {
  const Tensor out(static_cast<char*>(data_) + offset, dtype, shape);
  check_le(offset + out.bytes(), bytes_, "Arena: a tensor reaches beyond the end");
  check_eq(offset % size_of(dtype), size_t{0}, "Arena: offset must be a multiple of the element size");
  return out;
}

}  // namespace sluice
