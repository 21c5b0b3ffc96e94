#include "report/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/config/json_text.h"
#include "measure/figures/analysis.h"
#include "report/compare_table.h"
#include "report/run_builder.h"

namespace sluice {
namespace {

Comparison compare_paths(const std::vector<std::string>& paths) {
  std::vector<RunRecord> runs;
  for (const std::string& path : paths) runs.push_back(read_run(path));
  return compare_runs(std::move(runs));
}

std::string cell(const TextTable& table, size_t row, const std::string& group, const std::string& title) {
  for (size_t c = 0; c < table.columns.size(); ++c) {
    if (table.columns[c].group == group && table.columns[c].title == title) return table.rows.at(row).cells[c];
  }
  return "(no such column)";
}

size_t count_warnings(const Comparison& comparison, const std::string& part) {
  size_t count = 0;
  for (const std::string& warning : comparison.warnings) count += warning.find(part) != std::string::npos;
  return count;
}

TEST(Compare, TakesFinalValuesMeanLossAndMedianSpeed) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.add("softmax", 1, 0.8)});
  const auto& values = comparison.rows[0].values;
  EXPECT_NEAR(values.at("train_loss"), 3.0 - 0.02 * 15.5 - 0.1, 1e-12);  // steps 11..20, the last one lower by 1
  EXPECT_DOUBLE_EQ(values.at("tokens_per_second"), 1000.5);              // of 991..1010
  EXPECT_DOUBLE_EQ(values.at("backcopy_risk"), 0.1 / 21);
  EXPECT_DOUBLE_EQ(values.at("sink_attention"), 0.8);
  EXPECT_DOUBLE_EQ(values.at("residual_norm_sink"), 60);
  EXPECT_DOUBLE_EQ(values.at("parameters"), 814080);
  EXPECT_FALSE(values.contains("eval_loss"));
  EXPECT_FALSE(values.contains("gate_mean"));
}

TEST(Compare, ShowsTheHeadWithTheLargestSinkAttention) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.add("softmax", 1, 0.2, {{"reads", "none"}}, 3)});
  ASSERT_TRUE(comparison.rows[0].head);
  EXPECT_EQ(comparison.rows[0].head->name(), "L0H2");
  const TextTable table = make_table(comparison);
  EXPECT_EQ(cell(table, 0, "sink", "head"), "L0H2");
  EXPECT_EQ(cell(table, 0, "sink", "attention"), "0.600");
}

TEST(Compare, TableHasTheValuesAndLeavesOutUnknownColumns) {
  RunBuilder build;
  const TextTable table =
      make_table(compare_paths({build.add("softmax", 1, 0.8), build.add("vga", 1, 0.1, kOutputGate)}));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(cell(table, 0, "loss [nats]", "train"), "2.590");
  EXPECT_EQ(cell(table, 0, "risk [nats]", "backcopy"), "0.00476");
  EXPECT_EQ(cell(table, 0, "|v|", "sink"), "0.500");
  EXPECT_EQ(cell(table, 0, "gate", "mean"), "-");
  EXPECT_EQ(cell(table, 1, "gate", "at sink"), "0.0500");
  EXPECT_EQ(cell(table, 1, "", "parameters"), "814,080");
  EXPECT_EQ(cell(table, 1, "loss [nats]", "eval"), "(no such column)");
  EXPECT_EQ(cell(table, 1, "sink", "head"), "(no such column)");
}

TEST(Compare, EvaluationsOfText) {
  RunBuilder build;
  const std::string run = build.write("lm", "config.json", R"({"name":"lm"})");
  build.write("lm", "metrics.jsonl",
              "{\"kind\":\"eval\",\"step\":1,\"loss\":4,\"perplexity\":54.6,\"bits_per_byte\":1.9}\n"
              "{\"kind\":\"eval\",\"step\":2,\"loss\":3,\"perplexity\":20.09,\"bits_per_byte\":1.4427}\n");
  const TextTable table = make_table(compare_paths({run}));
  EXPECT_EQ(cell(table, 0, "loss [nats]", "eval"), "3.000");
  EXPECT_EQ(cell(table, 0, "eval", "perplexity"), "20.09");
  EXPECT_EQ(cell(table, 0, "eval", "bits/byte"), "1.443");
}

