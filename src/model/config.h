// The model's config: a decoder-only transformer of pre-norm blocks.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"
#include "model/attention/config.h"

namespace sluice {

struct ModelConfig {
  int64_t vocab_size = 50257;
  int64_t context = 1024;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t kv_heads = 0;    // 0: as many as heads
  int64_t width = 768;
  int64_t mlp_width = 0;   // 0: four times the width, of swiglu 8/3
  std::string norm = "layernorm";
  double norm_epsilon = 1e-5;
  std::string mlp = "gelu";
  std::string position = "learned";
  double rope_theta = 10000;
  bool qk_norm = false;
  bool bias = true;
  bool tied_head = true;
  std::string init = "gpt2";
  double init_std = 0.02;
  AttentionConfig attention;

  void describe(Fields& fields);
  // Fills what was left to be derived and checks what several keys decide together. UserError.
  void resolve();

  int64_t head_size() const { return width / heads; }
  // Rows of the MLP's first product: swiglu's gates and what they scale, else the hidden activations.
  int64_t mlp_up_width() const { return mlp == "swiglu" ? 2 * mlp_width : mlp_width; }
};

}  // namespace sluice
