// Residuals that mix over depth: what they are in special cases, their sources in blocks, what a model with them has
// and refuses, and runs with them. That gradients, decoding and recomputation hold for the plain forms residual_test.cc
// says.
#include "model/residual/depth.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

using namespace parity;

const char* const kTypes[] = {"attention", "delta"};
constexpr double kNoEpsilon = 1e-20;

struct Step {
  Values logits, loss;
  std::map<std::string, Values> gradients;
};

// In f64, over two sequences of the context's length.
Step step_of(const ModelConfig& config) {
  const auto backend = make_cpu_backend();
  Transformer model(*backend, config, {.act = DType::kF64, .max_batch = 2});
  model.initialise(5);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, 2 * config.context);
  const std::vector<int32_t> targets = gradients::random_tokens(1, 2 * config.context);
  Step step;
  step.logits = logits_of(model, tokens, 2, config.context);
  step.loss = {model.forward_backward({tokens.data(), targets.data(), 2, config.context}, 1, false)};
  for (const ParamSpec& spec : model.params().specs()) step.gradients[spec.name] = gradient(model, spec.name);
  return step;
}

// ---- with equal weights a mix is the running sum, but for its length ------------------------------------------------

// And norms do not see lengths: the plain transformer's results, and its gradients for all that it has.
void expect_the_plain_model(Json changes) {
  changes["norm_epsilon"] = kNoEpsilon;
  Json plain = changes;
  plain.erase("residual");
  const Step want = step_of(gradients::small_model(plain)), found = step_of(gradients::small_model(changes));
  EXPECT_LE(distance(found.logits, want.logits), 1e-12);
  EXPECT_LE(distance(found.loss, want.loss), 1e-12);
  for (const auto& [name, slope] : want.gradients)
    EXPECT_LE(distance(found.gradients.at(name), slope), 1e-10) << name << ": gradient";
  EXPECT_GT(found.gradients.size(), want.gradients.size());
}

TEST(Depth, WithEqualWeightsIsThePlainTransformer) {
  const Json models[] = {{{"norm", "layernorm"}},
                         {{"norm", "rmsnorm"}, {"parallel_residual", true}},
                         {{"norm", "rmsnorm"},
                          {"norm_gate", 3},
                          {"registers", 2},
                          {"attention", {{"type", "vga"}, {"value_residual", "learned"}}}},
                         {{"position", "rope"}, {"tied_head", true}, {"mlp", "swiglu"}, {"kv_heads", 1}}};
  for (const Json& model : models)
    for (const Json& residual :
         {Json{{"type", "attention"}}, Json{{"type", "attention"}, {"blocks", 2}},
          Json{{"type", "attention"}, {"blocks", 4}}, Json{{"type", "delta"}, {"init_std", 0}}}) {
      Json changes = model;
      changes.update({{"layers", 4}, {"context", 7}, {"residual", residual}});
      SCOPED_TRACE(changes.dump());
      expect_the_plain_model(changes);
    }
}

// Behind the first block delta's sources are not all that x is the sum of.
TEST(Depth, DeltaInBlocksIsAnotherModelEvenWithEqualWeights) {
  Json changes = {{"layers", 4}, {"context", 7}, {"norm_epsilon", kNoEpsilon}};
  const Step plain = step_of(gradients::small_model(changes));
  changes["residual"] = {{"type", "delta"}, {"blocks", 2}, {"init_std", 0}};
  EXPECT_GT(distance(step_of(gradients::small_model(changes)).logits, plain.logits), 1e-3);
}

// ---- blocks ---------------------------------------------------------------------------------------------------------

// body(changes) for both forms, in one block, in three, and in as many as layers; attention and MLP one after the other
// and side by side.
template <class Body>
void for_blocks(Body body) {
  for (const char* type : kTypes)
    for (const auto& [layers, blocks] : {std::pair(2, 1), {4, 2}, {3, 3}})
      for (const bool parallel : {false, true}) {
        const Json changes = {{"layers", layers},
                              {"parallel_residual", parallel},
                              {"residual", {{"type", type}, {"blocks", blocks}, {"init_std", 0.3}}}};
        SCOPED_TRACE(changes.dump());
        body(changes);
      }
}

TEST(Depth, BlocksHaveTheGradientsThatTheirLossesSay) {
  for_blocks([](const Json& changes) { gradients::check_gradients(changes); });
}

TEST(Depth, BlocksDecodeWhatTheyCompute) {
  for_blocks([](const Json& changes) { decoding::check_decoding(changes, {DType::kF32}); });
}

TEST(Depth, BlocksAreTheSameBitsWhenTheyRunAgain) {
  for_blocks([](Json changes) {
    changes["context"] = 7;
    const ModelConfig config = gradients::small_model(changes);
    const std::vector<Values> want = gradients::bits_of_step(config, Recompute::kNone);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kMlp), want);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), want);
  });
}

