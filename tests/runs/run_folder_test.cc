// Run folders: one experiment, one process, and nothing of a former run is lost.
#include "runs/run_folder.h"

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
  for (const auto& [pointer, value] : {std::pair<const char*, Json>{"/train/steps", 500},
                                       {"/train/micro_batch", 4},
                                       {"/log/every", 1},
                                       {"/log/keep", 9},
                                       {"/device", "cuda"},
                                       {"/name", "b"}}) {
    EXPECT_NO_THROW(RunFolder(path, changed(pointer, value), kAuto)) << pointer;
    EXPECT_EQ(Json::parse(read_file(path + "/config.json")), changed(pointer, value)) << "the new one is stored";
  }
}

TEST(RunFolder, ALongerRunKeepsItsConfig) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kAuto); }
  std::filesystem::create_directories(path + "/checkpoints/step_00000100");
  { RunFolder(path, changed("/train/steps", 60), kAuto).confirm(); }
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), config_of());
  { RunFolder(path, changed("/train/steps", 200), kAuto); }
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), config_of()) << "until the checkpoint has been looked at";
  { RunFolder(path, changed("/train/steps", 200), kAuto).confirm(); }
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
  expect_contains(
      problem(changed("/model/attention/score/type", "sigmoid")),
      {path, "another experiment", "metrics.jsonl", "a checkpoint at step 10",
       "model.attention.score.type is \"softmax\", but \"sigmoid\" is asked for", "--out", "--resume never"});
  expect_contains(problem(changed("/train/optimizer/lr", 0.001)), {"train.optimizer.lr is 0.0003, but 0.001"});
  expect_contains(problem(changed("/seed", 43)), {"seed is 42, but 43"});
  expect_contains(problem(changed("/model/bias", false)), {"model.bias is the default, but false"});
  Json fewer = config_of();
  fewer["data"].erase("type");
  expect_contains(problem(fewer), {"data.type is \"bigram_backcopy\", but the default"});
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

// A start over that was killed in the middle is finished by the next start, whatever it is.
TEST(RunFolder, AMoveThatWasBrokenOffIsFinished) {
  for (const ResumeOption& option : {kNever, kAuto}) {
    const TempFolder folder;
    const std::string path = folder.file("a");
    { RunFolder(path, config_of(), kAuto); }
    folder.write("a/metrics.jsonl", "{}\n");
    fs::create_directories(folder.file("a/old1.moving/checkpoints/step_00000010"));
    const RunFolder run(path, changed("/seed", 43), option);
    EXPECT_EQ(run.moved_to(), path + "/old1");
    EXPECT_EQ(run.contents(), "config.json");
    EXPECT_EQ(Json::parse(read_file(path + "/old1/config.json")), config_of());
    EXPECT_EQ(read_file(path + "/old1/metrics.jsonl"), "{}\n");
    EXPECT_TRUE(fs::exists(path + "/old1/checkpoints/step_00000010"));
    EXPECT_FALSE(fs::exists(path + "/old2"));
    EXPECT_FALSE(fs::exists(path + "/old1.moving"));
  }
}

TEST(RunFolder, AFolderOfAnotherProgramIsRefusedAndLeftAsItIs) {
  const char* const kForeign[] = {R"({"model_type": "gpt2", "n_layer": 2})", "not even JSON",
                                  R"({"base": "x.json", "model": {}, "train": {"steps": 4}})"};
  for (const char* config : kForeign) {
    const TempFolder folder;
    folder.write("config.json", config);
    for (const char* name : {"info.json", "lock", "model.safetensors"}) folder.write(name, "theirs");
    fs::create_directories(folder.file("checkpoints/old.tmp"));
    for (const ResumeOption& option : {kAuto, kNever}) {
      const std::string message = message_of<UserError>([&] { RunFolder(folder.file(""), config_of(), option); });
      expect_contains(message, {"is not empty and holds no run of Sluice's", "config.json", "--out"});
    }
    EXPECT_EQ(read_file(folder.file("config.json")), config);
    for (const char* name : {"info.json", "lock", "model.safetensors"})
      EXPECT_EQ(read_file(folder.file(name)), "theirs");
    EXPECT_TRUE(fs::exists(folder.file("checkpoints/old.tmp")));
  }
  const TempFolder alone;
  alone.write("config.json", config_of().dump());
  expect_contains(message_of<UserError>([&] { RunFolder(alone.file(""), config_of(), kAuto); }), {"holds no run"});
  EXPECT_FALSE(fs::exists(alone.file("lock"))) << "a config that was printed to a file is not overwritten";
  alone.write("lock", "precious, of another program");
  alone.write("info.json", R"({"steps_done": 3, "status": "stopped"})");
  EXPECT_THROW(RunFolder(alone.file(""), config_of(), kAuto), UserError);
  EXPECT_EQ(read_file(alone.file("lock")), "precious, of another program");
}

