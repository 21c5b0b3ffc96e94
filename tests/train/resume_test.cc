// A run that was stopped, cut off or damaged on disk, and then resumed, equals the straight run bit for bit: losses,
// weights, optimizer state, metrics lines and maps; for every attention preset and both precisions.
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "base/config/json_text.h"
#include "data/llmc_shard.h"
#include "train/failures.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSteps = 12;

class Resume : public testing::Test {
 protected:
  void expect_equal(const std::string& straight, const std::string& other) const {
    EXPECT_EQ(runs_.metrics(straight), runs_.metrics(other));
    EXPECT_TRUE(runs_.weights(straight, kSteps) == runs_.weights(other, kSteps)) << "weights differ";
    EXPECT_TRUE(runs_.optimizer(straight, kSteps) == runs_.optimizer(other, kSteps)) << "optimizer state differs";
    EXPECT_EQ(runs_.file(straight, "attention/step_00000012.json"), runs_.file(other, "attention/step_00000012.json"));
  }
  void expect_stop_and_resume_equals_straight(const TinyRuns::Overrides& overrides) const {
    ASSERT_EQ(runs_.train("straight", overrides), 0);
    ASSERT_EQ(runs_.train_until(7, "stopped", overrides), SIGTERM);
    EXPECT_EQ(list_checkpoints(runs_.path("stopped/checkpoints")).back(), 7);
    EXPECT_EQ(runs_.metrics("stopped", "train").size(), 7u);
    ASSERT_EQ(runs_.train("stopped", overrides), 0);
    expect_equal("straight", "stopped");
  }

  TinyRuns runs_;
};

using PresetCase = std::tuple<std::string, std::string>;

class ResumePreset : public Resume, public testing::WithParamInterface<PresetCase> {};

