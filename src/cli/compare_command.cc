// sluice compare RUN|FOLDER... [--all] [--json FILE|-] [--markdown] [--report FILE.html [--note TEXT]]
//
// The table goes to standard output, warnings to standard error; with --json - standard output carries the JSON alone.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <set>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "report/compare.h"
#include "report/compare_table.h"
#include "report/report.h"

namespace sluice {
namespace {

struct CompareOptions {
  std::vector<std::string> runs;
  std::string json, report, note;
  bool markdown = false, all = false;
};

// Each run once; a folder of runs stands for those in it. Plain files, which a glob such as runs/* brings along, are
// passed over.
std::vector<RunRecord> read_runs(const std::vector<std::string>& paths) {
  namespace fs = std::filesystem;
  std::vector<RunRecord> runs;
  std::set<fs::path> seen;
  for (const std::string& path : paths) {
    if (paths.size() > 1 && fs::is_regular_file(path)) {
      tell("note: {} is a file and no run; it is left out", path);
      continue;
    }
    for (const std::string& folder : run_folders(path)) {
      if (seen.insert(fs::weakly_canonical(folder)).second) runs.push_back(read_run(folder));
      else tell("note: {} is named twice; it counts once", folder);
    }
  }
  if (runs.empty()) throw UserError("compare: none of the paths is a run's folder");
  return runs;
}

void run_compare(const CompareOptions& options) {
  check_output_file("--json", options.json);
  if (!options.note.empty() && options.report.empty())
    throw UserError("compare: --note stands on the page that --report writes, and --report is not given");
  if (!options.report.empty()) {
    const std::filesystem::path folder = std::filesystem::path(options.report).parent_path();
    if (!folder.empty()) check_output_folder("--report", folder);
    std::error_code error;
    if (folder.empty() || std::filesystem::exists(folder, error)) check_output_file("--report", options.report);
    if (!options.json.empty() &&
        std::filesystem::weakly_canonical(options.json) == std::filesystem::weakly_canonical(options.report))
      throw UserError("--json and --report both name {}; name two files", options.report);
  }
  std::vector<RunRecord> runs = read_runs(options.runs);
  Comparison comparison = compare_runs(std::move(runs));
  comparison.note = options.note;

  print_notes(comparison.warnings);
  // The files first: whoever reads the table may go away.
  if (!options.report.empty()) write_report(comparison, options.report);
  if (!options.json.empty()) write_json(to_json(comparison), options.json);
  if (options.json != "-") {
    const bool all = options.all || options.markdown;
    const TextTable table = make_table(comparison, all ? Columns::kAll : Columns::kMain);
    print_text(options.markdown ? to_markdown(table) : to_text(table, terminal_width()));
  }
  if (!options.report.empty()) tell("report: {}", options.report);
}

}  // namespace

void add_compare_command(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand("compare", "compare runs: a table, JSON, and a report page with curves");
  command->add_option("runs", options->runs, "run folders, or folders of runs such as a sweep's")->required();
  command->add_flag("--all", options->all, "every column in the table; without it the main ones");
  command->add_flag("--markdown", options->markdown, "print the table as Markdown, with every column");
  command->add_option("--json", options->json,
                      "write every final figure to this file; - prints it instead of the table");
  command->add_option("--report", options->report, "write a self-contained HTML page with curves and attention maps");
  command->add_option("--note", options->note, "your own words at the head of that page");
  command->callback([options] { run_compare(*options); });
}

}  // namespace sluice