// The table's keys are those that the full probe writes.
TEST(Compare, FiguresOfTheFullProbe) {
  Analysis analysis;
  analysis.step = 5;
  analysis.has_gradients = true;
  analysis.there = {Needs::kHeads | Needs::kWeights | Needs::kMass | Needs::kGradient};
  analysis.values.assign(model_figures().size(), 2.5);
  RunBuilder build;
  const std::string run = build.write("lm", "config.json", R"({"name":"lm"})");
  std::string lines;
  for (const Json& line : analysis.lines()) lines += line.dump() + "\n";
  build.write("lm", "metrics.jsonl", lines);
  const Comparison comparison = compare_paths({run});
  const TextTable table = make_table(comparison);
  for (const auto& [group, title] : {std::pair{"sink rate", "position 0"},
                                     {"sink rate", "largest"},
                                     {"all heads", "first share"},
                                     {"all heads", "|v| ratio"},
                                     {"all heads", "entropy"},
                                     {"attention's output", "kurtosis"},
                                     {"attention's output", "max |x|"},
                                     {"residual", "max |x|"},
                                     {"|dL/dv|", "ratio"},
                                     {"|dL/dv|", "per mass"}}) {
    EXPECT_EQ(cell(table, 0, group, title), "2.50") << group << " " << title;
  }
  EXPECT_NE(table.footnotes[2].find("docs/analysis.md"), std::string::npos);
}

// A screen of 140 columns has room for the main ones of a run that has measured everything.
TEST(Compare, TheMainColumnsFitAScreen) {
  Analysis analysis;
  analysis.step = 100;
  analysis.there = {Needs::kHeads | Needs::kWeights | Needs::kGate | Needs::kGradient | Needs::kMass |
                    Needs::kGatePath};
  analysis.sinks = {{0.3, 0.5, 0.5, 0, 0.5}};
  analysis.values.assign(model_figures().size(), 2.5);
  RunBuilder build;
  const std::string run = build.add("a_language_model", 1, 0.8, kOutputGate);
  std::string lines;
  for (const Json& line : analysis.lines()) lines += line.dump() + "\n";
  lines += R"({"kind":"eval","step":100,"loss":3.51234,"perplexity":33.51,"bits_per_byte":1.012})"
           "\n";
  std::ofstream(std::filesystem::path(run) / "metrics.jsonl", std::ios::app) << lines;
  const Comparison comparison = compare_paths({run});
  const TextTable all = make_table(comparison), main = make_table(comparison, Columns::kMain);
  EXPECT_GT(all.columns.size(), 2 * main.columns.size());
  EXPECT_EQ(cell(main, 0, "sink rate", "position 0"), "2.50");
  EXPECT_EQ(cell(main, 0, "loss [nats]", "eval"), "3.512");
  for (const TextColumn& column : main.columns) EXPECT_NE(column.title, "train") << "eval says more";
  EXPECT_EQ(main.footnotes.back(),
            fmt::format("{} more columns: sluice compare --all", all.columns.size() - main.columns.size()));
  EXPECT_EQ(all.footnotes.size() + 1, main.footnotes.size());
  const std::string text = to_text(main);
  EXPECT_LE(text.find('\n', text.find('\n') + 1) - text.find('\n'), 140u) << text;
}

TEST(Compare, WarnsOfFiguresThatWereNotMeasuredAlike) {
  RunBuilder build;
  const auto measured = [&](const std::string& name, int step, int length, int sequences) {
    const std::string path = build.add(name, 1, 0.5);
    build.write(
        name, "analysis/step_000000" + std::to_string(step) + ".json",
        fmt::format(
            R"({{"step":{},"sequences":5,"length":{},"data":"held-out","summary":{{"sink_rate":0.1}},"layers":[],
                  "heads":[],"sink_rates":{{"0.1":{{}},"0.3":{{}}}},"residual_norm":[],"curves":[]}})",
            step, length));
    build.write(name, "quantization.json",
                fmt::format(R"({{"step":{},"quantization":"W8A8","weights":{{"range":"mse","granularity":"matrix"}},
                  "activations":{{"range":"minmax","momentum":0.9}},"sequences":{},"data":"held-out","calibration_sequences":4,
                  "calibration_data":"training","plain":{{"loss":1.0}},"quantized":{{"loss":1.5}}}})",
                            step, sequences));
    return path;
  };
  const auto warnings = [](const std::vector<std::string>& paths) { return compare_paths(paths).warnings; };
  const std::string a = measured("a", 20, 4, 8), b = measured("b", 20, 4, 8), c = measured("c", 10, 3, 9);
  EXPECT_TRUE(warnings({a, b}).empty());
  EXPECT_EQ(
      warnings({a, b, c}),
      (std::vector<std::string>{
          "the full probes were not measured alike and cannot be compared: 5 sequences of 3 tokens, sinks above 0.3, "
          "held-out (c); 5 sequences of 4 tokens, sinks above 0.3, held-out (a, b)",
          "the quantized models were not measured alike and cannot be compared: W8A8, weights mse per matrix, "
          "activations "
          "minmax with momentum 0.9, 8 sequences of held-out, calibrated on 4 of training (a, b); W8A8, weights mse "
          "per "
          "matrix, activations minmax with momentum 0.9, 9 sequences of held-out, calibrated on 4 of training (c)",
          "c: the full probe is of step 10, the run's last is 20",
          "c: the quantized model is of step 10, the run's last is 20"}));
}

