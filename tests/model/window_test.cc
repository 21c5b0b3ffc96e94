// Windows in whole models: what attention_parts_test.cc asks of every part, of windows with every stage, score function
// and bias; what a window promises; and what a config may say of it.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/config/attention_parts.h"
#include "model/config/score.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"
#include "model/model_checks.h"

namespace sluice {
namespace {

using namespace parity;

// Every score function, the biases, grouped heads with rope, and layers in turn.
std::vector<Json> windowed_models(int64_t window) {
  std::vector<Json> out;
  for (const std::string& score : score_names()) out.push_back({{"attention", {{"score", score}, {"window", window}}}});
  out.push_back({{"attention", {{"type", "key_value_bias"}, {"window", window}}}});
  out.push_back({{"attention", {{"score", {{"type", "sigmoid"}, {"minus_log_length", true}}}, {"window", window}}}});
  out.push_back({{"kv_heads", 1}, {"position", "rope"}, {"attention", {{"type", "key_bias"}, {"window", window}}}});
  out.push_back({{"attention", {{{"type", "sink_logit"}, {"window", window}}, "sink_logit"}}});
  for (const StagePart& stage : attention_stages()) {
    Json changes = Json::parse(stage.example);
    if (!changes.contains("attention")) changes["attention"] = Json::object();
    if (changes["attention"].is_string()) changes["attention"] = {{"type", changes["attention"]}};
    changes["attention"]["window"] = 1;  // whatever is asked for, the same stages
    if (!user_error_of([&] { gradients::small_model(changes); }).empty()) continue;
    changes["attention"]["window"] = window;
    out.push_back(changes);
  }
  return out;
}

TEST(Window, HasTheGradientsThatItsLossSays) { gradients::check_gradients_of(windowed_models(3), 6); }

TEST(Window, KeepsDocumentsApart) { gradients::check_documents_of(windowed_models(3), 6); }

TEST(Window, DecodesWhatItComputes) {
  for (const Json& changes : windowed_models(20)) decoding::check_decoding(changes);
}

TEST(Window, IsTheSameBitsWhenItRunsAgain) { gradients::check_recomputation_of(windowed_models(3), 7); }

TEST(Window, AsLongAsTheContextIsNone) {
  const auto bits = [](int64_t window) {
    std::vector<std::vector<Values>> out;
    for (Json changes : windowed_models(window)) {
      changes["context"] = 7;
      out.push_back(gradients::bits_of_step(gradients::small_model(changes), Recompute::kNone));
    }
    return out;
  };
  const auto none = bits(0);
  EXPECT_EQ(bits(7), none);
  EXPECT_EQ(bits(1 << 20), none);
  EXPECT_NE(bits(6), none);
}

// What row i of a model of L layers is made of: the tokens from i - L (w - 1) on.
TEST(Window, ReachesSoFarBackALayer) {
  constexpr int64_t kT = 40, kWindow = 5, kLayers = 3, kAt = 7, kReach = kLayers * (kWindow - 1);
  const auto backend = make_cpu_backend();
  Transformer model(*backend,
                    gradients::small_model(
                        {{"context", kT}, {"layers", kLayers}, {"attention", {{"type", "vga"}, {"window", kWindow}}}}),
                    {.act = DType::kF64, .max_batch = 1});
  model.initialise(3);
  std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
  const Values before = logits_of(model, tokens, 1, kT);
  tokens[kAt] = (tokens[kAt] + 1) % int32_t(gradients::kVocab);
  const Values after = logits_of(model, tokens, 1, kT);
  for (int64_t i = 0; i < kT; ++i) {
    const auto row = [&](const Values& logits) {
      return Values(logits.begin() + i * gradients::kVocab, logits.begin() + (i + 1) * gradients::kVocab);
    };
    EXPECT_EQ(row(before) != row(after), i >= kAt && i <= kAt + kReach) << i;
  }
}

// A layer's weights, for maps and figures: what lies outside the window is 0, and rows of softmax sum to 1.
TEST(Window, IsSeenByInstruments) {
  constexpr int64_t kT = 12, kWindow = 4;
  const auto backend = make_cpu_backend();
  Transformer model(
      *backend, gradients::small_model({{"context", kT}, {"attention", {{"type", "softmax"}, {"window", kWindow}}}}),
      {.max_batch = 1});
  model.initialise(3);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
  int64_t layers = 0;
  model.forward({tokens.data(), nullptr, 1, kT}, [&](const Pass& pass, int64_t layer) {
    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
    EXPECT_EQ(attention.weights()->reach(), kWindow);
    const HeadWeights weights = attention.weights()->read(pass, attention.heads(pass))->of(0, 0, kT);
    for (int64_t i = 0; i < kT; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < kT; ++j) {
        const double a = weights.rows[size_t(i * kT + j)];
        sum += a;
        EXPECT_EQ(a > 0, j <= i && j > i - kWindow) << i << ", " << j;
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
    ++layers;
  });
  EXPECT_EQ(layers, 2);
}

TEST(Window, IsSaidInTheConfigWhereThereIsOne) {
  const auto dumped = [](const Json& attention) {
    ModelConfig config = gradients::small_model({{"attention", attention}});
    Fields fields;
    config.describe(fields);
    return fields.dump()["attention"];
  };
  EXPECT_FALSE(dumped("vga").contains("window"));
  EXPECT_FALSE(dumped({{"type", "vga"}, {"window", 0}}).contains("window"));
  EXPECT_EQ(dumped({{"type", "vga"}, {"window", 128}})["window"], 128);
  const ModelConfig config = gradients::small_model({{"attention", {{"type", "sink_logit"}, {"window", 128}}}});
  expect_contains(config.attention.all.text(), {"score sink_logit", "a window of 128 keys"});
  EXPECT_FALSE(config.attention.is_plain());
  EXPECT_FALSE(gradients::small_model({{"attention", {{"type", "softmax"}, {"window", 2}}}}).attention.is_plain());

  const auto refusal = [](const Json& attention) {
    return user_error_of([&] { gradients::small_model({{"attention", attention}}); });
  };
  expect_contains(refusal({{"window", 1}}), {"model.attention.window = 1", "no key but its own"});
  expect_contains(refusal({{"window", -3}}), {"model.attention.window is -3"});
  expect_contains(refusal({"vga", {{"window", 1}}}), {"model.attention[1].window = 1"});
}

// cuDNN's kernels are of full attention here.
TEST(Window, IsNotCudnns) {
  const auto unmet = [](const Json& attention) {
    return gradients::small_model({{"attention", attention}}).attention.all.core_options().unmet_by_fused_softmax();
  };
  EXPECT_FALSE(unmet("softmax").has_value());
  const auto found = unmet({{"type", "softmax"}, {"window", 64}});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->found, "model.attention.window is 64");
}

}  // namespace
}  // namespace sluice