TEST(Depth, GoesWithTheRestOfTheModel) {
  for (const char* type : kTypes)
    for (const int blocks : {0, 2}) {
      Json changes = {{"layers", 2},
                      {"norm", "rmsnorm"},
                      {"norm_gate", 3},
                      {"registers", 2},
                      {"tied_head", true},
                      {"attention", {{"type", "vga"}, {"value_residual", "learned"}, {"affine", "linear"}}},
                      {"residual", {{"type", type}, {"blocks", blocks}, {"init_std", 0.3}}}};
      gradients::check_gradients(changes);
      decoding::check_decoding(changes);
    }
}

// Documents are masked in attention; a mix is of one token's states.
TEST(Depth, DocumentsAreWhatTheyAreAlone) {
  const auto backend = make_cpu_backend();
  for (const char* type : kTypes) {
    const ModelConfig config = gradients::small_model(
        {{"context", 6}, {"position", "rope"}, {"residual", {{"type", type}, {"init_std", 0.5}}}});
    Transformer model(*backend, config, {.act = DType::kF64, .max_batch = 1});
    model.initialise(5);
    const std::vector<int32_t> tokens = gradients::random_tokens(0, 6), starts = {0, 0, 2, 2, 2, 2};
    Values packed;
    model.for_logits(model.forward({tokens.data(), nullptr, 1, 6, starts.data()}), [&](int64_t, const Tensor& chunk) {
      for (const double x : values_of(chunk)) packed.push_back(x);
    });
    Values alone = logits_of(model, {tokens[0], tokens[1]}, 1, 2);
    const Values second = logits_of(model, {tokens.begin() + 2, tokens.end()}, 1, 4);
    alone.insert(alone.end(), second.begin(), second.end());
    EXPECT_LE(distance(packed, alone), 1e-12) << type;
  }
}

// ---- what a model has -----------------------------------------------------------------------------------------------

std::vector<std::string> routes_of(const Json& residual) {
  const auto backend = make_cpu_backend();
  const Transformer model(*backend, gradients::small_model({{"layers", 2}, {"residual", residual}}),
                          {.allocate = false});
  std::vector<std::string> out;
  for (const ParamSpec& spec : model.params().specs())
    if (spec.name.ends_with(".query")) out.push_back(spec.name.substr(0, spec.name.size() - 6));
  return out;
}

// Where there is one source, there is nothing to weigh.
TEST(Depth, SublayersWithSourcesToWeighHaveParameters) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(routes_of({{"type", "attention"}}),
            (Names{"blocks.0.route2", "blocks.1.route1", "blocks.1.route2", "final_route"}));
  EXPECT_EQ(routes_of({{"type", "attention"}, {"blocks", 1}}),
            (Names{"blocks.0.route2", "blocks.1.route1", "blocks.1.route2", "final_route"}));
  EXPECT_EQ(routes_of({{"type", "delta"}}), (Names{"blocks.0.route2", "blocks.1.route1", "blocks.1.route2"}));
  EXPECT_EQ(routes_of({{"type", "delta"}, {"blocks", 2}}), (Names{"blocks.1.route1", "blocks.1.route2"}));
}

TEST(Depth, QueriesStartWhereTheirSourcesSay) {
  const auto backend = make_cpu_backend();
  const auto first = [&](const Json& residual) {
    Transformer model(*backend, gradients::small_model({{"width", 256}, {"residual", residual}}), {});
    model.initialise(3);
    const Values query = parameter(model, "blocks.1.route1.query");
    EXPECT_EQ(parameter(model, "blocks.1.route1.gain"), Values(256, 1.0));
    return norm_of(query) / 16;
  };
  EXPECT_EQ(first("attention"), 0);
  EXPECT_NEAR(first("delta"), 0.02, 0.004);  // four deviations of a deviation of 256
  EXPECT_NEAR(first({{"type", "attention"}, {"init_std", 0.5}}), 0.5, 0.1);
  EXPECT_EQ(first({{"type", "delta"}, {"init_std", 0}}), 0);
}

TEST(Depth, KeepsOneGradientForEachSource) {
  const auto backend = make_cpu_backend();
  const auto columns = [&](const Json& residual, const std::string& name) {
    const Transformer model(*backend, gradients::small_model({{"layers", 4}, {"residual", residual}}),
                            {.allocate = false});
    return model.plan().buffer(model.plan().find(name)).shape.cols() / 12;
  };
  EXPECT_EQ(columns("attention", "depth.states"), 9);
  EXPECT_EQ(columns("attention", "depth.d_sources"), 9);
  EXPECT_EQ(columns({{"type", "attention"}, {"blocks", 2}}, "depth.states"), 9);
  EXPECT_EQ(columns({{"type", "attention"}, {"blocks", 2}}, "depth.d_sources"), 3);
}

