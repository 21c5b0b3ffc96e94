// Runs with dropout: stopped and resumed, recomputed, in other micro-batches and on several ranks they draw the same
// masks.
#include <gtest/gtest.h>

#include "ranks/ranks_in_threads.h"
#include "train/learner.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

const std::string kDropout = R"(model.dropout={"hidden": 0.1, "attention": 0.1, "embedding": 0.1})";

TEST(DropoutRuns, AResumedOneEqualsTheUnbroken) {
  for (const char* precision : {"fp32", "bf16"}) {
    const TinyRuns runs;
    const TinyRuns::Overrides overrides = {kDropout, std::string("train.precision=") + precision};
    ASSERT_EQ(runs.train("straight", overrides), 0);
    ASSERT_EQ(runs.train_until(7, "stopped", overrides), SIGTERM);
    ASSERT_EQ(runs.train("stopped", overrides), 0);
    EXPECT_EQ(runs.metrics("straight"), runs.metrics("stopped"));
    EXPECT_TRUE(runs.weights("straight", 12) == runs.weights("stopped", 12)) << precision;
    ASSERT_EQ(runs.train("whole", {"train.precision=" + std::string(precision)}), 0);
    EXPECT_FALSE(runs.weights("straight", 12) == runs.weights("whole", 12)) << "nothing was dropped";
  }
}

TEST(DropoutRuns, RecomputingChangesNoBit) {
  const TinyRuns runs;
  for (const std::string policy : {"none", "mlp", "block"}) {
    ASSERT_EQ(runs.train(policy, {kDropout, "train.recompute=" + policy, "train.steps=4"}), 0);
    EXPECT_TRUE(runs.metrics(policy) == runs.metrics("none")) << policy;
    EXPECT_TRUE(runs.weights(policy, 4) == runs.weights("none", 4)) << policy;
  }
}

// The loss and the gradient's norm of the first step. The sums of a step differ by roundings; another mask of one
// sequence changes the loss by some hundredths.
Gradients first_step(const TinyRuns& runs, int ranks, const TinyRuns::Overrides& overrides) {
  const Experiment experiment = runs.experiment(overrides);
  Gradients out;
  run_ranks(ranks, [&](Communicator& comm) {
    CpuBackend backend;
    Learner learner(backend, experiment, comm);
    learner.model().initialise(experiment.seed);
    const Gradients gradients = learner.differentiate(*TrainingData::open(experiment).train, 0);
    if (comm.rank() == 0) out = gradients;
  });
  return out;
}

TEST(DropoutRuns, MicroBatchesAndRanksDrawTheSameMasks) {
  const TinyRuns runs;
  const auto with = [](const std::string& micro_batch) {
    return TinyRuns::Overrides{kDropout, "train.batch=8", "train.micro_batch=" + micro_batch};
  };
  const Gradients one = first_step(runs, 1, with("8"));
  for (const auto& [ranks, micro_batch] : {std::pair(1, "1"), {1, "3"}, {2, "4"}, {2, "3"}, {4, "1"}}) {
    const Gradients parts = first_step(runs, ranks, with(micro_batch));
    EXPECT_NEAR(parts.loss, one.loss, 1e-6 * one.loss) << ranks << " ranks, micro-batches of " << micro_batch;
    EXPECT_NEAR(parts.norm, one.norm, 1e-5 * one.norm) << ranks << " ranks, micro-batches of " << micro_batch;
  }
}

}  // namespace
}  // namespace sluice
