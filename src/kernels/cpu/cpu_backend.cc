// What is no kernel of an instruction set: memory, copies and sizes of workspaces (cpu_backend.h).
#include "kernels/cpu/cpu_backend.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/machine_memory.h"
#include "kernels/cpu/attention_workspace.h"
#include "kernels/cpu/linear_workspace.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/random.h"

namespace sluice {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t rounded_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

int64_t in_floats(int64_t accumulators, DType act) {
  return accumulators * int64_t(size_of(accumulator_of(act)) / sizeof(float));
}

}  // namespace

// 32 chunks of rows (isa/rows.h), gain and bias; twice for f64, whose sums take two f32 elements each.
template <>
int64_t cpu_workspace(const RowSums& sizes) {
  return 32 * 2 * 2 * sizes.C;
}

template <>
int64_t cpu_workspace(const AttentionBackward::Sizes& sizes) {
  return in_floats(AttentionWorkspace(sizes.shape).total, sizes.act);
}

template <>
int64_t cpu_workspace(const KeyOnlyBackward::Sizes& sizes) {
  return in_floats(sizes.shape.B * sizes.shape.H * (sizes.shape.D_v + 1), sizes.act);
}

template <>
int64_t cpu_workspace(const LinearAttentionBackward::Sizes& sizes) {
  return in_floats(LinearAttentionWorkspace(sizes.shape).total, sizes.act);
}

template <>
int64_t cpu_workspace(const FlowBackward::Sizes& sizes) {
  return in_floats(sizes.shape.B * sizes.shape.H * FlowBackward::of_head(sizes.shape), sizes.act);
}

template <>
int64_t cpu_workspace(const AttentionDecode::Sizes& sizes) {
  return in_floats(AttentionDecodeWorkspace(sizes.shape).total, sizes.act);
}

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

std::string CpuBackend::describe() const {
  const int threads = omp_get_max_threads();
  return fmt::format("CPU, {} thread{}, {} kernels", threads, threads == 1 ? "" : "s", isa_.name);
}

// Zeroed by all threads, so that on machines with several memory nodes the pages lie near the threads that use them.
void* CpuBackend::allocate(size_t bytes) {
  const bool big = bytes >= 4 * kHugePage;
  const size_t alignment = big ? kHugePage : 64;
  const size_t size = std::max(rounded_up(bytes, alignment), alignment);
  // Linux gives more than there is, and ends the process when it is used.
  constexpr size_t kWorthALook = size_t{1} << 28;
  const uint64_t left = bytes >= kWorthALook ? available_memory() : 0;
  if (left > 0 && bytes > left)
    throw RunError("{:.2f} GiB of memory are needed at once, but {:.2f} GiB are available",
                   double(bytes) / double(1 << 30), double(left) / double(1 << 30));
  char* data = static_cast<char*>(std::aligned_alloc(alignment, size));
  if (!data) throw RunError("the CPU has no {:.2f} GiB of memory left to allocate", double(bytes) / double(1 << 30));
  if (big) madvise(data, size, MADV_HUGEPAGE);  // a wish; without it only slower
  const int64_t pieces = int64_t((size + kHugePage - 1) / kHugePage);
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const size_t first = size_t(piece) * kHugePage;
    std::memset(data + first, 0, std::min(kHugePage, size - first));
  }
  sizes_[data] = bytes;
  allocated_ += bytes;
  return data;
}

BackendTraits CpuBackend::traits() const { return {.gapless_bf16 = onednn_multiplies_bf16()}; }

void CpuBackend::release(void* data) {
  const auto found = sizes_.find(data);
  check(found != sizes_.end(), "release: this backend has not allocated it");
  allocated_ -= found->second;
  sizes_.erase(found);
  std::free(data);
}

void CpuBackend::upload(const Tensor& to, const void* from) {
  check_upload(to);
  std::memcpy(to.data, from, to.bytes());
}

void CpuBackend::download(void* to, const Tensor& from) {
  check(bool(from), "download: the tensor is absent");
  const size_t row = size_t(from.cols()) * size_of(from.dtype), step = size_t(from.stride) * size_of(from.dtype);
  if (from.contiguous()) {
    std::memcpy(to, from.data, from.bytes());
    return;
  }
  for (int64_t i = 0; i < from.rows(); ++i)
    std::memcpy(static_cast<char*>(to) + size_t(i) * row, static_cast<const char*>(from.data) + size_t(i) * step, row);
}

void CpuBackend::launch(int place, const void* fields) {
  Ops::call(place, fields, [this](const auto& op) {
    if constexpr (requires { op.check_values(); }) op.check_values();
    on(op);
  });
}

int64_t CpuBackend::workspace_of(int place, const void* sizes) const {
  int64_t elements = 0;
  Ops::call_with_sizes(place, sizes, [&](const auto& of_op) { elements = cpu_workspace(of_op); });
  return elements;
}

void CpuBackend::on(const Fill& op) { cpu_fill(op.out, op.value); }

void CpuBackend::on(const RandomUniform& op) { cpu_random_uniform(op.out, op.seed, op.stream, op.low, op.high); }

void CpuBackend::on(const RandomNormal& op) { cpu_random_normal(op.out, op.seed, op.stream, op.mean, op.deviation); }

void CpuBackend::on(const Matmul& op) { cpu_matmul(op); }

void CpuBackend::on(const HeadMatmul& op) {
  for (int64_t head = 0; head < op.heads; ++head) cpu_matmul(op.of_head(head));
}

}  // namespace sluice
