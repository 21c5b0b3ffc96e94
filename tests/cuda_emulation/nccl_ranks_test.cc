// Ranks over NCCL on the emulated device: communicator_nccl.cc with the streams of cuda_runtime.h and the meetings of
// nccl.h. Every rank is a process: this program once more, told by its environment to be one.
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>

#include "base/config/json_text.h"
#include "kernels/cuda_under_test.h"
#include "ranks/communicator_launch.h"
#include "train/tiny_run.h"

extern char** environ;

namespace sluice {
namespace {

constexpr int kSteps = 6, kFailingRank = 1, kFailingStep = 3;

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// ---- a rank's side

struct Rank {
  Communicator& comm;
  Backend& backend;
  const Experiment& experiment;
  Json& told;  // what the test is to see
};

// Every kind of exchange, of tensors and of values.
void exchange(const Rank& rank) {
  const int size = rank.comm.size(), me = rank.comm.rank();
  const int64_t piece = 5, n = piece * size;
  Arena arena(rank.backend, size_t(n) * 4);
  const Tensor x = arena.at(0, DType::kF32, {n});
  const auto after = [&](const std::function<float(int64_t)>& mine, const std::function<void()>& start) {
    std::vector<float> values(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) values[size_t(i)] = mine(i);
    rank.backend.upload(x, values.data());
    start();
    rank.comm.finish();
    rank.backend.download(values.data(), x);
    rank.comm.settle();
    return values;
  };
  const float ranks = float(size), sum_of_ranks = ranks * (ranks - 1) / 2;
  const auto mine = [&](int64_t i) { return float(i) + 100 * float(me); };
  const std::vector<float> reduced = after(mine, [&] { rank.comm.start_all_reduce(x); });
  const std::vector<float> scattered = after(mine, [&] { rank.comm.start_reduce_scatter(x); });
  const std::vector<float> gathered = after(mine, [&] { rank.comm.start_all_gather(x); });
  const std::vector<float> sent = after(mine, [&] { rank.comm.start_broadcast(x); });
  for (int64_t i = 0; i < n; ++i) {
    const float sum = ranks * float(i) + 100 * sum_of_ranks;
    EXPECT_EQ(reduced[size_t(i)], sum) << i;
    EXPECT_EQ(scattered[size_t(i)], i / piece == me ? sum : mine(i)) << i;
    EXPECT_EQ(gathered[size_t(i)], float(i) + 100 * float(i / piece)) << i;
    EXPECT_EQ(sent[size_t(i)], float(i)) << i;
  }
  EXPECT_EQ(rank.comm.sum(me + 1), sum_of_ranks + ranks);
  const std::vector<std::string> texts = rank.comm.gather_texts(std::string(size_t(me), 'x'));
  for (int other = 0; other < size; ++other) EXPECT_EQ(texts[size_t(other)], std::string(size_t(other), 'x'));
}

void learn(const Rank& rank, const std::function<void(int step)>& before_step = {}) {
  Learner learner(rank.backend, rank.experiment, rank.comm);
  learner.model().initialise(rank.experiment.seed);
  const TrainingData data = TrainingData::open(rank.experiment);
  for (int step = 0; step < kSteps; ++step) {
    rank.comm.expect(fmt::format("step {}", step + 1));
    if (before_step && rank.comm.rank() == kFailingRank) before_step(step + 1);
    const Gradients gradients = learner.differentiate(*data.train, step * rank.experiment.train.batch);
    learner.update(gradients, rank.experiment.train.optimizer.lr);
    rank.told["losses"].push_back(gradients.loss);
    rank.told["norms"].push_back(gradients.norm);
  }
}

// In the folder that the tests' side names, with checkpoints, probes and evaluations.
void train(const Rank& rank) {
  Experiment experiment = rank.experiment;
  const ResumeOption resume = ResumeOption::parse("auto");
  std::optional<RunFolder> folder;
  if (rank.comm.is_root()) folder.emplace(setting("SLUICE_TEST_RUN"), experiment.dump(), resume);
  Trainer trainer(rank.backend, experiment, TrainingData::open(experiment), folder ? &*folder : nullptr, rank.comm);
  EXPECT_EQ(trainer.run(resume), 0);
}

void play(const std::string& scenario, const Rank& rank) {
  if (scenario == "exchange") exchange(rank);
  if (scenario == "learn") learn(rank);
  if (scenario == "train") train(rank);
  if (scenario == "fail") {
    learn(rank, [](int step) {
      if (step == kFailingStep) throw RunError("the disk is full");
    });
  }
  if (scenario == "die") {
    learn(rank, [](int step) {
      if (step == kFailingStep) std::_Exit(9);
    });
  }
}

TEST(EmulatedNcclRank, DISABLED_Plays) {
  const std::string folder = setting("SLUICE_TEST_FOLDER");
  ASSERT_FALSE(folder.empty()) << "this is a part of the other tests";
  const RankPlace place{std::stoi(setting("RANK")), std::stoi(setting("WORLD_SIZE")), 0, 1};
  const Experiment experiment = parse_experiment(read_json_file(folder + "/config.json"));
  const RankLaunch launch{RankLaunch::Starter::kEnvironment, place, folder + "/meeting"};
  const std::unique_ptr<Communicator> host = connect_ranks(launch, kDefaultRankTimeout);
  host->set_limit(experiment.train.rank_timeout);
  const std::unique_ptr<Backend> backend = cuda_under_test();
  const std::unique_ptr<Communicator> comm = make_nccl_communicator(*host, launch, *backend, folder);
  Json told = Json::object();
  try {
    play(setting("SLUICE_TEST_SCENARIO"), {*comm, *backend, experiment, told});
  } catch (const std::exception& error) {
    const RankEnding ending = comm->conclude(error, 1);
    told["sentence"] = ending.sentence;
    told["tells"] = ending.tells;
  }
  write_file_atomic(fmt::format("{}/told_{}.json", folder, place.rank), told.dump());
}

// ---- the test's side

class EmulatedNccl : public testing::Test {
 protected:
  // What every rank told; null for one that told nothing. A rank that ends in another way than `exit_code` is a
  // failure.
  std::vector<Json> run(const std::string& scenario, int ranks, const TinyRuns::Overrides& overrides,
                        const std::map<int, int>& exit_codes = {}) {
    const std::string folder = runs_.path(fmt::format("{}_{}", scenario, ++runs));
    std::filesystem::create_directories(folder);
    Experiment experiment = runs_.experiment(overrides);
    write_file_atomic(folder + "/config.json", experiment.dump().dump());
    std::vector<pid_t> processes;
    for (int rank = 0; rank < ranks; ++rank) processes.push_back(start(scenario, rank, ranks, folder));
    std::vector<Json> told;
    for (int rank = 0; rank < ranks; ++rank) {
      int status = 0;
      EXPECT_EQ(waitpid(processes[size_t(rank)], &status, 0), processes[size_t(rank)]);
      const int expected = exit_codes.contains(rank) ? exit_codes.at(rank) : 0;
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == expected)
          << scenario << ": rank " << rank << " ended with " << status;
      const std::string file = fmt::format("{}/told_{}.json", folder, rank);
      told.push_back(std::filesystem::exists(file) ? read_json_file(file) : Json());
    }
    return told;
  }

