// Muon (Keller Jordan, 2024): momentum whose direction is made orthogonal, for the hidden matrices; AdamW for the rest.
//
// Of a matrix's gradient [R, C], u is Nesterov's momentum and X0 = u / |u|. Five Newton-Schulz steps
//   X' = a X + b A X + c A^2 X,  A = X X^T,  (a, b, c) = (3.4445, -4.7750, 2.0315)
// bring its singular values to about 1 (between 0.7 and 1.2); of a tall matrix A is X^T X and stands on the right. They
// are matrix products in the activations' type. The update is
//   p -= lr (0.2 sqrt(max(R, C)) X5 + weight_decay p)
// whose elements have a root mean square of about 0.2 lr, as AdamW's have, so that both take the same learning rate and
// weight decay (arXiv 2502.16982). Matrices that lie stacked in one parameter (queries, keys, values; swiglu's gates
// and what they scale) are made orthogonal one by one. Gates of attention, head, embeddings, norms and biases get
// AdamW.
#pragma once

#include <map>
#include <optional>

#include "train/optimizer.h"

namespace sluice {

class Muon final : public Optimizer {
 public:
  Muon(Backend& backend, const OptimizerConfig& config);

  void update(double lr, double grad_scale) override;
  std::optional<int64_t> place(size_t slot, const ParamSpec& spec) const override;
  size_t bytes() const override { return Optimizer::bytes() + scratch_.bytes(); }

 private:
  void allocate(const Params& params, const GradientExchange& gradients, const Partition& partition) override;

  struct Matrix {
    Tensor grad, momentum;  // [R, C]
    OptimizerRange range;   // its parameters and their copy; the rest is set with each update
  };
  void add_matrices(const Params& params, const GradientExchange& gradients, const ParamSpec& spec);
  void add_rest(const Params& params, const GradientExchange& gradients, const ParamSpec& spec);
  void update_matrix(const Matrix& matrix, double lr, double grad_scale);

  std::map<int64_t, int64_t> momentum_at_, moments_at_;  // of a parameter's offset: where its state lies in the slots
  std::vector<Matrix> matrices_;
  std::vector<OptimizerRange> rest_;
  DType act_ = DType::kF32;
  Arena scratch_;
  int64_t largest_ = 0, largest_gram_ = 0;  // elements of an X and of an A
};

}  // namespace sluice
