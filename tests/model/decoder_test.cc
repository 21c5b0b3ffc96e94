// Decoding with a key/value cache against the whole sequence run again, for every attention variant and the model's other
// choices. In f64 sums are cut differently and nothing else: 1e-12. In f32 and bf16 both ways round, so each is held
// against f64: what the cache adds is no more than what rounding costs anyway.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include "base/philox.h"
#include "model/parity.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kBatch = 2, kVocab = 13, kContext = 70, kPrompt = 5;

ModelConfig tiny_model(const Json& changes) {
  Json json = {{"vocab_size", kVocab}, {"context", kContext}, {"layers", 2},       {"heads", 2},
               {"width", 32},          {"mlp_width", 48},     {"mlp", "gelu"},     {"position", "learned"},
               {"tied_head", false},   {"init", "pytorch"},   {"attention", "softmax"}};
  json.update(changes);
  return model_config(json);
}

std::vector<int32_t> random_tokens() {
  std::vector<int32_t> out(size_t(kBatch * kContext));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int32_t(philox(3, 0, i).word[0] % kVocab);
  return out;
}

// Column [first, first + count) of tokens [kBatch, kContext].
std::vector<int32_t> columns(const std::vector<int32_t>& tokens, int64_t first, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < kBatch; ++b)
    for (int64_t t = first; t < first + count; ++t) out.push_back(tokens[size_t(b * kContext + t)]);
  return out;
}

Transformer make_model(Backend& backend, const ModelConfig& config, DType act) {
  Transformer model(backend, config, {.act = act, .max_batch = kBatch, .training = false});
  model.initialise(5);
  return model;
}

// Logits after every token from the prompt's last on, [steps, kBatch, V].
Values cached_logits(Transformer& model) {
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
Values whole_logits(Transformer& model) {
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

void check_model(const Json& changes) {
  SCOPED_TRACE(changes.dump());
  const auto backend = make_cpu_backend();
  const ModelConfig config = tiny_model(changes);
  Transformer exact_model = make_model(*backend, config, DType::kF64);
  const Values exact = whole_logits(exact_model);
  EXPECT_LE(distance(cached_logits(exact_model), exact), 1e-12);
  for (const DType act : {DType::kF32, DType::kBF16}) {
    Transformer model = make_model(*backend, config, act);
    const double rounding = distance(whole_logits(model), exact);
    EXPECT_LE(distance(cached_logits(model), exact), 2 * rounding) << name_of(act);
  }
}

TEST(Decoder, EveryPreset) {
  for (const AttentionPreset& preset : attention_presets())
    for (const int kv_heads : {2, 1}) check_model({{"attention", preset.name}, {"kv_heads", kv_heads}});
}

TEST(Decoder, EveryGate) {
  for (const char* reads : {"hidden", "hidden_head", "value"})
    for (const char* site : {"source", "output"})
      for (const char* grain : {"head", "element"})
        check_model({{"attention", {{"gate", {{"reads", reads}, {"site", site}, {"grain", grain}}}}}});
}

TEST(Decoder, TheModelsChoices) {
  for (const char* position : {"learned", "rope", "none"}) check_model({{"position", position}, {"attention", "vga"}});
  for (const char* position : {"rope", "none"}) check_model({{"position", position}, {"qk_norm", true}, {"kv_heads", 1}});
  for (const char* mlp : {"relu", "relu_squared", "swiglu"})
    check_model({{"mlp", mlp}, {"norm", "rmsnorm"}, {"tied_head", true}, {"position", "rope"}, {"kv_heads", 1}});
}

TEST(Decoder, PartsOfPublishedFamilies) {
  const Json llama3 = {{"type", "llama3"}, {"factor", 4.0}, {"original_context", 32}};
  check_model({{"head_size", 12}, {"kv_heads", 1}, {"position", "rope"}, {"rope_scaling", llama3}, {"attention_bias", "qkv"}, {"bias", false}});
  check_model({{"parallel_residual", true}, {"position", "rope"}, {"rotary_features", 4}, {"mlp", "gelu_erf"}});
}

TEST(Decoder, StartsAnewAndEndsAtTheContext) {
  const auto backend = make_cpu_backend();
  Transformer model = make_model(*backend, tiny_model(Json::object()), DType::kF32);
  const std::vector<int32_t> tokens = random_tokens();
  Decoder decoder(model, kBatch);
  const Values first = values_of(decoder.prefill(columns(tokens, 0, kPrompt).data(), kPrompt));
  (void)decoder.prefill(tokens.data(), kContext);
  EXPECT_THROW(decoder.step(tokens.data()), std::logic_error);
  EXPECT_EQ(values_of(decoder.prefill(columns(tokens, 0, kPrompt).data(), kPrompt)), first);
  EXPECT_EQ(decoder.length(), kPrompt);
}

}  // namespace
}  // namespace sluice
