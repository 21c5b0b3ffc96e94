#include "model/attention/cores/linear_weights.h"

#include "kernels/formulas/linear_attention.h"
#include "kernels/host_copy.h"

namespace sluice {

LinearWeights::LinearWeights(Backend& backend, const LinearAttentionForward& run, std::vector<double> rows,
                             std::vector<double> columns)
    : shape_(run.shape),
      decay_(run.decay),
      q_(host_numbers(backend, run.q)),
      k_(host_numbers(backend, run.k)),
      rows_(std::move(rows)),
      columns_(std::move(columns)),
      first_(size_t(run.first_key ? run.first_key.elements() : 0)) {
  if (run.first_key) backend.download(first_.data(), run.first_key);
}

double LinearWeights::slope(int64_t h) const { return decay_ * head_slope(h, shape_.H); }

// Of the product of query i and key j.
double LinearWeights::factor(int64_t b, int64_t h, int64_t i, int64_t j) const {
  const int64_t head = (b * shape_.H + h) * shape_.T;
  return decay_after(slope(h), i - j) * (rows_.empty() ? 1 : rows_[size_t(head + i)]) *
         (columns_.empty() ? 1 : columns_[size_t(head + j)]);
}

double LinearWeights::dot(const double* x, const double* y) const {
  double sum = 0;
  for (int64_t d = 0; d < shape_.D_qk; ++d) sum += x[d] * y[d];
  return sum;
}

HeadWeights LinearWeights::of(int64_t sequence, int64_t head, int64_t positions) const {
  HeadWeights out;
  out.rows.resize(size_t(positions * positions));
  for (int64_t i = 0; i < positions; ++i)
    for (int64_t j = first(sequence, i); j <= i; ++j)
      out.rows[size_t(i * positions + j)] =
          factor(sequence, head, i, j) * dot(query(sequence, head, i), key(sequence, head, j));
  return out;
}

void LinearWeights::probe_head(int64_t b, int64_t h, double* weights, double* gaps) const {
  std::vector<double> between(size_t(shape_.D_qk));  // keys behind the first, up to the row's own
  for (int64_t i = 0, from = 0; i < shape_.T; ++i) {
    if (first(b, i) == i) from = i, between.assign(between.size(), 0.0);
    const double product = dot(query(b, h, i), key(b, h, from));
    weights[i] = factor(b, h, i, from) * product;
    const int64_t count = i - from - 1;
    gaps[i] = count > 0 ? product - dot(query(b, h, i), between.data()) / double(count) : 0;
    for (int64_t d = 0; i > from && d < shape_.D_qk; ++d) between[size_t(d)] += key(b, h, i)[d];
  }
}

void LinearWeights::probe(Backend& backend, const Tensor& first_weight, const Tensor& first_gap) const {
  const int64_t heads = shape_.B * shape_.H, T = shape_.T;
  std::vector<double> weights(size_t(heads * T)), gaps(size_t(heads * T));
#pragma omp parallel for schedule(static)
  for (int64_t head = 0; head < heads; ++head)
    probe_head(head / shape_.H, head % shape_.H, weights.data() + head * T, gaps.data() + head * T);
  upload_numbers(backend, first_weight, weights);
  upload_numbers(backend, first_gap, gaps);
}

}  // namespace sluice
