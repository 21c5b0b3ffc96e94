// What the stage value_residual promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/stages/value_residual.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/foreign_parts.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 5, kBatch = 2;

class ValueResidualStage : public testing::Test {
 protected:
  Transformer model(const Json& attention, int64_t layers = 3, Recompute recompute = Recompute::kNone) const {
    Transformer model(*backend_,
                      gradients::small_model({{"context", kT}, {"layers", layers}, {"attention", attention}}),
                      {.act = DType::kF64, .max_batch = kBatch, .recompute = recompute});
    model.initialise(9);
    return model;
  }
  // The loss and every gradient of a step, by name.
  std::map<std::string, Values> step(Transformer& model) const {
    std::map<std::string, Values> out;
    out["loss"] = {model.forward_backward({tokens_.data(), targets_.data(), kBatch, kT}, 1, false)};
    for (const ParamSpec& spec : model.params().specs()) out[spec.name] = gradient(model, spec.name);
    return out;
  }

  const std::unique_ptr<Backend> backend_ = make_cpu_backend();
  const std::vector<int32_t> tokens_ = gradients::random_tokens(0, kBatch*kT),
                             targets_ = gradients::random_tokens(1, kBatch*kT);
};

TEST_F(ValueResidualStage, MixesEveryLaterLayersValuesWithTheFirsts) {
  Transformer mixing = model({{"value_residual", {{"type", "fixed"}, {"own", 0.75}, {"first", -0.5}}}});
  Values first;
  mixing.forward({tokens_.data(), nullptr, kBatch, kT}, [&](const Pass& pass, int64_t layer) {
    const AttentionLayer& attention = mixing.blocks()[size_t(layer)].attention();
    const Values own = values_of(attention.values(pass)), summed = values_of(attention.heads(pass).v);
    if (layer == 0) {
      first = own;
      EXPECT_EQ(summed, own);
      return;
    }
    for (size_t i = 0; i < own.size(); ++i) EXPECT_NEAR(summed[i], 0.75 * own[i] - 0.5 * first[i], 1e-15);
    EXPECT_NE(attention.weights(), nullptr);
  });
}

// Own values alone are the model without it: the same loss and gradients.
TEST_F(ValueResidualStage, IsTheBaselineWhereTheFirstsShareIsNothing) {
  Transformer plain = model("softmax");
  const auto want = step(plain);
  for (const char* type : {"fixed", "learned"})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
      Transformer mixing = model({{"value_residual", {{"type", type}, {"own", 1.0}, {"first", 0.0}}}}, 3, recompute);
      const auto found = step(mixing);
      for (const auto& [name, values] : want) EXPECT_EQ(found.at(name), values) << name;
      EXPECT_EQ(found.size(), want.size() + (std::string(type) == "learned" ? 4 : 0));
    }
}

TEST_F(ValueResidualStage, LearnsTwoNumbersInEachLaterLayer) {
  Transformer mixing = model("value_residual");
  EXPECT_EQ(mixing.params().count(), model("softmax").params().count() + 4);
  for (const char* name : {"blocks.1.attention.value_residual.own", "blocks.2.attention.value_residual.first"}) {
    EXPECT_EQ(parameter(mixing, name), Values{0.5});
    EXPECT_NE(step(mixing).at(name), Values{0}) << name;
  }
  EXPECT_FALSE(mixing.params().find("blocks.0.attention.value_residual.own"));
}

// The first layer keeps its values for later ones of the kind, and for nobody else.
TEST_F(ValueResidualStage, GoesWithAnyPatternOverTheLayers) {
  const Json mixing = {{"value_residual", "learned"}};
  Json gated = {{"type", "vga"}, {"site", "source"}, {"exclude_self", true}};
  gated.update(mixing);
  for (const Json& attention : {Json{"softmax", mixing}, Json{mixing, "softmax"}, Json{"vga", mixing, "key_value_bias"},
                                Json{gated, mixing, "softmax"}}) {
    gradients::check_gradients({{"attention", attention}, {"layers", 4}, {"kv_heads", 1}});
    decoding::check_decoding({{"attention", attention}, {"layers", 4}, {"kv_heads", 1}}, {DType::kF32});
    Transformer kept = model(attention, 4), again = model(attention, 4, Recompute::kBlock);
    EXPECT_EQ(step(again), step(kept)) << attention.dump();
  }
}

TEST_F(ValueResidualStage, IsNothingWhereNoLaterLayerMixes) {
  const Json only_first = {Json{{"value_residual", "learned"}}, Json{{"type", "softmax"}, {"repeat", 2}}};
  Transformer plain = model("softmax"), first = model(only_first), single = model("value_residual", 1);
  EXPECT_EQ(step(first), step(plain));
  EXPECT_FALSE(first.plan().find("value_residual.values"));
  Transformer plain_single = model("softmax", 1);
  EXPECT_EQ(step(single), step(plain_single));
}

TEST_F(ValueResidualStage, IsRefusedInASentence) {
  const ListedStage wide(foreign::wide_values());
  const Json pattern = {Json{{"wide_values", 2}}, Json{{"value_residual", "learned"}}};
  expect_contains(user_error_of([&] {
                    Transformer(*backend_, gradients::small_model({{"attention", pattern}}), {.allocate = false});
                  }),
                  {"model.attention.value_residual", "layer 1", "layer 0", "2 heads of 6", "2 of 12"});
  expect_contains(user_error_of([&] {
                    gradients::small_model({{"attention", {{"value_residual", {{"own", 0.3}}}}}});
                  }),
                  {"model.attention.value_residual.own applies only when"});
}

// A model whose later layers do not have it is told so; whether layer 0 has it changes nothing.
TEST(ValueResidualConfig, SaysWhereItMixesNothing) {
  const auto idle = [](const Json& attention, int64_t layers) {
    const ModelConfig config = gradients::small_model({{"attention", attention}, {"layers", layers}});
    return config.attention.idle(config);
  };
  const std::vector<std::string> one = idle("value_residual", 1);
  ASSERT_EQ(one.size(), 1u);
  expect_contains(one[0], {"model.attention.value_residual mixes nothing", "model.layers = 1"});
  const std::vector<std::string> first = idle({"value_residual", "softmax"}, 2);
  ASSERT_EQ(first.size(), 1u);
  expect_contains(first[0], {"model.attention[0].value_residual mixes nothing"});
  EXPECT_TRUE(idle("value_residual", 2).empty());
  EXPECT_TRUE(idle({"softmax", "value_residual"}, 2).empty());
  EXPECT_TRUE(idle("vga", 1).empty());
}

}  // namespace
}  // namespace sluice
