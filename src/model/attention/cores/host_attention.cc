#include "model/attention/cores/host_attention.h"

#include "kernels/host_copy.h"
#include "model/attention/cores/tile_weights.h"

namespace sluice {
namespace {

// What the rows of one head see.
void show(const Pass& pass, const ActivationPlace& place, const HeadScores& head, HeadWeights& numbers, int64_t T) {
  for (int64_t i = 0; i < T; ++i) {
    double* row = numbers.rows.data() + i * T;
    std::vector<double> seen = seen_of(head, row, i);
    pass.activations()->row(pass, place, seen);
    put_seen(head, seen, row, i);
  }
  if (!numbers.key_bias.empty()) pass.activations()->row(pass, place, numbers.key_bias);
}

// out [T, D] of one head, rows `stride` apart; v like it.
void mix(double* out, int64_t stride, const HeadScores& head, const HeadWeights& weights, const double* v,
         int64_t v_stride, const double* value_bias, int64_t T, int64_t D) {
  for (int64_t i = 0; i < T; ++i) {
    double* row = out + i * stride;
    for (int64_t j = 0; j < head.end_of(i); ++j) {
      const double weight = weights.rows[size_t(i * T + j)];
      for (int64_t d = 0; d < D; ++d) row[d] += weight * v[j * v_stride + d];
    }
    if (!value_bias) continue;
    for (int64_t d = 0; d < D; ++d) row[d] += weights.key_bias[size_t(i)] * value_bias[d];
  }
}

// To a tensor that may be a range of columns.
void put(Backend& backend, const Tensor& to, const std::vector<double>& numbers) {
  Arena scratch(backend, size_t(to.elements()) * size_of(to.dtype));
  const Tensor whole = scratch.at(0, to.dtype, {to.rows(), to.cols()});
  upload_numbers(backend, whole, numbers);
  backend.run(Copy{to, whole});
}

}  // namespace

void attention_on_host(const Pass& pass, int sublayer, const AttentionForward& run, const SlotWindows& slots) {
  const auto& [B, T, H, KV, D, D_v] = run.spec.shape;
  const HostTiles tiles(pass.backend, run, slots);
  const std::vector<double> values = host_numbers(pass.backend, run.v);
  const std::vector<double> value_bias =
      run.value_bias ? host_numbers(pass.backend, run.value_bias) : std::vector<double>{};
  std::vector<double> out(size_t(B * T * H * D_v));
  std::vector<HeadWeights> heads(static_cast<size_t>(H));
  for (int64_t b = 0; b < B; ++b) {
#pragma omp parallel for schedule(static, 1)
    for (int64_t h = 0; h < H; ++h) heads[size_t(h)] = head_scores(tiles.head(b, h), T);
    for (int64_t h = 0; h < H; ++h) show(pass, {sublayer, Shown::kScores}, tiles.head(b, h), heads[size_t(h)], T);
#pragma omp parallel for schedule(static, 1)
    for (int64_t h = 0; h < H; ++h) weigh(tiles.head(b, h), T, heads[size_t(h)]);
    for (int64_t h = 0; h < H; ++h) show(pass, {sublayer, Shown::kWeights}, tiles.head(b, h), heads[size_t(h)], T);
#pragma omp parallel for schedule(static, 1)
    for (int64_t h = 0; h < H; ++h) {
      const int64_t kv = h / (H / KV);
      mix(out.data() + (b * T * H + h) * D_v, H * D_v, tiles.head(b, h), heads[size_t(h)],
          values.data() + (b * T * KV + kv) * D_v, KV * D_v,
          value_bias.empty() ? nullptr : value_bias.data() + kv * D_v, T, D_v);
    }
  }
  put(pass.backend, run.out, out);
}

}  // namespace sluice
