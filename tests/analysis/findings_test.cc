#include "analysis/findings.h"

#include <gtest/gtest.h>

#include "analysis/run_builder.h"

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

// Two groups of two seeds whose losses lie 0.2 apart within each, so that their deviation is 0.141.
TEST(Findings, GiveNoOrderThatSeedsDoNotHave) {
  RunBuilder build;
  const auto verdict = [&](double second) {
    std::vector<std::string> paths;
    for (const int seed : {1, 2}) {
      for (const int width : {32, 64}) {
        const std::string name = fmt::format("w{}-s{}", width, seed);
        const double loss = (width == 32 ? 2.0 : second) + 0.2 * seed;
        build.write(name, "config.json", fmt::format(R"({{"name":"w{}","seed":{},"model":{{"width":{}}}}})", width, seed, width));
        paths.push_back(build.write(name, "metrics.jsonl", fmt::format("{{\"kind\":\"eval\",\"step\":5,\"loss\":{}}}\n", loss)));
      }
    }
    return find(findings_of(paths), "task")->verdict;
  };
  EXPECT_EQ(verdict(2.27),
            "The lowest evaluation loss is w32's, 2.300 nats; the highest is 2.570. Seeds alone differ as much (standard "
            "deviation up to 0.14): no order can be read from that.");
  EXPECT_EQ(verdict(2.3), "The lowest evaluation loss is w32's, 2.300 nats; the highest is 2.600.");
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
