// The step loop: what the guard keeps out of the weights, clipping, accumulation, the memory plan, what is written.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "train/failures.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// One element of the gradients becomes `value` in the calls [first, last].
void poison(HookedBackend& backend, int64_t first, int64_t last, float value) {
  backend.on_gradients = [=](int64_t call, const Tensor& grads) {
    if (call >= first && call <= last) grads.as<float>()[grads.elements() / 2] = value;
  };
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(double(a[i]) - b[i], 2);
  return std::sqrt(squares);
}

double norm(const std::vector<float>& a) { return distance(a, std::vector<float>(a.size())); }

class TrainerTest : public testing::Test {
 protected:
  // "skip 4", "roll_back 5": what the guard did, and where.
  std::vector<std::string> guard_actions(const std::string& run) const {
    std::vector<std::string> actions;
    for (const Json& line : runs_.metrics(run, "guard"))
      actions.push_back(fmt::format("{} {}", line["action"].get<std::string>(), line["step"].get<int64_t>()));
    return actions;
  }
  std::string run_error(const std::string& run, const TinyRuns::Overrides& overrides, HookedBackend& backend) const {
    return message_of<RunError>([&] { runs_.train(run, overrides, backend); });
  }
  void expect_every_checkpoint_finite(const std::string& run) const {
    for (const int64_t step : list_checkpoints(runs_.path(run + "/checkpoints"))) {
      EXPECT_NO_THROW(verify_checkpoint(runs_.checkpoint(run, step)));
      EXPECT_TRUE(all_finite(runs_.parameters(run, step))) << "step " << step;
    }
  }

  TinyRuns runs_;
};

// ---- the guard ------------------------------------------------------------------------------------------------------

TEST_F(TrainerTest, ABadStepIsSkippedAndLeavesTheWeights) {
  for (const float value : {kNan, kInfinity, -kInfinity}) {
    const std::string run = fmt::format("run{}", value);
    HookedBackend backend;
    poison(backend, 4, 4, value);
    ASSERT_EQ(runs_.train(run, {"log.checkpoint_every=1", "log.keep=0", "train.steps=4"}, backend), 0);
    EXPECT_EQ(guard_actions(run), std::vector<std::string>{"skip 4"});
    EXPECT_FALSE(runs_.weights(run, 2) == runs_.weights(run, 3));
    EXPECT_TRUE(runs_.weights(run, 3) == runs_.weights(run, 4));
    EXPECT_TRUE(runs_.optimizer(run, 3) == runs_.optimizer(run, 4));
    EXPECT_EQ(runs_.trainer_state(run, 4)["updates"], 3);
    EXPECT_EQ(runs_.trainer_state(run, 4)["guard"]["skipped"], 1);
    expect_every_checkpoint_finite(run);
  }
}

TEST_F(TrainerTest, AfterTooManyBadStepsItRollsBackAndGoesOnBehindTheBadData) {
  HookedBackend backend;
  poison(backend, 7, 9, kNan);
  ASSERT_EQ(runs_.train("a", {"train.guard.max_skips=2"}, backend), 0);
  EXPECT_EQ(guard_actions("a"), std::vector<std::string>{"roll_back 5"});
  EXPECT_EQ(backend.calls(), 16) << "nine, and the seven from step 5 on";
  const Json state = runs_.trainer_state("a", 12);
  EXPECT_EQ(state["next_sequence"], 16 * 6);
  EXPECT_EQ(state["updates"], 12);
  EXPECT_EQ(state["guard"]["rolled_back"], 1);
  const std::vector<Json> lines = runs_.metrics("a", "train");
  ASSERT_EQ(lines.size(), 12u) << "no step stands twice";
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i]["step"], i + 1);
    EXPECT_TRUE(lines[i]["loss"].is_number()) << lines[i];
  }
  expect_every_checkpoint_finite("a");
}

TEST_F(TrainerTest, ARollBackPassesOverADamagedCheckpoint) {
  HookedBackend backend;
  backend.on_gradients = [&](int64_t call, const Tensor& grads) {
    if (call == 5) flip_byte(runs_.checkpoint("a", 4) + "/model.safetensors", -8);
    if (call == 5) grads.as<float>()[0] = kNan;
  };
  ASSERT_EQ(runs_.train("a", {"log.checkpoint_every=2", "train.guard.max_skips=0", "train.steps=5"}, backend), 0);
  EXPECT_EQ(guard_actions("a"), std::vector<std::string>{"roll_back 2"});
  EXPECT_EQ(backend.calls(), 8);
}

