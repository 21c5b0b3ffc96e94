// What the stage routed_heads promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/stages/routed_heads.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 6, kHeads = 8, kD = 4;

Json routed(const Json& options) {
  Json all;
  all["type"] = "linear";
  all.update(options);
  return {{"context", kT}, {"heads", kHeads}, {"head_size", kD}, {"attention", {{"routed_heads", all}}}};
}

struct RoutedHeadsStage : testing::Test {
  Transformer model(const Json& changes, DType act = DType::kF64) const {
    Transformer model(*backend, gradients::small_model(changes), {.act = act, .max_batch = 2});
    model.initialise(9);
    return model;
  }
  Batch batch(int64_t first = 0, int64_t count = 2) const {
    return {&tokens[size_t(first * kT)], &targets[size_t(first * kT)], count, kT};
  }
  static void clear_routers(Transformer& model) {
    for (const ParamSpec& spec : model.params().specs())
      if (spec.name.find("routed_heads") != std::string::npos)
        assign(model.params().value(named(model, spec.name)), Values(parameter(model, spec.name).size(), 0));
  }
  // [rows, heads] of the first layer.
  std::vector<double> openings(Transformer& model) const {
    std::vector<double> out;
    model.forward(batch(), [&](const Pass& pass, int64_t layer) {
      if (layer == 0) out = model.blocks()[0].attention().opener()->openings(pass);
    });
    return out;
  }

  const std::unique_ptr<Backend> backend = make_cpu_backend();
  const std::vector<int32_t> tokens = gradients::random_tokens(0, 2 * kT),
                             targets = gradients::random_tokens(1, 2 * kT);
};

TEST_F(RoutedHeadsStage, IsPlainAttentionBitForBitWhereItTakesAllHeadsAlike) {
  for (const DType act : {DType::kF32, DType::kBF16, DType::kF64})
    for (const int64_t shared : {0, 1, 3}) {
      SCOPED_TRACE(fmt::format("{}, {} shared", name_of(act), shared));
      Transformer of_heads = model(routed({{"shared", shared}, {"active", kHeads - shared}, {"balance", 0.0}}), act);
      Json plain = routed(Json::object());
      plain["attention"] = "softmax";
      Transformer softmax = model(plain, act);
      clear_routers(of_heads);
      of_heads.params().refresh_compute_copy(*backend);
      if (act != DType::kBF16) {
        EXPECT_EQ(logits_of(of_heads, tokens, 2, kT), logits_of(softmax, tokens, 2, kT));
      }
      EXPECT_EQ(of_heads.forward_backward(batch(), 1, false), softmax.forward_backward(batch(), 1, false));
      for (const ParamSpec& spec : softmax.params().specs())
        EXPECT_EQ(gradient(of_heads, spec.name), gradient(softmax, spec.name)) << spec.name;
    }
}

// Without weights all heads are as likely, and of equal ones the first are taken.
TEST_F(RoutedHeadsStage, LossIsOneWithoutWeightsAndTheFirstHeadsAreTaken) {
  Transformer of_heads = model(routed({{"shared", 2}, {"active", 3}}));
  clear_routers(of_heads);
  of_heads.forward_backward(batch(), 1.0 / (2 * kT), false);
  ASSERT_EQ(of_heads.losses().list().size(), 1u);
  EXPECT_EQ(of_heads.losses().list()[0].name, "head_balance");
  EXPECT_DOUBLE_EQ(of_heads.losses().list()[0].weight, 0.01 * 3);
  EXPECT_NEAR(of_heads.part_losses()[0], 1, 1e-14);
  const std::vector<double> open = openings(of_heads);
  for (size_t i = 0; i < open.size(); ++i) EXPECT_EQ(open[i], i % kHeads < 5 ? 1 : 0) << i;
}

TEST_F(RoutedHeadsStage, TakesAsManyHeadsAsItSays) {
  for (const char* type : {"linear", "query_norm"}) {
    Json options;
    options["type"] = type;
    Transformer of_heads = model(routed(options));  // two of eight shared, two more active
    const std::vector<double> open = openings(of_heads);
    ASSERT_EQ(open.size(), size_t(2 * kT * kHeads));
    std::vector<double> load(size_t(kHeads), 0);
    for (size_t row = 0; row < size_t(2 * kT); ++row) {
      double taken = 0;
      for (size_t h = 0; h < size_t(kHeads); ++h) taken += open[row * kHeads + h], load[h] += open[row * kHeads + h];
      EXPECT_EQ(taken, 4) << type;
      EXPECT_TRUE(open[row * kHeads] == 1 && open[row * kHeads + 1] == 1) << type;
    }
    // Rows differ in what they take.
    EXPECT_TRUE(std::any_of(load.begin(), load.end(), [](double l) { return l > 0 && l < 2 * kT; })) << type;
  }
}