std::string quantized(int step, const char* data) {
  return fmt::format(R"({{"step":{},"quantization":"W8A8","weights":{{"range":"minmax","granularity":"matrix"}},
    "activations":{{"range":"minmax","momentum":0.9}},"sequences":8,"data":"{}","calibration_sequences":4,
    "calibration_data":"training","plain":{{"loss":1.0}},"quantized":{{"loss":1.5}}}})",
                     step, data);
}

// Of what one seed alone has there is no deviation, and of what was not measured alike no mean.
TEST(Compare, AveragesWhatSeedsHaveInCommon) {
  RunBuilder build;
  const std::string a = build.add("vga-s1", 1, 0.1, kOutputGate), b = build.add("vga-s2", 2, 0.3, kOutputGate);
  const auto group_of = [&] { return compare_paths({a, b}).groups.at(0); };
  const auto last_cell = [&] { return cell(make_table(compare_paths({a, b})), 2, "quantized [%]", "change"); };
  build.write("vga-s1", "quantization.json", quantized(20, "held-out"));
  EXPECT_EQ(group_of().values.at("quantized_change").count, 1);
  EXPECT_EQ(last_cell(), "64.9 (1 of 2)");
  const Json group = to_json(compare_paths({a, b}))["groups"][0];
  EXPECT_TRUE(group["deviation"]["quantized_change"].is_null());
  EXPECT_TRUE(group["deviation"]["sink_attention"].is_number());
  build.write("vga-s2", "quantization.json", quantized(20, "held-out"));
  EXPECT_EQ(last_cell(), "64.9 ± 0.0");
  for (const std::string& other : {quantized(10, "held-out"), quantized(20, "other")}) {
    build.write("vga-s2", "quantization.json", other);
    EXPECT_FALSE(group_of().values.contains("quantized_change"));
    EXPECT_EQ(last_cell(), "-");
  }
}

TEST(Compare, ShowsWhatAllActivationsCost) {
  RunBuilder build;
  const std::string path = build.add("vga-s1", 1, 0.1, kOutputGate);
  std::string file = quantized(20, "held-out");
  file.insert(file.rfind('}'), R"(,"all_activations":{"loss":2.0})");
  build.write("vga-s1", "quantization.json", file);
  EXPECT_NEAR(compare_paths({path}).rows.at(0).values.at("quantized_change_all_activations"), 100 * (std::exp(1) - 1),
              1e-9);
}

TEST(Compare, TellsApartWhatModelsPredict) {
  RunBuilder build;
  const std::string next = build.add("next", 1, 0.1), masked = build.add("masked", 1, 0.1);
  Json config = read_json_file(masked + "/config.json");
  config["data"]["masking"] = {{"share", 0.15}};
  build.write("masked", "config.json", config.dump());
  const std::vector<std::string> warnings = compare_paths({next, masked}).warnings;
  const auto found = std::find_if(warnings.begin(), warnings.end(), [](const std::string& one) {
    return one.find("predict different things") != one.npos;
  });
  ASSERT_NE(found, warnings.end());
  EXPECT_NE(found->find("0.15 of a text's tokens"), std::string::npos) << *found;
  EXPECT_NE(found->find("the next token (next)"), std::string::npos) << *found;
  for (const Json& data :
       {Json(3), Json::parse(R"({"masking": null})"), Json::parse(R"({"masking": {"share": "a"}})")}) {
    config["data"] = data;
    build.write("masked", "config.json", config.dump());
    EXPECT_NO_THROW(compare_paths({next, masked})) << data;
  }
}

