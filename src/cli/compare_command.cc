// sluice compare RUN... [--json FILE|-] [--markdown] [--report FILE.html]
//
// The table goes to standard output, warnings to standard error; with --json - standard output carries the JSON alone.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <memory>

#include "analysis/compare.h"
#include "analysis/compare_table.h"
#include "analysis/report.h"
#include "base/files.h"
#include "cli/commands.h"

namespace sluice {
namespace {

struct CompareOptions {
  std::vector<std::string> runs;
  std::string json, report;
  bool markdown = false;
};

// Characters a line; 0 (no limit) where standard output is no terminal.
size_t terminal_width() {
  winsize size{};
  if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

void write_json(const Comparison& comparison, const std::string& path) {
  const std::string text = to_json(comparison).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (path == "-") {
    fmt::print("{}", text);
    return;
  }
  write_file_atomic(path, text);
}

void run_compare(const CompareOptions& options) {
  std::vector<RunRecord> runs;
  for (const std::string& path : options.runs) runs.push_back(read_run(path));
  const Comparison comparison = compare_runs(std::move(runs));

  for (const std::string& warning : comparison.warnings) fmt::print(stderr, "note: {}\n", warning);
  if (options.json != "-") {
    const ComparisonTable table = make_table(comparison);
    fmt::print("{}", options.markdown ? to_markdown(table) : to_text(table, terminal_width()));
  }
  if (!options.json.empty()) write_json(comparison, options.json);
  if (options.report.empty()) return;
  write_report(comparison, options.report);
  fmt::print(stderr, "report: {}\n", options.report);
}

}  // namespace

void add_compare_command(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand("compare", "Compare runs: a table, JSON, and a report page with curves");
  command->add_option("runs", options->runs, "run folders")->required();
  command->add_flag("--markdown", options->markdown, "print the table as Markdown");
  command->add_option("--json", options->json,
                      "write every final figure to this file; - prints it instead of the table");
  command->add_option("--report", options->report, "write a self-contained HTML page with curves and attention maps");
  command->callback([options] { run_compare(*options); });
}

}  // namespace sluice
