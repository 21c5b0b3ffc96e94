#include "train/muon.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

constexpr int kSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kRootMeanSquare = 0.2;                   // of AdamW's updates, found by arXiv 2502.16982
constexpr size_t kMomentum = 0, kFirst = 1, kSecond = 2;  // slots

// Whole cache lines, so that what follows begins at one.
int64_t rounded_up(int64_t elements) { return (elements + 63) / 64 * 64; }

Partition::Range range_of(const Params& params, const ParamSpec& spec, int64_t first, int64_t count) {
  return {.flat = spec.offset + first,
          .count = count,
          .local = spec.offset + first,
          .bucket = params.bucket_of(spec.section),
          .decays = spec.decays};
}

}  // namespace

Muon::Muon(Backend& backend, const OptimizerConfig& config)
    : Optimizer(backend, config, {"momentum", "first_moment", "second_moment"}) {}

std::optional<int64_t> Muon::place(size_t slot, const ParamSpec& spec) const {
  const auto& places = slot == kMomentum ? momentum_at_ : moments_at_;
  const auto found = places.find(spec.offset);
  return found == places.end() ? std::optional<int64_t>{} : found->second;
}

void Muon::allocate(const Params& params, const GradientExchange& gradients, const Partition& partition) {
  check_eq(partition.kept, params.padded_count(), "Muon needs whole matrices");
  const Tensor values = params.all_values(), copies = params.all_copies();
  act_ = copies ? copies.dtype : values.dtype;
  int64_t momentum = 0, moments = 0;
  for (const ParamSpec& spec : params.specs()) {
    const bool hidden = !spec.matrices.empty();
    int64_t& end = hidden ? momentum : moments;
    (hidden ? momentum_at_ : moments_at_)[spec.offset] = end;
    end += rounded_up(spec.shape.elements());
    for (const int64_t rows : spec.matrices) {
      const int64_t C = spec.shape.cols(), n = std::min(rows, C);
      largest_ = std::max(largest_, rounded_up(rows * C));
      largest_gram_ = std::max(largest_gram_, rounded_up(n * n));
    }
  }
  allocate_slots(values.dtype, {momentum, moments, moments});
  // X and X', whose last one has the parameters' type, A and A^2.
  scratch_ = Arena(
      backend_, size_t(largest_) * (size_of(act_) + size_of(values.dtype)) + 2 * size_t(largest_gram_) * size_of(act_));
  for (const ParamSpec& spec : params.specs())
    if (spec.matrices.empty()) add_rest(params, gradients, spec);
    else add_matrices(params, gradients, spec);
}

void Muon::add_matrices(const Params& params, const GradientExchange& gradients, const ParamSpec& spec) {
  const int64_t C = spec.shape.cols();
  int64_t first = 0;
  for (const int64_t rows : spec.matrices) {
    const int64_t count = rows * C;
    Matrix matrix;
    matrix.grad = gradients.summed(range_of(params, spec, first, count)).reshaped({rows, C});
    matrix.momentum = slice(slot(kMomentum), *place(kMomentum, spec) + first, count).reshaped({rows, C});
    matrix.range.param = slice(params.all_values(), spec.offset + first, count);
    matrix.range.compute_copy = slice(params.all_copies(), spec.offset + first, count);
    matrix.range.weight_decay = spec.decays ? config_.weight_decay : 0;
    matrices_.push_back(matrix);
    first += count;
  }
}

void Muon::add_rest(const Params& params, const GradientExchange& gradients, const ParamSpec& spec) {
  const int64_t count = spec.shape.elements();
  rest_.push_back({.param = slice(params.all_values(), spec.offset, count),
                   .grad = gradients.summed(range_of(params, spec, 0, count)),
                   .first_moment = slice(slot(kFirst), *place(kFirst, spec), count),
                   .second_moment = slice(slot(kSecond), *place(kSecond, spec), count),
                   .compute_copy = slice(params.all_copies(), spec.offset, count),
                   .weight_decay = spec.decays ? config_.weight_decay : 0});
}

void Muon::update(double lr, double grad_scale) {
  ++updates_;
  for (const Matrix& matrix : matrices_) update_matrix(matrix, lr, grad_scale);
  // The schedule's factor holds for both.
  const bool apart = config_.adamw_lr > 0 && config_.lr > 0;
  const double adamw_lr = apart ? lr * (config_.adamw_lr / config_.lr) : lr;
  for (const OptimizerRange& range : rest_) backend_.run(AdamWUpdate{range, adamw_step(adamw_lr, grad_scale)});
}

void Muon::update_matrix(const Matrix& matrix, double lr, double grad_scale) {
  const int64_t R = matrix.grad.rows(), C = matrix.grad.cols(), n = std::min(R, C);
  const bool tall = R > C;
  const DType acc = matrix.grad.dtype;
  const size_t next_at = size_t(largest_) * size_of(act_), gram_at = next_at + size_t(largest_) * size_of(acc);
  const size_t square_at = gram_at + size_t(largest_gram_) * size_of(act_);
  const Tensor gram = scratch_.at(gram_at, act_, {n, n}), square = scratch_.at(square_at, act_, {n, n});
  Tensor x = scratch_.at(0, act_, {R, C}), next = scratch_.at(next_at, act_, {R, C});
  backend_.run(MuonMomentum{matrix.grad, matrix.momentum, x, config_.muon_momentum, grad_scale});
  for (int step = 0; step < kSteps; ++step) {
    backend_.run(Matmul{.out = gram, .a = x, .b = x, .transpose_a = tall, .transpose_b = !tall, .bias = {}});
    backend_.run(Matmul{.out = square, .a = gram, .b = gram, .bias = {}});
    backend_.run(MatrixSum{gram, gram, square, kA, kB, kC});
    if (step == kSteps - 1) next = scratch_.at(next_at, acc, {R, C});
    backend_.run(Matmul{.out = next, .a = tall ? x : gram, .b = tall ? gram : x, .bias = {}});
    std::swap(x, next);
  }
  static_assert(kSteps % 2 == 1);  // the last product goes where there is room for the parameters' type
  OptimizerRange range = matrix.range;
  range.grad = x.reshaped({R * C});
  backend_.run(
      SgdUpdate{range, {.lr = lr, .momentum = 0, .grad_scale = kRootMeanSquare * std::sqrt(double(std::max(R, C)))}});
}

}  // namespace sluice
