// SIGINT, SIGTERM and SIGHUP ask the step loop to stop: finish the step, save, exit with 128 + signal. A second SIGINT
// or SIGTERM ends the process at once, as if nobody had caught it.
//
// No handler is ever installed. A handler runs on the stack of whatever thread the signal hits, and matrix products of
// oneDNN have their stack pointer in the heap for a while: a handler's frame there overwrites what lies below. So the
// signals are blocked before the process has a second thread (all later threads inherit that), and one thread, which
// computes nothing, waits for them.
#pragma once

#include <csignal>

namespace sluice {

// Blocks the signals in the calling thread, which must be the only one yet, and starts the thread that waits for them;
// SIGPIPE is ignored from here on, for whoever reads the output may go away. A SIGHUP that is ignored already (nohup)
// stays so. Once a process. Until a StopSignals lives a signal still ends the process at once.
void take_stop_signals();

// Between fork and exec: signals as this process found them. Async-signal-safe.
void restore_signals_in_child();

// While one lives, the first signal is a request, and later ones end the process, but for SIGHUP: a terminal that is
// closed sends several. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();  // forgets the request
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
};

// What the waiting thread does with a signal. A request made here is the same as one by a signal.
void on_stop_signal(int signal);

int stop_requested();                                            // the signal, or 0
constexpr int exit_code_of(int signal) { return 128 + signal; }  // 129, 130, 143
const char* signal_name(int signal);                             // "SIGINT"

}  // namespace sluice
