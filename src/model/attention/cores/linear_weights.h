// The weights of linear attention on the host, for instruments: lam^(i - j) q_i . k_j, times a factor of the row and
// one of the column where there are any.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "model/attention/weights_view.h"

namespace sluice {

class LinearWeights final : public HostWeights {
 public:
  // A copy of what `run` reads. rows, columns: [B, H, T], or empty for 1.
  LinearWeights(Backend& backend, const LinearAttentionForward& run, std::vector<double> rows = {},
                std::vector<double> columns = {});

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override;
  // WeightsView::probe, with the products q_i . k_j as scores. [B, H, T] both.
  void probe(Backend& backend, const Tensor& first_weight, const Tensor& first_gap) const;

 private:
  void probe_head(int64_t b, int64_t h, double* weights, double* gaps) const;
  double slope(int64_t h) const;
  double factor(int64_t b, int64_t h, int64_t i, int64_t j) const;
  int64_t first(int64_t b, int64_t i) const { return first_.empty() ? 0 : first_[size_t(b * shape_.T + i)]; }
  const double* query(int64_t b, int64_t h, int64_t i) const {
    return q_.data() + ((b * shape_.T + i) * shape_.H + h) * shape_.D_qk;
  }
  const double* key(int64_t b, int64_t h, int64_t j) const {
    return k_.data() + ((b * shape_.T + j) * shape_.KV + h / (shape_.H / shape_.KV)) * shape_.D_qk;
  }
  double dot(const double* x, const double* y) const;

  AttentionShape shape_;
  double decay_;
  std::vector<double> q_, k_;           // [N, H D_qk], [N, KV D_qk]
  std::vector<double> rows_, columns_;  // [B, H, T], or empty
  std::vector<int32_t> first_;          // [N], or empty
};

}  // namespace sluice
