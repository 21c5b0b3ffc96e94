// The picture of plans: an SVG whose colours are those of the report's page (plan_report.h).
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/number_text.h"
#include "placement/plan_report.h"

namespace sluice {
namespace {

// In pixels.
constexpr double kWidth = 760, kLeft = 64, kRight = 16, kTop = 52, kPanel = 104, kTitle = 22, kGap = 12;

constexpr const char* kHead =
    R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" role="img">
<title>What each rank does in a step, by plan</title>
<style>
text {{ font: 12px system-ui, "Liberation Sans", sans-serif; fill: #5c6570; }}
.title {{ font-weight: 600; fill: #1b1f24; }} .number {{ text-anchor: end; }}
.linear {{ fill: #9ad8ff; }} .attention {{ fill: #0072b2; }}
.line {{ stroke: #dfe2e6; }} .end {{ stroke: #d55e00; stroke-dasharray: 4 3; }}
</style>
<rect width="100%" height="100%" fill="#ffffff"/>
)";

using Seconds = std::function<double(const RankCost&)>;

// A bar for each rank from `from` to `to`, as one path; `bottom` is the panel's, `scale` pixels a second.
std::string bars(const PlanCost& plan, const char* style, const Seconds& from, const Seconds& to, double bottom,
                 double scale) {
  const double step = (kWidth - kLeft - kRight) / double(plan.ranks.size()), width = step * 0.8;
  std::string path;
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    const double low = scale * from(plan.ranks[rank]), high = scale * to(plan.ranks[rank]);
    path += fmt::format("M{:.2f} {:.2f}h{:.2f}v{:.2f}h{:.2f}z", kLeft + (double(rank) + 0.1) * step, bottom - low,
                        width, low - high, -width);
  }
  return fmt::format("<path class=\"{}\" d=\"{}\"/>\n", style, path);
}

std::string line(const char* style, double y) {
  return fmt::format("<line class=\"{}\" x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"{:.2f}\" y2=\"{:.2f}\"/>\n", style, kLeft,
                     kWidth - kRight, y, y);
}

std::string text(const char* style, double x, double y, const std::string& words) {
  return fmt::format("<text class=\"{}\" x=\"{:.0f}\" y=\"{:.2f}\">{}</text>\n", style, x, y, words);
}

std::string legend() {
  const auto box = [](const char* style, double x) {
    return fmt::format("<rect class=\"{}\" x=\"{:.0f}\" y=\"26\" width=\"12\" height=\"12\"/>\n", style, x);
  };
  return box("attention", kLeft) + text("", kLeft + 18, 36, "attention") + box("linear", kLeft + 100) +
         text("", kLeft + 118, 36, "linear layers") +
         fmt::format("<line class=\"end\" x1=\"{0:.0f}\" x2=\"{1:.0f}\" y1=\"32\" y2=\"32\"/>\n", kLeft + 220,
                     kLeft + 250) +
         text("", kLeft + 256, 36, "the step ends");
}

}  // namespace

std::string to_svg(const PlanReport& report) {
  const std::vector<PlanCost>& plans = report.steps[0];
  double most = 0;
  for (const PlanCost& plan : plans) most = std::max(most, plan.step_seconds);
  const double scale = kPanel / most;
  const double height = kTop + double(plans.size()) * (kTitle + kPanel + kGap) + 8;
  std::string out = fmt::format(kHead, kWidth, height);
  out += text("title", kLeft, 16,
              fmt::format("{} ranks with {} tokens each, windows of {}; a model, no measurement", report.limits.ranks,
                          format_count(double(report.tokens)), format_count(double(report.context))));
  out += legend();
  double bottom = kTop;
  for (const PlanCost& plan : plans) {
    bottom += kTitle + kPanel;
    const std::string milliseconds = format_significant(1e3 * plan.step_seconds, 4) + " ms";
    out += text("title", kLeft, bottom - kPanel - 7,
                fmt::format("{}: {}, idle {:.1f}%", plan.title, milliseconds, 100 * plan.idle_share));
    out += line("line", bottom);
    out += bars(
        plan, "linear", [](const RankCost&) { return 0.0; }, [](const RankCost& rank) { return rank.linear_seconds; },
        bottom, scale);
    out += bars(
        plan, "attention", [](const RankCost& rank) { return rank.linear_seconds; },
        [](const RankCost& rank) { return rank.busy(); }, bottom, scale);
    out += line("end", bottom - scale * plan.step_seconds);
    out += text("number", kLeft - 8, bottom - scale * plan.step_seconds + 4, milliseconds);
    out += text("number", kLeft - 8, bottom + 4, "0");
    bottom += kGap;
  }
  return out + "</svg>\n";
}

}  // namespace sluice
