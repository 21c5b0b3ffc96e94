// Runs of models whose layers differ: what the trainer, checkpoints, resume, comparison and export make of a pattern in
// model.attention.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "interchange/export.h"
#include "model/foreign_parts.h"
#include "runs/load_model.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

const std::string kPattern = R"(model.attention=["vga", "softmax"])";

TEST(LayerPatternRuns, GoOnWhereTheyStopped) {
  const TinyRuns runs;
  const TinyRuns::Overrides overrides = {kPattern, "model.layers=3", "log.analyze_every=6", "log.analyze_sequences=3"};
  ASSERT_EQ(runs.train("straight", overrides), 0);
  ASSERT_EQ(runs.train_until(7, "stopped", overrides), SIGTERM);
  ASSERT_EQ(runs.train("stopped", overrides), 0);
  EXPECT_TRUE(runs.metrics("straight") == runs.metrics("stopped"));
  EXPECT_TRUE(runs.weights("straight", 12) == runs.weights("stopped", 12));
  const Json stored = runs.json("straight", "config.json")["model"]["attention"];
  ASSERT_EQ(stored.size(), 2u);
  EXPECT_EQ(stored[0]["gate"]["reads"], "value");
  EXPECT_EQ(stored[1]["repeat"], 1);
  for (const Json& line : runs.metrics("straight", "gate")) EXPECT_NE(line["layer"], 1) << line.dump();
}

TEST(LayerPatternRuns, ChangeNoBitWhenTheyAreComputedAgain) {
  const TinyRuns runs;
  for (const std::string policy : {"none", "mlp", "block"}) {
    ASSERT_EQ(runs.train(policy, {kPattern, "model.layers=3", "model.qk_norm=true", "train.steps=4",
                                  "train.recompute=" + policy, "log.checkpoint_every=0"}),
              0);
    EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << policy;
    EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << policy;
  }
}

TEST(LayerPatternRuns, OfOneKindAreTheRunsOfThatKind) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("one", {"model.attention=vga"}), 0);
  ASSERT_EQ(runs.train("list", {R"(model.attention=["vga"])"}), 0);
  EXPECT_TRUE(runs.metrics("one") == runs.metrics("list"));
  EXPECT_TRUE(runs.weights("one", 12) == runs.weights("list", 12));
}

TEST(LayerPatternRuns, AreOtherModelsThanThoseOfOneKind) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", {kPattern, "train.steps=4"}), 0);
  expect_contains(user_error_of([&] {
                    runs.train("run", {"model.attention=vga", "train.steps=4"});
                  }),
                  {"model.attention"});
}

// ---- layers of a config -------------------------------------------------------------------------------------------------

TEST(LayerPatternRuns, ChangeAsAWhole) {
  const TinyRuns runs;
  const auto of = [&](const TinyRuns::Overrides& overrides) {
    return runs.experiment(overrides).model.attention.name();
  };
  runs.folder().write("listed.json", R"({"base": "tiny.json", "model": {"attention": ["vga", "softmax"]}})");
  const auto listed = [&](const TinyRuns::Overrides& overrides) {
    return load_experiment(runs.path("listed.json"), overrides).model.attention.name();
  };
  EXPECT_EQ(of({kPattern}), "vga, softmax");
  EXPECT_EQ(listed({}), "vga, softmax");
  EXPECT_EQ(listed({"model.attention=relu"}), "relu");
  EXPECT_EQ(listed({"model.attention.type=relu"}), "relu");
  EXPECT_EQ(listed({R"(model.attention=["relu"])"}), "relu");
  expect_contains(user_error_of([&] { listed({"model.attention.score=relu"}); }),
                  {"model.attention is a list (", "listed.json",
                   "model.attention.score (--set model.attention.score=relu)", "give the whole list"});
  expect_contains(user_error_of([&] { listed({R"(model.attention=["vga", {"site": "source"}])"}); }),
                  {"model.attention[1].gate.site applies only when"});
}

TEST(LayerPatternRuns, CannotBeComputedByCudnnWhereALayerCannot) {
  const TinyRuns runs;
  const TinyRuns::Overrides cudnn = {"train.attention_backend=cudnn", "device=cuda", "train.precision=bf16"};
  auto with = [&](const std::string& attention) {
    auto overrides = cudnn;
    overrides.push_back("model.attention=" + attention);
    return user_error_of([&] { runs.experiment(overrides); });
  };
  EXPECT_EQ(with(R"(["vga", "softmax"])"), "");
  expect_contains(with(R"(["vga", "relu"])"), {"needs the score function softmax, but model.attention's is relu"});
  expect_contains(with(R"(["vga", "key_bias"])"), {"needs attention without a bias slot"});
}

// ---- export ---------------------------------------------------------------------------------------------------------------

TEST(LayerPatternRuns, AreExportedWithTheirPattern) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", {kPattern, "train.steps=4"}), 0);
  std::vector<std::string> damaged;
  const Checkpoint checkpoint = open_checkpoint(runs.path("run"), damaged);
  export_checkpoint(checkpoint, stored_experiment(checkpoint).model, runs.path("out"), {});
  const Json config = runs.json("out", "config.json");
  EXPECT_EQ(config["sluice_model"]["attention"][1]["type"], "softmax");
  expect_contains(runs.file("out", "README.md"),
                  {"- softmax\n- vga\n", "vga, softmax (over the layers, again and again)"});
}

TEST(LayerPatternRuns, WithAPartThatTheExportedPythonLacksAreRefusedByItsName) {
  const ListedCore core(foreign::running_sum());
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", {R"(model.attention=["vga", {"core": "running_sum"}])", "train.steps=4"}), 0);
  std::vector<std::string> damaged;
  const Checkpoint checkpoint = open_checkpoint(runs.path("run"), damaged);
  expect_contains(
      user_error_of([&] { export_checkpoint(checkpoint, stored_experiment(checkpoint).model, runs.path("out"), {}); }),
      {"running_sum", "exported Python does not compute"});
  EXPECT_FALSE(std::filesystem::exists(runs.path("out")));
}

}  // namespace
}  // namespace sluice
