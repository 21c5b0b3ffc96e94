// The model's config: a transformer, a decoder or an encoder.
#pragma once

#include <cstdint>
#include <string>

#include "base/config/config.h"
#include "model/config/attention.h"
#include "model/config/choices.h"
#include "model/config/dropout.h"
#include "model/config/residual.h"

namespace sluice {

// How RoPE's angles are stretched for contexts longer than those of the first training.
struct RopeScalingConfig {
  RopeScaling type = RopeScaling::kNone;
  double factor = 8;
  double low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_context = 8192;

  void describe(Fields& fields);
  double scaled(double speed) const;  // in radians a position
};

struct ModelConfig {
  int64_t vocab_size = 50257;
  int64_t context = 1024;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t width = 768;
  int64_t head_features = 0;   // "head_size"; 0: width / heads
  int64_t value_features = 0;  // "value_head_size"; 0: as many as a query or key
  int64_t mlp_width = 0;       // 0: four times the width, of swiglu 8/3
  Norm norm = Norm::kLayerNorm;
  double norm_epsilon = 1e-5;
  int64_t norm_gate = 0;  // rank of the norms' gates; 0: none
  MlpKind mlp = MlpKind::kGelu;
  int64_t registers = 0;  // learned rows before every sequence's tokens
  bool segment_embedding = false;
  Position position = Position::kLearned;
  double rope_theta = 10000;
  int64_t rotary_features = 0;  // 0: all of a head's
  RopeScalingConfig rope_scaling;
  bool qk_norm = false;
  bool causal = true;
  bool parallel_residual = false;
  bool bias = true;
  AttentionBias attention_bias = AttentionBias::kModel;
  bool tied_head = true;
  bool head_transform = false;
  bool head_bias = false;
  InitialValues init = InitialValues::kGpt2;
  double init_std = 0.02;
  DropoutConfig dropout;
  ResidualConfig residual;
  AttentionPattern attention;

  void describe(Fields& fields);
  // Fills what was left to be derived and checks what several keys decide together. UserError.
  void resolve();

  // Of the heads whose results the output projection reads.
  HeadSizes head_sizes() const { return {heads, kv_heads, head_size(), value_head_size()}; }
  int64_t head_size() const { return head_features > 0 ? head_features : width / heads; }
  int64_t value_head_size() const { return value_features > 0 ? value_features : head_size(); }
  bool qkv_bias() const {
    return attention_bias == AttentionBias::kModel ? bias : attention_bias != AttentionBias::kNone;
  }
  bool attention_output_bias() const {
    return attention_bias == AttentionBias::kModel ? bias : attention_bias == AttentionBias::kAll;
  }
  // Of a sequence as the layers see it: registers, then tokens.
  int64_t rows() const { return registers + context; }
  // Features of a head that rope turns, and how fast pair i of them does, in radians a position; 0 beyond them.
  int64_t turned_features() const { return rotary_features > 0 ? rotary_features : head_size(); }
  double rope_speed(int64_t pair) const;
  // Rows of the MLP's first product: swiglu's gates and what they scale, else the hidden activations.
  int64_t mlp_up_width() const { return mlp == MlpKind::kSwiglu ? 2 * mlp_width : mlp_width; }

 private:
  void describe_position(Fields& fields);
  void describe_head(Fields& fields);
  void describe_rows(Fields& fields);
  void resolve_rope() const;
};

}  // namespace sluice
