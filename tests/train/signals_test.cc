// Signals: the first asks, the second ends the process, and no computing thread ever runs a handler.
#include "train/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <gtest/gtest.h>

namespace sluice {
namespace {

void send(int signal) { kill(getpid(), signal); }

// Whether the waiting thread has heard of it, which takes a moment.
bool is_requested(int signal) {
  for (int tries = 0; tries < 5000 && stop_requested() == 0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return stop_requested() == signal;
}

void wait_for_the_end() { std::this_thread::sleep_for(std::chrono::seconds(20)); }

// Signals belong to the process: each of these tests has one of its own, started anew, that has no other thread yet.
class SignalProcess : public testing::Test {
 protected:
  SignalProcess() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  ~SignalProcess() override { GTEST_FLAG_SET(death_test_style, "fast"); }
};

[[noreturn]] void first(int signal) {
  take_stop_signals();
  const StopSignals signals;
  send(signal);
  _exit(is_requested(signal) ? 7 : 8);
}

TEST_F(SignalProcess, TheFirstOneAsks) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) EXPECT_EXIT(first(signal), testing::ExitedWithCode(7), "");
}

[[noreturn]] void second(int one, int other) {
  take_stop_signals();
  const StopSignals signals;
  send(one);
  if (!is_requested(one)) _exit(8);
  send(other);
  wait_for_the_end();
  _exit(9);
}

TEST_F(SignalProcess, TheSecondOneEndsTheProcess) {
  EXPECT_EXIT(second(SIGINT, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(second(SIGINT, SIGTERM), testing::KilledBySignal(SIGTERM), "");
  EXPECT_EXIT(second(SIGHUP, SIGTERM), testing::KilledBySignal(SIGTERM), "");
}

TEST_F(SignalProcess, AClosedTerminalMaySayItSeveralTimes) {
  const auto three = [] {
    take_stop_signals();
    const StopSignals signals;
    send(SIGHUP);
    if (!is_requested(SIGHUP)) _exit(8);
    for (int i = 0; i < 2; ++i) {
      send(SIGHUP);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    _exit(stop_requested() == SIGHUP ? 7 : 8);
  };
  EXPECT_EXIT(three(), testing::ExitedWithCode(7), "");
}

TEST_F(SignalProcess, WithoutATrainerTheFirstOneEndsTheProcess) {
  const auto before = [](int signal) {
    take_stop_signals();
    send(signal);
    wait_for_the_end();
    _exit(9);
  };
  const auto after = [] {
    take_stop_signals();
    { const StopSignals signals; }
    send(SIGTERM);
    wait_for_the_end();
    _exit(9);
  };
  EXPECT_EXIT(before(SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(before(SIGHUP), testing::KilledBySignal(SIGHUP), "");
  EXPECT_EXIT(after(), testing::KilledBySignal(SIGTERM), "");
}

TEST_F(SignalProcess, NohupIsKept) {
  const auto ignored = [] {
    std::signal(SIGHUP, SIG_IGN);
    take_stop_signals();
    const StopSignals signals;
    send(SIGHUP);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    _exit(stop_requested() == 0 ? 7 : 8);
  };
  EXPECT_EXIT(ignored(), testing::ExitedWithCode(7), "");
}

TEST_F(SignalProcess, SignalsIgnoredByABackgroundShellAskAllTheSame) {
  const auto ignored = [] {
    std::signal(SIGINT, SIG_IGN);
    first(SIGINT);
  };
  EXPECT_EXIT(ignored(), testing::ExitedWithCode(7), "");
}

TEST_F(SignalProcess, NoThreadCanBeInterrupted) {
  const auto look = [] {
    take_stop_signals();
    bool blocked = true;
    std::thread([&] {
      sigset_t mask;
      pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        sigaction(signal, nullptr, &action);
        blocked = blocked && sigismember(&mask, signal) == 1 && action.sa_handler == SIG_DFL;
      }
    }).join();
    _exit(blocked ? 7 : 8);
  };
  EXPECT_EXIT(look(), testing::ExitedWithCode(7), "");
}

TEST_F(SignalProcess, AReaderWhoGoesAwayIsNoEnd) {
  const auto write_to_nobody = [] {
    take_stop_signals();
    int ends[2];
    if (pipe(ends) != 0) _exit(8);
    close(ends[0]);
    _exit(write(ends[1], "x", 1) < 0 && errno == EPIPE ? 7 : 8);
  };
  EXPECT_EXIT(write_to_nobody(), testing::ExitedWithCode(7), "");
}

TEST_F(SignalProcess, AChildFindsThemAsTheParentDid) {
  const auto child = [] {
    std::signal(SIGINT, SIG_IGN);
    take_stop_signals();
    restore_signals_in_child();
    sigset_t mask;
    sigprocmask(SIG_SETMASK, nullptr, &mask);
    struct sigaction interrupt {
    }, pipe{};
    sigaction(SIGINT, nullptr, &interrupt);
    sigaction(SIGPIPE, nullptr, &pipe);
    const bool free = sigismember(&mask, SIGTERM) == 0 && sigismember(&mask, SIGHUP) == 0;
    _exit(free && interrupt.sa_handler == SIG_IGN && pipe.sa_handler == SIG_DFL ? 7 : 8);
  };
  EXPECT_EXIT(child(), testing::ExitedWithCode(7), "");
}

TEST(Signals, ARequestIsForgottenWithItsListener) {
  {
    const StopSignals signals;
    EXPECT_EQ(stop_requested(), 0);
    on_stop_signal(SIGTERM);
    EXPECT_EQ(stop_requested(), SIGTERM);
  }
  EXPECT_EQ(stop_requested(), 0);
}

TEST(Signals, ExitCodes) {
  EXPECT_EQ(exit_code_of(SIGHUP), 129);
  EXPECT_EQ(exit_code_of(SIGINT), 130);
  EXPECT_EQ(exit_code_of(SIGTERM), 143);
  EXPECT_STREQ(signal_name(SIGHUP), "SIGHUP");
  EXPECT_STREQ(signal_name(SIGINT), "SIGINT");
  EXPECT_STREQ(signal_name(SIGTERM), "SIGTERM");
}

}  // namespace
}  // namespace sluice
