// Checkpoints: what was saved comes back, damage is named and the one before is used, a failed save harms nothing.
#include "runs/checkpoint.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files/aside.h"
#include "data/temp_folder.h"
#include "train/failures.h"
#include "train/tensors.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

TestTensors model_of(int seed, int64_t width = 4) {
  TestTensors out;
  out.add("embedding", DType::kF32, {5, width}, seed);
  out.add("head", DType::kF32, {width, 5}, seed + 1);
  return out;
}

TestTensors optimizer_of(int seed) {
  TestTensors out;
  out.add("embedding.m", DType::kF32, {5, 4}, seed);
  out.add("embedding.v", DType::kF32, {5, 4}, seed + 1);
  return out;
}

CheckpointState state_of(int64_t step) {
  CheckpointState state;
  state.step = step;
  state.metrics = {uint64_t(step) * 100, step};
  state.config = {{"model", {{"layers", 1}}}, {"train", {{"lr", 3e-4}}}};
  state.trainer = {{"guard", {{"skipped", 2}}}, {"seconds", 1.0 / 3}, {"large", ~uint64_t{0}}};
  return state;
}

fs::path save(CheckpointStore& store, int64_t step) {
  return store.save(state_of(step), model_of(int(step)).list(), optimizer_of(int(step)).list());
}

class CheckpointTest : public testing::Test {
 protected:
  std::string run(const std::string& below = "") const { return folder_.file(below.empty() ? "run" : "run/" + below); }
  CheckpointStore store(int64_t keep = 3) const { return CheckpointStore(run("checkpoints"), keep); }
  std::optional<ResumePoint> resume(CheckpointStore& store, const std::string& option = "auto") {
    damaged_.clear();
    return store.resume_point(ResumeOption::parse(option), damaged_);
  }
  int64_t resumed_step(CheckpointStore& store, const std::string& option = "auto") {
    const auto point = resume(store, option);
    return point ? point->checkpoint.state.step : 0;
  }
  void expect_whole_at(const std::vector<int64_t>& steps) const {
    EXPECT_EQ(list_checkpoints(run("checkpoints")), steps);
    for (const int64_t step : steps) {
      EXPECT_NO_THROW(verify_checkpoint(run(fmt::format("checkpoints/step_{:08d}", step)))) << step;
    }
  }
  size_t entries() const {
    return size_t(std::distance(fs::directory_iterator(run("checkpoints")), fs::directory_iterator()));
  }

  TempFolder folder_;
  std::vector<std::string> damaged_;
};