TEST_F(TrainerTest, ARollBackIsRememberedByARunThatIsKilledRightAfterIt) {
  const TinyRuns::Overrides overrides = {"train.guard.max_skips=2", "train.guard.max_rollbacks=1"};
  HookedBackend first;
  first.on_gradients = [](int64_t call, const Tensor& grads) {
    if (call >= 7 && call <= 9) grads.as<float>()[0] = kNan;
    if (call == 10) throw RunError("power cut");
  };
  EXPECT_EQ(run_error("a", overrides, first), "power cut");
  EXPECT_EQ(list_checkpoints(runs_.path("a/checkpoints")), std::vector<int64_t>{5});
  EXPECT_EQ(runs_.trainer_state("a", 5)["guard"]["rolled_back"], 1);
  EXPECT_EQ(runs_.trainer_state("a", 5)["next_sequence"], 9 * 6);
  HookedBackend second;
  poison(second, 1, 1000, kNan);
  const std::string message = run_error("a", overrides, second);
  EXPECT_NE(message.find("train.guard.max_rollbacks is 1"), std::string::npos) << message;
  EXPECT_EQ(guard_actions("a"), (std::vector<std::string>{"roll_back 5", "skip 6", "skip 7", "stop 8"}));
}

TEST_F(TrainerTest, ItStopsWithAReasonWhenRollingBackDoesNotHelp) {
  HookedBackend backend;
  poison(backend, 7, 1000, kNan);
  const std::string message = run_error("a", {"train.guard.max_skips=1", "train.guard.max_rollbacks=1"}, backend);
  for (const char* part : {"the gradient norm is nan", "train.guard.max_rollbacks is 1", "train.optimizer.lr"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(guard_actions("a").back(), "stop 7");
  EXPECT_EQ(runs_.json("a", "info.json")["status"], "failed");
  EXPECT_EQ(list_checkpoints(runs_.path("a/checkpoints")), std::vector<int64_t>{5});
  expect_every_checkpoint_finite("a");
}

TEST_F(TrainerTest, WithoutACheckpointItStops) {
  HookedBackend backend;
  poison(backend, 2, 1000, kInfinity);
  const std::string message = run_error("a", {"train.guard.max_skips=1"}, backend);
  EXPECT_NE(message.find("step 3: the gradient norm is inf"), std::string::npos) << message;
  EXPECT_NE(message.find("no checkpoint"), std::string::npos) << message;
}

// The fourth update is finite, and so are the weights after it, but not what they make of a sequence: only the loss of
// the next step would tell the guard.
TEST_F(TrainerTest, WeightsThatOverflowAreNeverSaved) {
  HookedBackend backend;
  backend.on_gradients = [](int64_t call, const Tensor& grads) {
    std::fill_n(grads.as<float>(), grads.elements(), call == 4 ? 1e16f : 0.0f);
  };
  const TinyRuns::Overrides overrides = {"train.optimizer.type=sgd",
                                         "train.optimizer.lr=1000",
                                         "train.optimizer.weight_decay=0",
                                         "train.grad_clip=0",
                                         "train.guard.max_skips=0",
                                         "log.checkpoint_every=1",
                                         "log.keep=0"};
  ASSERT_EQ(runs_.train("a", overrides, backend), 0);
  EXPECT_EQ(guard_actions("a"), std::vector<std::string>{"roll_back 3"});
  EXPECT_EQ(backend.calls(), 5 + 9) << "the step after the bad update is the one that fails";
}

TEST_F(TrainerTest, ADivergingRunEndsWithAReasonAndWholeCheckpoints) {
  const TinyRuns::Overrides overrides = {"train.optimizer.lr=1000",
                                         "train.optimizer.weight_decay=1000",
                                         "train.schedule={\"type\":\"constant\"}",
                                         "train.guard.max_rollbacks=1",
                                         "log.checkpoint_every=1",
                                         "log.keep=0"};
  HookedBackend backend;
  const std::string message = run_error("a", overrides, backend);
  EXPECT_NE(message.find("the gradient norm is inf"), std::string::npos) << message;
  EXPECT_FALSE(list_checkpoints(runs_.path("a/checkpoints")).empty());
  expect_every_checkpoint_finite("a");
}

TEST_F(TrainerTest, GuardedStepsResumeToEquality) {
  HookedBackend straight;
  poison(straight, 4, 8, kNan);
  ASSERT_EQ(runs_.train("straight", {}, straight), 0);
  HookedBackend first;
  first.on_gradients = [](int64_t call, const Tensor& grads) {
    if (call >= 4) grads.as<float>()[0] = kNan;
    if (call == 6) on_stop_signal(SIGINT);
  };
  ASSERT_EQ(runs_.train("stopped", {}, first), SIGINT);
  HookedBackend second;
  poison(second, 1, 2, kNan);
  ASSERT_EQ(runs_.train("stopped", {}, second), 0);
  EXPECT_EQ(guard_actions("straight").size(), 5u);
  EXPECT_EQ(guard_actions("straight"), guard_actions("stopped"));
  EXPECT_TRUE(runs_.weights("straight", 12) == runs_.weights("stopped", 12));
  EXPECT_EQ(runs_.trainer_state("straight", 12)["guard"], runs_.trainer_state("stopped", 12)["guard"]);
}

// ---- the update -----------------------------------------------------------------------------------------------------

TEST_F(TrainerTest, ClippingScalesTheGradientDownToTheLimit) {
  const auto first_update = [&](const std::string& run, double clip) {
    TinyRuns::Overrides overrides = {"train.optimizer.type=sgd",
                                     "train.optimizer.momentum=0",
                                     "train.optimizer.lr=1",
                                     "train.optimizer.weight_decay=0",
                                     "train.schedule.type=constant",
                                     "train.schedule.warmup=0",
                                     fmt::format("train.grad_clip={}", clip)};
    overrides.push_back("train.steps=0");
    runs_.train(run, overrides);
    overrides.back() = "train.steps=1";
    runs_.train(run, overrides);
    return distance(runs_.parameters(run, 0), runs_.parameters(run, 1));
  };
  const double free = first_update("free", 0);
  const double logged = runs_.metrics("free", "train").front()["grad_norm"];
  EXPECT_NEAR(free, logged, 1e-4 * logged);
  EXPECT_NEAR(first_update("clipped", logged / 3), logged / 3, 1e-4 * logged);
  EXPECT_EQ(runs_.metrics("clipped", "train").front()["grad_norm"], logged) << "the norm before clipping is logged";
  EXPECT_NEAR(first_update("above", logged * 3), logged, 1e-4 * logged);
}

TEST_F(TrainerTest, AccumulationEqualsOneBatchWithinRounding) {
  const TinyRuns::Overrides sgd = {"train.optimizer.type=sgd", "train.optimizer.lr=0.1"};
  const auto with = [&](const std::string& micro_batch) {
    TinyRuns::Overrides overrides = sgd;
    overrides.push_back("train.micro_batch=" + micro_batch);
    return overrides;
  };
  ASSERT_EQ(runs_.train("whole", with("6")), 0);
  for (const std::string micro_batch : {"1", "4"}) {
    const std::string run = "micro" + micro_batch;
    ASSERT_EQ(runs_.train(run, with(micro_batch)), 0);
    const std::vector<Json> whole = runs_.metrics("whole"), parts = runs_.metrics(run);
    ASSERT_EQ(whole.size(), parts.size());
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const char* key : {"loss", "grad_norm"}) {
        if (!whole[i].contains(key)) continue;
        EXPECT_NEAR(whole[i][key].get<double>(), parts[i][key].get<double>(), 1e-5 * whole[i][key].get<double>())
            << whole[i] << parts[i];
      }
    }
    const std::vector<float> expected = runs_.parameters("whole", 12);
    EXPECT_LT(distance(expected, runs_.parameters(run, 12)), 1e-5 * norm(expected));
  }
}

