// For the fuzz targets: inputs as files, and the errors that input may cause. A target fails by a crash, a sanitizer's
// report, another exception (a check_* that input reached), a time-out, or more memory than scripts/fuzz allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

namespace sluice {

// A file that exists in memory alone, under a path.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    check(descriptor_ >= 0 && write(descriptor_, data, size) == ssize_t(size), "a file in memory");
  }
  ~MemoryFile() { close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// Wrong input is what it should be told to be; anything else escapes.
template <class Action>
void expect_user_errors(Action action) {
  try {
    action();
  } catch (const UserError&) {
  }
}

}  // namespace sluice