TEST_F(CheckpointTest, EverythingComesBack) {
  CheckpointStore store = this->store();
  EXPECT_EQ(save(store, 1000), run("checkpoints/step_00001000"));
  EXPECT_EQ(read_file(run("checkpoints/latest")), "step_00001000\n");
  EXPECT_EQ(entries(), 2u) << "nothing is left aside";

  const auto point = resume(store);
  ASSERT_TRUE(point.has_value());
  EXPECT_TRUE(point->own);
  const CheckpointState& state = point->checkpoint.state;
  EXPECT_EQ(state.step, 1000);
  EXPECT_EQ(state.metrics, (MetricsPosition{100'000, 1000}));
  EXPECT_EQ(state.config, state_of(1000).config);
  EXPECT_EQ(state.trainer, state_of(1000).trainer);
  EXPECT_EQ(state.model_fingerprint, model_fingerprint(model_of(0).list()));

  TestTensors model = model_of(0), optimizer = optimizer_of(0);
  load_checkpoint(point->checkpoint, model.list(), optimizer.list());
  EXPECT_TRUE(model.same_values(model_of(1000)));
  EXPECT_TRUE(optimizer.same_values(optimizer_of(1000)));
  model.clear_values();
  load_model(point->checkpoint, model.list());
  EXPECT_TRUE(model.same_values(model_of(1000)));
}

TEST_F(CheckpointTest, AnEmptyRunStartsAtStepZero) {
  CheckpointStore store = this->store();
  EXPECT_FALSE(resume(store).has_value());
  EXPECT_TRUE(damaged_.empty());
}

TEST_F(CheckpointTest, TheOptimizerMayHaveNoState) {
  CheckpointStore store = this->store();
  store.save(state_of(1), model_of(1).list(), {});
  TestTensors model = model_of(0);
  EXPECT_NO_THROW(load_checkpoint(resume(store)->checkpoint, model.list(), {}));
}

TEST_F(CheckpointTest, ACheckpointWithoutOptimizerStateLeavesOneThatBegins) {
  CheckpointStore store = this->store();
  store.save(state_of(1), model_of(1).list(), {});
  TestTensors model = model_of(0), optimizer = optimizer_of(5), zeros = optimizer_of(5);
  zeros.clear_values();
  load_checkpoint(resume(store)->checkpoint, model.list(), optimizer.list());
  EXPECT_TRUE(model.same_values(model_of(1)));
  EXPECT_TRUE(optimizer.same_values(zeros));
}

TEST_F(CheckpointTest, RetentionKeepsTheNewest) {
  CheckpointStore store = this->store(2);
  for (const int64_t step : {10, 20, 30, 40}) save(store, step);
  expect_whole_at({30, 40});
  CheckpointStore one = this->store(1);
  save(one, 50);
  expect_whole_at({50});
  CheckpointStore all = this->store(0);
  for (const int64_t step : {60, 70, 80, 90}) save(all, step);
  expect_whole_at({50, 60, 70, 80, 90});
}

TEST_F(CheckpointTest, TheSameStepIsReplaced) {
  CheckpointStore store = this->store(1);
  save(store, 10);
  store.save(state_of(10), model_of(77).list(), optimizer_of(77).list());
  expect_whole_at({10});
  EXPECT_EQ(entries(), 2u);
  TestTensors model = model_of(0);
  load_model(resume(store)->checkpoint, model.list());
  EXPECT_TRUE(model.same_values(model_of(77)));
}

TEST_F(CheckpointTest, WhatAKilledSaveLeftIsCleanedAndNeverUsed) {
  {
    CheckpointStore store = this->store();
    save(store, 10);
  }
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    fs::copy(run("checkpoints/step_00000010"), create_folder_aside(run("checkpoints/step_00000020")));
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  fs::create_directory(run("checkpoints/old.tmp"));
  folder_.write("run/checkpoints/latest.tmp", "mine");
  EXPECT_EQ(list_checkpoints(run("checkpoints")), std::vector<int64_t>{10});
  EXPECT_EQ(entries(), 5u);
  CheckpointStore store = this->store();
  EXPECT_EQ(entries(), 4u) << "the leftover is gone, what others have there stays";
  EXPECT_EQ(resumed_step(store), 10);
}

// Any byte of any file: the damage is named, and the checkpoint before it is used.
TEST_F(CheckpointTest, OneThatWasAboutToBeReplacedGetsItsNameBack) {
  {
    CheckpointStore store = this->store();
    for (const int64_t step : {100, 200}) save(store, step);
  }
  fs::rename(run("checkpoints/step_00000200"), run("checkpoints/step_00000200.former"));
  fs::create_directory(run("checkpoints/step_00000100.former2"));
  fs::create_directory(run("checkpoints/step_00000100.formerly"));
  CheckpointStore store = this->store();
  expect_whole_at({100, 200});
  EXPECT_EQ(entries(), 4u) << "two checkpoints, latest, and what is not ours";
  EXPECT_TRUE(fs::exists(run("checkpoints/step_00000100.formerly")));
  EXPECT_EQ(resumed_step(store), 200);
}

TEST_F(CheckpointTest, AFlippedByteIsReportedAndTheOneBeforeIsUsed) {
  CheckpointStore store = this->store();
  save(store, 10);
  for (const std::string file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    const std::string path = run("checkpoints/step_00000020/" + file);
    save(store, 20);
    const long bytes = long(fs::file_size(path));
    for (const long offset : {0L, 9L, bytes / 2, bytes - 5}) {
      flip_byte(path, offset);
      EXPECT_EQ(resumed_step(store), 10) << path << " " << offset;
      ASSERT_EQ(damaged_.size(), 1u);
      EXPECT_NE(damaged_[0].find(path), std::string::npos) << damaged_[0];
      flip_byte(path, offset);
      EXPECT_EQ(resumed_step(store), 20) << "flipped back it is whole";
    }
  }
}

TEST_F(CheckpointTest, DamageIsDescribed) {
  CheckpointStore store = this->store();
  save(store, 10);
  const std::string model = run("checkpoints/step_00000010/model.safetensors");
  const auto problem = [&] {
    return message_of<CheckpointDamaged>([&] { verify_checkpoint(run("checkpoints/step_00000010")); });
  };
  const std::string good = checksum_text(checksum_of_file(model));
  flip_byte(model, -1);
  EXPECT_EQ(problem(), fmt::format("{} is damaged: its checksum is {}, but {} was written", model,
                                   checksum_text(checksum_of_file(model)), good));
  const uint64_t bytes = fs::file_size(model);
  fs::resize_file(model, bytes - 1);
  EXPECT_EQ(problem(), fmt::format("{} is damaged: it has {} bytes, but {} were written", model, bytes - 1, bytes));
  fs::remove(model);
  EXPECT_NE(problem().find("model.safetensors is missing"), std::string::npos) << problem();
  fs::remove(run("checkpoints/step_00000010/state.json"));
  EXPECT_EQ(problem(), run("checkpoints/step_00000010/state.json") + " is missing");
}

TEST_F(CheckpointTest, AllDamagedIsTheUsersError) {
  CheckpointStore store = this->store();
  for (const int64_t step : {10, 20}) {
    save(store, step);
    flip_byte(run(fmt::format("checkpoints/step_{:08d}/model.safetensors", step)), -1);
  }
  const std::string message = message_of<UserError>([&] { resume(store); });
  EXPECT_NE(message.find("none of the 2 checkpoints is whole"), std::string::npos) << message;
  EXPECT_NE(message.find("step_00000020"), std::string::npos) << message;
}

TEST_F(CheckpointTest, TheReplayReplacesTheDamagedOne) {
  CheckpointStore store = this->store();
  save(store, 10);
  save(store, 20);
  flip_byte(run("checkpoints/step_00000020/model.safetensors"), -1);
  ASSERT_EQ(resumed_step(store), 10);
  save(store, 20);
  expect_whole_at({10, 20});
}

// What the system does not give back now may be whole: nothing older is taken in its place.
TEST_F(CheckpointTest, WhatCannotBeReadNowIsNoDamage) {
  CheckpointStore store = this->store();
  save(store, 10);
  save(store, 20);
  {
    rlimit former{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &former), 0);
    rlimit none = former;
    none.rlim_cur = 0;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    std::string message, listing;
    message = message_of<RunError>([&] { verify_checkpoint(run("checkpoints/step_00000020")); });
    listing = message_of<RunError>([&] { list_checkpoints(run("checkpoints")); });
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &former), 0);
    EXPECT_NE(message.find("Too many open files; the checkpoint"), std::string::npos) << message;
    EXPECT_NE(message.find("may be whole"), std::string::npos) << message;
    EXPECT_NE(listing.find("Too many open files"), std::string::npos) << listing;
  }
  const std::string path = run("checkpoints/step_00000020/state.json");
  Json state = Json::parse(read_file(path));
  state["format"] = 2;
  state.erase("xxh3");
  state["xxh3"] = checksum_text(checksum_of(state.dump()));
  write_file_atomic(path, state.dump(2));
  const std::string message = message_of<UserError>([&] { resume(store); });
  EXPECT_NE(message.find("has format 2, but this Sluice reads format 1; the checkpoint"), std::string::npos) << message;
  EXPECT_EQ(list_checkpoints(run("checkpoints")), (std::vector<int64_t>{10, 20}));
}

