#include "report/run_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/error_text.h"
#include "report/run_builder.h"

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
  EXPECT_NE(user_error_of([&] { read_run(build.path("")); }).find("not a run folder (neither"), std::string::npos);
  build.write("broken", "config.json", "{\"seed\": ");
  EXPECT_NE(user_error_of([&] { read_run(build.path("broken")); }).find("config.json"), std::string::npos);
}

TEST(RunReader, FindsTheRunsOfAFolder) {
  RunBuilder build;
  using Paths = std::vector<std::string>;
  const std::string b = build.add("b", 1, 0.5), a = build.add("a", 1, 0.5);
  build.write("logs", "a.txt", "no run");
  build.write("empty", "file", "");
  build.write("exported", "config.json", "{}");
  const std::string parent = std::filesystem::path(a).parent_path().string();
  EXPECT_EQ(run_folders(parent), (Paths{a, b}));
  for (const std::string& path : {a, build.path("none"), a + "/config.json"}) EXPECT_EQ(run_folders(path), Paths{path});
  EXPECT_NE(user_error_of([&] { run_folders(build.path("empty")); }).find("nor a folder of runs"), std::string::npos);
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

TEST(RunReader, FilesAnalysesWithTheLinesOfTheirKind) {
  const RunBuilder runs;
  const std::string path = runs.add("a", 1, 0.5);
  runs.write("a", "metrics.jsonl", R"({"kind":"analysis","step":0,"sink_rate":0.1}
{"kind":"analysis_head","step":0,"layer":0,"head":0,"row_mass":1}
{"kind":"analysis","step":20,"sink_rate":0.2}
)");
  const auto analysis = [](int step, const std::string& curve, const std::string& map) {
    return fmt::format(R"({{"step":{},"sequences":5,"length":3,"summary":{{"sink_rate":0.{},"kurtosis":null}},
      "layers":[{{"layer":0,"output_kurtosis":3}}],"heads":[{{"layer":0,"head":0,"row_mass":0.5,"sink_rates":{{}}}}],
      "residual_norm":[[1,2,3],[4,5,6]],"curves":[{{"layer":0,"head":0,"attention":{},"map":{}}}]}})",
                       step, step, curve, map);
  };
  runs.write("a", "analysis/step_00000010.json", analysis(10, "[1,2,3]", "[[1],[0.25,0.75]]"));
  runs.write("a", "analysis/step_00000020.json", analysis(20, "[1,2,3]", "[[1],[0.5,0.5]]"));
  runs.write("a", "analysis/step_00000012.json", "{");
  runs.write("a", "analysis/step_00000013.json", analysis(13, "[1,2]", "[]"));             // a short curve
  runs.write("a", "analysis/step_00000014.json", analysis(14, "[1,2,3]", "[[1],[0.5]]"));  // a map that is no triangle
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = analysis(15, "[1,2,3]", "[]");
    return text.replace(text.find(from), from.size(), to);
  };
  runs.write("a", "analysis/step_00000015.json", changed(R"([{"layer":0,"head":0,"attention")", R"([{"attention")"));
  runs.write("a", "analysis/step_00000016.json",
             changed(R"([{"layer":0,"head":0,"attention")", R"([{"layer":"0","head":0,"attention")"));
  runs.write("a", "analysis/step_00000017.json", changed("\"step\":15", "\"step\":1e300"));
  runs.write("a", "analysis/step_00000018.json", changed("\"length\":3", "\"length\":3.5"));
  runs.write("a", "analysis/step_00000021.json", analysis(21, "[1,2,3]", "[[1]]"));  // beyond the last step
  const RunRecord run = read_run(path);

  const TimeSeries* rates = run.find("analysis", "sink_rate");
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->steps, (std::vector<int64_t>{0, 10, 20}));
  EXPECT_EQ(rates->values, (std::vector<double>{0.1, 0.10, 0.20}));
  EXPECT_TRUE(std::isnan(*run.final_value("analysis", "kurtosis")));
  EXPECT_EQ(run.find("analysis_head", "row_mass", 0, 0)->values, (std::vector<double>{1, 0.5, 0.5}));
  EXPECT_EQ(run.final_value("analysis_layer", "output_kurtosis", 0), 3);
  ASSERT_TRUE(run.analysis);
  EXPECT_EQ(run.analysis->step, 20);
  EXPECT_EQ(run.analysis->residual_norm[1][2], 6);
  EXPECT_EQ(run.analysis->curves[0]["attention"].size(), 3u);
  EXPECT_FALSE(run.analysis->curves[0].contains("map"));
  ASSERT_EQ(run.analysis->mean.maps.size(), 1u);
  EXPECT_EQ(run.analysis->mean.maps[0].weights[1], (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(run.analysis->mean.tokens, (std::vector<std::string>{"0", "1"}));
  const auto has_note = [&](const std::string& note) {
    return std::any_of(run.notes.begin(), run.notes.end(),
                       [&](const std::string& one) { return one.starts_with(note); });
  };
  for (const char* step : {"12", "13", "14", "15", "16", "17", "18"})
    EXPECT_TRUE(has_note(fmt::format("analysis/step_000000{}.json is malformed", step))) << step;
  EXPECT_TRUE(has_note("analysis/step_00000021.json is of a step that the run has not reached"));
}

TEST(RunReader, FilesWhatQuantizingCosts) {
  const RunBuilder runs;
  const std::string path = runs.add("a", 1, 0.5);
  runs.write("a", "metrics.jsonl", "{\"kind\":\"train\",\"step\":20,\"loss\":1}\n");
  const auto write = [&](int step, const char* loss) {
    runs.write("a", "quantization.json",
               fmt::format(R"({{"step":{},"quantization":"W8A8","weights":{{"range":"mse","granularity":"channel"}},
      "activations":{{"range":"percentile","percentile":99.9}},"sequences":8,"data":"tokens","calibration_sequences":4,
      "calibration_data":"others","plain":{{"loss":1.0}},"quantized":{{"loss":{}}}}})",
                           step, loss));
    return read_run(path);
  };
  const RunRecord run = write(20, "1.5");
  EXPECT_DOUBLE_EQ(run.final_value("quantization", "perplexity").value(), std::exp(1.5));
  EXPECT_DOUBLE_EQ(run.final_value("quantization", "change").value(), 100 * std::expm1(0.5));
  ASSERT_TRUE(run.quantization);
  EXPECT_EQ(run.quantization->rule, "W8A8, weights mse per channel, activations percentile 99.9");
  EXPECT_EQ(run.quantization->data, "8 sequences of tokens, calibrated on 4 of others");
  const auto refused = [&](const RunRecord& bad, const std::string& note) {
    EXPECT_FALSE(bad.find("quantization", "perplexity"));
    EXPECT_EQ(std::count(bad.notes.begin(), bad.notes.end(), "quantization.json is " + note), 1);
  };
  refused(write(21, "1.5"), "of a step that the run has not reached");
  refused(write(20, "\"much\""), "malformed");
  EXPECT_TRUE(std::isnan(write(20, "null").final_value("quantization", "perplexity").value())) << "it diverged";
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

