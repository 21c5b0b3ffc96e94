// Several ranks, as threads: the same training as one rank's, for every ZeRO stage; states that move between numbers of
// ranks; and how a run ends when a rank fails.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "model/foreign_state.h"
#include "ranks/communicator_files.h"
#include "ranks/ranks_in_threads.h"
#include "train/failures.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

constexpr int kSteps = 200;

// 8 sequences: 8, 4 or 2 a rank, in micro-batches of at most 3, so that the last one is smaller.
const TinyRuns::Overrides kEight = {"train.batch=8",
                                    "train.micro_batch=3",
                                    "train.steps=200",
                                    "train.bucket_mb=0",
                                    "train.schedule={\"type\":\"constant\"}",
                                    "train.optimizer.lr=1e-3"};

TinyRuns::Overrides with(TinyRuns::Overrides overrides, const TinyRuns::Overrides& more) {
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

struct Trace {
  std::vector<double> losses, norms, part_losses;
  std::vector<float> values;  // the parameters at the end, by declaration
};

// Of the parameters and of what is kept beside them.
std::vector<float> values_of(const Transformer& model) {
  std::vector<float> out;
  const auto add = [&](const Tensor& value) {
    out.insert(out.end(), value.as<float>(), value.as<float>() + value.elements());
  };
  for (const ParamSpec& spec : model.params().specs()) add(model.params().value(model.params().find(spec.name)));
  if (!model.averages().empty()) add(model.averages().all_values());
  return out;
}

class Ranks : public testing::Test {
 protected:
  Trace learn(int ranks, const TinyRuns::Overrides& overrides, int steps = kSteps) const {
    const Experiment experiment = runs_.experiment(overrides);
    std::vector<Trace> traces(static_cast<size_t>(ranks));
    const std::vector<RankEnding> errors = run_ranks(ranks, [&](Communicator& comm) {
      ThreadBackend backend;
      Learner learner(backend, experiment, comm);
      learner.model().initialise(experiment.seed);
      const TrainingData data = TrainingData::open(experiment);
      Trace& trace = traces[size_t(comm.rank())];
      for (int step = 0; step < steps; ++step) {
        const Gradients gradients = learner.differentiate(*data.train, step * experiment.train.batch);
        learner.update(gradients, experiment.train.optimizer.lr);
        trace.losses.push_back(gradients.loss);
        trace.norms.push_back(gradients.norm);
        for (const double loss : gradients.part_losses) trace.part_losses.push_back(loss);
      }
      trace.values = values_of(learner.model());
    });
    for (const RankEnding& error : errors) ADD_FAILURE() << error.sentence;
    for (const Trace& trace : traces) {
      EXPECT_EQ(trace.losses, traces[0].losses) << "ranks disagree";
      EXPECT_EQ(trace.norms, traces[0].norms) << "ranks disagree";
      EXPECT_EQ(trace.part_losses, traces[0].part_losses) << "ranks disagree";
      EXPECT_TRUE(trace.values == traces[0].values) << "ranks hold different parameters";
    }
    return traces[0];
  }

  TinyRuns runs_;
};

// The sums of a step differ by some roundings (1e-7 of a loss near 4); 200 steps of Adam carry that on. Another
// micro-batch on one rank makes the same kind of difference.
void expect_near(const Trace& expected, const Trace& actual, const std::string& what, double bound = 1e-4) {
  ASSERT_EQ(expected.losses.size(), actual.losses.size());
  for (size_t i = 0; i < expected.losses.size(); ++i)
    ASSERT_NEAR(expected.losses[i], actual.losses[i], bound * expected.losses[i]) << what << ", step " << i + 1;
}

TEST_F(Ranks, LearnWhatOneRankDoes) {
  const Trace one = learn(1, kEight);
  EXPECT_LT(one.losses.back(), one.losses.front() - 0.5) << "nothing is learned that could differ";
  for (const int ranks : {2, 4})
    for (const char* zero : {"0", "1", "2"})
      expect_near(one, learn(ranks, with(kEight, {fmt::format("train.zero={}", zero)})),
                  fmt::format("{} ranks, zero {}", ranks, zero));
}

TEST_F(Ranks, ShardingChangesNoBitWhereItSumsTheSame) {
  const Trace whole = learn(2, with(kEight, {"train.zero=0"}), 20);
  const Trace optimizer = learn(2, with(kEight, {"train.zero=1"}), 20);
  EXPECT_EQ(whole.losses, optimizer.losses);
  EXPECT_TRUE(whole.values == optimizer.values);
  // Without accumulation, the sums of zero 2 are those of the others too.
  const TinyRuns::Overrides at_once = with(kEight, {"train.micro_batch=4"});
  const Trace gradients = learn(2, with(at_once, {"train.zero=2"}), 20);
  EXPECT_EQ(learn(2, with(at_once, {"train.zero=0"}), 20).losses, gradients.losses);
}

// A part's own loss and what it has seen are the whole batch's, on every rank.
TEST_F(Ranks, ShareTheLossesAndTheAveragesOfParts) {
  const ListedStage stage(foreign::centred_values());
  const auto overrides = with(kEight, {R"(model.attention={"type": "softmax", "centred_values": true})"});
  const Trace one = learn(1, overrides, 40);
  EXPECT_EQ(one.part_losses.size(), 40u);
  for (const char* zero : {"0", "1", "2"}) {
    const Trace two = learn(2, with(overrides, {fmt::format("train.zero={}", zero)}), 40);
    expect_near(one, two, fmt::format("zero {}", zero));
    ASSERT_EQ(two.part_losses.size(), 40u);
    for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(two.part_losses[i], one.part_losses[i], 1e-4 * one.part_losses[i]);
    for (size_t i = one.values.size() - 64; i < one.values.size(); ++i) EXPECT_NEAR(two.values[i], one.values[i], 1e-5);
  }
}

TEST_F(Ranks, LearnTheSameWithAnyModelAndBuckets) {
  const std::map<std::string, TinyRuns::Overrides> cases = {
      {"one layer's bucket and a tied head", {"model.tied_head=true", "model.bias=true"}},
      {"large buckets", {"train.bucket_mb=1"}},
      {"sgd", {"train.optimizer={\"type\":\"sgd\",\"lr\":0.05}"}},
      {"recomputed blocks", {"train.recompute=block"}},
      {"a gate and a sink", {"model.attention=vga"}},
      {"averages and values of the first layer",
       {R"(model.attention={"affine": "linear", "value_residual": "learned"})"}},
      {"two sets of heads", {"model.attention=diff_v1"}},
      {"a mix over depth", {R"(model.residual={"type": "delta", "blocks": 2})", "model.tied_head=true"}}};
  for (const auto& [name, more] : cases) {
    const Trace one = learn(1, with(kEight, more), 20);
    for (const char* zero : {"0", "1", "2"})
      expect_near(one, learn(4, with(with(kEight, more), {fmt::format("train.zero={}", zero)}), 20), name);
  }
}

TEST_F(Ranks, LearnWithMuon) {
  const TinyRuns::Overrides muon = with(kEight, {"train.optimizer.type=muon", "model.mlp=swiglu"});
  expect_near(learn(1, muon, 20), learn(4, muon, 20), "muon");
}

// A bf16 activation rounds at 2^-9; over the 256 tokens of a batch that leaves less than 1e-3 of the loss.
TEST_F(Ranks, LearnInBf16) {
  const TinyRuns::Overrides bf16 = with(kEight, {"train.precision=bf16"});
  const Trace one = learn(1, bf16, 20);
  for (const char* zero : {"0", "1", "2"})
    expect_near(one, learn(2, with(bf16, {fmt::format("train.zero={}", zero)}), 20), zero, 1e-2);
}

TEST_F(Ranks, ShardsTakeLessMemory) {
  const auto bytes = [&](const char* zero) {
    const Experiment experiment = runs_.experiment(with(kEight, {fmt::format("train.zero={}", zero)}));
    std::vector<size_t> optimizer(4), all(4);
    run_ranks(4, [&](Communicator& comm) {
      ThreadBackend backend;
      const Learner learner(backend, experiment, comm);
      EXPECT_EQ(learner.bytes(), backend.allocated_bytes());
      optimizer[size_t(comm.rank())] = learner.optimizer().bytes();
      all[size_t(comm.rank())] = learner.bytes();
    });
    EXPECT_EQ(*std::max_element(all.begin(), all.end()), *std::min_element(all.begin(), all.end()));
    return std::pair(optimizer[0], all[0]);
  };
  const auto [whole, all0] = bytes("0");
  const auto [quarter, all1] = bytes("1");
  const auto [quarter2, all2] = bytes("2");
  EXPECT_EQ(whole, 4 * quarter);
  EXPECT_EQ(quarter, quarter2);
  EXPECT_EQ(all0 - all1, whole - quarter);
  EXPECT_LT(all2, all1);
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

class RankRuns : public Ranks {
 protected:
  std::vector<RankEnding> train(int ranks, const std::string& run, const TinyRuns::Overrides& overrides,
                                const std::string& resume = "auto", bool apart = false) const {
    Experiment experiment = runs_.experiment(overrides);
    const ResumeOption option = ResumeOption::parse(resume);
    const RunFolder folder(runs_.path(run), experiment.dump(), option);
    const StopSignals signals;
    return run_ranks(ranks, [&](Communicator& comm) {
      ThreadBackend backend(apart);
      Trainer trainer(backend, experiment, TrainingData::open(experiment), comm.is_root() ? &folder : nullptr, comm);
      EXPECT_EQ(trainer.planned_bytes(), backend.allocated_bytes());
      EXPECT_EQ(trainer.run(option), 0);
    });
  }
  void expect_none(const std::vector<RankEnding>& errors) const {
    for (const RankEnding& error : errors) ADD_FAILURE() << error.sentence;
  }
  std::vector<double> losses(const std::string& run) const {
    std::vector<double> out;
    for (const Json& line : runs_.metrics(run, "train")) out.push_back(line["loss"]);
    return out;
  }
};

const TinyRuns::Overrides kShort = {"train.batch=8", "train.micro_batch=3", "train.steps=12", "train.bucket_mb=0",
                                    "train.schedule={\"type\":\"constant\"}"};

TEST_F(RankRuns, ASavedStateIsTheSameOnAnyNumberOfRanks) {
  for (const char* zero : {"0", "1", "2"}) {
    const std::string from = fmt::format("two{}", zero);
    const TinyRuns::Overrides six = with(kShort, {"train.steps=6"});
    expect_none(train(2, from, with(six, {fmt::format("train.zero={}", zero)})));
    // A fork saves what it has loaded at once.
    for (const auto& [ranks, other] : {std::pair(1, "0"), {1, "2"}, {2, "1"}, {4, "0"}, {4, "1"}, {4, "2"}}) {
      const std::string to = fmt::format("{}_{}_{}", from, ranks, other);
      expect_none(
          train(ranks, to, with(six, {"train.steps=7", fmt::format("train.zero={}", other)}), runs_.path(from)));
      EXPECT_TRUE(runs_.weights(from, 6) == runs_.weights(to, 6)) << to;
      EXPECT_TRUE(runs_.optimizer(from, 6) == runs_.optimizer(to, 6)) << to;
    }
  }
}

TEST_F(RankRuns, AStateOnDevicesIsTheSameOnDisk) {
  const TinyRuns::Overrides six = with(kShort, {"train.steps=6", "train.precision=bf16"});
  expect_none(train(2, "host", six));
  for (const auto& [ranks, zero] : {std::pair(1, "0"), {2, "0"}, {2, "1"}, {4, "2"}}) {
    const std::string to = fmt::format("device{}_{}", ranks, zero);
    expect_none(
        train(ranks, to, with(six, {"train.steps=7", fmt::format("train.zero={}", zero)}), runs_.path("host"), true));
    EXPECT_TRUE(runs_.weights("host", 6) == runs_.weights(to, 6)) << to;
    EXPECT_TRUE(runs_.optimizer("host", 6) == runs_.optimizer(to, 6)) << to;
  }
}

TEST_F(RankRuns, ARunGoesOnOnAnotherNumberOfRanks) {
  expect_none(train(1, "straight", kShort));
  const std::vector<double> expected = losses("straight");
  for (const int ranks : {1, 4}) {
    const std::string run = fmt::format("run{}", ranks);
    expect_none(train(2, run, with(kShort, {"train.steps=7", "train.zero=2"})));
    expect_none(train(ranks, run, with(kShort, {"train.zero=1"})));
    const std::vector<double> actual = losses(run);
    ASSERT_EQ(actual.size(), expected.size()) << "no step is missing or stands twice";
    for (size_t i = 0; i < actual.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 1e-5 * expected[i]) << "step " << i + 1;
    // What rank 0 does alone, and what all do, is in the metrics like a single rank's.
    const auto kinds = [&](const std::string& name) {
      std::vector<std::string> out;
      for (const Json& line : runs_.metrics(name))
        out.push_back(fmt::format("{} {}", line["kind"].dump(), line["step"].dump()));
      return out;
    };
    const std::vector<std::string> one = kinds("straight"), several = kinds(run);
    for (const std::string& line : one)
      EXPECT_TRUE(std::find(several.begin(), several.end(), line) != several.end()) << line;
  }
}

// ---- failures -------------------------------------------------------------------------------------------------------

std::vector<std::string> told(const std::vector<RankEnding>& endings) {
  std::vector<std::string> out;
  for (const RankEnding& ending : endings)
    if (ending.tells) out.push_back(ending.sentence);
  return out;
}

TEST_F(RankRuns, OneRanksErrorEndsAllAndIsToldOnce) {
  const std::vector<RankEnding> endings = run_ranks(4, [](Communicator& comm) {
    comm.set_limit(60);
    comm.barrier();
    if (comm.rank() == 2) throw UserError("the shard is gone");
    comm.barrier();
  });
  ASSERT_EQ(endings.size(), 4u);
  EXPECT_EQ(told(endings), std::vector<std::string>{"rank 2: the shard is gone"});
  for (const RankEnding& ending : endings) {
    EXPECT_EQ(ending.exit_code, 2);
    EXPECT_EQ(ending.sentence, "rank 2: the shard is gone");
    EXPECT_FALSE(ending.orderly) << "the others were in the middle of an exchange";
  }
}

TEST_F(RankRuns, AnErrorOfAllIsToldByRankZero) {
  const std::vector<RankEnding> endings = run_ranks(3, [](Communicator&) { throw UserError("train.lr is no key"); });
  EXPECT_EQ(told(endings), std::vector<std::string>{"train.lr is no key"});
  for (const RankEnding& ending : endings) EXPECT_TRUE(ending.orderly);
}

TEST_F(RankRuns, ARankThatStaysAwayIsNamed) {
  for (const bool patient : {false, true}) {
    const std::vector<RankEnding> endings = run_ranks(4, [&](Communicator& comm) {
      comm.set_limit(0.2);
      comm.expect("step 7");
      if (comm.rank() == 1) return;  // as if it were dead
      std::optional<PatientWait> patience;
      if (patient) patience.emplace(comm);
      comm.barrier();
    });
    ASSERT_EQ(endings.size(), 3u);
    const std::vector<std::string> sentences = told(endings);
    ASSERT_EQ(sentences.size(), 1u);
    EXPECT_NE(sentences[0].find("rank 1 of 4 died or hangs, at step 7"), std::string::npos) << sentences[0];
    EXPECT_NE(sentences[0].find("train.rank_timeout"), std::string::npos) << sentences[0];
  }
}

TEST(RankFiles, CarryLastWords) {
  const TempFolder folder;
  const std::string ranks = folder.file("ranks");
  std::filesystem::create_directory(ranks);
  folder.write("ranks/rank_1", "1 2 of an earlier run");
  folder.write("ranks/rank_x", "1 1 no rank");
  folder.write("ranks/rank_7", "1 1 not of this run");
  NewsFiles one(ranks, {1, 3, 1, 3}), two(ranks, {2, 3, 2, 3});
  one.send({true, 2, "the shard is gone, 3 of 4"});
  two.send({false, 1, ""});
  NewsFiles zero(ranks, {0, 3, 0, 3});
  std::map<int, RankNews> news;
  zero.receive(news);
  ASSERT_EQ(news.size(), 2u);
  EXPECT_TRUE(news[1].own_error);
  EXPECT_EQ(news[1].exit_code, 2);
  EXPECT_EQ(news[1].text, "the shard is gone, 3 of 4");
  EXPECT_FALSE(news[2].own_error);
  EXPECT_EQ(news[2].text, "");
  NewsFiles(folder.file("missing/folder"), {0, 3, 0, 3}).receive(news);
  EXPECT_EQ(news.size(), 2u);
}

TEST_F(RankRuns, ACheckpointThatRankZeroCannotWriteEndsAll) {
  std::vector<RankEnding> endings;
  {
    const FileSizeLimit limit(16 << 10);  // below a checkpoint's size
    endings = train(2, "a", kShort);
  }
  ASSERT_EQ(endings.size(), 2u);
  const std::vector<std::string> sentences = told(endings);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(sentences[0].find("cannot save the checkpoint"), 0u) << sentences[0];
  EXPECT_EQ(endings[0].sentence, endings[1].sentence);
}

TEST_F(RankRuns, DifferentConfigsAreNamedByRankAndKey) {
  const auto message = [&](const TinyRuns::Overrides& other, const std::string& other_data) {
    const std::vector<RankEnding> endings = run_ranks(3, [&](Communicator& comm) {
      Experiment experiment = runs_.experiment(comm.rank() == 1 ? other : TinyRuns::Overrides{});
      check_same_config(comm, experiment.dump().dump(), comm.rank() == 2 ? other_data : "data");
    });
    const std::vector<std::string> sentences = told(endings);
    return sentences.size() == 1 && endings[0].exit_code == 2 ? sentences[0] : fmt::format("{} tell", sentences.size());
  };
  EXPECT_EQ(message({}, "data"), "0 tell");
  EXPECT_EQ(
      message({"train.optimizer.lr=0.5"}, "data"),
      "rank 1 has another config than rank 0: train.optimizer.lr is 0.5 there, but 0.003 on rank 0; start all ranks "
      "with the same one");
  EXPECT_EQ(message({}, "other"), "rank 2 reads other data (other) than rank 0 (data)");
}

TEST_F(Ranks, ABatchThatCannotBeSharedIsRefused) {
  const Experiment experiment = runs_.experiment({});
  EXPECT_NO_THROW(check_ranks(experiment.train, 3));
  const std::string message = message_of<UserError>([&] { check_ranks(experiment.train, 4); });
  EXPECT_EQ(message, "train.batch is 6, but 4 ranks can only share a multiple of 4 evenly");
}

}  // namespace
}  // namespace sluice
