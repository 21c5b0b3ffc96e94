#include "train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <locale>

namespace sluice {

Progress::Progress(std::string name, int64_t first_step, int64_t total_steps)
    : name_(std::move(name)), first_(first_step), total_(total_steps), terminal_(isatty(STDOUT_FILENO)),
      start_(Clock::now()), shown_(start_ - std::chrono::hours(1)) {}

Progress::~Progress() {
  if (open_) std::fputs("\n", stdout);
  std::fflush(stdout);
}

void Progress::update(int64_t step, double loss, double lr, double tokens_per_second) {
  const auto now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (now - shown_ < pause && step != total_) return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left = step > first_ ? elapsed / double(step - first_) * double(total_ - step) : 0;
  const std::string line =
      fmt::format("{:<14} step {:>{}}/{}  loss {:.4f}  lr {:.2e}  {:>9.0f} tok/s  {} left", name_, step,
                  fmt::formatted_size("{}", total_), total_, loss, lr, tokens_per_second, duration_text(left));
  if (terminal_) fmt::print("\r{}\x1b[K", line);
  else fmt::print("{}\n", line);
  std::fflush(stdout);
  open_ = terminal_;
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
