// See cpu_backend.h.
#include "kernels/cpu/cpu_backend.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/machine_memory.h"
#include "kernels/checks.h"
#include "kernels/cpu/attention_workspace.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/random.h"

namespace sluice {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t rounded_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// An index the kernels would follow out of the table.
void check_indices(const char* op, const char* what, const Tensor& indices, int64_t limit, bool negative_allowed) {
  const int32_t* index = indices.as<int32_t>();
  for (int64_t n = 0; n < indices.elements(); ++n)
    if (index[n] >= limit || (index[n] < 0 && !negative_allowed))
      throw std::logic_error(fmt::format("{}: {}[{}] is {}, the vocabulary has {} entries", op, what, n, index[n], limit));
}

// A row must see itself, and rows further down no earlier keys: the kernels leave out tiles by that.
void check_first_keys(const char* op, const AttentionForward& args) {
  if (!args.first_key) return;
  const int64_t T = args.spec.shape.T;
  const int32_t* first = args.first_key.as<int32_t>();
  for (int64_t n = 0; n < args.first_key.elements(); ++n) {
    const int64_t i = n % T;
    if (first[n] < (i > 0 ? first[n - 1] : 0) || first[n] > i)
      throw std::logic_error(fmt::format("{}: first_key[{}] is {}, at position {} of a sequence", op, n, first[n], i));
  }
}

void check_workspace(const char* op, const Tensor& workspace, int64_t needed) {
  if (!workspace || workspace.bytes() < size_t(needed) * sizeof(float))
    throw std::logic_error(fmt::format("{}: the workspace has {} bytes, {} are needed", op,
                                       workspace ? workspace.bytes() : 0, size_t(needed) * sizeof(float)));
}

}  // namespace

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
    throw RunError("{:.2f} GiB of memory are needed at once, but {:.2f} GiB are available", double(bytes) / double(1 << 30),
                   double(left) / double(1 << 30));
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

void CpuBackend::fill(const Tensor& out, double value) {
  check(bool(out), "fill: out is absent");
  cpu_fill(out, value);
}

void CpuBackend::copy(const Tensor& out, const Tensor& x) {
  check_copy(out, x);
  isa_.copy(out, x);
}

void CpuBackend::random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) {
  check_random(out);
  cpu_random_uniform(out, seed, stream, low, high);
}

void CpuBackend::random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) {
  check_random(out);
  cpu_random_normal(out, seed, stream, mean, deviation);
}

void CpuBackend::embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table,
                                   const Tensor& positions, int64_t T) {
  check_embedding_forward(out, tokens, table, positions, T);
  check_indices("embedding_forward", "tokens", tokens, table.rows(), false);
  isa_.embedding_forward(out, tokens, table, positions, T);
}

void CpuBackend::embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out,
                                    const Tensor& tokens, int64_t T, bool accumulate_table, bool accumulate_positions) {
  check_embedding_backward(d_table, d_positions, d_out, tokens, T);
  check_indices("embedding_backward", "tokens", tokens, d_table.rows(), false);
  isa_.embedding_backward(d_table, d_positions, d_out, tokens, T, accumulate_table, accumulate_positions);
}

void CpuBackend::norm_forward(const NormForward& args) {
  check_norm_forward(args);
  isa_.norm_forward(args);
}

void CpuBackend::norm_backward(const NormBackward& args) {
  check_norm_backward(args);
  check_workspace("norm_backward", args.workspace, norm_workspace(args.d_out.cols()));
  isa_.norm_backward(args);
}

// 32 chunks of rows (isa/rows.h), gain and bias; twice for f64, whose sums take two f32 elements each.
int64_t CpuBackend::norm_workspace(int64_t C) const { return 32 * 2 * 2 * C; }

void CpuBackend::matmul(const MatmulArgs& args) {
  check_matmul(args);
  cpu_matmul(args);
  if (args.activated) activation_forward(args.activation, args.activated, args.out);
}

void CpuBackend::head_matmul(const HeadMatmul& args) {
  check_head_matmul(args);
  for (int64_t head = 0; head < args.heads; ++head) cpu_matmul(args.of_head(head));
}

void CpuBackend::bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace) {
  check_bias_gradient(d_bias, d_out);
  check_workspace("bias_gradient", workspace, norm_workspace(d_out.cols()));
  isa_.bias_gradient(d_bias, d_out, accumulate, workspace);
}

