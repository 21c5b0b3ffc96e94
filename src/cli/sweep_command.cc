// sluice sweep FILE.json [--jobs N] [--out DIR] [--set k=v ...]
//
// Each run is a `sluice train` of its own: one that is done is passed over, one that was interrupted goes on, one that
// fails does not keep the others from being trained. In the sweep's folder: a folder a run, configs/ and logs/ with a
// file a run, and at the end report.html, table.md and summary.json.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/files.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "cli/sweep/sweep_runner.h"
#include "report/compare.h"
#include "report/compare_table.h"
#include "report/report.h"
#include "runs/run_folder.h"
#include "runs/sweep.h"
#include "train/signals.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

struct SweepArguments {
  std::string file, out;
  std::vector<std::string> overrides;
  int64_t jobs = 1;
  bool list = false;
};

bool is_run_folder(const fs::path& folder) { return is_run_config(folder / "config.json"); }

// Nothing, or what a process leaves that is killed while it writes.
bool is_as_begun(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_name_aside(entry->path().filename().string())) return false;
  }
  return !error;
}

// What lies there before a sweep has been begun: runs of this one or others, what a start leaves that was killed at
// once, and the empty files into which a shell sends our own output.
bool may_lie_beside(const fs::path& entry) {
  std::error_code unknown;
  const std::string name = entry.filename().string();
  if (fs::is_directory(entry, unknown))
    return is_run_folder(entry) || ((name == "configs" || name == "logs") && is_as_begun(entry)) || is_name_aside(name);
  return fs::is_regular_file(fs::symlink_status(entry, unknown)) && fs::file_size(entry, unknown) == 0;
}

void refuse_foreign_folder(const fs::path& folder) {
  std::vector<std::string> others;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!may_lie_beside(entry->path())) others.push_back(entry->path().filename().string());
  }
  if (others.empty()) return;
  std::sort(others.begin(), others.end());
  constexpr size_t kMost = 4;
  const size_t shown = std::min(others.size(), kMost);
  throw UserError("{} is not empty and holds no sweep of Sluice's (in it: {}{}); name another folder with --out",
                  folder.string(), fmt::join(others.begin(), others.begin() + std::ptrdiff_t(shown), ", "),
                  others.size() > shown ? ", ..." : "");
}

// What a sweep would write over must be an earlier sweep's: its configs are resolved ones.
void check_sweep_folder(const Sweep& sweep) {
  std::error_code unknown;
  if (fs::exists(sweep.folder, unknown) && !fs::is_directory(sweep.folder, unknown))
    throw UserError("{} is a file, but a sweep needs a folder; name another with --out", sweep.folder.string());
  if (is_run_folder(sweep.folder))
    throw UserError("{} is a run's folder, and a sweep has one of its own; name another with --out",
                    sweep.folder.string());
  std::vector<fs::path> targets = {"report.html", "table.md", "summary.json"};
  for (const SweepRun& run : sweep.runs) targets.push_back(fs::path("configs") / (run.name + ".json"));
  bool is_sweep = false;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(sweep.folder / "configs", none))
    is_sweep |= is_run_config(entry.path());
  for (const fs::path& target : targets) {
    const fs::path path = sweep.folder / target;
    if (!fs::exists(path) || (is_sweep && (target.parent_path().empty() || is_run_config(path)))) continue;
    throw UserError("{} is there, but not of a sweep; name another folder with --out, or move it away", path.string());
  }
  if (!is_sweep) refuse_foreign_folder(sweep.folder);
}

// The means over seeds, and the single runs of groups without a mean.
TextTable means_only(TextTable table, const Comparison& comparison) {
  std::erase_if(table.rows, [&](const TextRow& row) {
    return !row.is_mean && comparison.groups[row.seed_group].members.size() > 1;
  });
  return table;
}

// A run that cannot be read is told of, added to `failed`, and left out.
void write_results(const Sweep& sweep, std::set<size_t>& failed) {
  std::vector<RunRecord> records;
  for (size_t number = 0; number < sweep.runs.size(); ++number) {
    const SweepRun& run = sweep.runs[number];
    try {
      if (fs::exists(run.folder / "metrics.jsonl")) records.push_back(read_run(run.folder.string()));
    } catch (const std::exception& error) {
      failed.insert(number);
      say("{} is not in the report: {}", run.name, error.what());
    }
  }
  if (records.empty()) return;
  const Comparison comparison = compare_runs(std::move(records));
  const TextTable table = make_table(comparison);
  write_file_atomic(sweep.folder / "table.md", to_markdown(table));
  write_json(to_json(comparison), sweep.folder / "summary.json");
  write_report(comparison, sweep.folder / "report.html");
  put_on_console(
      STDOUT_FILENO,
      fmt::format("\n{}\n", to_text(means_only(make_table(comparison, Columns::kMain), comparison), terminal_width())));
  print_notes(comparison.warnings);
  say("{0}/report.html, table.md, summary.json", sweep.folder.string());
}

void run_sweep(const SweepArguments& args) {
  if (!args.list) take_stop_signals();  // before there is another thread
  const Sweep sweep = read_sweep(args.file, args.overrides, args.out);
  if (args.list) {
    for (const SweepRun& run : sweep.runs) print_line("{}{}", run.folder.string(), is_trained(run) ? "  done" : "");
    return;
  }
  check_sweep_folder(sweep);
  for (const SweepRun& run : sweep.runs) is_trained(run);  // a folder that holds something else is told of at once
  say("{} runs in {}, {} at a time", sweep.runs.size(), sweep.folder.string(), args.jobs);
  SweepRunner runner(sweep, args.jobs);
  const int signal = runner.run();
  if (signal != 0) {
    say("stopped by {}; the same command goes on from there", signal_name(signal));
    exit_code() = exit_code_of(signal);
    return;
  }
  std::set<size_t> failed = runner.failed();
  write_results(sweep, failed);
  if (!failed.empty()) {
    throw RunError("{} of {} runs failed; the same command tries them again", failed.size(), sweep.runs.size());
  }
}

}  // namespace

void add_sweep_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sweep", "train variants x seeds of a config, and compare them in one report");
  auto args = std::make_shared<SweepArguments>();
  command->add_option("file", args->file, "the sweep (a JSON file; see docs/sweeps.md)")->required();
  command->add_option("--jobs", args->jobs, "runs at the same time; they share the processors (default 1)")
      ->check(between(1, 1024));
  command->add_option("--out", args->out, "the sweep's folder (default: runs/NAME)")->check(not_empty());
  add_set_option(*command, args->overrides);
  command->add_flag("--list", args->list, "only print the runs' folders, and which are done");
  command->callback([args] { run_sweep(*args); });
}

}  // namespace sluice
