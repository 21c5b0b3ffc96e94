// The thread that waits for stop signals, and what it does with the first and the second (signals.h).
#include "train/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>

#include "base/error.h"

namespace sluice {

namespace {

constexpr std::array kRestored = {SIGINT, SIGTERM, SIGPIPE};  // those whose disposition is changed

std::atomic<bool> taken{false}, listening{false};
std::atomic<int> requested{0};

sigset_t former_mask;
std::array<struct sigaction, kRestored.size()> former;

void set_disposition(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  check_eq(sigaction(signal, &action, nullptr), 0, "sigaction");
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// As if the signal had not been blocked.
[[noreturn]] void end_by(int signal) {
  set_disposition(signal, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  raise(signal);
  _exit(exit_code_of(signal));  // the first process of a container is not ended by its own signals
}

void wait_for_signals(sigset_t awaited) {
  for (;;) {
    int signal = 0;
    if (sigwait(&awaited, &signal) == 0) on_stop_signal(signal);
  }
}

}  // namespace

void take_stop_signals() {
  check(!taken.exchange(true), "the stop signals are taken once");
  for (size_t i = 0; i < kRestored.size(); ++i) sigaction(kRestored[i], nullptr, &former[i]);
  sigset_t awaited;
  sigemptyset(&awaited);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (signal == SIGHUP && is_ignored(signal)) continue;
    sigaddset(&awaited, signal);
  }
  check_eq(pthread_sigmask(SIG_BLOCK, &awaited, &former_mask), 0, "pthread_sigmask");
  for (const int signal : {SIGINT, SIGTERM})
    set_disposition(signal, SIG_DFL);  // a script's background job ignores SIGINT
  set_disposition(SIGPIPE, SIG_IGN);
  try {
    std::thread(wait_for_signals, awaited).detach();
  } catch (const std::system_error& error) {
    throw RunError("cannot start the thread that waits for signals: {} (ulimit -u and -v limit threads)",
                   std::strerror(error.code().value()));
  }
}

void restore_signals_in_child() {
  if (!taken) return;
  for (size_t i = 0; i < kRestored.size(); ++i) sigaction(kRestored[i], &former[i], nullptr);
  sigprocmask(SIG_SETMASK, &former_mask, nullptr);
}

StopSignals::StopSignals() { check(!listening.exchange(true), "there is one StopSignals at a time"); }

StopSignals::~StopSignals() {
  listening = false;
  requested = 0;
}

void on_stop_signal(int signal) {
  int none = 0;
  if (listening && (requested.compare_exchange_strong(none, signal) || signal == SIGHUP)) return;
  end_by(signal);
}

int stop_requested() { return requested; }

const char* signal_name(int signal) {
  switch (signal) {
    case SIGHUP: return "SIGHUP";
    case SIGINT: return "SIGINT";
    case SIGTERM: return "SIGTERM";
    default: return "another signal";
  }
}

}  // namespace sluice
