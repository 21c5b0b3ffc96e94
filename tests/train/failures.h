// Failures on demand: a limit on file sizes stands for a full disk; a folder loses its write permission; a byte flips.
#pragma once

#include <csignal>
#include <fstream>
#include <string>
#include <utility>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sluice {

// While one lives, a write beyond `bytes` of any file fails with EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    former_action_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &former_);
    const rlimit limit = {bytes, former_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &former_);
    std::signal(SIGXFSZ, former_action_);
  }

 private:
  rlimit former_{};
  void (*former_action_)(int) = SIG_DFL;
};

// While one lives, nothing can be created in `folder`. Permissions do not bind root, who acts as another user then.
class ReadOnlyFolder {
 public:
  explicit ReadOnlyFolder(std::string folder) : folder_(std::move(folder)) {
    chmod(folder_.c_str(), 0555);
    if (is_root_) binds_ = seteuid(kNobody) == 0;
  }
  ~ReadOnlyFolder() {
    if (is_root_ && binds_) binds_ = seteuid(0) == 0;
    chmod(folder_.c_str(), 0755);
  }
  bool binds() const { return binds_; }

 private:
  static constexpr uid_t kNobody = 65534;
  std::string folder_;
  bool is_root_ = geteuid() == 0, binds_ = true;
};

// Inverts one bit of the byte at `offset` (from the end if negative).
inline void flip_byte(const std::string& path, long offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto from = offset < 0 ? std::ios::end : std::ios::beg;
  file.seekg(offset, from);
  const char byte = char(file.get() ^ 1);
  file.seekp(offset, from);
  file.put(byte);
}

}  // namespace sluice