// ---- memory and what is written -------------------------------------------------------------------------------------

TEST_F(TrainerTest, TheMemoryPlanIsWhatIsAllocated) {
  for (const TinyRuns::Overrides& overrides : {TinyRuns::Overrides{},
                                               {"train.precision=bf16"},
                                               {"train.optimizer.type=sgd", "model.attention=vga"},
                                               {"train.optimizer.type=muon", "train.precision=bf16", "model.mlp=swiglu",
                                                "model.position=rope", "model.qk_norm=true"},
                                               {"log.probe_every=0", "log.eval_every=0", "log.map_positions=0"}}) {
    HookedBackend backend;
    {
      Experiment experiment = runs_.experiment(overrides);
      const RunFolder folder(runs_.path("a"), experiment.dump(), ResumeOption::parse("never"));
      Trainer trainer(backend, experiment, TrainingData::open(experiment), &folder);
      EXPECT_EQ(trainer.planned_bytes(), backend.allocated_bytes());
      EXPECT_EQ(trainer.run(ResumeOption::parse("never")), 0);
      EXPECT_EQ(trainer.planned_bytes(), backend.allocated_bytes()) << "something was allocated on the way";
      EXPECT_EQ(runs_.json("a", "info.json")["planned_bytes"], trainer.planned_bytes());
    }
    EXPECT_EQ(backend.allocated_bytes(), 0u);
  }
}

