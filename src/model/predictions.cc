#include "model/predictions.h"

#include <algorithm>

namespace sluice {

Predictions::Predictions(const Declarations& d) : width_(d.config.width) {
  const int64_t N = d.max_tokens();
  const auto declared = [&](const char* name) {
    return d.plan.declare(name, "batch", {N}, DType::kI32, {0, d.timeline.end()});
  };
  targets_ = declared("targets");
  if (d.config.causal) return;
  rows_ = declared("predicted_rows");
  places_ = declared("predicted_places");
  const Lifetime head = {d.timeline.head(), d.timeline.head()};
  gathered_ = d.plan.declare("predicted", "scratch", {N, width_}, d.act, head);
  gradient_ = d.plan.declare("d_predicted", "gradients", {N, width_}, d.act, head);
}

void Predictions::upload(const Pass& pass) {
  const Batch& batch = pass.batch;
  any_ = batch.targets != nullptr;
  if (!any_) return;
  count_ = rows_ && batch.predictions < batch.T ? batch.predictions : 0;
  if (count_ > 0) find(pass);
  pass.backend.upload(targets(pass), count_ > 0 ? target_of_.data() : batch.targets);
  if (count_ == 0) return;
  pass.backend.upload(pass.view(rows_, {pass.B * count_}), row_of_.data());
  pass.backend.upload(pass.view(places_, {pass.N()}), place_of_.data());
}

void Predictions::find(const Pass& pass) {
  row_of_.assign(size_t(pass.B * count_), 0);
  target_of_.assign(size_t(pass.B * count_), kNoTarget);
  place_of_.assign(size_t(pass.N()), -1);
  for (int64_t b = 0; b < pass.B; ++b) {
    int64_t found = 0;
    for (int64_t i = 0; i < pass.T; ++i) {
      const int32_t target = pass.batch.targets[b * pass.T + i];
      if (target < 0) continue;
      check(found < count_, "a sequence with more targets than the batch's predictions");
      row_of_[size_t(b * count_ + found)] = int32_t(i);
      target_of_[size_t(b * count_ + found)] = target;
      place_of_[size_t(b * pass.T + i)] = int32_t(found++);
    }
    std::fill(&row_of_[size_t(b * count_)] + found, &row_of_[size_t(b * count_)] + count_, row_of_[size_t(b * count_)]);
  }
}

Pass Predictions::of_head(const Pass& pass) const {
  check(any_, "the head's loss of a batch without targets");
  Pass out = pass;
  if (count_ > 0) out.T = count_;
  return out;
}

Tensor Predictions::targets(const Pass& pass) const { return pass.view(targets_, {of_head(pass).N()}); }

Tensor Predictions::gather(const Pass& pass, const Tensor& x) const {
  if (count_ == 0) return x;
  const int64_t rows = pass.B * count_;
  const Tensor out = pass.view(gathered_, {rows, width_});
  pass.backend.run(
      GatherRows{.sequences = pass.B, .x = x.row_range(0, pass.N()), .index = pass.view(rows_, {rows}), .out = out});
  return out;
}

Tensor Predictions::gradient(const Pass& pass, const Tensor& d_x) const {
  return count_ == 0 || !d_x ? d_x : pass.view(gradient_, {pass.B * count_, width_});
}

void Predictions::spread(const Pass& pass, const Tensor& d_x) const {
  if (count_ == 0 || !d_x) return;
  pass.backend.run(GatherRows{.sequences = pass.B,
                              .x = gradient(pass, d_x),
                              .index = pass.view(places_, {pass.N()}),
                              .out = d_x.row_range(0, pass.N())});
}

std::vector<double> Predictions::at_rows(const Pass& pass, const std::vector<double>& of_head) const {
  if (count_ == 0) return of_head;
  std::vector<double> out(size_t(pass.N()), 0);
  for (int64_t n = 0; n < pass.N(); ++n)
    if (const int32_t place = place_of_[size_t(n)]; place >= 0)
      out[size_t(n)] = of_head[size_t(n / pass.T * count_ + place)];
  return out;
}

}  // namespace sluice
