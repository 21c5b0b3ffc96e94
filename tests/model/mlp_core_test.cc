// A gated MLP in attention's place: what it promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/cores/mlp.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "data/sources/random_tokens.h"
#include "measure/analysis_table.h"
#include "measure/analyzer.h"
#include "measure/probe.h"
#include "measure/quantizer.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

const Json kMlp = {{"core", "mlp"}};

Json with_layers(Json changes) {
  changes["layers"] = 3;
  return changes;
}

TEST(MlpCore, AlternatesWithAttention) {
  for (const Json& changes :
       {Json{{"attention", {"softmax", kMlp}}}, Json{{"attention", {kMlp, "vga"}}, {"norm_gate", 3}, {"kv_heads", 1}},
        Json{{"attention", {{{"core", "mlp"}, {"mlp_width", 5}}, "key_only"}},
             {"parallel_residual", true},
             {"position", "rope"}},
        Json{{"attention", {kMlp, {{"qk_source", "random"}}}}, {"registers", 1}},
        Json{{"attention", {kMlp, {{"qk_source", "embedding"}}}}, {"bias", false}}}) {
    gradients::check_gradients(with_layers(changes));
    decoding::check_decoding(with_layers(changes), {DType::kF32});
    const ModelConfig config = gradients::small_model(with_layers(changes));
    const auto want = gradients::bits_of_step(config, Recompute::kNone);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kMlp), want);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), want);
  }
}

int64_t parameters_of(const Json& changes) {
  const auto backend = make_cpu_backend();
  return Transformer(*backend, gradients::small_model(changes), {.allocate = false}).params().count();
}

TEST(MlpCore, IsAsLargeAsAttention) {
  const Json base = {{"width", 48}, {"heads", 4}, {"bias", false}};
  const auto with_attention = [&](const Json& attention, int64_t kv_heads) {
    Json changes = base;
    changes["attention"] = attention;
    changes["kv_heads"] = kv_heads;
    return parameters_of(changes);
  };
  EXPECT_EQ(with_attention(kMlp, 4), with_attention("softmax", 4));
  EXPECT_EQ(with_attention(kMlp, 2), with_attention("softmax", 2));
  EXPECT_EQ(with_attention({{"core", "mlp"}, {"mlp_width", 65}}, 4) - with_attention(kMlp, 4), 2 * 3 * 48);
  // 4/3 of the width, to the nearest multiple of 8.
  for (const auto& [width, hidden] : {std::pair<int64_t, int64_t>{256, 344}, {512, 680}, {768, 1024}, {4, 8}})
    EXPECT_EQ(MlpCoreOptions().hidden({.H_q = 2, .H_kv = 2, .D_qk = width / 2, .D_v = width / 2}), hidden);
}

// out = W_down (silu(W_gate x) * (W_up x)), by plain loops over the norm's output.
TEST(MlpCore, ComputesItsFormula) {
  constexpr int64_t kT = 3;
  const auto backend = make_cpu_backend();
  Transformer model = gradients::scattered_model(*backend, gradients::small_model({{"attention", kMlp}}), DType::kF64);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, 2 * kT);
  struct Look final : PassObserver {
    Values in, out;
    void after_block(const Pass&, int64_t) override {}
    void after_attention(const Pass&, int64_t layer, const Tensor& normed, const Tensor& output) override {
      if (layer == 1) in = values_of(normed), out = values_of(output);
    }
    void after_mlp(const Pass&, int64_t, const Tensor&, const Tensor&) override {}
    void after_forward(const Pass&) override {}
    void value_gradient(const Pass&, int64_t, const Tensor&, bool) override { FAIL() << "there are no values"; }
    void input_gradient(const Pass&, int64_t, const Tensor&) override { ++gradients; }
    int gradients = 0;
  } look;
  model.observe({tokens.data(), tokens.data(), 2, kT}, 1, look);
  EXPECT_EQ(look.gradients, 2);
  const Values up = parameter(model, "blocks.1.attention.up.weight"),
               up_bias = parameter(model, "blocks.1.attention.up.bias"),
               down = parameter(model, "blocks.1.attention.down.weight"),
               down_bias = parameter(model, "blocks.1.attention.down.bias");
  const size_t C = 12, hidden = up_bias.size() / 2;
  ASSERT_EQ(hidden, 16u);
  for (size_t n = 0; n < 2 * size_t(kT); ++n) {
    const double* x = &look.in[n * C];
    const auto row = [&](size_t r) {
      double sum = up_bias[r];
      for (size_t c = 0; c < C; ++c) sum += up[r * C + c] * x[c];
      return sum;
    };
    for (size_t c = 0; c < C; ++c) {
      double sum = down_bias[c];
      for (size_t h = 0; h < hidden; ++h) {
        const double gate = row(h);
        sum += down[c * hidden + h] * gate / (1 + std::exp(-gate)) * row(hidden + h);
      }
      EXPECT_NEAR(look.out[n * C + c], sum, 1e-12);
    }
  }
}

