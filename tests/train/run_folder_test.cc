// Run folders: one experiment, one process, and nothing of a former run is lost.
#include "train/run_folder.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error_text.h"
#include "data/temp_folder.h"
#include "train/failures.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

const ResumeOption kAuto = {ResumeOption::Mode::kAuto, {}};
const ResumeOption kNever = {ResumeOption::Mode::kNever, {}};

Json config_of() {
  return Json::parse(R"({
    "name": "a", "seed": 42, "device": "cpu",
    "model": {"layers": 1, "attention": {"score": {"type": "softmax"}}},
    "data": {"type": "bigram_backcopy"},
    "train": {"steps": 100, "micro_batch": 8, "batch": 32, "optimizer": {"lr": 0.0003}},
    "log": {"every": 10}
  })");
}

Json changed(const std::string& pointer, const Json& value) {
  Json config = config_of();
  config[Json::json_pointer(pointer)] = value;
  return config;
}

TEST(RunFolder, IsCreatedWithItsConfig) {
  const TempFolder folder;
  const RunFolder run(folder.file("runs/a/"), config_of(), kAuto);
  EXPECT_EQ(Json::parse(read_file(folder.file("runs/a/config.json"))), config_of());
  EXPECT_EQ(run.path(), folder.file("runs/a"));
  EXPECT_EQ(run.contents(), "config.json");
  EXPECT_FALSE(run.moved_to().has_value());
}

TEST(RunFolder, AContinuationMayChangeSomeKeys) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kAuto); }
  for (const auto& [pointer, value] : {std::pair<const char*, Json>{"/train/steps", 500}, {"/train/micro_batch", 4},
                                       {"/log/every", 1}, {"/log/keep", 9}, {"/device", "cuda"}, {"/name", "b"}}) {
    EXPECT_NO_THROW(RunFolder(path, changed(pointer, value), kAuto)) << pointer;
    EXPECT_EQ(Json::parse(read_file(path + "/config.json")), changed(pointer, value)) << "the new one is stored";
  }
}

TEST(RunFolder, ALongerRunKeepsItsConfig) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kAuto); }
  std::filesystem::create_directories(path + "/checkpoints/step_00000100");
  { RunFolder(path, changed("/train/steps", 60), kAuto); }
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), config_of());
  { RunFolder(path, changed("/train/steps", 200), kAuto); }
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), changed("/train/steps", 200));
}

TEST(RunFolder, AnotherExperimentIsRefusedByItsFirstKey) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kAuto); }
  folder.write("a/metrics.jsonl", "");
  fs::create_directories(folder.file("a/checkpoints/step_00000010"));
  const auto problem = [&](const Json& config) {
    return message_of<UserError>([&] { RunFolder(path, config, kAuto); });
  };
  expect_contains(problem(changed("/model/attention/score/type", "sigmoid")),
                  {path, "another experiment", "metrics.jsonl", "a checkpoint at step 10",
                   "model.attention.score.type is \"softmax\", but \"sigmoid\" is asked for", "--out",
                   "--resume never"});
  expect_contains(problem(changed("/train/optimizer/lr", 0.001)), {"train.optimizer.lr is 0.0003, but 0.001"});
  expect_contains(problem(changed("/seed", 43)), {"seed is 42, but 43"});
  expect_contains(problem(changed("/model/bias", false)), {"model.bias is not set, but false"});
  Json fewer = config_of();
  fewer["data"].erase("type");
  expect_contains(problem(fewer), {"data.type is \"bigram_backcopy\", but not set"});
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), config_of()) << "a refusal changes nothing";
}

TEST(RunFolder, NumbersThatAreEqualAreNoDifference) {
  EXPECT_FALSE(experiment_difference(changed("/train/batch", 32.0), config_of()).has_value());
  EXPECT_TRUE(experiment_difference(changed("/train/batch", 33), config_of()).has_value());
}

// Runs of a version that did not have a key yet go on with its default.
TEST(RunFolder, AKeyThatWasNotThereYetHadItsDefault) {
  EXPECT_FALSE(experiment_difference(config_of(), changed("/model/bias", true)).has_value());
  EXPECT_FALSE(experiment_difference(config_of(), changed("/train/schedule", {{"type", "constant"}})).has_value());
  EXPECT_EQ(experiment_difference(config_of(), changed("/train/schedule", {{"type", "cosine"}}))->key,
            "train.schedule.type");
  EXPECT_EQ(experiment_difference(config_of(), changed("/model/none", true))->key, "model.none");
}

TEST(RunFolder, NeverMovesTheFormerRunAside) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kNever); }
  EXPECT_FALSE(fs::exists(path + "/old1")) << "there was nothing to move";
  folder.write("a/metrics.jsonl", "{}\n");
  folder.write("a/notes.txt", "mine");
  fs::create_directories(folder.file("a/checkpoints/step_00000010"));
  {
    const RunFolder run(path, changed("/seed", 43), kNever);
    EXPECT_EQ(run.moved_to(), path + "/old1");
    EXPECT_EQ(run.contents(), "config.json");
  }
  EXPECT_EQ(read_file(path + "/old1/metrics.jsonl"), "{}\n");
  EXPECT_TRUE(fs::exists(path + "/old1/checkpoints/step_00000010"));
  EXPECT_EQ(read_file(path + "/notes.txt"), "mine") << "what is not the run's stays where it is";
  EXPECT_EQ(RunFolder(path, config_of(), kNever).moved_to(), path + "/old2");
}

TEST(RunFolder, TwoCannotTrainInOne) {
  const TempFolder folder;
  {
    const RunFolder first(folder.file("a"), config_of(), kAuto);
    for (const ResumeOption& option : {kAuto, kNever}) {
      const std::string message = message_of<UserError>([&] { RunFolder(folder.file("a"), config_of(), option); });
      expect_contains(message, {folder.file("a"), "another process (" + std::to_string(getpid()) + ")", "--out"});
    }
  }
  EXPECT_NO_THROW(RunFolder(folder.file("a"), config_of(), kAuto)) << "free again";
}

TEST(RunFolder, AFileOrAPlaceThatCannotBeWrittenIsRefused) {
  const TempFolder folder;
  const std::string file = folder.write("file", "");
  expect_contains(message_of<UserError>([&] { RunFolder(file, config_of(), kAuto); }), {file, "is a file", "--out"});
  expect_contains(message_of<UserError>([&] { RunFolder(file + "/a", config_of(), kAuto); }), {file});
  expect_contains(message_of<UserError>([&] { RunFolder("/proc/sluice", config_of(), kAuto); }), {"/proc/sluice"});
}

TEST(RunFolder, AReadOnlyFolderIsRefused) {
  const TempFolder folder;
  fs::create_directory(folder.file("a"));
  const ReadOnlyFolder read_only(folder.file("a"));
  if (!read_only.binds()) GTEST_SKIP() << "permissions do not bind this user";
  const std::string message = message_of<UserError>([&] { RunFolder(folder.file("a"), config_of(), kAuto); });
  expect_contains(message, {folder.file("a"), "Permission denied"});
}

TEST(RunFolder, TheSameTensorsMayBeAnotherModel) {
  EXPECT_NO_THROW(check_same_model(config_of(), changed("/train/optimizer/lr", 1), "runs/b"));
  const std::string message = message_of<UserError>(
      [&] { check_same_model(config_of(), changed("/model/attention/score/type", "relu"), "runs/b"); });
  EXPECT_EQ(message, "runs/b is of another model: model.attention.score.type is \"softmax\" there, but \"relu\" in "
                     "this config");
}

}  // namespace
}  // namespace sluice