TEST_P(ResumePreset, EqualsTheStraightRun) {
  const auto& [preset, precision] = GetParam();
  // Checkpoints at the stop and the end only: the disk is what takes the time here.
  expect_stop_and_resume_equals_straight(
      {"model.attention=" + preset, "train.precision=" + precision, "log.checkpoint_every=0"});
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const AttentionPreset& preset : attention_presets()) names.push_back(preset.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, ResumePreset,
                         testing::Combine(testing::ValuesIn(preset_names()), testing::Values("fp32", "bf16")),
                         [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

TEST_F(Resume, Sgd) {
  expect_stop_and_resume_equals_straight(
      {"train.optimizer.type=sgd", "train.optimizer.momentum=0.9", "train.optimizer.lr=0.1"});
}

TEST_F(Resume, MuonAndALlamaLikeModel) {
  expect_stop_and_resume_equals_straight({"train.optimizer.type=muon", "train.optimizer.adamw_lr=0.001",
                                          "model.norm=rmsnorm", "model.position=rope", "model.mlp=swiglu",
                                          "model.qk_norm=true", "model.kv_heads=1"});
}

TEST_F(Resume, MuonInBf16) {
  expect_stop_and_resume_equals_straight(
      {"train.optimizer.type=muon", "train.precision=bf16", "model.mlp=relu_squared"});
}

TEST_F(Resume, SharedValuesGatedAtTheSourceByElement) {
  expect_stop_and_resume_equals_straight({"model.kv_heads=1", "model.bias=true", "model.tied_head=true",
                                          R"(model.attention={"type":"vga","site":"source","grain":"element"})"});
}

// 20 windows and 72 sequences: the order is shuffled anew three times on the way.
TEST_F(Resume, TokenShardsOverSeveralEpochs) {
  std::vector<uint16_t> tokens(20 * 32 + 1);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = uint16_t(i * i % 67);
  write_llmc_shard<uint16_t>(runs_.path("tokens.bin"), tokens);
  const std::string list = "[\"" + runs_.path("tokens.bin") + "\"]";
  expect_stop_and_resume_equals_straight(
      {"data={\"type\":\"tokens\",\"train_shards\":" + list + ",\"validation_shards\":" + list + "}"});
}

TEST_F(Resume, AfterACrashFromTheNewestCheckpoint) {
  ASSERT_EQ(runs_.train("straight", {}), 0);
  runs_.crash_after(8, "crashed", {});
  EXPECT_EQ(runs_.json("crashed", "info.json")["status"], "failed");
  EXPECT_EQ(runs_.metrics("crashed", "train").size(), 8u);
  EXPECT_EQ(list_checkpoints(runs_.path("crashed/checkpoints")), std::vector<int64_t>{5});
  runs_.crash_after(5, "crashed", {});  // between steps 10 and 11
  EXPECT_EQ(runs_.metrics("crashed", "train").size(), 10u) << "lines of steps 6 to 8 stand twice";
  ASSERT_EQ(runs_.train("crashed", {}), 0);
  expect_equal("straight", "crashed");
  EXPECT_EQ(runs_.json("crashed", "info.json")["status"], "done");
}

TEST_F(Resume, BeforeTheFirstCheckpointStartsAnew) {
  ASSERT_EQ(runs_.train("straight", {}), 0);
  runs_.crash_after(3, "crashed", {});
  ASSERT_EQ(runs_.train("crashed", {}), 0);
  expect_equal("straight", "crashed");
}

TEST_F(Resume, ADamagedNewestCheckpointIsReportedAndTheOneBeforeUsed) {
  ASSERT_EQ(runs_.train("straight", {}), 0);
  ASSERT_EQ(runs_.train_until(7, "damaged", {}), SIGTERM);
  flip_byte(runs_.checkpoint("damaged", 7) + "/model.safetensors", -100);
  testing::internal::CaptureStdout();
  ASSERT_EQ(runs_.train("damaged", {}), 0);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_NE(out.find("step_00000007/model.safetensors is damaged"), std::string::npos) << out;
  EXPECT_NE(out.find("at step 5"), std::string::npos) << out;
  EXPECT_NE(out.find("it was set aside as " + runs_.checkpoint("damaged", 7) + ".damaged"), std::string::npos) << out;
  EXPECT_TRUE(fs::exists(runs_.checkpoint("damaged", 7) + ".damaged/model.safetensors"));
  expect_equal("straight", "damaged");
}

// The config alone may be gone; the checkpoints still say of which experiment they are.
TEST_F(Resume, TheCheckpointsConfigIsComparedToo) {
  ASSERT_EQ(runs_.train_until(7, "a", {}), SIGTERM);
  fs::remove(runs_.path("a/config.json"));
  const auto problem = [&] {
    return message_of<UserError>([&] { runs_.train("a", {"train.optimizer.lr=0.5", "train.batch=2"}); });
  };
  EXPECT_NE(problem().find("train.batch is 6, but 2 is asked for"), std::string::npos) << problem();
  EXPECT_FALSE(fs::exists(runs_.path("a/config.json")));
  // As a start over that was broken off could leave it: a config beside another's checkpoints.
  runs_.folder().write("a/config.json", runs_.experiment({"train.optimizer.lr=0.5", "train.batch=2"}).dump().dump());
  EXPECT_NE(problem().find("is of another experiment: its train.batch is 6, but 2"), std::string::npos) << problem();
  fs::remove(runs_.path("a/config.json"));
  EXPECT_EQ(runs_.train("a", {}), 0);
}

TEST_F(Resume, WhenAllAreDamagedNothingIsTouched) {
  ASSERT_EQ(runs_.train_until(7, "damaged", {}), SIGTERM);
  for (const int64_t step : {5, 7}) flip_byte(runs_.checkpoint("damaged", step) + "/optimizer.safetensors", -1);
  const std::string metrics = runs_.file("damaged", "metrics.jsonl"), info = runs_.file("damaged", "info.json");
  const std::string message = message_of<UserError>([&] { runs_.train("damaged", {}); });
  EXPECT_NE(message.find("none of the 2 checkpoints is whole"), std::string::npos) << message;
  EXPECT_EQ(runs_.file("damaged", "metrics.jsonl"), metrics);
  EXPECT_EQ(runs_.file("damaged", "info.json"), info);
}

TEST_F(Resume, FromACheckpointOfAnotherRun) {
  ASSERT_EQ(runs_.train("straight", {}), 0);
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  ASSERT_EQ(runs_.train("second", {}, runs_.path("first")), 0);
  EXPECT_TRUE(runs_.weights("straight", kSteps) == runs_.weights("second", kSteps));
  EXPECT_TRUE(runs_.optimizer("straight", kSteps) == runs_.optimizer("second", kSteps));
  EXPECT_EQ(runs_.metrics("second", "train").front()["step"], 8) << "its own steps only";
  EXPECT_EQ(list_checkpoints(runs_.path("first/checkpoints")), (std::vector<int64_t>{5, 7})) << "left as it was";
}

// Killed after it was begun and before its own first checkpoint, a fork begins from the same place again.
TEST_F(Resume, AForkWithoutItsFirstCheckpointBeginsThereAgain) {
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  ASSERT_EQ(runs_.train("whole", {}, runs_.path("first")), 0);
  ASSERT_EQ(runs_.train("killed", {}, runs_.path("first")), 0);
  EXPECT_EQ(runs_.json("killed", "origin.json")["checkpoint"], runs_.checkpoint("first", 7));
  const auto lose_what_comes_later = [&] {
    fs::remove_all(runs_.path("killed/checkpoints"));
    fs::remove(runs_.path("killed/info.json"));
  };
  lose_what_comes_later();
  ASSERT_EQ(runs_.train("killed", {}), 0);
  expect_equal("whole", "killed");
  ASSERT_EQ(runs_.train("killed", {}, runs_.path("first")), 0) << "the same command goes on";
  lose_what_comes_later();
  fs::remove_all(runs_.path("first"));
  const std::string message = message_of<UserError>([&] { runs_.train("killed", {}); });
  EXPECT_NE(message.find("was begun from"), std::string::npos) << message;
}

TEST_F(Resume, AForkPastItsEndIsRefused) {
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  for (const char* steps : {"train.steps=7", "train.steps=5"}) {
    const std::string message = message_of<UserError>([&] { runs_.train("second", {steps}, runs_.path("first")); });
    EXPECT_NE(message.find("is of step 7, and train.steps is"), std::string::npos) << message;
    EXPECT_TRUE(runs_.metrics("second").empty());  // the command takes the folder away (tests/cli/odd_uses.sh)
    EXPECT_FALSE(fs::exists(runs_.path("second/checkpoints/latest")));
  }
  EXPECT_EQ(runs_.train("second", {"train.steps=8"}, runs_.path("first")), 0);
}

// Their disk may not be mounted: to start over would drop the metrics.
TEST_F(Resume, CheckpointsThatAreGoneAreNoReasonToStartOver) {
  ASSERT_EQ(runs_.train("a", {}), 0);
  const std::string metrics = runs_.file("a", "metrics.jsonl");
  const auto message = [&](const char* resume) { return message_of<UserError>([&] { runs_.train("a", {}, resume); }); };
  fs::rename(runs_.path("a/checkpoints"), runs_.path("elsewhere"));
  EXPECT_NE(message("auto").find("has the results of 12 steps, but no checkpoint of them any more"), std::string::npos);
  fs::create_directory_symlink(runs_.path("missing"), runs_.path("a/checkpoints"));
  EXPECT_NE(message("auto").find("a/checkpoints is a link to " + runs_.path("missing") + ", where nothing is now"),
            std::string::npos);
  EXPECT_EQ(runs_.file("a", "metrics.jsonl"), metrics);
  fs::rename(runs_.path("elsewhere"), runs_.path("missing"));
  EXPECT_EQ(runs_.train("a", {}), 0) << "mounted again";
  fs::rename(runs_.path("missing"), runs_.path("elsewhere"));
  EXPECT_EQ(runs_.train("a", {}, "never"), 0);
  EXPECT_TRUE(fs::is_symlink(runs_.path("a/old1/checkpoints"))) << "the link is moved too";
  EXPECT_EQ(runs_.file("a/old1", "metrics.jsonl"), metrics);
}

TEST_F(Resume, AForkMayBeginWithAFreshOptimizer) {
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  for (const char* type : {"sgd", "muon"}) {
    const TinyRuns::Overrides overrides = {std::string("train.optimizer.type=") + type, "train.steps=9"};
    const std::string message = message_of<UserError>([&] { runs_.train("none", overrides, runs_.path("first")); });
    EXPECT_NE(message.find(fmt::format(
                  "train.optimizer.type = \"adamw\", but this config's is \"{}\": add --fresh-optimizer", type)),
              std::string::npos)
        << message;
    ResumeOption option = ResumeOption::parse(runs_.path("first"));
    option.fresh_optimizer = true;
    HookedBackend backend;
    Experiment experiment = runs_.experiment(overrides);
    const StopSignals signals;
    const RunFolder folder(runs_.path(type), experiment.dump(), option);
    Trainer trainer(backend, experiment, TrainingData::open(experiment), &folder);
    EXPECT_EQ(trainer.run(option), 0);
    EXPECT_TRUE(runs_.weights("first", 7) == runs_.weights(type, 7)) << "its first checkpoint has the weights";
    EXPECT_EQ(runs_.trainer_state(type, 7)["updates"], 0);
    EXPECT_EQ(runs_.trainer_state(type, 9)["updates"], 2);
    EXPECT_EQ(runs_.metrics(type, "train").front()["step"], 8);
  }
}

// What happens in a folder that was removed, and made anew by another run, is none of the first one's business.
TEST_F(Resume, AFolderThatIsMadeAnewIsLeftAlone) {
  ASSERT_EQ(runs_.train("other", {"seed=7", "train.steps=3"}), 0);
  for (const bool anew : {false, true}) {
    HookedBackend backend;
    backend.on_gradients = [&](int64_t call, const Tensor&) {
      if (call != 7) return;
      fs::remove_all(runs_.path("a"));
      if (anew) fs::copy(runs_.path("other"), runs_.path("a"), fs::copy_options::recursive);
    };
    const std::string message = message_of<RunError>([&] { runs_.train("a", {}, backend); });
    EXPECT_NE(message.find("is no longer the one that this run began in"), std::string::npos) << message;
    EXPECT_EQ(fs::exists(runs_.path("a")), anew);
    if (!anew) continue;
    EXPECT_EQ(list_checkpoints(runs_.path("a/checkpoints")), std::vector<int64_t>{3});
    EXPECT_EQ(runs_.json("a", "config.json")["seed"], 7);
    EXPECT_EQ(runs_.json("a", "info.json")["status"], "done");
  }
}

TEST_F(Resume, GoingBackRemovesTheNewerOnes) {
  ASSERT_EQ(runs_.train("straight", {}), 0);
  ASSERT_EQ(runs_.train("a", {"log.keep=0"}), 0);
  runs_.folder().write("a/checkpoints/latest", "step_00000010\n");
  ASSERT_EQ(runs_.train("a", {"log.keep=0"}, runs_.checkpoint("a", 5)), 0);
  EXPECT_EQ(list_checkpoints(runs_.path("a/checkpoints")), (std::vector<int64_t>{5, 10, 12}));
  expect_equal("straight", "a");
}

TEST_F(Resume, ACheckpointOfAnotherModelIsRefused) {
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  // The same tensors, by name and shape: only the config tells.
  const std::string message =
      message_of<UserError>([&] { runs_.train("second", {"model.attention=sigmoid"}, runs_.path("first")); });
  EXPECT_NE(message.find("is of another model: model.attention"), std::string::npos) << message;
  EXPECT_TRUE(list_checkpoints(runs_.path("second/checkpoints")).empty());
}

// As another program, or a person, may have written it: with the right checksum.
TEST_F(Resume, AStrangeOptimizerInACheckpointIsTold) {
  ASSERT_EQ(runs_.train_until(7, "first", {}), SIGTERM);
  const std::string file = runs_.checkpoint("first", 7) + "/state.json";
  for (const Json& strange : {Json("adamw"), Json(), Json{{"type", 5}}}) {
    Json state = read_json_file(file);
    state["config"]["train"]["optimizer"] = strange;
    state.erase("xxh3");
    state["xxh3"] = checksum_text(checksum_of(state.dump()));
    write_file_atomic(file, state.dump());
    const std::string message = message_of<UserError>([&] { runs_.train("second", {}, runs_.path("first")); });
    EXPECT_NE(message.find("state.json, config: train.optimizer"), std::string::npos) << message;
  }
}

TEST_F(Resume, OtherDataUnderTheSameNameIsNoticed) {
  const TinyRuns::Overrides overrides = {"data.statistics=" + runs_.folder().write("text", "to be or not to be")};
  ASSERT_EQ(runs_.train_until(7, "a", overrides), SIGTERM);
  const std::string metrics = runs_.file("a", "metrics.jsonl");
  runs_.folder().write("text", "or not to be to be");
  const std::string message = message_of<UserError>([&] { runs_.train("a", overrides); });
  EXPECT_NE(message.find("was trained on other data"), std::string::npos) << message;
  EXPECT_EQ(runs_.file("a", "metrics.jsonl"), metrics);
  runs_.folder().write("text", "to be or not to be");
  EXPECT_EQ(runs_.train("a", overrides), 0);
}

TEST_F(Resume, AFinishedRunMayGoOn) {
  ASSERT_EQ(runs_.train("a", {"train.schedule.type=constant"}), 0);
  const std::string metrics = runs_.file("a", "metrics.jsonl"), weights = runs_.weights("a", kSteps);
  ASSERT_EQ(runs_.train("a", {"train.schedule.type=constant"}), 0) << "nothing is left to do";
  EXPECT_EQ(runs_.file("a", "metrics.jsonl"), metrics);
  EXPECT_EQ(runs_.weights("a", kSteps), weights);
  ASSERT_EQ(runs_.train("a", {"train.schedule.type=constant", "train.steps=15"}), 0);
  EXPECT_EQ(runs_.metrics("a", "train").size(), 15u);
}

}  // namespace
}  // namespace sluice
