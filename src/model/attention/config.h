// The attention part as data: projections -> score function -> gate -> output projection, and the presets that name
// published points of this space.
#pragma once

#include <string>
#include <vector>

#include "base/config/config.h"
#include "model/attention/score_config.h"

namespace sluice {

// g = sigmoid(input Wg (+ b)), scaling either every value before it is summed (source) or every head's result (output).
struct GateConfig {
  std::string reads = "none";
  std::string site = "output";
  std::string grain = "head";
  bool bias = false;
  double opening = 0.5;  // with a bias: the gate's value when its input is zero, at the start

  void describe(Fields& fields);
  bool present() const { return reads != "none"; }
};

struct AttentionConfig {
  std::string type = "softmax";
  ScoreConfig score;
  GateConfig gate;
  bool key_bias = false;
  bool key_value_bias = false;

  void describe(Fields& fields);
  void resolve(int64_t heads, int64_t kv_heads);
};

struct AttentionPreset {
  const char* name;
  const char* source;
  const char* summary;
  std::string parts;  // JSON
};

// Every preset: the single list that configs, schema, tests and docs iterate. "custom" stands for parts spelled out.
const std::vector<AttentionPreset>& attention_presets();

// Rewrites what a user may write for `attention` into score, gate and biases. UserError on an unknown preset.
Json expand_attention(const Json& json, const std::string& path);

}  // namespace sluice
