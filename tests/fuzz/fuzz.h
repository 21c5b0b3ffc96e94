// For the fuzz targets: inputs as files, and the errors that input may cause. A target fails by a crash, a sanitizer's
// report, another exception (a check_* that input reached), a time-out, or more memory than scripts/fuzz allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files/files.h"

namespace sluice {

// A file that exists in memory alone, under a path.
class MemoryFile {
 public:
  MemoryFile(const void* data, size_t size) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    check(descriptor_ >= 0 && write(descriptor_, data, size) == ssize_t(size), "a file in memory");
  }
  ~MemoryFile() { close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// A folder in memory for all inputs of a process, which removes it at its end.
class MemoryFolder {
 public:
  MemoryFolder() {
    const char* place = std::getenv("TMPDIR");  // scripts/fuzz sets it
    std::string name = (place ? std::string(place) : "/dev/shm") + "/sluice_fuzz_XXXXXX";
    check(mkdtemp(name.data()) != nullptr, "a folder in memory");
    path_ = name;
  }
  ~MemoryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

  // Makes `name` a file of these bytes, or nothing where there are none. Inputs that follow each other mostly differ in
  // one file, and only that is written.
  void put(const std::string& name, const std::string& content) {
    const auto [known, is_new] = contents_.try_emplace(name);
    if (!is_new && known->second == content) return;
    known->second = content;
    const std::filesystem::path file = path_ / name;
    if (content.empty()) {
      std::filesystem::remove(file);
      return;
    }
    std::filesystem::create_directories(file.parent_path());
    File(file, O_WRONLY | O_CREAT | O_TRUNC).write(content.data(), content.size());
  }

 private:
  std::filesystem::path path_;
  std::map<std::string, std::string> contents_;
};

// An input that is several texts, with a zero byte between.
class Parts {
 public:
  Parts(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  bool done() const { return rest_.empty(); }
  std::string next() {
    const size_t zero = rest_.find('\0');
    std::string part = rest_.substr(0, zero);
    rest_.erase(0, zero == rest_.npos ? zero : zero + 1);
    return part;
  }

 private:
  std::string rest_;
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
