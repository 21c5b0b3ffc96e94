// A head counts as a sink above 0.3 of the attention, the threshold of arXiv 2410.10781; a value is called drained
// below half, and a residual peaked above twice, the norm of the other positions.
#include "report/findings.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/compare_table.h"

namespace sluice {
namespace {

constexpr double kSinkThreshold = 0.3;
constexpr double kDrainedBelow = 0.5;
constexpr double kPeakedAbove = 2.0;

std::optional<double> group_mean(const SeedGroup& group, const std::string& key) {
  const auto found = group.values.find(key);
  if (found == group.values.end() || !std::isfinite(found->second.mean)) return std::nullopt;
  return found->second.mean;
}

std::string short_number(double value) { return format_significant(value, std::fabs(value) < 0.1 ? 2 : 3); }

// Sorts the groups that have a figure into those for which a claim holds and the others.
struct Split {
  std::vector<std::string> yes, no;
  void add(bool holds, const std::string& label) { (holds ? yes : no).push_back(label); }
};

// "a and b drain it; c does not." The verb comes in the third person, singular and plural.
std::string split_sentence(const Split& split, const std::string& one, const std::string& many,
                           const std::string& object) {
  const std::string negation = split.no.size() == 1 ? " does not" : " do not";
  if (split.yes.empty() && split.no.empty()) return "";
  if (split.yes.empty()) return fmt::format("{}{} {} {}.", join_words(split.no), negation, many, object);
  std::string out = fmt::format("{} {} {}", join_words(split.yes), split.yes.size() == 1 ? one : many, object);
  if (!split.no.empty()) out += fmt::format("; {}{}", join_words(split.no), negation);
  return out + ".";
}

// The step at which the series first exceeds the threshold, if it starts below.
std::optional<int64_t> first_step_above(const TimeSeries* series, double threshold) {
  if (!series || series->values.front() > threshold) return std::nullopt;
  for (size_t i = 0; i < series->values.size(); ++i) {
    if (series->values[i] > threshold) return series->steps[i];
  }
  return std::nullopt;
}

bool has_several_heads(const Comparison& comparison) {
  for (const RunRecord& run : comparison.runs) {
    if (run.heads().size() > 1) return true;
  }
  return false;
}

// Whether a layer of the run attends within a window: its share on position 0 is that of the rows that see it.
bool has_window(const RunRecord& run) {
  const Json::json_pointer path("/model/attention");
  if (!run.config.contains(path)) return false;
  const Json& attention = run.config.at(path);
  const auto windowed = [](const Json& one) { return one.is_object() && one.contains("window"); };
  return windowed(attention) || (attention.is_array() && std::any_of(attention.begin(), attention.end(), windowed));
}

bool sees_both_sides(const RunRecord& run) {
  const Json::json_pointer path("/model/causal");
  return run.config.contains(path) && run.config.at(path) == false;
}

// Attention on position 0 when every query spreads its attention evenly: the mean of 1/(i+1) over the context, or where
// queries see both sides one share of it.
std::string even_spread(const RunRecord& run) {
  const Json::json_pointer path("/model/context");
  if (!run.config.contains(path) || !run.config.at(path).is_number_integer()) return "";
  constexpr int64_t kLongest = 1 << 20;  // of any model; the number may be anything
  const int64_t context = run.config.at(path).get<int64_t>();
  if (context < 1 || context > kLongest) return "";
  double sum = 0;
  for (int64_t i = 0; i < context; ++i) sum += 1.0 / double(sees_both_sides(run) ? context : i + 1);
  return fmt::format(" Spread evenly over {} tokens of context, position 0 would get {}.", context,
                     short_number(sum / double(context)));
}

std::string note_on_windows(const Comparison& comparison) {
  if (std::none_of(comparison.runs.begin(), comparison.runs.end(), has_window)) return "";
  return " Where layers attend within a window of w tokens, only the first w rows see position 0, and evenly spread "
         "attention already gives it the mean of 1/(i+1) over these: 0.52 for w = 4, 0.34 for w = 8, 0.074 for w = 64. "
         "Do "
         "not read such a run's share as a sink unless it is well above that.";
}

Finding sink_finding(const Comparison& comparison) {
  Finding out{"sink",
              "The attention sink",
              "At every token an attention head has to put its attention somewhere, also when no other token is of "
              "use. Many models then park it on the very first token, whatever that token is: an attention sink." +
                  even_spread(comparison.runs.front()) + note_on_windows(comparison),
              {},
              ""};
  const bool several = has_several_heads(comparison);
  Split split;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    const auto share = group_mean(group, "sink_attention");
    if (!share) continue;
    std::string text = several ? "puts up to " : "puts ";
    text += short_number(*share) + " of its attention on position 0";
    if (several) text += " (its strongest head)";
    const auto& head = comparison.rows[group.members[0]].head;
    if (group.members.size() == 1 && head) {
      const TimeSeries* series =
          comparison.runs[group.members[0]].find("probe", "sink_attention", head->layer, head->head);
      const auto step = first_step_above(series, kSinkThreshold);
      if (step && *share > kSinkThreshold) text += fmt::format("; first past {} at step {}", kSinkThreshold, *step);
    }
    out.items.push_back({g, text});
    split.add(*share > kSinkThreshold, group.label);
  }
  out.verdict = split_sentence(split, "has", "have", "a sink");
  if (!out.verdict.empty()) out.verdict += fmt::format(" (A sink: more than {} on position 0.)", kSinkThreshold);
  return out;
}

// "0.31 at position 0, 3.2 elsewhere (0.1 times as much)"
std::string against_rest(double sink, double rest) {
  return fmt::format("{} at position 0 against {} elsewhere ({} times as much)", short_number(sink), short_number(rest),
                     format_significant(sink / rest, 2));
}

Finding drain_finding(const Comparison& comparison) {
  Finding out{"drain",
              "The value drain",
              "Attention on a token also brings that token's value vector into the result. A model that parks its "
              "attention can make the parking place harmless by shrinking the value there towards zero: its value is "
              "drained.",
              {},
              ""};
  Split split;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const auto sink = group_mean(comparison.groups[g], "value_norm_sink");
    const auto rest = group_mean(comparison.groups[g], "value_norm_rest");
    if (!sink || !rest || *rest == 0) continue;
    out.items.push_back({g, "has a value norm of " + against_rest(*sink, *rest)});
    split.add(*sink / *rest < kDrainedBelow, comparison.groups[g].label);
  }
  out.verdict = split_sentence(split, "drains", "drain", "the value at position 0");
  if (!out.verdict.empty()) out.verdict += " (Drained: less than half the norm of the others.)";
  return out;
}

