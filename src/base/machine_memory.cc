// What /proc, control groups and ulimit leave (machine_memory.h).
#include "base/machine_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
constexpr const char* kGroups = "/sys/fs/cgroup";

// The number that the file begins with; kNoLimit for "max" and where there is no such file.
uint64_t number_in(const fs::path& path) {
  uint64_t number = kNoLimit;
  std::istringstream text(first_line_of(path.string()));
  return text >> number ? number : kNoLimit;
}

// "file 12345" in a control group's statistics: the cache of files, which gives way.
uint64_t cache_in(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  for (uint64_t bytes = 0; file >> name >> bytes;) {
    if (name == key) return bytes;
  }
  return 0;
}

uint64_t left_of(uint64_t limit, uint64_t used, uint64_t cache) {
  if (limit == kNoLimit || used == kNoLimit) return kNoLimit;
  const uint64_t held = used - std::min(used, cache);
  return limit - std::min(limit, held);
}

// A group's own limit, and those of the groups around it.
uint64_t left_in_groups() {
  uint64_t left = left_of(number_in(fs::path(kGroups) / "memory/memory.limit_in_bytes"),
                          number_in(fs::path(kGroups) / "memory/memory.usage_in_bytes"),
                          cache_in(fs::path(kGroups) / "memory/memory.stat", "total_cache"));
  for (fs::path group = control_group(); group.string().starts_with(kGroups); group = group.parent_path()) {
    left = std::min(left, left_of(number_in(group / "memory.max"), number_in(group / "memory.current"),
                                  cache_in(group / "memory.stat", "file")));
    if (group == kGroups) break;
  }
  return left;
}

uint64_t left_of_address_space() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kNoLimit;
  const uint64_t pages = number_in("/proc/self/statm");
  if (pages == kNoLimit) return kNoLimit;
  const uint64_t used = pages * uint64_t(sysconf(_SC_PAGESIZE));
  return uint64_t(limit.rlim_cur) - std::min(uint64_t(limit.rlim_cur), used);
}

}  // namespace

std::string first_line_of(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string value_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t colon = line.find(':');
    const size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

uint64_t memory_in(const std::string& key) {
  uint64_t kilobytes = 0;
  std::istringstream(value_in("/proc/meminfo", key)) >> kilobytes;
  return kilobytes * 1024;
}

// In the unified hierarchy; a container usually sees its own as the root.
std::string control_group() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::", 0) == 0 && line != "0::/") return kGroups + line.substr(3);
  }
  return kGroups;
}

uint64_t available_memory() {
  const uint64_t free = memory_in("MemAvailable");
  const uint64_t machine = free == 0 ? kNoLimit : free + memory_in("SwapFree");
  const uint64_t left = std::min({machine, left_in_groups(), left_of_address_space()});
  return left == kNoLimit ? 0 : std::max<uint64_t>(left, 1);
}

}  // namespace sluice
