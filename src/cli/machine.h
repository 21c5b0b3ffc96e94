// What the processor, the operating system and the container give this process. Read from /proc and /sys (Linux).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/peak.h"

namespace sluice {

struct Machine {
  std::string processor;                      // model name
  int processors = 0;                         // logical, on the machine
  int usable_processors = 0;                  // that this process may run on
  double quota = 0;                           // processors' worth of time a container may use; 0: no limit
  std::vector<std::string> instruction_sets;  // of the kernel's names, those that matter here: "avx2", "amx_bf16" ...
  uint64_t memory_total = 0, memory_available = 0;  // bytes
  uint64_t memory_limit = 0;                        // bytes a container may use; 0: no limit
};

Machine read_machine();

// Rates of this machine: arithmetic in GFLOP/s (of 10^9), copying in GB/s (bytes read plus bytes written).
struct MachineSpeed {
  double f32_matmul = 0, bf16_matmul = 0;  // best call
  double copy = 0;                         // best pass over buffers that no cache holds
  RegisterPeaks peaks = {};                // of a CPU
};

// On all OpenMP threads; each rate takes about `seconds` of wall-clock time.
MachineSpeed measure_machine(double seconds);

// The same of a backend's device, through its own ops; needs about 4 GB on it.
MachineSpeed measure_device(Backend& backend, double seconds);

// The widest instructions that oneDNN uses here, ONEDNN_MAX_CPU_ISA considered: "AVX-512 with bf16".
std::string onednn_instruction_set();

// What stands in the way of good speed, one sentence each. `threads` is what OpenMP would use; a rate of 0 was not
// measured.
std::vector<std::string> machine_warnings(const Machine& machine, const MachineSpeed& speed, int threads);

}  // namespace sluice