Finding residual_finding(const Comparison& comparison) {
  Finding out{"residual",
              "The residual peak",
              "The residual stream is the running sum that the blocks read and write. A token that serves as a sink is "
              "often marked by an unusually long vector there. Such peaks make a model harder to quantize.",
              {},
              ""};
  Split split;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const auto sink = group_mean(comparison.groups[g], "residual_norm_sink");
    const auto rest = group_mean(comparison.groups[g], "residual_norm_rest");
    if (!sink || !rest || *rest == 0) continue;
    out.items.push_back({g, "has a residual norm of " + against_rest(*sink, *rest)});
    split.add(*sink / *rest > kPeakedAbove, comparison.groups[g].label);
  }
  out.verdict = split_sentence(split, "peaks", "peak", "at position 0");
  if (!out.verdict.empty()) out.verdict += " (A peak: more than twice the norm of the others.)";
  return out;
}

std::string site_words(const std::string& site) {
  if (site == "source") return "on what each token offers";
  if (site == "output") return "on what each token takes in";
  return site.empty() ? "" : "at site " + site;
}

Finding gate_finding(const Comparison& comparison) {
  Finding out{"gate",
              "The gates",
              "A gate is a learned valve between 0 (closed) and 1 (open) on a head's result. A head that can close its "
              "valve has another way to do nothing, and no need for a parking place.",
              {},
              ""};
  std::vector<double> with_gate, without_gate;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    const auto mean = group_mean(group, "gate_mean");
    if (const auto share = group_mean(group, "sink_attention")) (mean ? with_gate : without_gate).push_back(*share);
    if (!mean) continue;
    const std::string site = site_words(gate_site(comparison.runs[group.members[0]]));
    std::string text =
        fmt::format("has gates {}{}open by {} on average", site, site.empty() ? "" : ", ", short_number(*mean));
    if (const auto at_sink = group_mean(group, "gate_mean_sink")) {
      text += fmt::format(", by {} at position 0", short_number(*at_sink));
    }
    if (const auto closed = group_mean(group, "gate_closed_share")) {
      text += fmt::format("; {:.0f}% of them are nearly closed (below 0.1)", 100 * *closed);
    }
    out.items.push_back({g, text});
  }
  if (!with_gate.empty() && !without_gate.empty()) {
    const auto range = [](const std::vector<double>& values) {
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      const std::string a = short_number(*low), b = short_number(*high);
      return a == b ? a : a + " to " + b;
    };
    out.verdict =
        fmt::format("Attention on position 0: {} with gates, {} without.", range(with_gate), range(without_gate));
  }
  return out;
}