TEST(RunFolder, WhatAKilledStartLeavesIsTaken) {
  const TempFolder folder;
  for (const char* name : {"empty", "locked"}) fs::create_directory(folder.file(name));
  folder.write("locked/lock", "123");
  folder.write("locked/output.txt", "");  // of a shell's ">"
  fs::create_directory(folder.file("moved"));
  folder.write("moved/lock", "");
  fs::create_directories(folder.file("moved/old1/checkpoints"));
  for (const char* name : {"empty", "locked", "moved"})
    EXPECT_NO_THROW(RunFolder(folder.file(name), config_of(), kAuto)) << name;
}

// As CheckpointStore writes it, but for the tensors, which nobody looks at here.
void write_state(const TempFolder& folder, const Json& config) {
  const Json sum = {{"bytes", 0}, {"xxh3", "0"}};
  Json state = {{"format", 1},
                {"step", 10},
                {"model_fingerprint", ""},
                {"metrics", {{"bytes", 0}, {"lines", 0}}},
                {"config", config},
                {"trainer", Json::object()},
                {"files", {{"model.safetensors", sum}, {"optimizer.safetensors", sum}}}};
  state["xxh3"] = checksum_text(checksum_of(state.dump()));
  fs::create_directories(folder.file("a/checkpoints/step_00000010"));
  folder.write("a/checkpoints/step_00000010/state.json", state.dump(2));
}

// The checkpoints say of which experiment they are.
TEST(RunFolder, WithoutItsConfigAnotherExperimentIsRefused) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  { RunFolder(path, config_of(), kAuto); }
  write_state(folder, config_of());
  fs::remove(path + "/config.json");
  expect_contains(message_of<UserError>([&] { RunFolder(path, changed("/seed", 7), kAuto); }),
                  {"another experiment", "seed is 42, but 7"});
  EXPECT_FALSE(fs::exists(path + "/config.json")) << "a refusal writes nothing";
  { RunFolder(path, changed("/log/every", 3), kAuto).confirm(); }
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), changed("/log/every", 3));

  folder.write("a/config.json", "{\"model\": ");
  expect_contains(message_of<UserError>([&] { RunFolder(path, config_of(), kAuto); }),
                  {"a/config.json is damaged", "step_00000010/state.json has it too: move config.json away"});
  EXPECT_EQ(RunFolder(path, config_of(), kNever).moved_to(), path + "/old1");
}

TEST(RunFolder, MetricsWithoutConfigAndCheckpointAreProtected) {
  const TempFolder folder;
  fs::create_directory(folder.file("a"));
  folder.write("a/lock", "1");
  folder.write("a/info.json", R"({"steps_done": 3, "status": "running"})");
  folder.write("a/metrics.jsonl", "{}\n");
  expect_contains(message_of<UserError>([&] { RunFolder(folder.file("a"), config_of(), kAuto); }),
                  {"metrics.jsonl", "no config.json", "--resume never"});
  EXPECT_EQ(read_file(folder.file("a/metrics.jsonl")), "{}\n");
}

