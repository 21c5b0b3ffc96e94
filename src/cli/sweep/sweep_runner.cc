// Which runs go on, which wait, and what is said of them (sweep_runner.h).
#include "cli/sweep/sweep_runner.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/files/files.h"
#include "kernels/device/device.h"
#include "report/run_reader.h"
#include "runs/run_folder.h"
#include "train/progress.h"
#include "train/signals.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

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

std::string losses_of(const SweepRun& run) {
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

}  // namespace

Slots::Slots(int64_t jobs) : taken_(size_t(jobs), false), threads_(std::max(1, omp_get_max_threads() / int(jobs))) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (jobs == 1 || visible) return;
  for (size_t i = 0; i < gpu_descriptions().size(); ++i) gpus_.push_back(std::to_string(i));
}

size_t Slots::take() {
  const auto free = std::find(taken_.begin(), taken_.end(), false);
  check(free != taken_.end(), "more runs at once than --jobs");
  *free = true;
  return size_t(free - taken_.begin());
}

std::map<std::string, std::string> Slots::environment(size_t slot) const {
  if (taken_.size() == 1) return {};
  // Threads that are bound to processors by number would all sit on the first ones, and those that spin while they
  // wait would take the others' time.
  std::map<std::string, std::string> out{
      {"OMP_NUM_THREADS", std::to_string(threads_)}, {"OMP_PROC_BIND", "false"}, {"OMP_WAIT_POLICY", "passive"}};
  if (gpus_.size() > 1) out["CUDA_VISIBLE_DEVICES"] = gpus_[slot % gpus_.size()];
  return out;
}

// ---- the runs -------------------------------------------------------------------------------------------------------

SweepRunner::SweepRunner(const Sweep& sweep, int64_t jobs) : sweep_(sweep), jobs_(jobs), slots_(jobs) {
  for (size_t number = 0; number < sweep_.runs.size(); ++number) pending_.push_back(number);
  create_folders(sweep_.folder / "configs");
  create_folders(sweep_.folder / "logs");
}

int SweepRunner::run() {
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

// On a terminal, once a second: how far the running ones are.
void SweepRunner::show_progress() {
  if (!terminal_ || std::chrono::steady_clock::now() - shown_ < std::chrono::seconds(1)) return;
  shown_ = std::chrono::steady_clock::now();
  std::string text;
  for (const Running& running : running_) text += progress_of(sweep_.runs[running.number]);
  show_live_line(STDOUT_FILENO, text);
}

// "softmax-s1 step 120/2000 loss 2.31   ", from the last line of its log, if it is a progress line.
std::string SweepRunner::progress_of(const SweepRun& run) const {
  std::istringstream words(last_line(log_of(run)));
  std::string text;
  for (std::string word; words >> word && word != "lr";) text += word + ' ';
  return text.starts_with(run.name + " step ") ? text + "  " : "";
}

void SweepRunner::tell(size_t number, const std::string& text) const {
  if (terminal_) clear_live_line(STDOUT_FILENO);
  say("[{:>{}}/{}] {:<{}}  {}", number + 1, fmt::formatted_size("{}", sweep_.runs.size()), sweep_.runs.size(),
      sweep_.runs[number].name, name_width(), text);
}

size_t SweepRunner::name_width() const {
  size_t width = 0;
  for (const SweepRun& run : sweep_.runs) width = std::max(width, run.name.size());
  return width;
}

// Takes the next runs into the free slots. One in whose folder another process still trains, as the child of a sweep
// that was killed does until it has saved, keeps its slot and is waited for.
void SweepRunner::begin_pending() {
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

bool SweepRunner::is_in_use(size_t number) {
  const auto process = training_process(sweep_.runs[number].folder);
  if (process && waited_for_.insert(number).second)
    tell(number, fmt::format("waits for process {}, which still trains in this folder", *process));
  return process.has_value();
}

void SweepRunner::fail(size_t number, const std::string& text) {
  failed_.insert(number);
  tell(number, text);
}

void SweepRunner::begin(size_t number) {
  const SweepRun& run = sweep_.runs[number];
  if (is_trained(run)) return tell(number, "done before");
  const fs::path config = sweep_.folder / "configs" / (run.name + ".json");
  write_file_atomic(config, run.config.dump(2) + "\n");
  const bool goes_on = fs::exists(run.folder / "checkpoints" / "latest");
  const size_t slot = slots_.take();
  try {
    running_.push_back(
        {number, slot,
         ChildProcess({"train", config.string(), "--out", run.folder.string()}, slots_.environment(slot), log_of(run)),
         Stopwatch()});
  } catch (...) {
    slots_.give_back(slot);
    throw;
  }
  tell(number, goes_on ? "goes on" : "started");
}

void SweepRunner::stop_all(int signal) {
  for (Running& running : running_) running.process.stop(signal);
}

bool SweepRunner::has_ended(Running& running) {
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

}  // namespace sluice
