// The states of this host's ranks, read from /proc by a thread while nothing else may wait (rank_watch.h).
#include "ranks/rank_watch.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/console.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr double kApart = 0.3, kMostApart = 5;  // seconds from one rank's word to the next one's: the first ends all

struct ProcessState {
  char state = '?';  // as in proc(5): T stopped, t traced
  int parent = 0;
};

std::optional<ProcessState> state_of(const fs::path& folder) {
  std::ifstream file(folder / "stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(name_end + 1));
  ProcessState out;
  if (!(rest >> out.state >> out.parent)) return std::nullopt;
  return out;
}

bool is_stopped(const ProcessState& process) { return process.state == 'T' || process.state == 't'; }

// As its launcher's environment says; empty where it does not.
std::string rank_of(const fs::path& folder) {
  std::ifstream file(folder / "environ");
  for (std::string entry; std::getline(file, entry, '\0');) {
    for (const std::string_view name : {"OMPI_COMM_WORLD_RANK=", "PMIX_RANK=", "PMI_RANK="})
      if (entry.starts_with(name)) return entry.substr(name.size());
  }
  return "";
}

}  // namespace

bool is_stopped(int process) {
  const auto state = state_of(fs::path("/proc") / std::to_string(process));
  return state && is_stopped(*state);
}

std::string stopped_neighbour() {
  std::error_code error;
  fs::directory_iterator entry("/proc", error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    const std::string number = entry->path().filename().string();
    if (!std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; })) continue;
    const auto state = state_of(entry->path());
    if (!state || !is_stopped(*state) || state->parent != getppid()) continue;
    const std::string rank = rank_of(entry->path());
    if (!rank.empty()) return fmt::format("rank {} (process {})", rank, number);
  }
  return "";
}

RankWatch::RankWatch(double seconds, const RankPlace& place, std::string doing)
    : seconds_(seconds + std::min(kMostApart, kApart * place.rank)),
      place_(place),
      doing_(std::move(doing)),
      thread_([this] { run(); }) {}

RankWatch::~RankWatch() {
  {
    const std::lock_guard lock(mutex_);
    has_ended_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

void RankWatch::run() {
  std::unique_lock lock(mutex_);
  if (ended_.wait_for(lock, std::chrono::duration<double>(seconds_), [&] { return has_ended_; })) return;
  try {
    const std::string stopped = stopped_neighbour();
    const std::string who = stopped.empty() ? fmt::format("a rank of {} died, hangs or was not started", place_.size)
                                            : fmt::format("{} of {} is stopped", stopped, place_.size);
    tell("sluice: {}, at {}: no answer within {:.3g} s (train.rank_timeout)", who, doing_, seconds_);
  } catch (const std::exception&) {
    tell_line("sluice: a rank did not answer within train.rank_timeout");
  }
  std::_Exit(1);
}

}  // namespace sluice
