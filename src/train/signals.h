// SIGINT and SIGTERM ask the step loop to stop: finish the step, save, exit with 128 + signal. A second one ends the
// process at once, as if nobody had caught it.
#pragma once

#include <array>

#include <csignal>

namespace sluice {

// While one lives, the signals are caught and SIGXFSZ is ignored (a file-size limit then is a failed write, which is
// reported, and not the process's death). One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();  // puts the former handlers back and forgets the request
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  std::array<struct sigaction, 3> former_;
};

int stop_requested();                                             // the signal, or 0
constexpr int exit_code_of(int signal) { return 128 + signal; }   // 130, 143
const char* signal_name(int signal);                              // "SIGINT"

}  // namespace sluice