// Results of heads that a row does not take are zero, those of others with query_norm the core's.
TEST_F(RoutedHeadsStage, QueryNormLeavesResultsOrTakesThemAway) {
  Transformer of_heads = model(routed({{"type", "query_norm"}, {"active", 3}}), DType::kF32);
  EXPECT_EQ(of_heads.params().find("blocks.0.attention.routed_heads.weight").index, -1);
  const std::vector<double> open = openings(of_heads);
  of_heads.forward(batch(), [&](const Pass& pass, int64_t layer) {
    if (layer > 0) return;
    const AttentionLayer& attention = of_heads.blocks()[0].attention();
    const Values core = values_of(attention.heads(pass).out), found = values_of(attention.results(pass));
    const Values q = values_of(attention.heads(pass).q);
    for (size_t i = 0; i < core.size(); ++i) EXPECT_EQ(found[i], open[i / kD] * core[i]) << i;
    // No head that is left out has a longer query than one that is taken.
    for (size_t row = 0; row < size_t(2 * kT); ++row) {
      double least = INFINITY, most = 0;
      for (size_t h = 2; h < size_t(kHeads); ++h) {
        const double* x = &q[(row * kHeads + h) * kD];
        const double length = std::sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2] + x[3] * x[3]);
        if (open[row * kHeads + h] == 1) least = std::min(least, length);
        else most = std::max(most, length);
      }
      EXPECT_GE(least, most * (1 - 1e-6));
    }
  });
}

TEST_F(RoutedHeadsStage, LossOfABatchIsTheMeanOfItsSequences) {
  Transformer of_heads = model(routed({{"shared", 1}, {"active", 2}}));
  const auto loss = [&](int64_t first, int64_t count) {
    of_heads.forward_backward(batch(first, count), 1.0 / double(count * kT), false);
    return of_heads.part_losses()[0];
  };
  EXPECT_NEAR(loss(0, 2), 0.5 * (loss(0, 1) + loss(1, 1)), 1e-14);
  EXPECT_GT(std::fabs(loss(0, 1) - loss(1, 1)), 1e-3);
}

TEST_F(RoutedHeadsStage, QueryNormDecodesAndRunsAgainAsEveryPart) {
  for (const char* more : {"{}", R"({"kv_heads": 2, "position": "rope"})", R"({"registers": 2})"}) {
    Json changes = routed(Json::parse(R"({"type": "query_norm"})"));
    changes.update(Json::parse(more));
    changes.erase("context");
    SCOPED_TRACE(changes.dump());
    decoding::check_decoding(changes, {DType::kF32});
    changes["context"] = 7;
    const ModelConfig config = gradients::small_model(changes);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), gradients::bits_of_step(config, Recompute::kNone));
  }
}

TEST_F(RoutedHeadsStage, LinearRouterHasItsGradientsWithRegistersWindowsAndOtherStages) {
  for (const char* more : {R"({"registers": 2})", R"({"position": "rope", "kv_heads": 2})"}) {
    Json changes = routed({{"shared", 3}, {"active", 2}, {"balance", 0.3}});
    changes.update(Json::parse(more));
    changes["attention"].update({{"window", 3}, {"output_norm", "rmsnorm"}});
    gradients::check_gradients(changes);
  }
}

TEST_F(RoutedHeadsStage, RefusesWhatCannotBe) {
  const auto refusal = [](const Json& options, const Json& more = Json::object()) {
    Json changes = routed(options);
    for (const auto& [key, value] : more.items()) {
      if (value.is_object()) changes[key].update(value);
      else changes[key] = value;
    }
    return user_error_of([&] { gradients::small_model(changes); });
  };
  expect_contains(refusal(Json::parse(R"({"shared": 8})")),
                  {"model.attention.routed_heads.shared is 8", "model.heads = 8"});
  expect_contains(refusal({{"shared", 3}, {"active", 6}}),
                  {"routed_heads.active is 6", "there are 5 of model.heads = 8"});
  expect_contains(refusal({{"type", "none"}, {"shared", 3}}), {"routed_heads.shared applies only when"});
  const Json query_norm = Json::parse(R"({"type": "query_norm"})");
  expect_contains(refusal(query_norm, Json::parse(R"({"qk_norm": true})")),
                  {"goes by the lengths of queries, which model.qk_norm"});
  expect_contains(refusal(query_norm, Json::parse(R"({"attention": {"unit_length": true}})")),
                  {"goes by the lengths of queries, which model.attention.unit_length"});
  expect_contains(refusal(query_norm, Json::parse(R"({"attention": {"difference": {"lambda": "projected"}}})")),
                  {"needs one query for each head, and there are more"});
  expect_contains(refusal({{"type", "query_norm"}, {"shared", 7}}),
                  {"compares the heads that are not shared, but there is 1"});
  expect_contains(refusal(Json::object(), {{"heads", 257}, {"head_size", 2}}),
                  {"takes up to 256 heads, but model.heads is 257"});
  const auto layers = [](const Json& first, const Json& second) {
    Json changes = routed(first), other = changes["attention"];
    other["routed_heads"] = second;
    changes["attention"] = Json::array({changes["attention"], other});
    return user_error_of([&] { gradients::small_model(changes); });
  };
  expect_contains(layers({{"type", "linear"}, {"active", 2}}, {{"type", "linear"}, {"active", 3}}),
                  {"balance times active is 0.02", "0.03 in other layers"});
  EXPECT_EQ(layers({{"type", "linear"}, {"active", 2}}, {{"type", "linear"}, {"active", 3}, {"balance", 0.0}}), "");
}

}  // namespace
}  // namespace sluice
