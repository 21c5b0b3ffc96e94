// metrics.jsonl, line by line, as series.
#include <filesystem>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/files/line_reader.h"
#include "base/limits.h"
#include "report/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Where a line's values belong.
struct Address {
  std::string kind;
  int64_t step = 0, layer = -1, head = -1;
};

Address address_of(const JsonReader& line) {
  const auto integer = [&](const char* key) { return line.has(key) ? line.integer(key, -1) : int64_t{-1}; };
  return {line.text("kind"), line.integer("step", 0), integer("layer"), integer("head")};
}

void add_metrics_line(RunRecord& run, const std::string& text, const std::string& place) {
  const Json line = parse_json(text, place);
  const Address address = address_of(JsonReader(line, place));
  for (const auto& [field, value] : line.items()) {
    if (is_address(field) || !(value.is_number() || value.is_null())) continue;
    const bool of_block = field.starts_with("residual_");
    TimeSeries& series = run.series[{address.kind, field, address.layer, of_block ? -1 : address.head}];
    // A resumed run may have been cut between its metrics and its checkpoint: what was written later holds.
    while (!series.steps.empty() && series.steps.back() >= address.step) {
      series.steps.pop_back();
      series.values.pop_back();
    }
    series.steps.push_back(address.step);
    series.values.push_back(number_or_nan(value));
  }
}

}  // namespace

void read_metrics(RunRecord& run) {
  const fs::path path = fs::path(run.path) / "metrics.jsonl";
  std::error_code error;
  if (!fs::exists(path, error) && !error) {
    run.notes.push_back("metrics.jsonl is missing: there is nothing to compare");
    return;
  }
  const File file = open_regular(path);
  LineReader lines(pieces_of(file), path.string(), kMostMetricsLine);
  for (std::string text; lines.next(text);) {
    if (text.find_first_not_of(" \t") == std::string::npos) continue;
    try {
      add_metrics_line(run, text, "it");
    } catch (const UserError& problem) {
      if (!lines.at_end())
        throw UserError("{}: line {} is malformed: {}", path.string(), lines.number(), problem.what());
      run.notes.push_back(
          fmt::format("the last line of metrics.jsonl ({}) is cut off and was skipped", lines.number()));
    }
  }
  if (run.series.empty()) run.notes.push_back("metrics.jsonl holds no values yet");
}

}  // namespace sluice
