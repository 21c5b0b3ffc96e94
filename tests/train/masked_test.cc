// Runs of masked language models: learned, stopped and resumed, in any micro-batches, on the emulated device; and what
// a config must not leave out.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "measure/analyzer.h"
#include "report/run_reader.h"
#include "runs/load_model.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

TinyRuns::Overrides masked(TinyRuns::Overrides more = {}) {
  TinyRuns::Overrides all = {"model.causal=false",
                             "data={\"type\": \"random\", \"masking\": {\"share\": 0.15, \"token\": 66}}"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(MaskedRuns, GoOnWhereTheyStopped) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("straight", masked()), 0);
  ASSERT_EQ(runs.train_until(7, "stopped", masked()), SIGTERM);
  ASSERT_EQ(runs.train("stopped", masked()), 0);
  EXPECT_TRUE(runs.metrics("straight") == runs.metrics("stopped"));
  EXPECT_TRUE(runs.weights("straight", 12) == runs.weights("stopped", 12));
}

// A mean over what is predicted: of random tokens ln V at first, whatever their share.
TEST(MaskedRuns, LogTheMeanOverWhatIsPredicted) {
  const TinyRuns runs;
  for (const char* share : {"0.05", "0.15", "0.9"}) {
    ASSERT_EQ(runs.train(share, masked({"train.steps=3", "data.masking.share=" + std::string(share)})), 0);
    for (const char* kind : {"train", "eval"})
      for (const Json& line : runs.metrics(share, kind)) EXPECT_NEAR(line.at("loss").get<double>(), std::log(67), 0.5);
  }
}

TEST(MaskedRuns, AreTheSameInOtherMicroBatches) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("four", masked({"train.steps=3"})), 0);
  ASSERT_EQ(runs.train("one", masked({"train.steps=3", "train.micro_batch=1"})), 0);
  const auto four = runs.metrics("four", "train"), one = runs.metrics("one", "train");
  for (size_t i = 0; i < four.size(); ++i)
    EXPECT_NEAR(four[i].at("loss").get<double>(), one[i].at("loss").get<double>(), 1e-5) << i;
}

// To predict a token from itself is learned at once: with nothing replaced the loss falls.
TEST(MaskedRuns, LearnWhatIsLeftStanding) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", masked({"train.steps=60", "data.masking.replaced=0", "data.masking.random=0",
                                      "data.masking.share=1", "train.optimizer.lr=1e-2"})),
            0);
  EXPECT_LT(runs.metrics("run", "train").back().at("loss").get<double>(), 1.0);
}

TEST(MaskedRuns, AreAnalyzed) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", masked({"train.steps=3"})), 0);
  const auto backend = make_cpu_backend();
  const LoadedModel loaded = load_model(runs.path("run"), *backend, {.training = true});
  const auto source = make_source(loaded.experiment.data, Split::kHeldOut, 32, 67, 3);
  Analyzer analyzer(*loaded.model, *source, {.sequences = 6});
  const Analysis analysis = analyzer.run(3);
  EXPECT_NEAR(analysis.loss, std::log(67), 0.5);
  EXPECT_THROW(require_causal(loaded, "sample"), UserError);
}

// Maps have whole rows, in an analysis too, and are read back so.
TEST(MaskedRuns, AreReadByTheReport) {
  const TinyRuns runs;
  ASSERT_EQ(runs.train("run", masked({"train.steps=4", "log.analyze_every=4", "log.analyze_sequences=2"})), 0);
  const RunRecord run = read_run(runs.path("run"));
  EXPECT_TRUE(run.notes.empty()) << run.notes.front();
  ASSERT_TRUE(run.last_attention && run.analysis);
  const RecordedMap& map = run.last_attention->maps.at(0);
  EXPECT_TRUE(map.both_sides);
  for (const auto& row : map.weights) EXPECT_EQ(row.size(), map.weights.size());
  EXPECT_TRUE(run.analysis->mean.maps.at(0).both_sides);
}

TEST(MaskedRuns, SayWhatDoesNotGoTogether) {
  const TinyRuns runs;
  const auto refusal = [&](const TinyRuns::Overrides& overrides) {
    return user_error_of([&] { runs.experiment(overrides); });
  };
  expect_contains(refusal({"model.causal=false"}), {"model.causal = false", "data.masking.share"});
  expect_contains(refusal(masked({"model.causal=true"})), {"data.masking.share = 0.15", "model.causal"});
  expect_contains(refusal(masked({"data.masking.replaced=0.9", "data.masking.random=0.2"})),
                  {"0.9 + 0.2", "at most 1"});
  expect_contains(refusal({"model.causal=false", "data.masking.share=0.1"}), {"data.masking"});
}

}  // namespace
}  // namespace sluice
