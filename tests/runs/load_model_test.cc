// A trained model from a run's folder or a checkpoint's: the same weights, the same loss, and one sentence where it
// fails.
#include "runs/load_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/batches.h"
#include "train/failures.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class LoadModelTest : public testing::Test {
 protected:
  LoadModelTest() { runs_.train("run", {"log.checkpoint_every=5", "log.keep=0"}); }

  LoadedModel load(const std::string& path, const LoadModelOptions& options = {}) {
    return load_model(runs_.path(path), *backend_, options);
  }
  double held_out_loss(LoadedModel& loaded, int64_t sequences) const {
    const ModelConfig& config = loaded.experiment.model;
    const auto source =
        make_source(loaded.experiment.data, Split::kHeldOut, config.context, config.vocab_size, loaded.experiment.seed);
    BatchReader batches(sequences);
    return loaded.model->loss(batches.read(*source, 0, sequences)) / double(sequences * config.context);
  }

  TinyRuns runs_;
  std::unique_ptr<Backend> backend_ = make_cpu_backend();
};

TEST_F(LoadModelTest, ARunMeansItsNewestCheckpointAndGivesTheLossOfTraining) {
  LoadedModel loaded = load("run");
  EXPECT_EQ(loaded.step, 12);
  EXPECT_EQ(loaded.checkpoint.filename(), "step_00000012");
  EXPECT_EQ(loaded.experiment.dump(), runs_.json("run", "config.json"));
  // The last evaluation of training took the same 6 sequences, in micro-batches of 4: only the order of sums differs.
  const double trained = runs_.metrics("run", "eval").back()["loss"];
  EXPECT_NEAR(held_out_loss(loaded, 6), trained, 1e-6 * trained);
}

TEST_F(LoadModelTest, ACheckpointIsThatOneAndTheOptionsDecideTheRest) {
  LoadedModel loaded = load("run/checkpoints/step_00000005", {.max_batch = 3, .training = true, .act = DType::kBF16});
  EXPECT_EQ(loaded.step, 5);
  EXPECT_EQ(loaded.model->max_batch(), 3);
  EXPECT_EQ(loaded.model->act(), DType::kBF16);
  EXPECT_EQ(loaded.model->params().all_grads().elements(), loaded.model->params().padded_count());
  LoadedModel whole = load("run/checkpoints/step_00000005");
  // bf16 keeps 8 bits: a relative error of 2^-8 in activations, averaged over 96 losses around 4.
  EXPECT_NEAR(held_out_loss(loaded, 3), held_out_loss(whole, 3), 0.03);
  EXPECT_NE(held_out_loss(loaded, 3), held_out_loss(whole, 3));
}

TEST_F(LoadModelTest, ADamagedCheckpointIsPassedOverForARunAndRefusedByName) {
  flip_byte(runs_.checkpoint("run", 12) + "/model.safetensors", -5);
  LoadedModel loaded = load("run");
  EXPECT_EQ(loaded.step, 10);
  ASSERT_EQ(loaded.damaged.size(), 1u);
  EXPECT_NE(loaded.damaged[0].find("step_00000012"), std::string::npos);
  EXPECT_THROW(load("run/checkpoints/step_00000012"), UserError);
}

TEST_F(LoadModelTest, WhatIsNoRunIsRefusedInOneSentence) {
  EXPECT_NE(message_of<UserError>([&] { load("nowhere"); }).find("no such folder"), std::string::npos);
  fs::create_directory(runs_.path("empty"));
  EXPECT_NE(message_of<UserError>([&] { load("empty"); }).find("no checkpoint in it"), std::string::npos);
}

}  // namespace
}  // namespace sluice
