// Models of tests/golden/quantization.json with the data to calibrate and to evaluate them on, and what PyTorch found.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "base/config/json_text.h"
#include "base/source_folder.h"
#include "measure/quantizer.h"
#include "model/golden_random.h"

namespace sluice::quantization {

using namespace parity;

// Sequence n is row n of the golden stream of tokens, counted from `first`.
class GoldenTokens : public DataSource {
 public:
  GoldenTokens(const ModelConfig& model, uint64_t seed, int64_t first = 0)
      : DataSource(model.context), vocab_(model.vocab_size), seed_(seed), first_(first) {}
  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override {
    const int64_t T = context();
    for (int64_t i = 0; i < count * T; ++i) {
      const int64_t at = (first_ + first_sequence + i / T) * (T + 1) + i % T;
      inputs[i] = token(at);
      targets[i] = token(at + 1);
    }
  }
  int64_t vocab_size_needed() const override { return vocab_; }
  std::string describe() const override { return "golden"; }
  std::string identity() const override { return "golden"; }

 private:
  int32_t token(int64_t i) const { return int32_t(golden_word(seed_, kTokens, size_t(i)) % uint64_t(vocab_)); }
  int64_t vocab_;
  uint64_t seed_;
  int64_t first_;
};

inline Json golden_json(const char* file) {
  return read_json_file((source_folder() / "tests" / "golden" / file).string());
}

inline const Json& cases() {
  static const Json json = golden_json("quantization.json");
  return json;
}
inline const Json& values() {
  static const Json json = golden_json("quantization_values.json");
  return json;
}

// A golden case's model on a backend, with the data to calibrate and to evaluate it on.
struct Subject {
  Subject(Backend& backend, const Json& changes, DType act)
      : config(model_config(merged(changes))),
        model(backend, config, {.act = act, .max_batch = cases()["batch"], .training = false}),
        calibration(config, cases()["seed"], cases()["calibration_first"]),
        held_out(config, cases()["seed"]) {
    model.initialise(cases()["seed"]);
    if (backend.traits().host_memory) scatter_values(model, cases()["seed"], cases()["scatter"]);
  }
  static Json merged(const Json& changes) {
    Json json = cases()["model"];
    json.update(changes);
    return json;
  }
  ModelConfig config;
  Transformer model;
  GoldenTokens calibration, held_out;
};

inline QuantizationOptions options_of(const Json& one) {
  QuantizationOptions out;
  out.weight_bits = one.value("weight_bits", 8);
  out.input_bits = one.value("input_bits", 8);
  out.mse_weights = one.value("mse", false);
  out.per_channel = one.value("per_channel", false);
  out.all_activations = one.value("all_activations", false);
  if (one.contains("percentile")) out.percentile = one["percentile"].get<double>();
  out.calibration_batches = cases()["calibration_batches"];
  return out;
}

inline void expect_close(double got, const Json& want, double bound, const std::string& what) {
  EXPECT_NEAR(got, want.get<double>(), bound * std::max(1.0, std::fabs(want.get<double>()))) << what;
}

}  // namespace sluice::quantization
