#include "analysis/run_reader.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/run_builder.h"
#include "base/error.h"
#include "base/error_text.h"

namespace sluice {
namespace {

bool has_note(const RunRecord& run, const std::string& part) {
  for (const std::string& note : run.notes) {
    if (note.find(part) != std::string::npos) return true;
  }
  return false;
}

TEST(RunReader, ReadsSeriesByKindFieldLayerAndHead) {
  RunBuilder build;
  const RunRecord run = read_run(build.add("vga", 7, 0.2, kOutputGate, 2));
  EXPECT_EQ(run.name, "vga");
  EXPECT_TRUE(run.notes.empty()) << run.notes.front();
  const TimeSeries* sink = run.find("probe", "sink_attention", 0, 1);
  ASSERT_NE(sink, nullptr);
  EXPECT_EQ(sink->steps, (std::vector<int64_t>{0, 10, 20}));
  EXPECT_EQ(sink->values, (std::vector<double>{0.0, 0.2, 0.4}));
  EXPECT_EQ(run.final_value("gate", "mean_sink", 0, 0), 0.05);
  EXPECT_EQ(run.find("probe", "sink_attention", 1, 0), nullptr);
  EXPECT_EQ(run.heads(), (std::vector<HeadId>{{0, 0}, {0, 1}}));
  EXPECT_EQ(run.last_step(), 20);
  ASSERT_TRUE(run.first_attention && run.last_attention);
  EXPECT_EQ(run.first_attention->step, 0);
  EXPECT_EQ(run.last_attention->step, 20);
  EXPECT_EQ(run.last_attention->maps[0].weights[1], (std::vector<double>{0.2, 0.8}));
}

TEST(RunReader, FilesResidualNormsUnderTheLayer) {
  RunBuilder build;
  const RunRecord run = read_run(build.add("softmax", 7, 0.4, {{"reads", "none"}}, 2));
  EXPECT_EQ(run.final_value("probe", "residual_norm_sink", 0), 60.0);
  EXPECT_EQ(run.find("probe", "residual_norm_sink", 0, 0), nullptr);
}

TEST(RunReader, NotesWhatIsMissing) {
  RunBuilder build;
  const RunRecord run = read_run(build.write("young", "config.json", R"({"seed": 1})"));
  EXPECT_EQ(run.name, "young");
  EXPECT_EQ(run.last_step(), -1);
  EXPECT_TRUE(run.heads().empty());
  for (const char* file : {"info.json", "metrics.jsonl", "attention/"}) EXPECT_TRUE(has_note(run, file)) << file;

  const RunRecord bare = read_run(build.write("bare", "metrics.jsonl", ""));
  EXPECT_TRUE(has_note(bare, "config.json is missing"));
  EXPECT_TRUE(has_note(bare, "no values yet"));
}

TEST(RunReader, SkipsALastLineThatIsCutOff) {
  RunBuilder build;
  const std::string good = R"({"kind":"train","step":1,"loss":2.5})";
  for (const std::string tail : {R"({"kind":"train","st)", R"({"kind":"train"})", "{\"kind\":\"tr\n"}) {
    const RunRecord run = read_run(build.write("cut", "metrics.jsonl", good + "\n" + tail));
    EXPECT_EQ(run.final_value("train", "loss"), 2.5);
    EXPECT_TRUE(has_note(run, "metrics.jsonl (2) is cut off")) << tail;
  }
}

TEST(RunReader, RefusesAMalformedLineInTheMiddle) {
  RunBuilder build;
  const std::string good = R"({"kind":"train","step":1,"loss":2.5})";
  for (const std::string bad : {"{\"kind\":", "[1]", R"({"step":1})", R"({"kind":"train","step":"one"})"}) {
    const std::string path = build.write("bad", "metrics.jsonl", good + "\n" + bad + "\n" + good + "\n");
    const std::string error = user_error_of([&] { read_run(path); });
    EXPECT_NE(error.find(path + "/metrics.jsonl: line 2 is malformed"), std::string::npos) << bad << " -> " << error;
  }
}

TEST(RunReader, RefusesWhatIsNoRun) {
  RunBuilder build;
  EXPECT_NE(user_error_of([&] { read_run(build.path("none")); }).find("no such run folder"), std::string::npos);
  const std::string run = build.add("softmax", 1, 0.5);
  EXPECT_NE(user_error_of([&] { read_run(run + "/config.json"); }).find("not a run folder but a file"),
            std::string::npos);
  // A folder of runs names one of them.
  const std::string parent = user_error_of([&] { read_run(build.path("")); });
  EXPECT_NE(parent.find("not a run folder"), std::string::npos);
  EXPECT_NE(parent.find(run), std::string::npos) << parent;
  build.write("broken", "config.json", "{\"seed\": ");
  EXPECT_NE(user_error_of([&] { read_run(build.path("broken")); }).find("config.json"), std::string::npos);
}

TEST(RunReader, KeepsNotANumberAndLetsLaterLinesReplaceEarlierSteps) {
  RunBuilder build;
  const RunRecord run = read_run(build.write("resumed", "metrics.jsonl",
                                             "{\"kind\":\"train\",\"step\":1,\"loss\":3}\n"
                                             "{\"kind\":\"train\",\"step\":2,\"loss\":null}\n"
                                             "{\"kind\":\"train\",\"step\":3,\"loss\":9}\n\n"
                                             "{\"kind\":\"train\",\"step\":3,\"loss\":1}\n"));
  const TimeSeries* loss = run.find("train", "loss");
  ASSERT_NE(loss, nullptr);
  EXPECT_EQ(loss->steps, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(std::isnan(loss->values[1]));
  EXPECT_EQ(loss->values[2], 1.0);
}

TEST(RunReader, SkipsDamagedAttentionFiles) {
  RunBuilder build;
  const std::string path = build.add("softmax", 1, 0.5);
  build.write("softmax", "attention/step_00000030.json", "{\"step\": 30, \"tok");
  build.write("softmax", "attention/step_00000040.json",
              R"({"step":40,"tokens":["a","b"],"maps":[{"layer":0,"head":0,"weights":[[1],[1]]}]})");
  const RunRecord run = read_run(path);
  ASSERT_TRUE(run.last_attention);
  EXPECT_EQ(run.last_attention->step, 20);
  EXPECT_TRUE(has_note(run, "step_00000030.json is malformed"));
  EXPECT_TRUE(has_note(run, "step_00000040.json is malformed"));
}

}  // namespace
}  // namespace sluice