// What instruments are shown: the mix that is read; with equal weights the running sum by the number of sources.
TEST(Depth, TheStreamIsWhatIsRead) {
  const auto backend = make_cpu_backend();
  const auto stream = [&](const Json& residual, int64_t layer) {
    Transformer model(*backend,
                      gradients::small_model({{"layers", 3}, {"residual", residual}, {"norm_epsilon", kNoEpsilon}}),
                      {.act = DType::kF64});
    model.initialise(5);
    const std::vector<int32_t> tokens = gradients::random_tokens(0, 3);
    return values_of(model.stream_before(model.forward({tokens.data(), nullptr, 1, 3}), layer));
  };
  for (const int64_t layer : {0, 1, 3}) {
    Values want = stream("add", layer);
    for (double& x : want) x /= double(2 * layer + 1);
    EXPECT_LE(distance(stream("attention", layer), want), 1e-12) << layer;
  }
  Values want = stream("add", 1);
  for (double& x : want) x *= 1 + 1.0 / 3;
  EXPECT_LE(distance(stream({{"type", "delta"}, {"init_std", 0}}, 1), want), 1e-12);
  EXPECT_LE(distance(stream({{"type", "delta"}, {"init_std", 0}}, 3), stream("add", 3)), 1e-12);
}

TEST(Depth, RefusesWhatCannotBe) {
  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  EXPECT_EQ(refusal({{"layers", 4}, {"residual", {{"type", "attention"}, {"blocks", 3}}}}),
            "model.residual.blocks = 3 must divide model.layers = 4");
  EXPECT_EQ(
      refusal({{"layers", 256}, {"residual", "delta"}}),
      "model.layers = 256: the residual mixes 513 sources, of at most 512; model.residual.blocks makes them fewer");
  EXPECT_EQ(refusal({{"layers", 256}, {"residual", {{"type", "delta"}, {"blocks", 64}}}}), "");
  EXPECT_EQ(refusal({{"residual", {{"type", "delta"}, {"init_std", -0.5}}}}),
            "model.residual.init_std = -0.5: a deviation is 0 or above; -1 stands for the default");
  expect_contains(
      refusal({{"residual", {{"blocks", 2}}}}),
      {"model.residual.blocks applies only when model.residual.type is one of \"attention\", \"delta\"", "\"add\""});
  expect_contains(refusal({{"residual", {{"type", "delta"}, {"outlier_loss", 0.1}}}}),
                  {"model.residual.outlier_loss applies only when model.residual.type is \"add\""});
}

// ---- runs -----------------------------------------------------------------------------------------------------------

class DepthRuns : public testing::Test {
 protected:
  static TinyRuns::Overrides with(const std::string& residual, TinyRuns::Overrides more = {}) {
    more.push_back("model.residual=" + residual);
    return more;
  }
  const std::vector<std::string> residuals_ = {R"({"type": "attention"})", R"({"type": "delta", "blocks": 2})"};
  const TinyRuns runs_;
};

TEST_F(DepthRuns, GoOnWhereTheyStopped) {
  for (size_t i = 0; i < residuals_.size(); ++i) {
    const std::string straight = fmt::format("straight{}", i), stopped = fmt::format("stopped{}", i);
    ASSERT_EQ(runs_.train(straight, with(residuals_[i])), 0);
    ASSERT_EQ(runs_.train_until(7, stopped, with(residuals_[i])), SIGTERM);
    ASSERT_EQ(runs_.train(stopped, with(residuals_[i])), 0);
    EXPECT_TRUE(runs_.metrics(straight) == runs_.metrics(stopped));
    EXPECT_TRUE(runs_.weights(straight, 12) == runs_.weights(stopped, 12));
  }
}

// With probes, full ones too, in between.
TEST_F(DepthRuns, ChangeNoBitWhenTheyAreComputedAgain) {
  for (const std::string& residual : residuals_)
    for (const std::string precision : {"fp32", "bf16"}) {
      const auto run = [&](const std::string& policy) {
        return fmt::format("{}_{}_{}", &residual - residuals_.data(), precision, policy);
      };
      for (const std::string policy : {"none", "mlp", "block"}) {
        ASSERT_EQ(runs_.train(run(policy),
                              with(residual, {"train.steps=4", "train.precision=" + precision, "log.probe_every=2",
                                              "train.recompute=" + policy, "log.checkpoint_every=0"})),
                  0);
        EXPECT_TRUE(runs_.metrics(run(policy)) == runs_.metrics(run("none"))) << policy << ": metrics differ";
        EXPECT_TRUE(runs_.weights(run(policy), 4) == runs_.weights(run("none"), 4)) << policy << ": weights differ";
      }
    }
}

}  // namespace
}  // namespace sluice
