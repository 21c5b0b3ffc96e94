// Dot-product attention in tiles, with any score function of kernels/formulas/scores:
//
//   s_ij = q_i . k_j / sqrt(D),  a_i = score(s_i0 .. s_ii),  O_i = sum over j <= i of a_ij v_j
//
// (not divided where the score function says so: kScaled).
// With a window of w keys a row sees those with j > i - w alone, and its length counts them alone. Or the window is one
// of a permuted order (permuted_rows.h).
//
// Its parameters: with key_bias one more key [H_kv, D] that every query sees, with key_value_bias a value for it, with
// the score sink_logit a logit [H_q]. A decoder keeps rows of keys and values for it.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "model/attention/core.h"
#include "model/attention/cores/permuted_rows.h"
#include "model/config/attention_parts.h"
#include "model/module/dropout.h"

namespace sluice {

struct TilesOptions;

class Tiles final : public Core, private WeightsView {
 public:
  // `keeper`: the tiles of the same keys and values that keep them for a decoder, and run first; null: these do.
  Tiles(const LayerPlace& place, const TilesOptions& options, bool permuted = false, const Tiles* keeper = nullptr);

  void forward(const Pass& pass, const Heads& heads) const override;
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  const WeightsView* weights() const override { return this; }

 private:
  bool normalised() const override;
  bool has_bias_key() const override { return bool(key_bias_); }
  int64_t reach() const override { return spec_.window; }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  AttentionForward arguments(const Pass& pass, const Heads& heads) const;
  SlotWindows slots() const { return permuted_ ? permuted_->slots() : SlotWindows{}; }
  AttentionForward in_order(const Pass& pass, const Heads& heads, bool has_run) const;
  void decode(const Pass& pass, const Heads& heads, const PermutedRows::Kept& kept, int64_t length) const;

  HeadSizes sizes_;
  int sublayer_;
  AttentionSpec spec_;
  ParamId key_bias_, value_bias_;
  ParamId learned_[kMostLearned];  // [H_q]: what the score function learns
  BufferId stats_, workspace_;
  StateId rows_;  // [rows, H_kv (D_qk + D_v)]: keys, then values, as they are attended to
  bool keeps_rows_;
  DropoutLayer dropout_;                    // of weights
  std::unique_ptr<PermutedRows> permuted_;  // null: rows are in their sequences' order
};

CorePart tiles_core();

}  // namespace sluice
