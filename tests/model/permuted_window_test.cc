// Windows of a permuted order in whole models: what attention_parts_test.cc asks of every part, with every stage, score
// function and bias; what the order and the two gates promise; and what a config may say of them.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "base/permutation.h"
#include "kernels/host_copy.h"
#include "model/config/attention_parts.h"
#include "model/config/score.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"
#include "model/model_checks.h"

namespace sluice {
namespace {

using namespace parity;

Json with_order(const Json& attention, int64_t window, const char* how) {
  Json out = attention;
  out["window"] = window, out["permuted"] = how, out["permutation_seed"] = 3;
  return out;
}

// Every score function, the biases, grouped heads with rope, layers in turn and every stage that goes with windows, the
// order alone and gated by turns.
std::vector<Json> permuted_models(int64_t window) {
  std::vector<Json> out;
  bool gated = false;
  const auto add = [&](Json changes, const Json& attention) {
    changes["attention"] = with_order(attention, window, (gated = !gated) ? "gated" : "alone");
    out.push_back(changes);
  };
  for (const std::string& score : score_names()) add(Json::object(), {{"score", score}});
  for (int both = 0; both < 2; ++both) {
    add(Json::object(), {{"type", "key_value_bias"}});
    add({{"kv_heads", 1}, {"position", "rope"}}, {{"type", "key_bias"}});
    add(Json::object(), {{"type", "sink_logit"}});
    gated = !gated;
  }
  out.push_back({{"attention", {with_order({{"type", "sink_logit"}}, window, "gated"), "sink_logit"}}});
  for (const StagePart& stage : attention_stages()) {
    Json changes = Json::parse(stage.example);
    Json attention = changes.value("attention", Json::object());
    if (attention.is_string()) attention = {{"type", attention}};
    changes["attention"] = with_order(attention, window, "gated");
    if (user_error_of([&] { gradients::small_model(changes); }).empty()) out.push_back(changes);
  }
  out.push_back({{"attention", with_order(Json::parse(R"({"type": "diff_v1"})"), window, "gated")}});
  return out;
}

TEST(PermutedWindow, HasTheGradientsThatItsLossSays) { gradients::check_gradients_of(permuted_models(5), 7); }

TEST(PermutedWindow, KeepsDocumentsApart) { gradients::check_documents_of(permuted_models(5), 9); }

TEST(PermutedWindow, DecodesWhatItComputes) {
  for (const Json& changes : permuted_models(20)) decoding::check_decoding(changes);
}

TEST(PermutedWindow, IsTheSameBitsWhenItRunsAgain) { gradients::check_recomputation_of(permuted_models(5), 7); }

// ---- what is seen ----------------------------------------------------------------------------------------------------

constexpr int64_t kContext = 40, kTokens = 33, kWindow = 10;

// The slot of each place, from the definition.
std::vector<int64_t> slots_of(int64_t layer) {
  std::vector<int64_t> out(kContext);
  const Permutation order = {
      .seed = 3, .stream = uint64_t(Stream::kWindowOrder) + uint64_t(layer), .size = uint64_t(kContext)};
  for (int64_t slot = 0; slot < kContext; ++slot) out[size_t(order(uint64_t(slot)))] = slot;
  return out;
}

struct SmallModel {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Transformer model;
  explicit SmallModel(const Json& attention, Json changes = Json::object())
      : model(*backend, config_of(attention, changes), {.act = DType::kF64, .max_batch = 1}) {
    model.initialise(3);
  }
  static ModelConfig config_of(const Json& attention, Json changes) {
    changes["attention"] = attention, changes["context"] = kContext;
    return gradients::small_model(changes);
  }
  Batch batch(const std::vector<int32_t>& tokens) const { return {tokens.data(), nullptr, 1, kTokens}; }
  // look(pass, layer, attention) after every block.
  template <class Look>
  void run(Look look) {
    const std::vector<int32_t> tokens = gradients::random_tokens(0, kTokens);
    model.forward(batch(tokens), [&](const Pass& pass, int64_t layer) {
      look(pass, layer, model.blocks()[size_t(layer)].attention());
    });
  }
  // [T, H D] of the first layer.
  Values results() {
    Values out;
    run([&](const Pass& pass, int64_t layer, const AttentionLayer& attention) {
      if (layer == 0) out = host_numbers(*backend, attention.heads(pass).out);
    });
    return out;
  }
};

TEST(PermutedWindow, SeesKeysBeforeItWhoseSlotsAreNear) {
  SmallModel small(with_order({{"type", "softmax"}}, kWindow, "alone"));
  small.run([&](const Pass& pass, int64_t layer, const AttentionLayer& attention) {
    const std::vector<int64_t> slots = slots_of(layer);
    EXPECT_EQ(attention.weights()->reach(), 0);
    const HeadWeights weights = attention.weights()->read(pass, attention.heads(pass))->of(0, 1, kTokens);
    for (int64_t i = 0; i < kTokens; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < kTokens; ++j) {
        const double a = weights.rows[size_t(i * kTokens + j)];
        sum += a;
        EXPECT_EQ(a > 0, j <= i && 2 * std::abs(slots[size_t(i)] - slots[size_t(j)]) < kWindow) << i << ", " << j;
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
  });
}

// The weights that instruments see are those that the results are made of, and the probe reads the same.
TEST(PermutedWindow, IsSeenByInstruments) {
  for (const char* how : {"alone", "gated"})
    for (const char* type : {"softmax", "key_value_bias", "relu"}) {
      SCOPED_TRACE(std::string(how) + " " + type);
      SmallModel small(with_order({{"type", type}}, kWindow, how));
      small.run([&](const Pass& pass, int64_t, const AttentionLayer& attention) {
        const Heads heads = attention.heads(pass);
        const auto read = attention.weights()->read(pass, heads);
        Arena arena(*small.backend, 2 * 2 * kTokens * sizeof(double));
        const Tensor weight = arena.at(0, DType::kF64, {1, 2, kTokens}),
                     gap = arena.at(2 * kTokens * sizeof(double), DType::kF64, {1, 2, kTokens});
        attention.weights()->probe(pass, heads, weight, gap);
        const Values out = host_numbers(*small.backend, heads.out), v = host_numbers(*small.backend, heads.v),
                     first = host_numbers(*small.backend, weight);
        const int64_t D = 6;
        for (int64_t h = 0; h < 2; ++h) {
          const HeadWeights weights = read->of(0, h, kTokens);
          for (int64_t i = 0; i < kTokens; ++i) {
            EXPECT_NEAR(first[size_t(h * kTokens + i)], weights.rows[size_t(i * kTokens)], 1e-12);
            for (int64_t d = 0; d < D && std::string(type) != "key_value_bias"; ++d) {
              double sum = 0;
              for (int64_t j = 0; j <= i; ++j)
                sum += weights.rows[size_t(i * kTokens + j)] * v[size_t(j * 2 * D + h * D + d)];
              EXPECT_NEAR(out[size_t(i * 2 * D + h * D + d)], sum, 1e-12);
            }
          }
        }
      });
    }
}

TEST(PermutedWindow, ThatHoldsTheContextTwiceIsFullAttention) {
  const Values full = SmallModel("softmax").results();
  EXPECT_LE(distance(SmallModel(with_order({{"type", "softmax"}}, 2 * kContext, "alone")).results(), full), 1e-12);
  EXPECT_GT(distance(SmallModel(with_order({{"type", "softmax"}}, kContext, "alone")).results(), full), 1e-3);
}

// Logits of 0: half of the one and half of the other.
TEST(PermutedWindow, GatesOfZeroTakeHalfOfEach) {
  SmallModel gated(with_order({{"type", "softmax"}}, kWindow, "gated"));
  for (const char* which : {"weight", "bias"}) {
    const Tensor value =
        gated.model.params().value(named(gated.model, std::string("blocks.0.attention.branch_gates.") + which));
    assign(value, Values(size_t(value.elements()), 0.0));
  }
  const Values both = gated.results(),
               alone = SmallModel(with_order({{"type", "softmax"}}, kWindow, "alone")).results(),
               window = SmallModel(Json{{"type", "softmax"}, {"window", kWindow}}).results();
  Values half;
  for (size_t i = 0; i < both.size(); ++i) half.push_back((alone[i] + window[i]) / 2);
  EXPECT_LE(distance(both, half), 1e-12);
}

TEST(PermutedWindow, GatesBeginAtHalf) {
  SmallModel gated(with_order({{"type", "softmax"}}, kWindow, "gated"));
  for (const double x : parameter(gated.model, "blocks.1.attention.branch_gates.bias")) EXPECT_EQ(x, 0);
}

// No row changes where a token behind it does, and a token's own does.
TEST(PermutedWindow, LooksAtNothingBehind) {
  SmallModel small(with_order({{"type", "vga"}}, kWindow, "gated"));
  std::vector<int32_t> tokens = gradients::random_tokens(0, kTokens);
  const Values before = logits_of(small.model, tokens, 1, kTokens);
  for (const int64_t at : {0, 7, 20, 32}) {
    std::vector<int32_t> changed = tokens;
    changed[size_t(at)] = (changed[size_t(at)] + 1) % int32_t(gradients::kVocab);
    const Values after = logits_of(small.model, changed, 1, kTokens);
    for (int64_t i = 0; i < kTokens; ++i) {
      bool same = true;
      for (int64_t c = 0; c < gradients::kVocab; ++c)
        same &= before[size_t(i * gradients::kVocab + c)] == after[size_t(i * gradients::kVocab + c)];
      if (i <= at) {
        EXPECT_EQ(same, i < at) << at << ", " << i;
      }
    }
  }
}

// A layer's order is its own, and the seed's.
TEST(PermutedWindow, HasAnOrderForEachLayerAndSeed) {
  EXPECT_NE(slots_of(0), slots_of(1));
  const auto results = [](int64_t seed) {
    Json attention = with_order({{"type", "softmax"}}, kWindow, "alone");
    attention["permutation_seed"] = seed;
    return SmallModel(attention).results();
  };
  EXPECT_EQ(results(3), results(3));
  EXPECT_GT(distance(results(3), results(4)), 1e-3);
}

// ---- configs ---------------------------------------------------------------------------------------------------------

TEST(PermutedWindow, IsSaidInTheConfigWhereThereIsOne) {
  const auto dumped = [](const Json& attention) {
    ModelConfig config = gradients::small_model({{"attention", attention}});
    Fields fields;
    config.describe(fields);
    return fields.dump()["attention"];
  };
  EXPECT_FALSE(dumped({{"type", "vga"}, {"window", 128}}).contains("permuted"));
  EXPECT_EQ(dumped("stochastic")["permuted"], "gated");
  EXPECT_EQ(dumped("stochastic")["window"], 256);
  EXPECT_EQ(dumped({{"type", "stochastic"}, {"permutation_seed", 5}})["permutation_seed"], 5);
  const ModelConfig config = gradients::small_model({{"attention", {{"type", "stochastic"}, {"window", 64}}}});
  expect_contains(config.attention.all.text(), {"a window of 64 keys and one in a permuted order, both gated"});
  EXPECT_FALSE(config.attention.is_plain());
  EXPECT_EQ(config.attention.all.core_options().reaches(), (std::vector<int64_t>{64, 32}));

  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  expect_contains(refusal({{"attention", {{"permuted", "alone"}}}}),
                  {"model.attention.permuted = alone needs a window of 3 keys or more", "window is 0"});
  expect_contains(refusal({{"attention", {{"permuted", "gated"}, {"window", 2}}}}), {"window is 2"});
  expect_contains(refusal({{"registers", 2}, {"attention", "stochastic"}}),
                  {"model.attention.permuted = gated", "model.registers = 2 have none"});
  expect_contains(refusal({{"attention", {{"permuted", "yes"}, {"window", 8}}}}), {"model.attention.permuted"});
  expect_contains(refusal({{"attention", {{"window", 8}, {"permutation_seed", 2}}}}),
                  {"model.attention.permutation_seed"});
  expect_contains(refusal({{"attention", {{"type", "stochastic"}, {"affine", "linear"}}}}), {"affine"});
}

}  // namespace
}  // namespace sluice