  // The same without ranks, on the same device.
  Json run_alone(const TinyRuns::Overrides& overrides) {
    const Experiment experiment = runs_.experiment(overrides);
    const std::unique_ptr<Backend> backend = cuda_under_test();
    Json told = Json::object();
    learn({one_rank(), *backend, experiment, told});
    return told;
  }

 private:
  static pid_t start(const std::string& scenario, int rank, int ranks, const std::string& folder) {
    std::vector<std::string> variables = {
        fmt::format("RANK={}", rank),   fmt::format("WORLD_SIZE={}", ranks),     "SLUICE_TEST_SCENARIO=" + scenario,
        "SLUICE_TEST_FOLDER=" + folder, "SLUICE_TEST_RUN=" + folder + "/../run", "OMP_NUM_THREADS=1"};
    for (char** inherited = environ; *inherited; ++inherited)
      if (!std::string(*inherited).starts_with("GTEST_")) variables.push_back(*inherited);
    std::vector<std::string> arguments = {"sluice_tests", "--gtest_filter=EmulatedNcclRank.DISABLED_Plays",
                                          "--gtest_also_run_disabled_tests", "--gtest_brief=1"};
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> out;
      for (std::string& text : texts) out.push_back(text.data());
      out.push_back(nullptr);
      return out;
    };
    pid_t process = -1;
    if (posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, pointers(arguments).data(),
                    pointers(variables).data()) != 0)
      throw std::runtime_error("no process could be started");
    return process;
  }

  int runs = 0;

 protected:
  TinyRuns runs_;
};