// Edited by hand, with the checksum made right again: what is read has the type that it should, or is told in our
// words.
TEST_F(CheckpointTest, StatesOfOtherTypesAreDamaged) {
  CheckpointStore store = this->store();
  save(store, 10);
  const std::string path = run("checkpoints/step_00000010/state.json");
  const Json whole = Json::parse(read_file(path));
  const auto said_of = [&](const char* pointer, const Json& value) {
    Json state = whole;
    state[Json::json_pointer(pointer)] = value;
    state.erase("xxh3");
    state["xxh3"] = checksum_text(checksum_of(state.dump()));
    write_file_atomic(path, state.dump(2));
    return message_of<CheckpointDamaged>([&] { verify_checkpoint(run("checkpoints/step_00000010")); });
  };
  const auto expect_said = [&](const char* pointer, const Json& value, const std::string& sentence) {
    const std::string said = said_of(pointer, value);
    EXPECT_NE(said.find(path + ": " + sentence), std::string::npos) << said;
  };
  expect_said("/step", "ten", "step must be an integer of at least 0, got the string \"ten\"");
  expect_said("/step", -1, "step must be an integer of at least 0, got the number -1");
  expect_said("/step", ~uint64_t{0}, "step must be an integer of at least 0, got the number 18446744073709551615");
  expect_said("/metrics", Json::array(), "metrics must be an object, got a list");
  expect_said("/metrics/bytes", 1.5, "metrics.bytes must be an integer of at least 0, got the number 1.5");
  expect_said("/files/model.safetensors/xxh3", "-1", "files.model.safetensors.xxh3 must be a checksum");
  expect_said("/files/model.safetensors/xxh3", std::string(17, 'f'), "files.model.safetensors.xxh3 must be a checksum");
  expect_said("/model_fingerprint", nullptr, "model_fingerprint must be a string, got null");
}

