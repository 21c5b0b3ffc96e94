#include "train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/console.h"

namespace sluice {
namespace {

constexpr size_t kNameColumns = 14, kShortName = 10;

// The fields in the order in which they stand, those that are not empty.
std::string joined(std::initializer_list<std::string> fields) {
  std::string line;
  for (const std::string& field : fields) {
    if (!field.empty()) line += (line.empty() ? "" : "  ") + field;
  }
  return line;
}

std::string padded_name(const std::string& name) {
  return name + std::string(kNameColumns - std::min(kNameColumns, display_width(name)), ' ');
}

}  // namespace

std::string progress_line(const ProgressFigures& figures, size_t columns) {
  const std::string name = harmless(figures.name), short_name = fitted(name, kShortName);
  const std::string steps = fmt::format("{}/{}", figures.step, figures.total), step = "step " + steps;
  const size_t digits = fmt::formatted_size("{}", figures.total);
  const std::string aligned = fmt::format("step {:>{}}/{}", figures.step, digits, figures.total);
  const std::string loss = fmt::format("loss {:.4f}", figures.loss), lr = fmt::format("lr {:.2e}", figures.lr);
  const std::string speed = fmt::format("{:.0f} tok/s", figures.tokens_per_second), &left = figures.time_left;
  const std::string wide_speed = fmt::format("{:>9.0f} tok/s", figures.tokens_per_second);
  const auto named = [](const std::string& who, const std::string& what) { return who + " " + what; };
  const std::string forms[] = {
      joined({named(padded_name(name), aligned), loss, lr, wide_speed, left}),
      joined({named(name, step), loss, lr, speed, left}),
      joined({named(name, step), loss, speed, left}),
      joined({named(name, step), loss, left}),
      joined({named(short_name, step), loss, left}),
      joined({named(short_name, step), loss}),
      joined({step, loss}),
      joined({steps, loss}),
      steps,
  };
  for (const std::string& form : forms) {
    if (columns == 0 || display_width(form) <= columns) return form;
  }
  return fitted(steps, columns);
}

Progress::Progress(std::string name, int64_t total_steps)
    : name_(std::move(name)),
      total_(total_steps),
      terminal_(isatty(STDOUT_FILENO)),
      shown_(Clock::now() - std::chrono::hours(1)) {}

Progress::~Progress() {
  if (open_) put_on_console(STDOUT_FILENO, "\n");
}

void Progress::update(int64_t step, double loss, double lr, double tokens_per_second) {
  const auto now = Clock::now();
  if (!measured_from_) measured_from_ = {step, now};
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (now - shown_ < pause && step != total_) return;
  shown_ = now;
  const ProgressFigures figures{name_, step, total_, loss, lr, tokens_per_second, time_left(step, now)};
  if (terminal_) {
    const size_t width = terminal_width(STDOUT_FILENO);  // each time: the window may have another size now
    // A terminal that has gone away has no width, and nobody to fit the line for.
    show_live_line(STDOUT_FILENO, progress_line(figures, width > 0 ? width - 1 : 0));
  } else {
    put_on_console(STDOUT_FILENO, progress_line(figures, 0) + "\n");
  }
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
  if (open_) clear_live_line(STDOUT_FILENO);
  open_ = false;
}

std::string duration_text(double seconds) {
  const int64_t s = int64_t(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}s", s);
}

}  // namespace sluice
