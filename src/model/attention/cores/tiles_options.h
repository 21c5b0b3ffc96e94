// What a user may say of tiled attention: the score function with its constants, a learned key, and a window, of the
// text or of a permutation of it.
#pragma once

#include <string>

#include "model/config/attention_options.h"
#include "model/config/score.h"

namespace sluice {

// Windows of the text's order; of a permuted order (arXiv 2604.00754); or both, each behind a gate.
enum class PermutedWindows { kNone, kAlone, kGated };
template <>
struct ChoiceNames<PermutedWindows> {
  static constexpr Choice<PermutedWindows> kAll[] = {
      {"none", PermutedWindows::kNone}, {"alone", PermutedWindows::kAlone}, {"gated", PermutedWindows::kGated}};
};

struct TilesOptions final : CoreOptions {
  ScoreConfig score;
  bool key_bias = false;
  bool key_value_bias = false;
  int64_t window = 0;
  PermutedWindows permuted = PermutedWindows::kNone;
  int64_t permutation_seed = 0;

  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<TilesOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
  bool is_plain() const override { return score.type == "softmax" && !has_bias_key() && window == 0; }
  std::optional<Unmet> unmet_by_fused_softmax() const override;
  std::string tied_to_context() const override;
  bool causal_only() const override { return permuted != PermutedWindows::kNone; }
  bool drops_weights() const override { return true; }
  int64_t reach() const override { return window; }
  std::vector<int64_t> reaches() const override;
  // Of a window in permuted order: keys whose slots are so near, or nearer, are not seen: |difference| < window / 2.
  int64_t slot_reach() const { return (window + 1) / 2; }

  bool has_bias_key() const { return key_bias || key_value_bias; }
};

}  // namespace sluice