// A model of nothing else sees a token alone, and a decoder keeps nothing.
TEST(MlpCore, MixesNoTokens) {
  constexpr int64_t kT = 6;
  const auto backend = make_cpu_backend();
  const ModelConfig config = gradients::small_model({{"context", kT}, {"attention", kMlp}});
  Transformer model(*backend, config, {.act = DType::kF64});
  model.initialise(4);
  std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
  const Values before = logits_of(model, tokens, 1, kT);
  tokens[2] = (tokens[2] + 1) % int32_t(gradients::kVocab);
  const Values after = logits_of(model, tokens, 1, kT);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i] != after[i], int64_t(i) / gradients::kVocab == 2) << i;
  EXPECT_EQ(DecoderState(*backend, model.states(), 1, kT).bytes(), 0u);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

TEST(MlpCore, HasNoFiguresOfHeads) {
  constexpr int64_t kT = 8;
  const auto backend = make_cpu_backend();
  const RandomTokens source(Split::kHeldOut, kT, gradients::kVocab, 3);
  const auto model_with = [&](const Json& attention) {
    auto model =
        std::make_unique<Transformer>(*backend, gradients::small_model({{"context", kT}, {"attention", attention}}),
                                      TransformerOptions{.max_batch = 2});
    model->initialise(3);
    return model;
  };
  const auto hybrid = model_with({kMlp, "vga"});
  const Analysis analysis = Analyzer(*hybrid, source, {.sequences = 4}).run(7);
  const Json json = analysis.json();
  EXPECT_EQ(json["layers_without_heads"], Json({0}));
  ASSERT_EQ(json["heads"].size(), 2u);
  for (const Json& head : json["heads"]) EXPECT_EQ(head["layer"], 1);
  for (const char* key : {"value_norm_ratio", "stable_rank", "entropy", "value_gradient_ratio", "gate_mean"})
    EXPECT_TRUE(json["heads"][1][key].is_number()) << key;
  for (const char* key : {"output_kurtosis", "residual_largest", "input_gradient_ratio"})
    EXPECT_TRUE(json["layers"][0][key].is_number()) << key;
  EXPECT_TRUE(json["summary"]["value_norm_ratio_least"].is_number());
  expect_contains(analysis_text({analysis}, 200), {"layers 0 have no attention heads"});
  Prober prober(*hybrid, source, 4);
  const ProbeResult probe = prober.run();
  ASSERT_EQ(probe.heads.size(), 2u);
  EXPECT_EQ(probe.heads[0].layer, 1);
  EXPECT_EQ(prober.attention_map(0, 4)["maps"].size(), 2u);

  const auto uniform = model_with(kMlp);
  const Analysis none = Analyzer(*uniform, source, {.sequences = 4}).run(7);
  EXPECT_EQ(none.json()["heads"], Json::array());
  EXPECT_EQ(none.json()["curves"], Json::array());
  for (const char* key : {"value_norm_ratio", "value_norm_ratio_least", "sink_rate", "value_gradient_ratio"})
    EXPECT_FALSE(none.json()["summary"].contains(key)) << key;
  EXPECT_TRUE(none.json()["summary"]["gradient_sink_ratio"].is_number());
  const std::string text = analysis_text({none}, 200);
  expect_contains(text, {"layers 0, 1 have no attention heads"});
  EXPECT_EQ(text.find("|v|"), std::string::npos) << text;
  EXPECT_TRUE(Prober(*uniform, source, 4).run().heads.empty());
}

TEST(MlpCore, IsQuantizedAsMlpsAre) {
  const auto backend = make_cpu_backend();
  const RandomTokens data(Split::kHeldOut, 6, gradients::kVocab, 3);
  const ModelConfig config = gradients::small_model({{"context", 6}, {"attention", {"softmax", kMlp}}});
  Transformer model = gradients::scattered_model(*backend, config, DType::kF32);
  QuantizationOptions options;
  options.calibration_batches = 2;
  options.all_activations = true;
  Quantizer quantizer(model, options);
  quantizer.calibrate(data);
  std::vector<std::string> names;
  for (const QuantizedLinear& linear : quantizer.linears()) names.push_back(linear.name);
  EXPECT_EQ(std::count(names.begin(), names.end(), "blocks.1.attention.up"), 1);
  EXPECT_EQ(std::count(names.begin(), names.end(), "blocks.1.attention.down"), 1);
  const double plain = quantizer.loss(data, 4);
  EXPECT_NEAR(quantizer.loss(data, 4, {.activations = true}), plain, 0.2 * plain);
}

TEST(MlpCore, RefusesWhatWorksOnHeads) {
  const auto refusal = [](const Json& attention) {
    return user_error_of([&] { gradients::small_model({{"attention", attention}}); });
  };
  expect_contains(refusal({{"core", "mlp"}, {"score", "relu"}}), {"model.attention.score applies only when"});
  expect_contains(refusal({{"type", "custom"}, {"core", "mlp"}, {"gate", {{"reads", "value"}}}}),
                  {"model.attention.gate works on heads, and model.attention.core = mlp has none"});
  expect_contains(refusal({kMlp, {{"type", "value_residual"}}}),
                  {"model.attention[1].value_residual mixes with the values of layer 0, whose core mlp has none"});
  expect_contains(refusal({{"type", "softmax"}, {"mlp_width", 8}}), {"mlp_width applies only when", "\"mlp\""});
}

}  // namespace
}  // namespace sluice
