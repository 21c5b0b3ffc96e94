// sluice sweep FILE.json [--jobs N] [--out DIR] [--set k=v ...]
//
// Each run is a `sluice train` of its own: one that is done is passed over, one that was interrupted goes on, one that
// fails does not keep the others from being trained. In the sweep's folder: a folder a run, configs/ and logs/ with a file
// a run, and at the end report.html, table.md and summary.json.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <thread>

#include "base/files/aside.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/stopwatch.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "kernels/device/device.h"
#include "report/compare.h"
#include "report/compare_table.h"
#include "report/report.h"
#include "runs/run_folder.h"
#include "runs/sweep.h"
#include "train/progress.h"
#include "train/signals.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct SweepArguments {
  std::string file, out;
  std::vector<std::string> overrides;
  int64_t jobs = 1;
  bool list = false;
};

// A line of what goes on. A sweep's results are files: it goes on whether or not anybody reads.
template <class... Args>
void say(fmt::format_string<Args...> text, Args&&... args) {
  put_on_console(STDOUT_FILENO, harmless(fmt::format(text, std::forward<Args>(args)...)) + "\n");
}

// What the runs that go on at the same time share: processors, and GPUs where there are several.
class Slots {
 public:
  explicit Slots(int64_t jobs) : taken_(size_t(jobs), false), threads_(std::max(1, omp_get_max_threads() / int(jobs))) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (jobs == 1 || visible) return;
    for (size_t i = 0; i < gpu_descriptions().size(); ++i) gpus_.push_back(std::to_string(i));
  }

  size_t take() {
    const auto free = std::find(taken_.begin(), taken_.end(), false);
    check(free != taken_.end(), "more runs at once than --jobs");
    *free = true;
    return size_t(free - taken_.begin());
  }
  void give_back(size_t slot) { taken_[slot] = false; }

  std::map<std::string, std::string> environment(size_t slot) const {
    if (taken_.size() == 1) return {};
    // Threads that are bound to processors by number would all sit on the first ones, and those that spin while they
    // wait would take the others' time.
    std::map<std::string, std::string> out{
        {"OMP_NUM_THREADS", std::to_string(threads_)}, {"OMP_PROC_BIND", "false"}, {"OMP_WAIT_POLICY", "passive"}};
    if (gpus_.size() > 1) out["CUDA_VISIBLE_DEVICES"] = gpus_[slot % gpus_.size()];
    return out;
  }

 private:
  std::vector<bool> taken_;
  int threads_;
  std::vector<std::string> gpus_;
};

constexpr const char* kLocked = "is training in this folder";

