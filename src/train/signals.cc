// See signals.h. The handler touches a lock-free atomic and calls async-signal-safe functions only.
#include "train/signals.h"

#include <atomic>

#include "base/error.h"

namespace sluice {

namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGXFSZ};

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int signal) {
  int none = 0;
  if (requested.compare_exchange_strong(none, signal)) return;
  // Blocked while its handler runs: the default action ends the process as soon as this returns.
  std::signal(signal, SIG_DFL);
  raise(signal);
}

}  // namespace

StopSignals::StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = kSignals[i] == SIGXFSZ ? SIG_IGN : on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    check_eq(sigaction(kSignals[i], &action, &former_[i]), 0, "sigaction");
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &former_[i], nullptr);
  requested = 0;
}

int stop_requested() { return requested; }

const char* signal_name(int signal) {
  switch (signal) {
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    default: return "another signal";
  }
}

}  // namespace sluice