// Names the group with the smallest mean and says by how much the groups differ, and which of them the seeds do not
// tell from the best: those whose mean is less than two standard deviations away, the larger one of both.
std::string best_sentence(const Comparison& comparison, const std::string& key, const std::string& what, int digits) {
  std::vector<const SeedGroup*> groups;
  for (const SeedGroup& group : comparison.groups)
    if (group_mean(group, key)) groups.push_back(&group);
  if (groups.size() < 2) return "";
  const auto spread = [&](const SeedGroup* group) { return group->values.at(key); };
  const auto [best, worst] = std::minmax_element(
      groups.begin(), groups.end(), [&](const auto* a, const auto* b) { return spread(a).mean < spread(b).mean; });
  std::vector<std::string> as_good;
  double widest = 0;
  for (const SeedGroup* group : groups) {
    const double deviation = std::max(spread(*best).deviation, spread(group).deviation);
    if (group == *best || spread(group).mean - spread(*best).mean >= 2 * deviation) continue;
    as_good.push_back(group->label);
    widest = std::max(widest, deviation);
  }
  std::string out =
      fmt::format("The lowest {} is {}'s, {} nats; the highest is {}.", what, (*best)->label,
                  format_significant(spread(*best).mean, digits), format_significant(spread(*worst).mean, digits));
  if (!as_good.empty()) {
    out += fmt::format(" The seeds do not tell it from {} (standard deviation up to {}).", join_words(as_good),
                       format_significant(widest, 2));
  }
  return out;
}

Finding task_finding(const Comparison& comparison) {
  const bool has_risks = std::any_of(comparison.rows.begin(), comparison.rows.end(),
                                     [](const RunSummary& row) { return row.values.contains("backcopy_risk"); });
  Finding out{"task", has_risks ? "The task" : "The loss", "", {}, ""};
  out.explanation =
      has_risks ? "Each sequence follows two rules: after a trigger character, copy the character before it (the "
                  "backcopy rule, which needs attention); after any other, draw the next one from a fixed table (the "
                  "bigram rule, which needs none). A risk is how far, in nats, the model is from foreseeing the next "
                  "character under each rule; a perfect backcopy risk is 0."
                : "The loss is how badly, in nats a token, the model foresees the next token.";
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    const auto backcopy = group_mean(group, "backcopy_risk"), bigram = group_mean(group, "bigram_risk");
    const auto eval = group_mean(group, "eval_loss"), train = group_mean(group, "train_loss");
    if (has_risks && backcopy && bigram) {
      out.items.push_back({g, fmt::format("reaches a backcopy risk of {} and a bigram risk of {}",
                                          format_significant(*backcopy, 2), format_significant(*bigram, 4))});
    } else if (!has_risks && eval) {
      out.items.push_back({g, fmt::format("reaches an evaluation loss of {} (perplexity {})",
                                          format_significant(*eval, 4), format_significant(std::exp(*eval), 3))});
    } else if (!has_risks && train) {
      out.items.push_back({g, "reaches a training loss of " + format_significant(*train, 4)});
    }
  }
  if (has_risks) {
    out.verdict = best_sentence(comparison, "backcopy_risk", "backcopy risk", 2);
  } else {
    out.verdict = best_sentence(comparison, "eval_loss", "evaluation loss", 4);
    if (out.verdict.empty()) out.verdict = best_sentence(comparison, "train_loss", "training loss", 4);
  }
  return out;
}

}  // namespace

std::string join_words(const std::vector<std::string>& words) {
  if (words.empty()) return "";
  if (words.size() == 1) return words.front();
  const std::vector<std::string> head(words.begin(), words.end() - 1);
  return fmt::format("{} and {}", fmt::join(head, ", "), words.back());
}

std::vector<Finding> find_findings(const Comparison& comparison) {
  std::vector<Finding> out = {task_finding(comparison), sink_finding(comparison), drain_finding(comparison),
                              residual_finding(comparison), gate_finding(comparison)};
  std::erase_if(out, [](const Finding& finding) { return finding.items.empty(); });
  return out;
}

}  // namespace sluice
