// What a model's config chooses among, with the names that configs write.
#pragma once

#include "base/config/config.h"
#include "kernels/types/op_types.h"

namespace sluice {

enum class MlpKind { kRelu, kGelu, kGeluErf, kReluSquared, kSwiglu };
template <>
struct ChoiceNames<MlpKind> {
  static constexpr Choice<MlpKind> kAll[] = {{"relu", MlpKind::kRelu},
                                             {"gelu", MlpKind::kGelu},
                                             {"gelu_erf", MlpKind::kGeluErf},
                                             {"relu_squared", MlpKind::kReluSquared},
                                             {"swiglu", MlpKind::kSwiglu}};
};

template <>
struct ChoiceNames<Norm> {
  static constexpr Choice<Norm> kAll[] = {{"layernorm", Norm::kLayerNorm}, {"rmsnorm", Norm::kRmsNorm}};
};

enum class Position { kLearned, kRope, kNone };
template <>
struct ChoiceNames<Position> {
  static constexpr Choice<Position> kAll[] = {
      {"learned", Position::kLearned}, {"rope", Position::kRope}, {"none", Position::kNone}};
};

enum class RopeScaling { kNone, kLinear, kLlama3 };
template <>
struct ChoiceNames<RopeScaling> {
  static constexpr Choice<RopeScaling> kAll[] = {
      {"none", RopeScaling::kNone}, {"linear", RopeScaling::kLinear}, {"llama3", RopeScaling::kLlama3}};
};

enum class InitialValues { kPytorch, kGpt2, kBert };
template <>
struct ChoiceNames<InitialValues> {
  static constexpr Choice<InitialValues> kAll[] = {
      {"pytorch", InitialValues::kPytorch}, {"gpt2", InitialValues::kGpt2}, {"bert", InitialValues::kBert}};
};

// Which of attention's linear layers have biases.
enum class AttentionBias { kModel, kNone, kQkv, kAll };
template <>
struct ChoiceNames<AttentionBias> {
  static constexpr Choice<AttentionBias> kAll[] = {{"model", AttentionBias::kModel},
                                                   {"none", AttentionBias::kNone},
                                                   {"qkv", AttentionBias::kQkv},
                                                   {"all", AttentionBias::kAll}};
};

}  // namespace sluice
