// Recomputing instead of keeping: the same bits (losses, probes, maps, weights) from less memory, for every attention
// preset.
#include <gtest/gtest.h>

#include "model/parity.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

using Policy = std::string;

TEST(Recompute, ChangesNoBitOfARun) {
  for (const AttentionPreset& preset : attention_presets()) {
    SCOPED_TRACE(preset.name);
    const TinyRuns runs;
    for (const Policy policy : {"none", "mlp", "block"}) {
      SCOPED_TRACE(policy);
      ASSERT_EQ(runs.train(policy, {"model.attention=" + std::string(preset.name), "train.recompute=" + policy,
                                    "model.layers=3", "train.steps=4", "log.probe_every=2", "log.checkpoint_every=0"}),
                0);
      EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << "metrics differ";
      EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << "weights differ";
      EXPECT_TRUE(runs.file(policy, "attention/step_00000004.json") ==
                  runs.file("none", "attention/step_00000004.json"))
          << "maps differ";
    }
  }
}

TEST(Recompute, ChangesNoBitOfLowRanksAndGatedNorms) {
  const std::vector<std::string> models[] = {
      {R"(model.attention={"reads": "hidden_and_output", "grain": "element", "rank": 3, "bias": true})"},
      {R"(model.attention={"type": "vga", "site": "source", "rank": 4})", "model.norm_gate=2"},
      {R"(model.attention={"reads": "output", "rank": 2})", "model.norm_gate=4", "model.norm=rmsnorm"},
      {"model.attention=hyga", "model.norm_gate=2"},
      {R"(model.attention={"type": "vga", "site": "source", "gate": {"second": {"reads": "hidden", "bias": true}}})"},
      {"model.norm_gate=4", "model.parallel_residual=true"}};
  for (const std::vector<std::string>& model : models) {
    SCOPED_TRACE(model[0]);
    const TinyRuns runs;
    for (const Policy policy : {"none", "mlp", "block"}) {
      SCOPED_TRACE(policy);
      std::vector<std::string> changes = model;
      for (const std::string& more : {"train.recompute=" + policy, std::string("model.layers=3"),
                                      std::string("train.steps=4"), std::string("log.checkpoint_every=0")})
        changes.push_back(more);
      ASSERT_EQ(runs.train(policy, changes), 0);
      EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << "metrics differ";
      EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << "weights differ";
    }
  }
}

TEST(Recompute, ChangesNoBitOfALlamaLikeRun) {
  for (const Policy qk_norm : {"false", "true"}) {
    const TinyRuns runs;
    for (const Policy policy : {"none", "mlp", "block"}) {
      ASSERT_EQ(runs.train(policy, {"model.norm=rmsnorm", "model.position=rope", "model.mlp=swiglu", "model.bias=false",
                                    "model.kv_heads=1", "model.layers=3", "model.qk_norm=" + qk_norm,
                                    "train.recompute=" + policy, "train.steps=4", "log.checkpoint_every=0"}),
                0);
      EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << policy << ": metrics differ";
      EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << policy << ": weights differ";
    }
  }
}

TEST(Recompute, ChangesNoBitOfAParallelRun) {
  const TinyRuns runs;
  for (const Policy policy : {"none", "mlp", "block"}) {
    ASSERT_EQ(runs.train(policy,
                         {"model.parallel_residual=true", "model.position=rope", "model.mlp=gelu_erf",
                          "model.qk_norm=true", "model.layers=3", "model.head_size=6", "model.attention=vga",
                          "train.recompute=" + policy, "train.steps=4", "log.probe_every=2", "log.checkpoint_every=0"}),
              0);
    EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << policy << ": metrics differ";
    EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << policy << ": weights differ";
  }
}

TEST(Recompute, MayChangeWhenARunGoesOn) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("straight", {}), 0);
  ASSERT_EQ(runs.train_until(7, "stopped", {}), SIGTERM);
  ASSERT_EQ(runs.train("stopped", {"train.recompute=block", "train.precision=fp32"}), 0);
  EXPECT_TRUE(runs.metrics("straight") == runs.metrics("stopped")) << "metrics differ";
  EXPECT_TRUE(runs.weights("straight", 12) == runs.weights("stopped", 12));
}

// GPT-2's shape, narrow: a block keeps 10 to 13 numbers per token and column; the MLP's first product is 4 of them, and
// the block's input 1. What does not depend on the number of layers stays.
TEST(Recompute, KeepsLess) {
  const auto backend = make_cpu_backend();
  const auto bytes = [&](Recompute recompute, int64_t layers) {
    const ModelConfig config = parity::model_config({{"vocab_size", 64},
                                                     {"context", 64},
                                                     {"layers", layers},
                                                     {"heads", 2},
                                                     {"width", 64},
                                                     {"attention", "softmax"}});
    return double(Transformer(*backend, config, {.max_batch = 4, .recompute = recompute}).arena_bytes());
  };
  const double column = 4.0 * 4 * 64 * 64;  // one number per token and column, f32
  const auto per_layer = [&](Recompute recompute) { return (bytes(recompute, 12) - bytes(recompute, 4)) / 8 / column; };
  EXPECT_NEAR(per_layer(Recompute::kNone) - per_layer(Recompute::kMlp), 4, 0.01);
  EXPECT_NEAR(per_layer(Recompute::kBlock), 1, 0.01);
}

}  // namespace
}  // namespace sluice
