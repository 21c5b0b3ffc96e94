// Formatting only: every figure comes from compare.h.
#include "report/compare_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/console.h"

namespace sluice {
namespace {

constexpr const char* kUnknown = "-";
constexpr size_t kGap = 2;  // blanks between columns

int exponent_of(double value) { return int(std::floor(std::log10(std::fabs(value)))); }

bool needs_exponent(double value) { return value != 0 && (std::fabs(value) < 1e-3 || std::fabs(value) >= 1e6); }

std::string padded(const std::string& text, size_t width, bool to_the_right) {
  const std::string blanks(width - std::min(width, display_width(text)), ' ');
  return to_the_right ? blanks + text : text + blanks;
}

std::string heading(const SummaryMetric& metric) {
  return *metric.unit ? fmt::format("{} [{}]", metric.group, metric.unit) : std::string(metric.group);
}

// A group's head is named only where its members agree.
std::string head_cell(const Comparison& comparison, const std::vector<size_t>& members) {
  std::set<std::string> names;
  for (const size_t i : members) {
    if (comparison.rows[i].head) names.insert(harmless(comparison.rows[i].head->name()));
  }
  return names.size() == 1 ? *names.begin() : kUnknown;
}

std::vector<std::string> make_footnotes(const Comparison& comparison, bool several_heads, bool has_means) {
  std::vector<std::string> out = {
      "final values; train: mean of the last 10 logged losses; tokens/s: median after the first logged step"};
  std::string head = "sink: position 0; rest: mean over the other positions";
  if (several_heads) head += "; the head shown is the one with the largest sink attention, of each run its own";
  out.push_back(head);
  std::set<int64_t> peaks;
  bool several_layers = false;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    several_layers |= comparison.runs[i].layers().size() > 1;
    if (comparison.rows[i].residual_layer) peaks.insert(*comparison.rows[i].residual_layer);
  }
  if (several_layers && !peaks.empty()) {
    out.push_back(
        fmt::format("|residual|: the block output's norm in the layer where it is largest at position 0 "
                    "(layer {})",
                    fmt::join(peaks, ", ")));
  }
  const bool probed = std::any_of(comparison.rows.begin(), comparison.rows.end(),
                                  [](const RunSummary& row) { return row.values.contains("sink_rate"); });
  if (probed) {
    out.push_back("sink rate to |dL/dv|: of the full probe, over all heads and layers; docs/analysis.md defines each figure");
  }
  std::set<std::string> quantized;
  for (const RunRecord& run : comparison.runs) {
    if (run.quantization) quantized.insert(harmless(run.quantization->rule));
  }
  if (!quantized.empty()) {
    out.push_back(fmt::format("quantized: {}; change: from the same model unquantized on the same held-out sequences, which "
                              "may be others than eval's", fmt::join(quantized, "; ")));
  }
  if (has_means) {
    out.push_back("±: standard deviation over runs that differ only by seed; (1 of 2): as many of them have the figure");
  }
  return out;
}

// Columns [begin, end) that fit beside the labels; at least one, and a heading is not torn apart if it fits.
size_t block_end(const ComparisonTable& table, const std::vector<size_t>& widths, size_t label_width, size_t begin,
                 size_t max_width) {
  if (max_width == 0) return table.columns.size();
  size_t used = label_width, end = begin;
  while (end < table.columns.size() && used + kGap + widths[end] <= max_width) used += kGap + widths[end++];
  if (end == table.columns.size()) return end;
  size_t cut = end;
  const auto same_group = [&](size_t i) {
    return !table.columns[i].group.empty() && table.columns[i].group == table.columns[i - 1].group;
  };
  while (cut > begin && same_group(cut)) --cut;
  if (cut > begin) return cut;
  return std::max(end, begin + 1);
}

std::string group_line(const ComparisonTable& table, const std::vector<size_t>& widths, size_t label_width,
                       size_t begin, size_t end) {
  std::string line(label_width, ' ');
  for (size_t i = begin; i < end;) {
    size_t last = i, width = widths[i];
    while (last + 1 < end && table.columns[last + 1].group == table.columns[i].group) width += kGap + widths[++last];
    line += std::string(kGap, ' ') + padded(table.columns[i].group, width, /*to_the_right=*/i == last);
    i = last + 1;
  }
  return line;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string format_significant(double value, int digits) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  if (value == 0) return "0";
  if (needs_exponent(value)) {
    std::string text = fmt::format("{:.{}e}", value, digits - 1);
    const size_t e = text.find('e');
    return fmt::format("{}e{}", text.substr(0, e), std::stoi(text.substr(e + 1)));
  }
  return fmt::format("{:.{}f}", value, std::max(0, digits - 1 - exponent_of(value)));
}

std::string format_count(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  std::string text = fmt::format("{:.0f}", value);
  for (ptrdiff_t at = ptrdiff_t(text.size()) - 3; at > (text[0] == '-' ? 1 : 0); at -= 3) text.insert(size_t(at), ",");
  return text;
}

std::string format_metric(const SummaryMetric& metric, double value) {
  return metric.digits == 0 ? format_count(value) : format_significant(value, metric.digits);
}

std::string format_spread(const SummaryMetric& metric, const SeedSpread& spread) {
  const double mean = spread.mean, deviation = spread.deviation;
  if (spread.count == 1) return format_metric(metric, mean);
  if (metric.digits == 0 && deviation == 0) return format_count(mean);
  if (metric.digits == 0) return fmt::format("{} ± {}", format_count(mean), format_count(deviation));
  if (!std::isfinite(mean + deviation) || needs_exponent(mean) || (mean == 0 && needs_exponent(deviation))) {
    return fmt::format("{} ± {}", format_significant(mean, metric.digits), format_significant(deviation, 2));
  }
  // Two digits of the deviation, but no more than one beyond those of the metric itself.
  const int most = mean == 0 ? metric.digits : std::max(0, metric.digits - exponent_of(mean));
  const int decimals = deviation == 0 ? std::max(0, most - 1) : std::clamp(1 - exponent_of(deviation), 0, most);
  return fmt::format("{:.{}f} ± {:.{}f}", mean, decimals, deviation, decimals);
}

ComparisonTable make_table(const Comparison& comparison) {
  ComparisonTable table;
  const bool several_heads = std::any_of(comparison.runs.begin(), comparison.runs.end(),
                                         [](const RunRecord& run) { return run.heads().size() > 1; });
  std::vector<const SummaryMetric*> metrics;  // beside each column; null: the head's name
  for (const SummaryMetric& metric : summary_metrics()) {
    const bool known = std::any_of(comparison.rows.begin(), comparison.rows.end(),
                                   [&](const RunSummary& row) { return row.values.contains(metric.key); });
    if (!known) continue;
    if (several_heads && std::string_view(metric.key) == "sink_attention") {
      table.columns.push_back({heading(metric), "head"});
      metrics.push_back(nullptr);
    }
    table.columns.push_back({heading(metric), metric.title});
    metrics.push_back(&metric);
  }

  const auto add_row = [&](ComparisonRow row, const std::vector<size_t>& members, const auto& cell) {
    for (const SummaryMetric* metric : metrics) {
      row.cells.push_back(metric ? cell(*metric) : head_cell(comparison, members));
    }
    table.rows.push_back(std::move(row));
  };
  std::vector<size_t> group_of(comparison.runs.size());
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    for (const size_t i : comparison.groups[g].members) group_of[i] = g;
  }
  for (size_t i = 0; i < comparison.rows.size(); ++i) {
    const RunSummary& run = comparison.rows[i];
    add_row({harmless(run.label), group_of[i], false, {}}, {i}, [&](const SummaryMetric& metric) -> std::string {
      const auto found = run.values.find(metric.key);
      return found == run.values.end() ? kUnknown : format_metric(metric, found->second);
    });
  }
  bool has_means = false;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    if (group.members.size() < 2) continue;
    has_means = true;
    const std::string label = fmt::format("{}, {} seeds", harmless(group.label), group.members.size());
    add_row({label, g, true, {}}, group.members, [&](const SummaryMetric& metric) -> std::string {
      const auto found = group.values.find(metric.key);
      if (found == group.values.end()) return kUnknown;
      const int64_t count = found->second.count, all = int64_t(group.members.size());
      return format_spread(metric, found->second) + (count < all ? fmt::format(" ({} of {})", count, all) : "");
    });
  }
  table.footnotes = make_footnotes(comparison, several_heads, has_means);
  return table;
}

