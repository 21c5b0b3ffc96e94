// The output head: final norm, of masked language models a transform, logits = x W^T, and cross-entropy, in chunks of
// rows.
//
// The [B*T, V] logits never exist whole: a chunk's logits become their own gradient in place, are used for both of its
// products, and the next chunk takes their buffer.
#pragma once

#include <algorithm>
#include <optional>

#include "model/head_transform.h"
#include "model/module/norm.h"

namespace sluice {

class Head {
 public:
  // `tied` is the token embedding's weight, or absent for a head of its own.
  Head(const Declarations& d, ParamId tied);

  // Losses [N] and, with grad_scale other than 0, d_normed [N, C] and the head's weight gradient of the losses' sum
  // times grad_scale. `normed` is the final norm's output; the N rows of `pass` are those of which something is
  // predicted (Predictions).
  void loss(const Pass& pass, const Tensor& losses, const Tensor& d_normed, const Tensor& normed, const Tensor& targets,
            double grad_scale, const Tensor& workspace) const;
  // body(first row, logits [rows, V]) for every chunk of the rows of x, which are rows of input(); the logits live
  // until the next one.
  template <class Body>
  void for_logits(const Pass& pass, const Tensor& x, Body body) const {
    for (int64_t first = 0; first < x.rows(); first += chunk_rows_) {
      const int64_t rows = std::min(chunk_rows_, x.rows() - first);
      const Tensor logits = chunk(pass, rows);
      const Tensor weight = pass.params.weight(weight_);  // past the hook
      pass.backend.run(Matmul{.out = logits,
                              .a = x.row_range(first, rows),
                              .b = weight,
                              .transpose_b = true,
                              .bias = pass.params.value(bias_)});
      body(first, logits);
    }
  }

  const NormLayer& norm() const { return norm_; }
  // What the logits are made of, [N, C]: of the final norm's output what a transform makes, where there is one.
  Tensor input(const Pass& pass, const Tensor& normed) const {
    return transform_ ? transform_->forward(pass, normed) : normed;
  }

 private:
  Tensor chunk(const Pass& pass, int64_t rows) const;

  NormLayer norm_;
  ParamId weight_, bias_;  // a bias only with model.head_bias
  std::optional<HeadTransform> transform_;
  int64_t vocab_, stride_, chunk_rows_;
  BufferId logits_;
};

}  // namespace sluice
