// Models whose rows see both sides (model.causal = false): what is asked of every part, of scores, biases, windows and
// stages; what no causal model has; and what a config may say.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error_text.h"
#include "measure/analyzer.h"
#include "model/config/attention_parts.h"
#include "model/config/score.h"
#include "model/gradient_check.h"
#include "model/model_checks.h"

namespace sluice {
namespace {

using namespace parity;

// Every score function and stage that has such a form, biases, windows, grouped heads with rope, registers, layers in
// turn.
std::vector<Json> models() {
  std::vector<Json> out;
  for (const std::string& score : score_names()) out.push_back({{"attention", score}});
  out.push_back({{"attention", "key_value_bias"}});
  out.push_back({{"kv_heads", 1}, {"position", "rope"}, {"attention", {{"type", "key_bias"}, {"window", 3}}}});
  out.push_back({{"attention", {{{"type", "sink_logit"}, {"window", 3}}, "vga"}}});
  out.push_back({{"attention", "mlp"}});
  out.push_back({{"residual", "post_norm"},  // BERT's parts
                 {"segment_embedding", true},
                 {"head_transform", true},
                 {"head_bias", true},
                 {"mlp", "gelu_erf"}});
  for (const StagePart& stage : attention_stages()) out.push_back(Json::parse(stage.example));
  for (Json& changes : out) changes["causal"] = false;
  std::erase_if(out,
                [](const Json& changes) { return !user_error_of([&] { gradients::small_model(changes); }).empty(); });
  return out;
}

TEST(BothSides, LeavesOutTheAffineStageAlone) {
  EXPECT_EQ(models().size(), score_names().size() + 5 + attention_stages().size() - 1);
}

TEST(BothSides, HasTheGradientsThatItsLossSays) { gradients::check_gradients_of(models(), 6); }

TEST(BothSides, HasThemWithRegisters) {
  gradients::check_gradients_of({{{"causal", false}, {"registers", 2}, {"attention", "vga"}}}, 6);
}

TEST(BothSides, KeepsDocumentsApart) { gradients::check_documents_of(models(), 6); }

TEST(BothSides, IsTheSameBitsWhenItRunsAgain) { gradients::check_recomputation_of(models(), 7); }

// Without positions a row knows the others as a set: tokens in another order are rows in another order.
TEST(BothSides, WithoutPositionsKnowsNoOrder) {
  constexpr int64_t kT = 9;
  const auto backend = make_cpu_backend();
  for (const char* attention : {"softmax", "sigmoid", "vga", "diff_v2"}) {
    SCOPED_TRACE(attention);
    Transformer model(
        *backend,
        gradients::small_model({{"context", kT}, {"position", "none"}, {"causal", false}, {"attention", attention}}),
        {.act = DType::kF64, .max_batch = 1});
    model.initialise(3);
    std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
    const Values forwards = logits_of(model, tokens, 1, kT);
    std::reverse(tokens.begin(), tokens.end());
    const Values backwards = logits_of(model, tokens, 1, kT);
    for (int64_t i = 0; i < kT; ++i)
      for (int64_t v = 0; v < gradients::kVocab; ++v)
        EXPECT_NEAR(forwards[size_t(i * gradients::kVocab + v)],
                    backwards[size_t((kT - 1 - i) * gradients::kVocab + v)], 1e-12);
  }
}

// A token changes every row of its document and none of another's.
TEST(BothSides, ATokenIsSeenInItsWholeDocument) {
  constexpr int64_t kT = 12, kAt = 6;
  const std::vector<int32_t> starts = {0, 0, 0, 0, 4, 4, 4, 4, 4, 9, 9, 9};
  const auto backend = make_cpu_backend();
  Transformer model(*backend, gradients::small_model({{"context", kT}, {"layers", 1}, {"causal", false}}),
                    {.act = DType::kF64, .max_batch = 1});
  model.initialise(3);
  std::vector<int32_t> tokens = gradients::random_tokens(0, kT), targets = gradients::random_tokens(1, kT);
  const auto losses = [&] { return model.token_losses({tokens.data(), targets.data(), 1, kT, starts.data()}); };
  const std::vector<double> before = losses();
  tokens[kAt] = (tokens[kAt] + 1) % int32_t(gradients::kVocab);
  const std::vector<double> after = losses();
  for (int64_t i = 0; i < kT; ++i) EXPECT_EQ(before[size_t(i)] != after[size_t(i)], i >= 4 && i < 9) << i;
}

// Maps and figures: rows of softmax sum to 1 over all keys, and the first rows' weights are parts of whole rows.
TEST(BothSides, IsSeenByInstruments) {
  constexpr int64_t kT = 12, kShown = 5;
  const auto backend = make_cpu_backend();
  Transformer model(*backend, gradients::small_model({{"context", kT}, {"causal", false}, {"attention", "softmax"}}),
                    {.max_batch = 1});
  model.initialise(3);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
  model.forward({tokens.data(), nullptr, 1, kT}, [&](const Pass& pass, int64_t layer) {
    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
    const auto weights = attention.weights()->read(pass, attention.heads(pass));
    const HeadWeights whole = weights->of(0, 0, kT), shown = weights->of(0, 0, kShown);
    ASSERT_EQ(shown.rows.size(), size_t(kShown * kShown));
    for (int64_t i = 0; i < kT; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < kT; ++j) {
        const double a = whole.rows[size_t(i * kT + j)];
        EXPECT_GT(a, 0);
        sum += a;
        if (i < kShown && j < kShown) {
          EXPECT_EQ(shown.rows[size_t(i * kShown + j)], a);
        }
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
  });
}

// Each row of uniform weights sees all T keys alike: 1 / T on each, ln T of entropy, and no sink.
TEST(BothSides, FiguresCountAllKeysOfARow) {
  constexpr int64_t T = 6;
  HeadWeights uniform;
  uniform.rows.assign(size_t(T * T), 1.0 / double(T));
  const WeightRows rows(uniform, true, T, 0, false);
  for (int64_t i = 0; i < T; ++i) {
    EXPECT_EQ(rows.keys_of(i), T);
    EXPECT_EQ(rows.queries_of(i), T);
    EXPECT_EQ(rows.row(i).size(), size_t(T));
  }
  for (const double share : rows.mean_shares()) EXPECT_DOUBLE_EQ(share, 1.0 / double(T));
  const WeightRows windowed(uniform, true, T, 2, false);
  EXPECT_EQ(windowed.keys_of(0), 2);
  EXPECT_EQ(windowed.keys_of(3), 3);
  EXPECT_EQ(windowed.queries_of(T - 1), 2);
}

TEST(BothSides, PartsOfEarlierRowsAreRefused) {
  const auto refusal = [](Json changes) {
    changes["causal"] = false;
    return user_error_of([&] { gradients::small_model(changes); });
  };
  for (const char* preset : {"lightning", "transnormer", "key_only", "affine"})
    expect_contains(refusal({{"attention", preset}}), {"model.attention", "earlier positions", "model.causal = false"});
  expect_contains(refusal({{"attention", {{"type", "stochastic"}, {"window", 64}}}}), {"model.causal = false"});
  expect_contains(refusal({{"attention", {"softmax", "key_only"}}}), {"model.attention[1]"});
}

// Their own refusals.
TEST(BothSides, PartsOfBertSayWhatTheyNeed) {
  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  expect_contains(refusal({{"head_transform", true}, {"mlp", "swiglu"}}), {"model.head_transform", "swiglu"});
  expect_contains(refusal({{"segment_embedding", true}, {"registers", 1}}),
                  {"model.segment_embedding", "model.registers"});
  expect_contains(refusal({{"residual", "post_norm"}, {"parallel_residual", true}}),
                  {"post_norm", "model.parallel_residual"});
}

// With the second norm's place behind the sum the stream that the head reads has passed all norms: each row of it has
// mean 0 and deviation 1 where gains are 1 and biases 0, whatever the sublayers put out.
TEST(BothSides, PostNormStreamsHaveUnitDeviation) {
  constexpr int64_t kT = 9;
  const auto backend = make_cpu_backend();
  Transformer model(*backend, gradients::small_model({{"context", kT}, {"layers", 3}, {"residual", "post_norm"}}),
                    {.act = DType::kF64, .max_batch = 1});
  model.initialise(3);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
  const Pass pass = model.forward({tokens.data(), nullptr, 1, kT});
  const Values normed = values_of(model.scratch(pass).normed);
  const int64_t C = model.config().width;
  for (int64_t i = 0; i < kT; ++i) {
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < C; ++c) sum += normed[size_t(i * C + c)], squares += std::pow(normed[size_t(i * C + c)], 2);
    EXPECT_NEAR(sum / double(C), 0, 1e-12);
    EXPECT_NEAR(squares / double(C), 1, 1e-3);
  }
}

TEST(BothSides, IsSaidInTheConfigWhereItIs) {
  const auto dumped = [](const Json& changes) {
    ModelConfig config = gradients::small_model(changes);
    Fields fields;
    config.describe(fields);
    return fields.dump();
  };
  EXPECT_FALSE(dumped(Json::object()).contains("causal"));
  EXPECT_EQ(dumped({{"causal", false}})["causal"], false);
}

}  // namespace
}  // namespace sluice