std::string to_text(const ComparisonTable& table, size_t max_width) {
  size_t label_width = display_width(table.corner);
  for (const ComparisonRow& row : table.rows) label_width = std::max(label_width, display_width(row.label));
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    widths.push_back(display_width(table.columns[c].title));
    for (const ComparisonRow& row : table.rows) widths[c] = std::max(widths[c], display_width(row.cells[c]));
  }
  // A heading wider than its columns widens the last of them.
  for (size_t c = 0; c < table.columns.size();) {
    size_t last = c, width = widths[c];
    while (last + 1 < table.columns.size() && table.columns[last + 1].group == table.columns[c].group) {
      width += kGap + widths[++last];
    }
    const size_t wanted = display_width(table.columns[c].group);
    if (wanted > width) widths[last] += wanted - width;
    c = last + 1;
  }

  std::string out;
  size_t begin = 0;
  do {  // once at least: a table without columns still names its runs
    const size_t end = block_end(table, widths, label_width, begin, max_width);
    if (begin > 0) out += "\n";
    out += trimmed(group_line(table, widths, label_width, begin, end));
    std::string titles = padded(table.corner, label_width, false);
    for (size_t c = begin; c < end; ++c)
      titles += std::string(kGap, ' ') + padded(table.columns[c].title, widths[c], true);
    out += trimmed(titles) + std::string(display_width(titles), '-') + "\n";
    for (const ComparisonRow& row : table.rows) {
      std::string line = padded(row.label, label_width, false);
      for (size_t c = begin; c < end; ++c) line += std::string(kGap, ' ') + padded(row.cells[c], widths[c], true);
      out += trimmed(line);
    }
    begin = end;
  } while (begin < table.columns.size());
  for (const std::string& note : table.footnotes) out += note + "\n";
  return out;
}

std::string to_markdown(const ComparisonTable& table) {
  const auto escaped = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '|' || c == '\\') out += '\\';
      out += c;
    }
    return out;
  };
  std::string head = "| " + table.corner + " |", rule = "|---|", body;
  for (const ComparisonColumn& column : table.columns) {
    head += " " + escaped(column.group.empty() ? column.title : column.group + " " + column.title) + " |";
    rule += "---:|";
  }
  for (const ComparisonRow& row : table.rows) {
    body += "| " + escaped(row.label) + " |";
    for (const std::string& cell : row.cells) body += " " + cell + " |";
    body += "\n";
  }
  std::string out = head + "\n" + rule + "\n" + body + "\n";
  for (const std::string& note : table.footnotes) out += "- " + escaped(note) + "\n";
  return out;
}

}  // namespace sluice
