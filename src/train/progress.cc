#include "train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <locale>

namespace sluice {

Progress::Progress(std::string name, int64_t total_steps)
    : name_(std::move(name)), total_(total_steps), terminal_(isatty(STDOUT_FILENO)),
      shown_(Clock::now() - std::chrono::hours(1)) {}

Progress::~Progress() {
  if (open_) std::fputs("\n", stdout);
  std::fflush(stdout);
}

void Progress::update(int64_t step, double loss, double lr, double tokens_per_second) {
  const auto now = Clock::now();
  if (!measured_from_) measured_from_ = {step, now};
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (now - shown_ < pause && step != total_) return;
  shown_ = now;
  const std::string line =
      fmt::format("{:<14} step {:>{}}/{}  loss {:.4f}  lr {:.2e}  {:>9.0f} tok/s  {}", name_, step,
                  fmt::formatted_size("{}", total_), total_, loss, lr, tokens_per_second, time_left(step, now));
  if (terminal_) fmt::print("\r{}\x1b[K", line);
  else fmt::print("{}\n", line);
  std::fflush(stdout);
  open_ = terminal_;
}

// From the steps behind the first one, which also prepares what all of them use.
std::string Progress::time_left(int64_t step, Clock::time_point now) const {
  if (step >= total_) return "0s left";
  const int64_t steps = step - measured_from_->step;
  if (steps == 0) return "";
  const double elapsed = std::chrono::duration<double>(now - measured_from_->time).count();
  return duration_text(elapsed / double(steps) * double(total_ - step)) + " left";
}

void Progress::pause() {
  if (open_) std::fputs("\r\x1b[K", stdout);
  open_ = false;
}

std::string duration_text(double seconds) {
  const int64_t s = int64_t(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}s", s);
}

}  // namespace sluice
