// Runs of a model with a part that has a loss of its own and a moving average (foreign_state.h): logged, saved,
// resumed, loaded, shared among ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "model/foreign_state.h"
#include "runs/load_model.h"
#include "runs/tensors/safetensors.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

const std::string kAverage = "blocks.1.attention.mean_value";

class PartStateRuns : public testing::Test {
 protected:
  static TinyRuns::Overrides with(TinyRuns::Overrides more) {
    more.push_back(R"(model.attention={"type": "vga", "centred_values": true})");
    return more;
  }

  const ListedStage stage_{foreign::centred_values()};
  const TinyRuns runs_;
};

TEST_F(PartStateRuns, GoOnWhereTheyStopped) {
  ASSERT_EQ(runs_.train("straight", with({})), 0);
  ASSERT_EQ(runs_.train_until(7, "stopped", with({})), SIGTERM);
  ASSERT_EQ(runs_.train("stopped", with({})), 0);
  EXPECT_TRUE(runs_.metrics("straight") == runs_.metrics("stopped"));
  EXPECT_TRUE(runs_.weights("straight", 12) == runs_.weights("stopped", 12));
}

TEST_F(PartStateRuns, LogTheLossOfThePart) {
  ASSERT_EQ(runs_.train("run", with({"train.steps=4"})), 0);
  const auto lines = runs_.metrics("run", "train");
  ASSERT_EQ(lines.size(), 4u);
  for (const Json& line : lines) EXPECT_GT(line.at("loss_value_size").get<double>(), 0) << line.dump();
}

TEST_F(PartStateRuns, ChangeNoBitWhenTheyAreComputedAgain) {
  for (const std::string policy : {"none", "mlp", "block"}) {
    ASSERT_EQ(runs_.train(policy, with({"train.steps=4", "train.recompute=" + policy, "log.checkpoint_every=0"})), 0);
    EXPECT_TRUE(runs_.metrics(policy) == runs_.metrics("none")) << policy;
    EXPECT_TRUE(runs_.weights(policy, 4) == runs_.weights("none", 4)) << policy;
  }
}

TEST_F(PartStateRuns, AreLoadedWithTheirAverages) {
  ASSERT_EQ(runs_.train("run", with({"train.steps=6"})), 0);
  const auto backend = make_cpu_backend();
  const LoadedModel loaded = load_model(runs_.path("run"), *backend, {});
  const MovingAverages& averages = loaded.model->averages();
  ASSERT_EQ(averages.list().size(), 2u);
  ASSERT_EQ(averages.list()[1].name, kAverage);
  std::vector<float> stored(size_t(averages.list()[1].shape.elements()));
  const NamedTensor target{kAverage, Tensor(stored.data(), DType::kF32, averages.list()[1].shape)};
  SafetensorsFile(std::filesystem::path(loaded.checkpoint) / "model.safetensors")
      .load_into({&target, 1}, SafetensorsFile::Others::kIgnore);
  const Tensor value = averages.value({1});
  for (size_t i = 0; i < stored.size(); ++i) {
    EXPECT_EQ(value.as<float>()[i], stored[i]);
    EXPECT_NE(stored[i], 0.3f) << "the average has not moved";
  }
}

// A step that the guard refuses has been observed and is not learned from.
TEST_F(PartStateRuns, KeepNothingOfAStepThatIsSkipped) {
  const Experiment experiment = runs_.experiment(with({}));
  const TrainingData data = TrainingData::open(experiment);
  const auto averages_after = [&](bool with_skipped) {
    CpuBackend backend;
    Learner learner(backend, experiment);
    learner.model().initialise(experiment.seed);
    if (with_skipped) learner.differentiate(*data.train, 100);
    learner.update(learner.differentiate(*data.train, 0), 1e-3);
    const Tensor all = learner.model().averages().all_values();
    return std::vector<float>(all.as<float>(), all.as<float>() + all.elements());
  };
  EXPECT_EQ(averages_after(true), averages_after(false));
}

}  // namespace
}  // namespace sluice
