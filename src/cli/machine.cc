// Reads /proc and /sys; what a system does not tell stays empty or zero.
#include "cli/machine.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "base/machine_memory.h"

namespace sluice {
namespace {

std::vector<std::string> known_instruction_sets() {
  std::string flags = value_in("/proc/cpuinfo", "flags");            // x86
  if (flags.empty()) flags = value_in("/proc/cpuinfo", "Features");  // Arm
  std::istringstream words(flags);
  std::vector<std::string> present;
  for (std::string word; words >> word;) present.push_back(word);
  std::vector<std::string> known;
  for (const char* name : {"sse4_1",   "sse4_2",   "avx",      "f16c",        "fma",         "avx2",        "avx_vnni",
                           "avx512f",  "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
                           "amx_bf16", "amx_int8", "asimd",    "asimdhp",     "bf16",        "sve",         "sve2"}) {
    if (std::find(present.begin(), present.end(), name) != present.end()) known.push_back(name);
  }
  return known;
}

double processor_quota() {
  double quota = 0, period = 0;
  std::istringstream(first_line_of(control_group() + "/cpu.max")) >> quota >> period;  // "max 100000": no limit
  if (quota > 0 && period > 0) return quota / period;
  std::istringstream(first_line_of("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")) >> quota;
  std::istringstream(first_line_of("/sys/fs/cgroup/cpu/cpu.cfs_period_us")) >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

uint64_t memory_limit(uint64_t total) {
  for (const std::string& path :
       {control_group() + "/memory.max", std::string("/sys/fs/cgroup/memory/memory.limit_in_bytes")}) {
    uint64_t limit = 0;
    std::istringstream(first_line_of(path)) >> limit;
    if (limit > 0 && limit < total) return limit;
  }
  return 0;
}

int usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : int(std::thread::hardware_concurrency());
}

}  // namespace

Machine read_machine() {
  Machine machine;
  machine.processor = value_in("/proc/cpuinfo", "model name");
  machine.processors = int(std::thread::hardware_concurrency());
  machine.usable_processors = usable_processors();
  machine.quota = processor_quota();
  machine.instruction_sets = known_instruction_sets();
  machine.memory_total = memory_in("MemTotal");
  machine.memory_available = memory_in("MemAvailable");
  machine.memory_limit = memory_limit(machine.memory_total);
  return machine;
}

std::vector<std::string> machine_warnings(const Machine& machine, const MachineSpeed& speed, int threads) {
  std::vector<std::string> warnings;
  // Widened to fp32 they take as long but for noise.
  constexpr double kAlike = 0.85;
  if (speed.bf16_matmul > 0 && speed.bf16_matmul < kAlike * speed.f32_matmul)
    warnings.push_back("bf16 matmuls are slower than fp32 here: train with train.precision fp32");
  if (threads > machine.usable_processors) {
    warnings.push_back(fmt::format("{} threads share {} processors, which is slow: set OMP_NUM_THREADS={}", threads,
                                   machine.usable_processors, machine.usable_processors));
  }
  if (machine.quota > 0 && threads > machine.quota + 0.5) {
    const int advised = std::max(1, int(machine.quota));
    warnings.push_back(
        fmt::format("this container may use {:.1f} processors, but there are {} threads: set "
                    "OMP_NUM_THREADS={}",
                    machine.quota, threads, advised));
  }
  if (threads < machine.usable_processors) {
    warnings.push_back(
        fmt::format("only {} of {} processors are used (OMP_NUM_THREADS)", threads, machine.usable_processors));
  }
  return warnings;
}

}  // namespace sluice
