// The progress line: step, loss, learning rate, tokens per second, time left. On a terminal it is rewritten in place
// and fits its width, elsewhere a line is printed now and then. Nothing depends on whether anybody reads it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace sluice {

struct ProgressFigures {
  std::string name;
  int64_t step = 0, total = 0;
  double loss = 0, lr = 0, tokens_per_second = 0;
  std::string time_left;  // "3m10s left", or empty
};

// The line in at most `columns`; 0: no limit. What does not fit goes in this order: padding, learning rate, tokens per
// second, most of the name, time left, the name, the word "step", the loss.
std::string progress_line(const ProgressFigures& figures, size_t columns);

class Progress {
 public:
  Progress(std::string name, int64_t total_steps);
  ~Progress();  // leaves the last line standing

  void update(int64_t step, double loss, double lr, double tokens_per_second);
  // Clears the live line, so that something else can be printed.
  void pause();

 private:
  using Clock = std::chrono::steady_clock;
  struct Mark {
    int64_t step;
    Clock::time_point time;
  };
  std::string time_left(int64_t step, Clock::time_point now) const;

  std::string name_;
  int64_t total_;
  bool terminal_, open_ = false;
  Clock::time_point shown_;
  std::optional<Mark> measured_from_;
};

std::string duration_text(double seconds);  // "2h05m", "3m10s", "12s"

}  // namespace sluice
