#include "model/attention/two_sets.h"

#include <algorithm>

namespace sluice {
namespace {

HeadSizes one_set(const HeadSizes& both, int64_t query_heads) {
  return {.H_q = query_heads, .H_kv = both.H_kv, .D_qk = both.D_qk, .D_v = both.D_v};
}

class HostWeightsOfBoth final : public HostWeights {
 public:
  HostWeightsOfBoth(int64_t heads_of_first, std::unique_ptr<HostWeights> first, std::unique_ptr<HostWeights> second)
      : heads_of_first_(heads_of_first), first_(std::move(first)), second_(std::move(second)) {}

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    return head < heads_of_first_ ? first_->of(sequence, head, positions)
                                  : second_->of(sequence, head - heads_of_first_, positions);
  }

 private:
  int64_t heads_of_first_;
  std::unique_ptr<HostWeights> first_, second_;
};

}  // namespace

TwoSets::TwoSets(const LayerPlace& place, const CorePart& part, const CoreOptions& options) : sizes_(place.projected) {
  const auto make = [&](const char* name, int64_t query_heads) {
    const HeadSizes sizes = one_set(sizes_, query_heads);
    return part.make({place.d, place.name + name, place.layer, sizes, sizes}, options);
  };
  first_ = make("", sizes_.H_q);
  second_ = make(".second", sizes_.H_q2);
  const Declarations& d = place.d;
  const int back = d.timeline.attention_backward(place.layer);
  d_values_ = d.plan.declare(place.name + ".second.d_values", "scratch", {d.max_tokens(), sizes_.value_columns()},
                             d.act, {back, back});
  if (weights())
    probed_ = d.plan.declare(place.name + ".second.probed", "scratch",
                             {2, d.max_batch, std::max(sizes_.H_q, sizes_.H_q2), d.config.rows()}, d.acc(),
                             {d.timeline.attention(place.layer), d.timeline.mlp(place.layer)});
}

Heads TwoSets::of_first(const Heads& heads) const {
  const HeadSizes set = one_set(sizes_, sizes_.H_q);
  return {.q = heads.q.columns(0, set.query_columns()),
          .k = heads.k.columns(0, set.key_columns()),
          .v = heads.v,
          .out = heads.out.columns(0, set.result_columns()),
          .x = heads.x};
}

Heads TwoSets::of_second(const Heads& heads) const {
  const HeadSizes before = one_set(sizes_, sizes_.H_q), set = one_set(sizes_, sizes_.H_q2);
  return {.q = heads.q.columns(before.query_columns(), set.query_columns()),
          .k = heads.k.columns(before.key_columns(), set.key_columns()),
          .v = heads.v,
          .out = heads.out.columns(before.result_columns(), set.result_columns()),
          .x = heads.x};
}

void TwoSets::forward(const Pass& pass, const Heads& heads) const {
  first_->forward(pass, of_first(heads));
  second_->forward(pass, of_second(heads));
}

void TwoSets::extend(const Pass& pass, const Heads& heads) const {
  first_->extend(pass, of_first(heads));
  second_->extend(pass, of_second(heads));
}

void TwoSets::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  first_->backward(pass, of_first(heads), of_first(d));
  Heads d_second = of_second(d);
  d_second.v = pass.view(d_values_, {pass.N(), sizes_.value_columns()});
  second_->backward(pass, of_second(heads), d_second);
  pass.backend.run(Accumulate{.out = d.v, .x = d_second.v});
}

void TwoSets::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  first_->backward_input(pass, d_x, x, workspace);
  second_->backward_input(pass, d_x, x, workspace);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

void TwoSets::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const {
  const int64_t T = pass.T, all = (sizes_.H_q + sizes_.H_q2) * T;
  const auto probe_set = [&](const Core& core, const Heads& set, int64_t first, int64_t query_heads) {
    const Tensor both = pass.view(probed_, {2, pass.B * query_heads * T});
    const Tensor weight = both.row_range(0, 1), gap = both.row_range(1, 1);
    core.weights()->probe(pass, set, weight.reshaped({pass.B, query_heads, T}), gap.reshaped({pass.B, query_heads, T}));
    const auto put = [&](const Tensor& to, const Tensor& from) {
      pass.backend.run(Copy{.out = to.reshaped({pass.B, all}).columns(first * T, query_heads * T),
                            .x = from.reshaped({pass.B, query_heads * T})});
    };
    put(first_weight, weight);
    put(first_gap, gap);
  };
  probe_set(*first_, of_first(heads), 0, sizes_.H_q);
  probe_set(*second_, of_second(heads), sizes_.H_q, sizes_.H_q2);
}

std::unique_ptr<HostWeights> TwoSets::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<HostWeightsOfBoth>(sizes_.H_q, first_->weights()->read(pass, of_first(heads)),
                                             second_->weights()->read(pass, of_second(heads)));
}

}  // namespace sluice
