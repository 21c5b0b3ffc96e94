// The runs of a sweep as processes of this program, some at a time.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/console.h"
#include "base/stopwatch.h"
#include "cli/sweep/child_process.h"
#include "runs/sweep.h"

namespace sluice {

// A line of what goes on. A sweep's results are files: it goes on whether or not anybody reads.
template <class... Args>
void say(fmt::format_string<Args...> text, Args&&... args) {
  put_on_console(STDOUT_FILENO, harmless(fmt::format(text, std::forward<Args>(args)...)) + "\n");
}

// What the runs that go on at the same time share: processors, and GPUs where there are several.
class Slots {
 public:
  explicit Slots(int64_t jobs);
  size_t take();
  void give_back(size_t slot) { taken_[slot] = false; }
  std::map<std::string, std::string> environment(size_t slot) const;

 private:
  std::vector<bool> taken_;
  int threads_;
  std::vector<std::string> gpus_;
};

class SweepRunner {
 public:
  // Makes the sweep's folders; the sweep must outlive it.
  SweepRunner(const Sweep& sweep, int64_t jobs);

  // Returns the signal that stopped it, or 0.
  int run();
  // The numbers of the runs that failed.
  const std::set<size_t>& failed() const { return failed_; }

 private:
  struct Running {
    size_t number, slot;
    ChildProcess process;
    Stopwatch watch;
  };

  void show_progress();
  std::string progress_of(const SweepRun& run) const;
  void tell(size_t number, const std::string& text) const;
  size_t name_width() const;
  std::filesystem::path log_of(const SweepRun& run) const { return sweep_.folder / "logs" / (run.name + ".txt"); }
  void begin_pending();
  bool is_in_use(size_t number);
  void fail(size_t number, const std::string& text);
  void begin(size_t number);
  void stop_all(int signal);
  bool has_ended(Running& running);

  const Sweep& sweep_;
  int64_t jobs_;
  Slots slots_;
  std::vector<Running> running_;
  std::vector<size_t> pending_;  // not begun yet, in order
  std::set<size_t> waited_for_;  // told of already
  std::set<size_t> failed_;
  const bool terminal_ = isatty(STDOUT_FILENO) != 0;
  std::chrono::steady_clock::time_point shown_;
};

}  // namespace sluice
