// The output head: final norm, logits = x W^T, and cross-entropy, in chunks of rows.
//
// The [B*T, V] logits never exist whole: a chunk's logits become their own gradient in place, are used for both of its
// products, and the next chunk takes their buffer.
#pragma once

#include "model/module/norm.h"

namespace sluice {

class Head {
 public:
  // `tied` is the token embedding's weight, or absent for a head of its own.
  Head(const Declarations& d, ParamId tied);

  // Losses [N] and, with grad_scale other than 0, d_normed [N, C] and the head's weight gradient of the losses' sum
  // times grad_scale. `normed` is the final norm's output.
  void loss(const Pass& pass, const Tensor& losses, const Tensor& d_normed, const Tensor& normed, const Tensor& targets,
            double grad_scale) const;
  // body(first row, logits [rows, V]) for every chunk of `normed`'s rows; the logits live until the next one.
  template <class Body>
  void for_logits(const Pass& pass, const Tensor& normed, Body body) const {
    for (int64_t first = 0; first < normed.rows(); first += chunk_rows_) {
      const int64_t rows = std::min(chunk_rows_, normed.rows() - first);
      const Tensor logits = chunk(pass, rows);
      const Tensor weight = pass.params.weight(weight_);  // past the hook
      pass.backend.run(
          Matmul{.out = logits, .a = normed.row_range(first, rows), .b = weight, .transpose_b = true, .bias = {}});
      body(first, logits);
    }
  }

  const NormLayer& norm() const { return norm_; }

 private:
  Tensor chunk(const Pass& pass, int64_t rows) const;

  NormLayer norm_;
  ParamId weight_;
  int64_t vocab_, stride_, chunk_rows_;
  BufferId logits_;
};

}  // namespace sluice
