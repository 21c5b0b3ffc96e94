// Ranks that the system has stopped (SIGSTOP, a debugger) where no wait of ours has a limit: inside the MPI library's
// own start and end, and while rank 0 alone writes a checkpoint. Looks at processes of this host, through /proc.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "ranks/communicator.h"

namespace sluice {

// Whether the process is there and stopped.
bool is_stopped(int process);

// "rank 1 (process 1234)" for a stopped process that was started beside this one as a rank; empty where none is found.
std::string stopped_neighbour();

// While one lives, a clock runs: after `seconds` one of this host's ranks says what was waited for, and who is stopped
// if that can be seen, and the process ends with exit code 1, so that the launcher ends the others.
class RankWatch {
 public:
  RankWatch(double seconds, const RankPlace& place, std::string doing);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

 private:
  void run();

  const double seconds_;
  const RankPlace place_;
  const std::string doing_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
  std::thread thread_;
};

}  // namespace sluice
