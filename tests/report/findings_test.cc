#include "report/findings.h"

#include <gtest/gtest.h>

#include "report/run_builder.h"

namespace sluice {
namespace {

const Finding* find(const std::vector<Finding>& findings, const std::string& key) {
  for (const Finding& finding : findings) {
    if (finding.key == key) return &finding;
  }
  return nullptr;
}

std::vector<Finding> findings_of(const std::vector<std::string>& paths) {
  std::vector<RunRecord> runs;
  for (const std::string& path : paths) runs.push_back(read_run(path));
  return find_findings(compare_runs(std::move(runs)));
}

TEST(Findings, SayWhoHasASinkAndSinceWhen) {
  RunBuilder build;
  const auto findings = findings_of({build.add("softmax", 1, 0.8), build.add("vga", 1, 0.1, kOutputGate)});
  const Finding* sink = find(findings, "sink");
  ASSERT_NE(sink, nullptr);
  EXPECT_EQ(sink->items.at(0).text, "puts 0.800 of its attention on position 0; first past 0.3 at step 10");
  EXPECT_EQ(sink->items.at(1).text, "puts 0.100 of its attention on position 0");
  EXPECT_EQ(sink->verdict, "softmax has a sink; vga does not. (A sink: more than 0.3 on position 0.)");
  // (1 + 1/2 + 1/3 + 1/4) / 4
  EXPECT_NE(sink->explanation.find("over 4 tokens of context, position 0 would get 0.521"), std::string::npos);
}

TEST(Findings, FollowTheFiguresNotTheNames) {
  RunBuilder build;
  const auto findings = findings_of({build.add("softmax", 1, 0.1), build.add("vga", 1, 0.9, kOutputGate)});
  EXPECT_EQ(find(findings, "sink")->verdict,
            "vga has a sink; softmax does not. (A sink: more than 0.3 on position 0.)");
  EXPECT_EQ(find(findings, "gate")->verdict, "Attention on position 0: 0.900 with gates, 0.100 without.");
  EXPECT_EQ(find(findings, "gate")->items.size(), 1u);
  EXPECT_EQ(find(findings, "drain")->verdict,
            "softmax and vga drain the value at position 0. (Drained: less than half the norm of the others.)");
}

TEST(Findings, NegateTheWholeSentenceWhereNoneHasIt) {
  RunBuilder build;
  const auto findings = findings_of({build.add("a", 1, 0.1), build.add("b", 1, 0.2, kOutputGate)});
  EXPECT_EQ(find(findings, "sink")->verdict, "a and b do not have a sink. (A sink: more than 0.3 on position 0.)");
}

// Of each group two seeds, `apart` from each other, so that their deviation is 0.707 apart.
TEST(Findings, SayWhomTheSeedsDoNotTellFromTheBest) {
  struct Group {
    const char* name;
    double mean, apart;
  };
  const auto verdict = [](const std::vector<Group>& groups) {
    RunBuilder build;
    std::vector<std::string> paths;
    for (size_t g = 0; g < groups.size(); ++g) {
      for (const int seed : {1, 2}) {
        const auto& [name, mean, apart] = groups[g];
        const std::string run = fmt::format("{}-s{}", name, seed);
        const Json config = {{"name", name}, {"seed", seed}, {"model", {{"width", 32 * (g + 1)}}}};
        const Json line = {{"kind", "eval"}, {"step", 5}, {"loss", mean + (seed == 1 ? -apart : apart) / 2}};
        build.write(run, "config.json", config.dump());
        paths.push_back(build.write(run, "metrics.jsonl", line.dump() + "\n"));
      }
    }
    return find(findings_of(paths), "task")->verdict;
  };
  EXPECT_EQ(verdict({{"a", 2.3, 0.2}, {"b", 2.58, 0.2}}),
            "The lowest evaluation loss is a's, 2.300 nats; the highest is 2.580. The seeds do not tell it from b "
            "(standard deviation up to 0.14).");
  EXPECT_EQ(verdict({{"a", 2.3, 0.2}, {"b", 2.6, 0.2}}),
            "The lowest evaluation loss is a's, 2.300 nats; the highest is 2.600.");
  // One that is far off does not hide that the best two are close, nor does a wide one make all others close.
  EXPECT_EQ(verdict({{"a", 3, 0.1}, {"b", 2.01, 0.1}, {"c", 2, 0.1}}),
            "The lowest evaluation loss is c's, 2.000 nats; the highest is 3.000. The seeds do not tell it from b "
            "(standard deviation up to 0.071).");
  EXPECT_EQ(verdict({{"a", 2, 0.01}, {"b", 2.1, 0.01}, {"c", 2.2, 0.3}}),
            "The lowest evaluation loss is a's, 2.000 nats; the highest is 2.200. The seeds do not tell it from c "
            "(standard deviation up to 0.21).");
}

// The number stands in a file that may say anything; to add up 2^62 terms would take a hundred years.
TEST(Findings, DoNotAddUpAContextThatNoModelHas) {
  RunBuilder build;
  const std::string path = build.add("a", 1, 0.5);
  build.write("a", "config.json", R"({"name":"a","model":{"context":4611686018427387904}})");
  const auto findings = findings_of({path});
  EXPECT_EQ(find(findings, "sink")->explanation.find("Spread evenly"), std::string::npos);
}

TEST(Findings, LeaveOutWhatTheRunsDoNotKnow) {
  RunBuilder build;
  const auto plain = findings_of({build.add("softmax", 1, 0.8)});
  EXPECT_EQ(find(plain, "gate"), nullptr);
  EXPECT_EQ(find(plain, "task")->verdict, "");  // nothing to compare with
  const auto loss = findings_of({build.write("lm", "metrics.jsonl", "{\"kind\":\"eval\",\"step\":5,\"loss\":2.0}\n")});
  ASSERT_EQ(loss.size(), 1u);
  EXPECT_EQ(loss[0].items.at(0).text, "reaches an evaluation loss of 2.000 (perplexity 7.39)");
  EXPECT_TRUE(findings_of({build.write("empty", "config.json", "{}")}).empty());
}

}  // namespace
}  // namespace sluice