TEST_F(CheckpointTest, DamagedOnesAreSetAside) {
  CheckpointStore store = this->store();
  for (const int64_t step : {10, 20, 30}) save(store, step);
  flip_byte(run("checkpoints/step_00000020/model.safetensors"), -1);
  fs::remove(run("checkpoints/step_00000030/optimizer.safetensors"));
  fs::create_directory(run("checkpoints/step_00000030.damaged"));
  EXPECT_EQ(resumed_step(store), 10);
  EXPECT_EQ(store.set_aside_after(10), (std::vector<fs::path>{run("checkpoints/step_00000020.damaged"),
                                                              run("checkpoints/step_00000030.damaged2")}));
  EXPECT_TRUE(fs::exists(run("checkpoints/step_00000030.damaged2/model.safetensors")));
  expect_whole_at({10});
}

// A kill between a save's last renames leaves `latest` one behind, and one checkpoint too many.
TEST_F(CheckpointTest, LatestAndKeepAreMendedOnResume) {
  CheckpointStore all = this->store(0);
  for (const int64_t step : {10, 20, 30}) save(all, step);
  folder_.write("run/checkpoints/latest", "step_00000020\n");
  CheckpointStore store = this->store(2);
  store.repair(30);
  EXPECT_EQ(read_file(run("checkpoints/latest")), "step_00000030\n");
  expect_whole_at({20, 30});
}

// Saves without end in a child, which is killed `delay` after it has told that its second save is done.
void save_until_killed(CheckpointStore store, int64_t step, std::chrono::microseconds delay) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  for (int64_t next = step; child == 0; ++next) {  // the first replaces the newest, as a resumed run may
    save(store, next);
    if (write(ends[1], "x", 1) != 1) _exit(1);
  }
  char told[2];
  for (char& one : told) EXPECT_EQ(read(ends[0], &one, 1), 1);
  std::this_thread::sleep_for(delay);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
}

// Whatever the moment of the kill: the checkpoint that was there is, or a later one, and it is whole.
TEST_F(CheckpointTest, AKillAtAnyMomentLeavesAWholeCheckpoint) {
  constexpr int kKills = 12;
  CheckpointStore store = this->store(2);
  const auto begin = std::chrono::steady_clock::now();
  save(store, 1);
  const auto one_save = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
  int64_t step = 1;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    save_until_killed(store, step, one_save * kill_number / kKills);
    CheckpointStore after = this->store(2);
    const int64_t found = resumed_step(after);
    EXPECT_TRUE(damaged_.empty()) << damaged_[0];
    EXPECT_GE(found, step + 1) << "two saves were done";
    EXPECT_LE(read_file(run("checkpoints/latest")), fmt::format("step_{:08d}\n", found));
    step = found;
  }
}

TEST_F(CheckpointTest, AFullDiskLosesNothing) {
  CheckpointStore store = this->store(1);
  save(store, 10);
  {
    const FileSizeLimit limit(256);
    const std::string message = message_of<RunError>([&] { save(store, 20); });
    for (const char* part : {"checkpoints/step_00000020", "File too large", "it needs", "are free"}) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    }
  }
  EXPECT_EQ(entries(), 2u) << "the part is gone";
  EXPECT_EQ(read_file(run("checkpoints/latest")), "step_00000010\n");
  EXPECT_EQ(resumed_step(store), 10);
  EXPECT_TRUE(damaged_.empty());
  save(store, 20);
  expect_whole_at({20});
}

TEST_F(CheckpointTest, AFolderThatBecameReadOnlyLosesNothing) {
  CheckpointStore store = this->store(1);
  save(store, 10);
  {
    const ReadOnlyFolder read_only(run("checkpoints"));
    if (!read_only.binds()) GTEST_SKIP() << "permissions do not bind this user";
    const std::string message = message_of<RunError>([&] { save(store, 20); });
    EXPECT_NE(message.find("Permission denied"), std::string::npos) << message;
  }
  EXPECT_EQ(resumed_step(store), 10);
}

TEST_F(CheckpointTest, AFolderThatIsAFileIsARunErrorAndTheUsersErrorAtStart) {
  CheckpointStore store = this->store();
  fs::remove_all(run("checkpoints"));
  folder_.write("run/checkpoints", "");
  EXPECT_THROW(save(store, 10), RunError);
  EXPECT_THROW(this->store(), UserError);
}