TEST_F(TrainerTest, MapsCarryTheGatesOfGatedAttention) {
  const auto maps = [&](const std::string& run, const TinyRuns::Overrides& overrides) {
    EXPECT_EQ(runs_.train(run, overrides), 0);
    return runs_.json(run, "attention/step_00000012.json")["maps"];
  };
  for (const Json& map : maps("plain", {})) EXPECT_FALSE(map.contains("gate"));
  for (const std::string grain : {"head", "element"}) {
    for (const Json& map : maps("vga_" + grain, {"model.attention=vga", "model.attention.gate.grain=" + grain})) {
      ASSERT_EQ(map["gate"].size(), 8u) << "log.map_positions";
      for (const Json& open : map["gate"]) {
        EXPECT_GT(open.get<double>(), 0);
        EXPECT_LT(open.get<double>(), 1);
      }
    }
  }
  const Json shared = maps("shared", {"model.attention=vga", "model.attention.gate.site=source", "model.kv_heads=1"});
  ASSERT_EQ(shared.size(), 4u);
  EXPECT_EQ(shared[0]["gate"], shared[1]["gate"]) << "both heads use the one value, and its gate";
  EXPECT_NE(shared[0]["gate"], shared[2]["gate"]) << "of another layer";
}

TEST_F(TrainerTest, EveryLineIsDueOrTheLast) {
  ASSERT_EQ(runs_.train("a", {"log.every=5", "log.eval_every=4", "log.probe_every=8"}), 0);
  const auto steps = [&](const std::string& kind) {
    std::vector<int64_t> out;
    for (const Json& line : runs_.metrics("a", kind))
      if (out.empty() || out.back() != line["step"]) out.push_back(line["step"]);
    return out;
  };
  EXPECT_EQ(steps("train"), (std::vector<int64_t>{5, 10, 12}));
  EXPECT_EQ(steps("eval"), (std::vector<int64_t>{4, 8, 12}));
  EXPECT_EQ(steps("probe"), (std::vector<int64_t>{0, 8, 12}));
  EXPECT_EQ(steps("risk"), (std::vector<int64_t>{0, 8, 12}));
  EXPECT_EQ(runs_.metrics("a", "train").back()["tokens"], 12 * 6 * 32);
}

TEST_F(TrainerTest, AnalysesAreDueAndChangeNoBitOfTraining) {
  const TinyRuns::Overrides analyses = {"model.attention=vga", "log.analyze_every=5", "log.analyze_sequences=3"};
  const auto with = [&](const char* more) {
    TinyRuns::Overrides all = analyses;
    all.push_back(more);
    return all;
  };
  ASSERT_EQ(runs_.train("without", {"model.attention=vga"}), 0);
  ASSERT_EQ(runs_.train("a", analyses), 0);
  EXPECT_TRUE(runs_.weights("a", 12) == runs_.weights("without", 12));
  std::vector<int64_t> steps;
  for (const Json& line : runs_.metrics("a", "analysis")) steps.push_back(line["step"]);
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 5, 10, 12}));
  EXPECT_EQ(runs_.metrics("a", "analysis_head").size(), 4u * 2 * 2);
  EXPECT_EQ(runs_.metrics("a", "analysis_layer").size(), 4u * 2);

  // The last one is stored whole, and says what its lines do.
  const Json file = runs_.json("a", "analysis/step_00000012.json");
  const Json line = runs_.metrics("a", "analysis").back();
  for (const auto& [key, value] : file["summary"].items()) EXPECT_EQ(line[key], value) << key;
  EXPECT_EQ(file["curves"].size(), 4u);
  EXPECT_FALSE(std::filesystem::exists(runs_.path("a/analysis/step_00000010.json")));

  // What is recomputed for the backward pass is what was there before.
  ASSERT_EQ(runs_.train("recomputed", with("train.recompute=block")), 0);
  EXPECT_EQ(runs_.metrics("recomputed", "analysis"), runs_.metrics("a", "analysis"));
  EXPECT_EQ(runs_.metrics("recomputed", "analysis_head"), runs_.metrics("a", "analysis_head"));
}

TEST_F(TrainerTest, AFullDiskKeepsTheCheckpointsThatAreThere) {
  ASSERT_EQ(runs_.train_until(7, "a", {}), SIGTERM);
  const std::string before = runs_.weights("a", 7);
  std::string message;
  {
    const FileSizeLimit limit(16 << 10);  // below a checkpoint's size
    message = message_of<RunError>([&] { runs_.train("a", {}); });
  }
  EXPECT_NE(message.find("cannot save the checkpoint"), std::string::npos) << message;
  EXPECT_EQ(message.find(".sluice-"), std::string::npos) << "a name that nobody has given: " << message;
  EXPECT_EQ(list_checkpoints(runs_.path("a/checkpoints")), (std::vector<int64_t>{5, 7}));
  EXPECT_TRUE(runs_.weights("a", 7) == before);
  EXPECT_EQ(runs_.train("a", {}), 0) << "and it goes on once there is room";
}

}  // namespace
}  // namespace sluice
