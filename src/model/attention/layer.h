// The attention layer, a chain: projections -> stages before the core -> the core -> stages after it -> output
// projection.
//
//   queries, keys --[head_norm, rope]--+
//                                      +-- core -- results --[difference, gate]-- output
//   values -----------[gate]-----------+
//
// Which parts there are the lists of parts.h say; which a layer has says its element of model.attention. Each part owns
// its parameters, buffers and decoder state.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "model/attention/core.h"
#include "model/attention/projections.h"
#include "model/attention/stage.h"
#include "model/sublayers/mixer.h"

namespace sluice {

struct AttentionConfig;

class AttentionLayer final : public Mixer {
 public:
  AttentionLayer(const Declarations& d, const std::string& name, int layer);

  void forward(const Pass& pass, const MixerInput& in, const Tensor& out) const override;
  void backward(const Pass& pass, const MixerInput& d_in, const Tensor& d_out, const MixerInput& in,
                const Tensor& workspace) const override;
  int64_t widest() const override { return std::max(sizes().projected_columns(), sizes().result_columns()); }
  const AttentionLayer* attention() const override { return this; }

  const HeadSizes& sizes() const { return projections_.sizes(); }

  // --- what instruments look at, after a forward run
  Heads heads(const Pass& pass) const;                                         // as the core takes them
  Tensor values(const Pass& pass) const { return projections_.values(pass); }  // before any stage
  Tensor results(const Pass& pass) const;  // after all stages: what the output projection reads
  Tensor output_weight(const Pass& pass) const { return projections_.output_weight(pass); }  // [C, H D_v]
  const WeightsView* weights() const { return weights_; }  // null: results are no weighted sums of values
  const Stage* opener() const;  // the first stage with openings for heads of the model; null: there is none
  bool reads_values() const;    // whether a stage does, beside the core

 private:
  using Stages = std::vector<std::unique_ptr<Stage>>;

  void make_parts(const Declarations& d, const std::string& name, const AttentionConfig& config);
  void find_weights();
  Stages& stages_at(Stage::Seat seat);
  template <class F>
  void for_each_stage(F f) const {
    for (const Stages* stages : {&on_queries_and_keys_, &on_values_, &on_results_})
      for (const auto& stage : *stages) f(*stage);
  }
  StageReads reads(const Pass& pass, const Tensor& x) const {
    const Heads taken = heads(pass);
    return {x, values(pass), taken.v, taken.q};
  }
  Heads gradients(const Pass& pass) const;  // of what the core is given
  void run_again(const Pass& pass, const Tensor& x) const;
  void show_gradient(const Pass& pass, bool whole) const;

  int layer_, sublayer_;
  Projections projections_;
  Stages on_queries_and_keys_, on_values_, on_results_;
  std::unique_ptr<Core> core_;
  std::vector<std::unique_ptr<WeightsView>> views_;  // of stages that mix heads, each of what was before it
  const WeightsView* weights_ = nullptr;
  BufferId results_, d_results_;    // of the core [N, H_q D_v]; the gradient of what the output projection reads
  int64_t heads_, output_columns_;  // that the output projection reads
};

}  // namespace sluice