// Two micro-batches a rank of two, of which the second is smaller; every layer a bucket of its own.
const TinyRuns::Overrides kSmall = {
    "model.context=16", "model.layers=2",    "train.batch=6",           "train.micro_batch=2",
    "train.steps=6",    "train.bucket_mb=0", "train.optimizer.lr=1e-3", "train.schedule={\"type\":\"constant\"}"};

TinyRuns::Overrides with(TinyRuns::Overrides overrides, const TinyRuns::Overrides& more) {
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

TEST_F(EmulatedNccl, ExchangesTensorsAndValues) {
  for (const int ranks : {2, 3}) run("exchange", ranks, kSmall);
}

// Steps are replayed in parts, exchanges run beside them: the losses are those of a run without ranks, up to the order
// of sums (1e-7 of a loss near 4, which a few steps of Adam carry on).
TEST_F(EmulatedNccl, RanksLearnWhatOneDoes) {
  const std::pair<const char*, TinyRuns::Overrides> cases[] = {
      {"zero 0", {"train.zero=0"}},
      {"zero 1", {"train.zero=1"}},
      {"zero 2", {"train.zero=2"}},
      {"tied, zero 2", {"model.tied_head=true", "train.zero=2"}}};
  for (const auto& [name, more] : cases) {
    SCOPED_TRACE(name);
    const TinyRuns::Overrides config = with(kSmall, more);
    const Json alone = run_alone(config);
    const std::vector<Json> told = run("learn", 2, config);
    ASSERT_EQ(told[0]["losses"].size(), size_t(kSteps));
    EXPECT_EQ(told[0], told[1]) << "the ranks disagree";
    for (int step = 0; step < kSteps; ++step)
      for (const char* figure : {"losses", "norms"}) {
        const double expected = alone[figure][size_t(step)];
        EXPECT_NEAR(told[0][figure][size_t(step)].get<double>(), expected, 1e-5 * expected)
            << figure << ", step " << step + 1;
      }
  }
}

TEST_F(EmulatedNccl, ARunGoesOnWithAnotherNumberOfRanks) {
  const TinyRuns::Overrides config = with(kSmall, {"log.eval_every=3", "log.probe_every=3", "log.checkpoint_every=0"});
  runs_.train("straight", config);
  run("train", 2, with(config, {"train.steps=4", "train.zero=2"}));
  run("train", 3, with(config, {"train.zero=1"}));
  const std::vector<Json> expected = runs_.metrics("straight", "train"), actual = runs_.metrics("run", "train");
  ASSERT_EQ(actual.size(), size_t(kSteps)) << "no step is missing or stands twice";
  for (size_t step = 0; step < size_t(kSteps); ++step) {
    const double loss = expected[step]["loss"];
    EXPECT_NEAR(actual[step]["loss"].get<double>(), loss, 1e-5 * loss) << "step " << step + 1;
  }
}

TEST_F(EmulatedNccl, OthersEndWithTheErrorOfTheRankThatFails) {
  const std::vector<Json> told = run("fail", 2, with(kSmall, {"train.rank_timeout=60"}));
  for (const Json& rank : told) EXPECT_EQ(rank["sentence"], "rank 1: the disk is full");
  EXPECT_FALSE(told[0]["tells"]);
  EXPECT_TRUE(told[1]["tells"]);
  EXPECT_EQ(told[0]["losses"].size(), size_t(kFailingStep - 1));
}

TEST_F(EmulatedNccl, ARankThatDiesIsNamedWithinTheLimit) {
  const std::vector<Json> told = run("die", 2, with(kSmall, {"train.rank_timeout=1"}), {{kFailingRank, 9}});
  EXPECT_EQ(
      told[0]["sentence"],
      "rank 1 of 2 died or hangs, at step 3: no answer within 1 s (train.rank_timeout); started again, the run goes on "
      "from its newest checkpoint");
  EXPECT_TRUE(told[0]["tells"]);
}

}  // namespace
}  // namespace sluice