TEST(Compare, GroupsRunsThatDifferOnlyBySeedAndName) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.add("vga-s1", 1, 0.1, kOutputGate), build.add("softmax", 1, 0.8),
                                               build.add("vga-s2", 2, 0.3, kOutputGate)});
  ASSERT_EQ(comparison.groups.size(), 2u);
  const SeedGroup& group = comparison.groups[0];
  EXPECT_EQ(group.label, "vga");
  EXPECT_EQ(group.members, (std::vector<size_t>{0, 2}));
  EXPECT_NEAR(group.values.at("sink_attention").mean, 0.2, 1e-12);
  EXPECT_NEAR(group.values.at("sink_attention").deviation, std::sqrt(0.02), 1e-12);
  EXPECT_EQ(comparison.groups[1].members, (std::vector<size_t>{1}));

  const TextTable table = make_table(comparison);
  ASSERT_EQ(table.rows.size(), 4u);  // one a run, and one mean
  EXPECT_TRUE(table.rows[3].is_mean);
  EXPECT_EQ(table.rows[3].label, "vga, 2 seeds");
  EXPECT_EQ(cell(table, 3, "sink", "attention"), "0.20 ± 0.14");
}

// A second run of one seed says nothing about seeds.
TEST(Compare, RunsOfOneSeedAreNotTwoSeeds) {
  RunBuilder build;
  const std::string first = build.add("a", 1, 0.1), again = build.add("again", 1, 0.1), other = build.add("b", 2, 0.3);
  const Comparison two = compare_paths({first, again});
  EXPECT_EQ(two.groups.size(), 2u);
  EXPECT_EQ(make_table(two).rows.size(), 2u) << "no mean";
  const Comparison three = compare_paths({first, again, other});
  ASSERT_EQ(three.groups.size(), 2u);
  EXPECT_EQ(three.groups[0].members, (std::vector<size_t>{0, 2}));
  EXPECT_EQ(three.groups[1].members, (std::vector<size_t>{1}));
  const TextTable table = make_table(three);
  EXPECT_TRUE(table.rows.back().is_mean && table.rows.back().label.ends_with(", 2 seeds")) << table.rows.back().label;
}

TEST(Compare, ARunWithoutMetricsHasNoLastStep) {
  RunBuilder build;
  const Comparison comparison =
      compare_paths({build.add("a", 1, 0.1), build.write("b", "config.json", R"({"name":"b","seed":2})")});
  for (const std::string& warning : comparison.warnings) EXPECT_EQ(warning.find("-1"), std::string::npos) << warning;
  EXPECT_TRUE(std::none_of(comparison.warnings.begin(), comparison.warnings.end(), [](const std::string& warning) {
    return warning.find("end at different steps") != std::string::npos;
  }));
  const Json json = to_json(comparison);
  EXPECT_EQ(json["runs"][0]["last_step"], 20);
  EXPECT_TRUE(json["runs"][1]["last_step"].is_null());
}

TEST(Compare, DoesNotGroupOtherDifferencesOrUnknownConfigs) {
  RunBuilder build;
  const std::string no_config = "{\"kind\":\"train\",\"step\":1,\"loss\":2}\n";
  const Comparison comparison =
      compare_paths({build.add("a", 1, 0.1, kOutputGate), build.add("b", 2, 0.1, kSourceGate),
                     build.write("c", "metrics.jsonl", no_config), build.write("d", "metrics.jsonl", no_config)});
  EXPECT_EQ(comparison.groups.size(), 4u);
}

TEST(Compare, TellsRunsOfOneNameApart) {
  RunBuilder build;
  const std::string first = build.add("vga", 1, 0.1, kOutputGate), config = R"({"name":"vga","seed":2})";
  const std::string second = build.write("other", "config.json", config);
  const std::string third = build.write("third", "config.json", config);
  const Comparison comparison = compare_paths({first, second, third});
  EXPECT_EQ(comparison.rows[0].label, "vga seed 1");
  EXPECT_EQ(comparison.rows[1].label, "vga seed 2 (" + second + ")");
  EXPECT_EQ(comparison.rows[2].label, "vga seed 2 (" + third + ")");
}

