// What this program was built from and with; filled by the build (cmake/build_info.cc.in).
#pragma once

#include <string>

namespace sluice {

struct BuildInfo {
  std::string version;     // "0.2.0"
  std::string commit;      // `git describe --always --dirty`; empty outside a checkout
  std::string compiler;    // "GNU 12.2.0"
  std::string flags;       // of the build type
  std::string build_type;  // "Release"
  std::string isa_sets;    // kernel sets compiled in, separated by spaces
  bool mpi = false, cuda = false, nccl = false, cudnn = false;
};

const BuildInfo& build_info();

}  // namespace sluice