void CpuBackend::activation_forward(Activation kind, const Tensor& out, const Tensor& x) {
  check_activation_forward(out, x);
  isa_.activation_forward(kind, out, x);
}

void CpuBackend::activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                                     const Tensor& out) {
  check_activation_backward(d_x, d_out, x, out);
  isa_.activation_backward(kind, d_x, d_out, x, out);
}

void CpuBackend::swiglu_forward(const Tensor& out, const Tensor& x) {
  check_swiglu_forward(out, x);
  isa_.swiglu_forward(out, x);
}

void CpuBackend::swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) {
  check_swiglu_backward(d_x, d_out, x, out);
  isa_.swiglu_backward(d_x, d_out, x, out);
}

void CpuBackend::head_norm_forward(const HeadNormForward& args) {
  check_head_norm_forward(args);
  isa_.head_norm_forward(args);
}

void CpuBackend::head_norm_backward(const HeadNormBackward& args) {
  check_head_norm_backward(args);
  check_workspace("head_norm_backward", args.workspace, norm_workspace(args.d_gain.elements()));
  isa_.head_norm_backward(args);
}

void CpuBackend::rope(const Rope& args) {
  check_rope(args);
  isa_.rope(args);
}

void CpuBackend::attention_forward(const AttentionForward& args) {
  check_attention_forward(args);
  check_first_keys("attention_forward", args);
  isa_.attention_forward(args);
}

void CpuBackend::attention_backward(const AttentionBackward& args) {
  check_attention_backward(args);
  check_first_keys("attention_backward", args.forward);
  check_workspace("attention_backward", args.workspace,
                  attention_workspace(args.forward.spec.shape, args.forward.q.dtype));
  isa_.attention_backward(args);
}

void CpuBackend::attention_probe(const AttentionProbe& args) {
  check_attention_probe(args);
  check_first_keys("attention_probe", args.forward);
  isa_.attention_probe(args);
}

int64_t CpuBackend::attention_workspace(const AttentionShape& shape, DType act) const {
  return cpu_attention_workspace(shape, act);
}

void CpuBackend::attention_decode(const AttentionDecode& args) {
  check_attention_decode(args);
  check_workspace("attention_decode", args.workspace, attention_decode_workspace(args.spec.shape, args.q.dtype));
  isa_.attention_decode(args);
}

int64_t CpuBackend::attention_decode_workspace(const AttentionShape& shape, DType act) const {
  return cpu_attention_decode_workspace(shape, act);
}

void CpuBackend::gate_forward(const GateForward& args) {
  check_gate_forward(args);
  isa_.gate_forward(args);
}

void CpuBackend::gate_backward(const GateBackward& args) {
  check_gate_backward(args);
  isa_.gate_backward(args);
}

void CpuBackend::cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale) {
  check_cross_entropy(losses, logits, targets);
  check_indices("cross_entropy", "targets", targets, logits.cols(), true);
  isa_.cross_entropy(losses, logits, targets, grad_scale);
}

void CpuBackend::adamw_update(const OptimizerRange& range, const AdamWStep& step) {
  check_adamw_update(range, step);
  isa_.adamw_update(range, step);
}

void CpuBackend::sgd_update(const OptimizerRange& range, const SgdStep& step) {
  check_sgd_update(range, step);
  isa_.sgd_update(range, step);
}

void CpuBackend::muon_momentum(const MuonMomentum& args) {
  check_muon_momentum(args);
  isa_.muon_momentum(args);
}

void CpuBackend::matrix_sum(const MatrixSum& args) {
  check_matrix_sum(args);
  isa_.matrix_sum(args);
}

double CpuBackend::sum_of_squares(const Tensor& x) {
  check_sum(x);
  return isa_.sum_of_squares(x);
}

double CpuBackend::sum(const Tensor& x) {
  check_sum(x);
  return isa_.sum(x);
}

void CpuBackend::group_norms(const Tensor& out, const Tensor& x, int64_t groups) {
  check_group_norms(out, x, groups);
  isa_.group_norms(out, x, groups);
}

void CpuBackend::fake_quantize(const FakeQuantize& args) {
  check_fake_quantize(args);
  isa_.fake_quantize(args);
}

void CpuBackend::row_ranges(const Tensor& out, const Tensor& x) {
  check_row_ranges(out, x);
  isa_.row_ranges(out, x);
}

}  // namespace sluice