TEST_F(CheckpointTest, AnotherModelIsNamedAndNothingChanges) {
  CheckpointStore store = this->store();
  save(store, 10);
  const Checkpoint checkpoint = resume(store)->checkpoint;
  TestTensors wider = model_of(0, 8), optimizer = optimizer_of(0);
  const std::string message =
      message_of<UserError>([&] { load_checkpoint(checkpoint, wider.list(), optimizer.list()); });
  for (const char* part : {"embedding", "[5,4]", "[5,8]", "the checkpoint is of another model"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
  }
  EXPECT_NE(model_fingerprint(wider.list()), checkpoint.state.model_fingerprint);

  TestTensors model = model_of(0), other_optimizer;
  other_optimizer.add("embedding.momentum", DType::kF32, {5, 4}, 0);
  EXPECT_THROW(load_checkpoint(checkpoint, model.list(), other_optimizer.list()), UserError);
  EXPECT_TRUE(model.same_values(model_of(0))) << "the model was filled although the optimizer does not fit";
}

TEST_F(CheckpointTest, ResumingFromAnOlderOneGivesUpTheNewer) {
  CheckpointStore store = this->store();
  for (const int64_t step : {10, 20, 30}) save(store, step);
  const auto point = resume(store, run("checkpoints/step_00000010/"));
  ASSERT_TRUE(point.has_value());
  EXPECT_TRUE(point->own);
  EXPECT_EQ(point->checkpoint.state.step, 10);
  expect_whole_at({10, 20, 30});  // nothing is lost before the run has really gone on from there
  EXPECT_TRUE(point->named);
  store.drop_after(10);
  store.repair(10);
  expect_whole_at({10});
  EXPECT_EQ(read_file(run("checkpoints/latest")), "step_00000010\n");
}

TEST_F(CheckpointTest, ResumingFromAnotherRun) {
  CheckpointStore store = this->store();
  save(store, 10);
  CheckpointStore other(folder_.file("other/checkpoints"), 3);
  const auto point = resume(other, run());
  ASSERT_TRUE(point.has_value());
  EXPECT_FALSE(point->own);
  EXPECT_EQ(point->checkpoint.state.step, 10);
  expect_whole_at({10});

  save(other, 5);
  const std::string message = message_of<UserError>([&] { resume(other, run()); });
  EXPECT_NE(message.find("already has checkpoints up to step 5"), std::string::npos) << message;
}

TEST_F(CheckpointTest, OptionsOfResume) {
  EXPECT_EQ(ResumeOption::parse("auto").mode, ResumeOption::Mode::kAuto);
  EXPECT_EQ(ResumeOption::parse("never").mode, ResumeOption::Mode::kNever);
  EXPECT_EQ(ResumeOption::parse(folder_.file("")).mode, ResumeOption::Mode::kFrom);
  EXPECT_THROW(ResumeOption::parse(folder_.file("nothing")), UserError);
  CheckpointStore store = this->store();
  save(store, 10);
  EXPECT_FALSE(resume(store, "never").has_value());
}

TEST_F(CheckpointTest, OpenFindsWhatTheUserMeans) {
  CheckpointStore store = this->store();
  for (const int64_t step : {10, 20}) save(store, step);
  EXPECT_EQ(open_checkpoint(run(), damaged_).state.step, 20);
  EXPECT_EQ(open_checkpoint(run() + "/", damaged_).state.step, 20);
  EXPECT_EQ(open_checkpoint(run("checkpoints"), damaged_).state.step, 20);
  EXPECT_EQ(open_checkpoint(run("checkpoints/step_00000010"), damaged_).state.step, 10);
  fs::rename(run("checkpoints/step_00000010"), folder_.file("best"));
  EXPECT_EQ(open_checkpoint(folder_.file("best"), damaged_).state.step, 10);
  flip_byte(folder_.file("best/model.safetensors"), -1);
  EXPECT_THROW(open_checkpoint(folder_.file("best"), damaged_), CheckpointDamaged) << "a named one has no stand-in";
  EXPECT_THROW(open_checkpoint(folder_.file("nothing"), damaged_), UserError);
  fs::create_directory(folder_.file("empty"));
  const std::string message = message_of<UserError>([&] { open_checkpoint(folder_.file("empty"), damaged_); });
  EXPECT_NE(message.find("no checkpoint in it"), std::string::npos) << message;
}

}  // namespace
}  // namespace sluice