// The last line of a log, which says why a run failed.
std::string last_line(const fs::path& log) {
  std::ifstream file(log);
  std::string line, last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

class SweepRunner {
 public:
  SweepRunner(const Sweep& sweep, int64_t jobs) : sweep_(sweep), jobs_(jobs), slots_(jobs) {
    for (size_t number = 0; number < sweep_.runs.size(); ++number) pending_.push_back(number);
    create_folders(sweep_.folder / "configs");
    create_folders(sweep_.folder / "logs");
  }

  // Returns the signal that stopped it, or 0.
  int run() {
    const StopSignals signals;
    while (true) {
      const int signal = stop_requested();
      if (signal != 0) stop_all(signal);
      if (signal == 0) begin_pending();
      if (running_.empty() && (signal != 0 || pending_.empty())) return signal;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      show_progress();
      std::erase_if(running_, [&](Running& running) { return has_ended(running); });
    }
  }

  // The numbers of the runs that failed.
  const std::set<size_t>& failed() const { return failed_; }

 private:
  struct Running {
    size_t number, slot;
    ChildProcess process;
    Stopwatch watch;
  };

  // On a terminal, once a second: how far the running ones are.
  void show_progress() {
    if (!terminal_ || Clock::now() - shown_ < std::chrono::seconds(1)) return;
    shown_ = Clock::now();
    std::string text;
    for (const Running& running : running_) text += progress_of(sweep_.runs[running.number]);
    show_live_line(STDOUT_FILENO, text);
  }

  // "softmax-s1 step 120/2000 loss 2.31   ", from the last line of its log, if it is a progress line.
  std::string progress_of(const SweepRun& run) const {
    std::istringstream words(last_line(log_of(run)));
    std::string text;
    for (std::string word; words >> word && word != "lr";) text += word + ' ';
    return text.starts_with(run.name + " step ") ? text + "  " : "";
  }

  void tell(size_t number, const std::string& text) const {
    if (terminal_) clear_live_line(STDOUT_FILENO);
    say("[{:>{}}/{}] {:<{}}  {}", number + 1, fmt::formatted_size("{}", sweep_.runs.size()), sweep_.runs.size(),
        sweep_.runs[number].name, name_width(), text);
  }

  size_t name_width() const {
    size_t width = 0;
    for (const SweepRun& run : sweep_.runs) width = std::max(width, run.name.size());
    return width;
  }

  fs::path log_of(const SweepRun& run) const { return sweep_.folder / "logs" / (run.name + ".txt"); }

  // Takes the next runs into the free slots. One in whose folder another process still trains, as the child of a sweep that
  // was killed does until it has saved, keeps its slot and is waited for.
  void begin_pending() {
    for (size_t place = 0; place < pending_.size() && int64_t(running_.size() + place) < jobs_;) {
      const size_t number = pending_[place];
      try {
        if (is_in_use(number)) {
          ++place;
          continue;
        }
        begin(number);
      } catch (const std::exception& error) {  // about this run: the others may be better off
        fail(number, fmt::format("FAILED to start: {}", error.what()));
      }
      pending_.erase(pending_.begin() + std::ptrdiff_t(place));
    }
  }

  bool is_in_use(size_t number) {
    const auto process = training_process(sweep_.runs[number].folder);
    if (process && waited_for_.insert(number).second)
      tell(number, fmt::format("waits for process {}, which still trains in this folder", *process));
    return process.has_value();
  }

  void fail(size_t number, const std::string& text) {
    failed_.insert(number);
    tell(number, text);
  }

  void begin(size_t number) {
    const SweepRun& run = sweep_.runs[number];
    if (is_trained(run)) return tell(number, "done before");
    const fs::path config = sweep_.folder / "configs" / (run.name + ".json");
    write_file_atomic(config, run.config.dump(2) + "\n");
    const bool goes_on = fs::exists(run.folder / "checkpoints" / "latest");
    const size_t slot = slots_.take();
    try {
      running_.push_back({number, slot,
                          ChildProcess({"train", config.string(), "--out", run.folder.string()},
                                       slots_.environment(slot), log_of(run)),
                          Stopwatch()});
    } catch (...) {
      slots_.give_back(slot);
      throw;
    }
    tell(number, goes_on ? "goes on" : "started");
  }

  void stop_all(int signal) {
    for (Running& running : running_) running.process.stop(signal);
  }

  bool has_ended(Running& running) {
    const std::optional<int> code = running.process.exit_code();
    if (!code) return false;
    slots_.give_back(running.slot);
    const SweepRun& run = sweep_.runs[running.number];
    const std::string time = duration_text(running.watch.seconds());
    if (*code == 0) {
      tell(running.number, fmt::format("done in {}{}", time, losses_of(run)));
    } else if (stop_requested() != 0) {
      tell(running.number, "stopped");
    } else if (*code == 2 && last_line(log_of(run)).find(kLocked) != std::string::npos) {
      pending_.insert(pending_.begin(), running.number);  // another was quicker: it is waited for
    } else {
      fail(running.number, fmt::format("FAILED after {} (exit code {}): {}; see {}", time, *code, last_line(log_of(run)),
                                       log_of(run).string()));
    }
    return true;
  }

  static std::string losses_of(const SweepRun& run) {
    std::string text;
    try {
      const RunRecord record = read_run(run.folder.string());
      if (const auto loss = record.final_value("train", "loss")) text += fmt::format(", loss {:.4f}", *loss);
      if (const auto loss = record.final_value("eval", "loss")) text += fmt::format(", held-out loss {:.4f}", *loss);
    } catch (const std::exception& error) {
      return fmt::format(", but {}", error.what());
    }
    return text;
  }

  const Sweep& sweep_;
  int64_t jobs_;
  Slots slots_;
  std::vector<Running> running_;
  std::vector<size_t> pending_;   // not begun yet, in order
  std::set<size_t> waited_for_;   // told of already
  std::set<size_t> failed_;
  const bool terminal_ = isatty(STDOUT_FILENO) != 0;
  Clock::time_point shown_;
};

bool is_run_folder(const fs::path& folder) { return is_run_config(folder / "config.json"); }

// What lies there before a sweep has been begun: runs of this one or others, what a start leaves that was killed at once, and
// the empty files into which a shell sends our own output.
bool may_lie_beside(const fs::path& entry) {
  std::error_code unknown;
  const std::string name = entry.filename().string();
  if (fs::is_directory(entry, unknown))
    return is_run_folder(entry) || ((name == "configs" || name == "logs") && fs::is_empty(entry, unknown)) || is_name_aside(name);
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
  throw UserError("{} is not empty and holds no sweep of Sluice's (in it: {}{}); name another folder with --out", folder.string(),
                  fmt::join(others.begin(), others.begin() + std::ptrdiff_t(shown), ", "), others.size() > shown ? ", ..." : "");
}

// What a sweep would write over must be an earlier sweep's: its configs are resolved ones.
void check_sweep_folder(const Sweep& sweep) {
  std::error_code unknown;
  if (fs::exists(sweep.folder, unknown) && !fs::is_directory(sweep.folder, unknown))
    throw UserError("{} is a file, but a sweep needs a folder; name another with --out", sweep.folder.string());
  if (is_run_folder(sweep.folder))
    throw UserError("{} is a run's folder, and a sweep has one of its own; name another with --out", sweep.folder.string());
  std::vector<fs::path> targets = {"report.html", "table.md", "summary.json"};
  for (const SweepRun& run : sweep.runs) targets.push_back(fs::path("configs") / (run.name + ".json"));
  bool is_sweep = false;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(sweep.folder / "configs", none)) is_sweep |= is_run_config(entry.path());
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
  put_on_console(STDOUT_FILENO, fmt::format("\n{}\n", to_text(means_only(table, comparison), terminal_width())));
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
