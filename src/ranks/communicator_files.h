// The last words of ranks that have no MPI, in a folder that all of them see: RUN/ranks/rank_3 holds whether the error
// was its own, the exit code and the text.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>

#include "ranks/communicator.h"

namespace sluice {

class NewsFiles {
 public:
  // Removes what this rank left there in an earlier run.
  NewsFiles(std::filesystem::path folder, const RankPlace& place);

  // Both do not fail: a rank whose words do not arrive counts as lost.
  void send(const RankNews& news) noexcept;
  // Adds the others' news. Looks at most four times a second.
  void receive(std::map<int, RankNews>& news) noexcept;

 private:
  std::filesystem::path file(int rank) const;

  const std::filesystem::path folder_;
  const RankPlace place_;
  std::chrono::steady_clock::time_point next_look_;
};

}  // namespace sluice
