// Decoding token by token against the whole sequence run again. In f64 sums are cut differently and nothing else:
// 1e-12. In f32 and bf16 both ways round, so each is held against f64: what the state adds is no more than what
// rounding costs anyway.
#pragma once

#include "model/decoder.h"

#include <gtest/gtest.h>

#include "base/philox.h"
#include "model/parity.h"

namespace sluice::parity::decoding {

inline constexpr int64_t kBatch = 2, kVocab = 13, kContext = 70, kPrompt = 5;

inline ModelConfig tiny_model(const Json& changes) {
  Json json = {{"vocab_size", kVocab}, {"context", kContext}, {"layers", 2},           {"heads", 2},
               {"width", 32},          {"mlp_width", 48},     {"mlp", "gelu"},         {"position", "learned"},
               {"tied_head", false},   {"init", "pytorch"},   {"attention", "softmax"}};
  json.update(changes);
  return model_config(json);
}

inline std::vector<int32_t> random_tokens() {
  std::vector<int32_t> out(size_t(kBatch * kContext));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int32_t(philox(3, 0, i).word[0] % kVocab);
  return out;
}

// Column [first, first + count) of tokens [kBatch, kContext].
inline std::vector<int32_t> columns(const std::vector<int32_t>& tokens, int64_t first, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < kBatch; ++b)
    for (int64_t t = first; t < first + count; ++t) out.push_back(tokens[size_t(b * kContext + t)]);
  return out;
}

inline Transformer make_model(Backend& backend, const ModelConfig& config, DType act) {
  Transformer model(backend, config, {.act = act, .max_batch = kBatch, .training = false});
  model.initialise(5);
  return model;
}

// Logits after every token from the prompt's last on, [steps, kBatch, V].
inline Values cached_logits(Transformer& model) {
  const std::vector<int32_t> tokens = random_tokens();
  Decoder decoder(model, kBatch);
  Values out = values_of(decoder.prefill(columns(tokens, 0, kPrompt).data(), kPrompt));
  for (int64_t t = kPrompt; t < kContext; ++t) {
    const Values next = values_of(decoder.step(columns(tokens, t, 1).data()));
    out.insert(out.end(), next.begin(), next.end());
  }
  EXPECT_EQ(decoder.length(), kContext);
  return out;
}

// The same from one run over all tokens.
inline Values whole_logits(Transformer& model) {
  const std::vector<int32_t> tokens = random_tokens();
  Backend& backend = model.backend();
  Values all;
  model.for_logits(model.forward({tokens.data(), nullptr, kBatch, kContext}), [&](int64_t, const Tensor& chunk) {
    Arena arena(backend, size_t(chunk.elements()) * size_of(accumulator_of(model.act())));
    const Tensor wide = arena.at(0, accumulator_of(model.act()), chunk.shape);
    backend.run(Copy{wide, chunk});
    const Values rows = values_of(wide);
    all.insert(all.end(), rows.begin(), rows.end());
  });
  Values out;
  for (int64_t t = kPrompt - 1; t < kContext; ++t)
    for (int64_t b = 0; b < kBatch; ++b) {
      const auto row = all.begin() + (b * kContext + t) * kVocab;
      out.insert(out.end(), row, row + kVocab);
    }
  return out;
}

inline void check_decoding(const Json& changes, std::vector<DType> rounded = {DType::kF32, DType::kBF16}) {
  SCOPED_TRACE(changes.dump());
  const auto backend = make_cpu_backend();
  const ModelConfig config = tiny_model(changes);
  Transformer exact_model = make_model(*backend, config, DType::kF64);
  const Values exact = whole_logits(exact_model);
  EXPECT_LE(distance(cached_logits(exact_model), exact), 1e-12);
  for (const DType act : rounded) {
    Transformer model = make_model(*backend, config, act);
    const double rounding = distance(whole_logits(model), exact);
    EXPECT_LE(distance(cached_logits(model), exact), 2 * rounding) << name_of(act);
  }
}

}  // namespace sluice::parity::decoding