// A run goes on only in the folder that it has locked.
TEST(RunFolder, AFolderThatWasMadeAnewIsAnothers) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  const RunFolder first(path, config_of(), kAuto);
  EXPECT_NO_THROW(first.check_still_ours());
  fs::rename(path, folder.file("b"));
  expect_contains(message_of<RunError>([&] { first.check_still_ours(); }), {path, "removed, moved or made anew"});
  const RunFolder second(path, changed("/seed", 43), kAuto);
  EXPECT_THROW(first.check_still_ours(), RunError);
  first.take_back();
  EXPECT_EQ(Json::parse(read_file(path + "/config.json")), changed("/seed", 43));
  EXPECT_NO_THROW(second.check_still_ours());
}

TEST(RunFolder, TheLockNamesTheProcess) {
  const TempFolder folder;
  EXPECT_FALSE(training_process(folder.file("a")).has_value());
  {
    const RunFolder run(folder.file("a"), config_of(), kAuto);
    EXPECT_EQ(training_process(folder.file("a")), std::to_string(getpid()));
  }
  EXPECT_FALSE(training_process(folder.file("a")).has_value());
}

TEST(RunFolder, ARunThatBeganFromAnotherBeginsThereAgain) {
  const TempFolder folder;
  const std::string other = folder.file("other/checkpoints/step_00000010"), path = folder.file("a");
  fs::create_directories(other);
  const ResumeOption from = {ResumeOption::Mode::kFrom, other, true};
  { RunFolder(path, config_of(), from); }
  {
    const RunFolder run(path, config_of(), kAuto);
    const ResumeOption again = run.resumed_as(kAuto);
    EXPECT_EQ(again.mode, ResumeOption::Mode::kFrom);
    EXPECT_EQ(again.from, fs::canonical(other));
    EXPECT_TRUE(again.fresh_optimizer);
    EXPECT_EQ(run.resumed_as(kNever).mode, ResumeOption::Mode::kNever);
  }
  fs::create_directories(path + "/checkpoints/step_00000010");
  {
    const RunFolder run(path, config_of(), kAuto);
    EXPECT_EQ(run.resumed_as(kAuto).mode, ResumeOption::Mode::kAuto);
    EXPECT_EQ(run.resumed_as(from).mode, ResumeOption::Mode::kAuto) << "the same command goes on";
  }
  {
    const RunFolder run(path, config_of(), kAuto);
    for (const char* own : {"/", "", "/checkpoints", "/checkpoints/step_00000010/"})
      EXPECT_EQ(run.resumed_as({ResumeOption::Mode::kFrom, path + own}).mode, ResumeOption::Mode::kFrom) << own;
  }
  fs::remove_all(path + "/checkpoints");
  fs::create_directories(path + "/old1/checkpoints/step_00000010");
  { RunFolder(path, config_of(), {ResumeOption::Mode::kFrom, path + "/old1"}); }
  EXPECT_EQ(RunFolder(path, config_of(), kAuto).resumed_as(kAuto).from, fs::canonical(path + "/old1"));
  { RunFolder(path, config_of(), from); }
  fs::remove_all(folder.file("other"));
  const RunFolder run(path, config_of(), kAuto);
  expect_contains(message_of<UserError>([&] { run.resumed_as(kAuto); }),
                  {path, "was begun from", other, "--resume never"});
}

TEST(RunFolder, ARefusedStartLeavesNoOrigin) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  fs::create_directories(folder.file("other"));
  fs::create_directories(path);
  RunFolder(path, config_of(), {ResumeOption::Mode::kFrom, folder.file("other")}).take_back();
  EXPECT_FALSE(fs::exists(path + "/origin.json"));
  RunFolder(folder.file("b"), config_of(), {ResumeOption::Mode::kFrom, folder.file("other")}).take_back();
  EXPECT_FALSE(fs::exists(folder.file("b")));
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
  EXPECT_EQ(message,
            "runs/b is of another model: model.attention.score.type is \"softmax\" there, but \"relu\" in "
            "this config");
}

}  // namespace
}  // namespace sluice