// Of layers that differ every gate counts.
TEST(Compare, KnowsTheSitesOfAPattern) {
  RunBuilder build;
  const std::string plain = build.add("vga", 1, 0.1, kOutputGate), mixed = build.add("mixed", 1, 0.1, kOutputGate);
  build.write("mixed", "config.json", R"({"name": "mixed", "seed": 1, "model": {"context": 4, "attention": [
      {"repeat": 1, "gate": {"reads": "value", "site": "output"}}, {"repeat": 2, "gate": {"reads": "none"}},
      {"repeat": 1, "gate": {"reads": "hidden", "site": "source"}}]}, "data": {"type": "bigram_backcopy"}})");
  EXPECT_EQ(count_warnings(compare_paths({mixed, plain}), "gate.site output (vga); output and source (mixed)"), 1u);
}

TEST(Compare, WarnsOnceOfGatesAtDifferentSites) {
  RunBuilder build;
  const std::string output = build.add("vga", 1, 0.1, kOutputGate), source = build.add("src", 1, 0.1, kSourceGate);
  const std::string plain = build.add("softmax", 1, 0.8);
  EXPECT_EQ(count_warnings(compare_paths({output, source, plain}), "gate.site output (vga); source (src)"), 1u);
  EXPECT_EQ(count_warnings(compare_paths({output, plain}), "gate.site"), 0u);
}

TEST(Compare, WarnsOfUnfinishedRunsAndUnequalLengths) {
  RunBuilder build;
  const std::string whole = build.add("softmax", 1, 0.8), stopped = build.add("vga", 1, 0.1, kOutputGate);
  build.write("vga", "info.json", R"({"status":"stopped"})");
  build.write("vga", "metrics.jsonl", "{\"kind\":\"train\",\"step\":7,\"loss\":2}\n");
  const Comparison comparison = compare_paths({whole, stopped});
  EXPECT_EQ(count_warnings(comparison, "vga: not finished (status: stopped)"), 1u);
  EXPECT_EQ(count_warnings(comparison, "different steps (7, 20)"), 1u);
}

TEST(Compare, ListsWhereConfigsDiffer) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.add("softmax", 1, 0.8), build.add("vga", 1, 0.1, kOutputGate)});
  std::map<std::string, std::vector<Json>> found;
  for (const RunDifference& entry : comparison.differences) found[entry.key] = entry.values;
  EXPECT_EQ(found.at("model.attention.gate.reads"), (std::vector<Json>{"none", "value"}));
  EXPECT_EQ(found.at("model.attention.gate.site"), (std::vector<Json>{nullptr, "output"}));
  EXPECT_FALSE(found.contains("seed"));
}

TEST(Compare, JsonHoldsEveryHeadAndTheGroups) {
  RunBuilder build;
  const Json json =
      to_json(compare_paths({build.add("v1", 1, 0.2, kOutputGate, 2), build.add("v2", 2, 0.3, kOutputGate, 2)}));
  const Json& run = json.at("runs").at(0);
  EXPECT_EQ(run.at("name"), "v1");
  EXPECT_EQ(run.at("seed"), 1);
  EXPECT_EQ(run.at("summary").at("steps"), 20);
  EXPECT_DOUBLE_EQ(run.at("summary").at("sink_attention").get<double>(), 0.4);
  EXPECT_EQ(run.at("summary_head"), (Json{{"layer", 0}, {"head", 1}}));
  ASSERT_EQ(run.at("heads").size(), 2u);
  EXPECT_DOUBLE_EQ(run.at("heads").at(0).at("sink_attention").get<double>(), 0.2);
  EXPECT_DOUBLE_EQ(run.at("heads").at(1).at("gate_mean_sink").get<double>(), 0.05);
  EXPECT_DOUBLE_EQ(run.at("layers").at(0).at("residual_norm_rest").get<double>(), 20);
  const Json& group = json.at("groups").at(0);
  EXPECT_EQ(group.at("runs"), (Json{"v1", "v2"}));
  EXPECT_NEAR(group.at("mean").at("sink_attention").get<double>(), 0.5, 1e-12);
  EXPECT_EQ(Json::parse(json.dump()), json);
}

TEST(Compare, SurvivesRunsWithNothingInThem) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.write("empty", "config.json", "{}")});
  const TextTable table = make_table(comparison);
  EXPECT_TRUE(table.columns.empty());
  EXPECT_NE(to_text(table).find("empty"), std::string::npos);
  EXPECT_TRUE(to_json(comparison).at("runs").at(0).at("last_step").is_null());
}

}  // namespace
}  // namespace sluice