// Time or memory that grows with the square would take minutes, or the machine's.
TEST(RunReader, BoundsWhatItKeeps) {
  const RunBuilder runs;
  std::string keys, curves;
  for (int i = 0; i < 30'000; ++i) keys += fmt::format("{}\"k{}\":0", i == 0 ? "" : ",", i);
  for (int i = 0; i < 100'000; ++i) curves += fmt::format(",\"c{}\":[]", i);
  const std::string path = runs.add("a", 1, 0.5);
  runs.write("a", "analysis/step_00000010.json",
             R"({"step":10,"sequences":5,"length":0,"summary":{},"layers":[],"heads":[],
    "residual_norm":[],"curves":[{"layer":0,"head":0)" +
                 curves + "}]}");
  const RunRecord run = read_run(path);
  ASSERT_TRUE(run.analysis);
  EXPECT_EQ(run.analysis->curves[0].size(), 100'002u);

  runs.write("a", "config.json", "{\"name\":\"" + std::string(1'000'000, 'n') + "\"}");
  EXPECT_EQ(read_run(path).name, std::string(200, 'n') + "...");
  runs.write("a", "config.json", "{" + keys + "}");
  EXPECT_NE(user_error_of([&] { read_run(path); }).find("config.json: it has 30000 keys"), std::string::npos);
}

}  // namespace
}  // namespace sluice
