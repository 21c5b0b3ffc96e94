// Files, folders and globs as one list, without what comes twice by a link (text_inputs.h).
#include "data/text/text_inputs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/files/glob.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

const char* kind_name(mode_t mode) {
  return S_ISFIFO(mode) ? "a named pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

// Why a path cannot be followed to what it names, after stat() failed with `error`.
[[noreturn]] void throw_unreachable(const std::string& path, int error) {
  struct stat link {};
  if (lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
    std::error_code ignored;
    const std::string target = fs::read_symlink(path, ignored).string();
    if (error == ENOENT || error == ENOTDIR) {
      throw UserError("{} is a link to {}, which is not there; mend it, or take it away", path, target);
    }
    if (error == ELOOP)
      throw UserError("{} is a link to {}, which leads round in a circle; take it away", path, target);
  }
  throw UserError("cannot read {}: {}", path, std::strerror(error));
}

// The files below one folder. Folders behind links come last, so that a file goes by its place without links if it has
// one.
class FolderWalk {
 public:
  explicit FolderWalk(const std::string& folder) : folders_{folder} {
    while (!folders_.empty() || next_link()) {
      const std::string next = std::move(folders_.back());
      folders_.pop_back();
      enter(next);
    }
    std::sort(files_.begin(), files_.end());
  }
  std::vector<std::string> take() { return std::move(files_); }

 private:
  bool next_link() {
    if (links_.empty()) return false;
    folders_.push_back(*links_.begin());
    links_.erase(links_.begin());
    return true;
  }

  void enter(const std::string& folder) {
    struct stat status {};
    if (stat(folder.c_str(), &status) != 0) throw_unreachable(folder, errno);
    if (!seen_.emplace(status.st_dev, status.st_ino).second) return;
    std::error_code error;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      if (entry->path().filename().string()[0] != '.') take_in(*entry);
    }
    if (error) throw UserError("cannot read the folder {}: {}", folder, error.message());
  }

  void take_in(const fs::directory_entry& entry) {
    const std::string path = entry.path().string();
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) throw_unreachable(path, errno);
    std::error_code error;
    if (S_ISREG(status.st_mode)) {
      files_.push_back(path);
    } else if (!S_ISDIR(status.st_mode)) {
      throw UserError("{} is {}, neither a file nor a folder; take it out of the folder, or name what is to be read",
                      path, kind_name(status.st_mode));
    } else if (entry.is_symlink(error)) {
      links_.insert(path);
    } else {
      folders_.push_back(path);
    }
  }

  std::vector<std::string> folders_, files_;
  std::set<std::string> links_;
  std::set<std::pair<dev_t, ino_t>> seen_;  // folders
};

bool is_folder(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::vector<std::string> files_of(const std::string& input, bool of_glob = false) {
  if (input == kStandardInput) return {input};
  if (is_folder(input)) {
    auto files = FolderWalk(input).take();
    if (files.empty() && !of_glob) throw UserError("the folder {} has no files", input);
    return files;
  }
  struct stat status {};
  if (stat(input.c_str(), &status) == 0) return {input};
  const int error = errno;
  if ((error == ENOENT || error == ENOTDIR) && lstat(input.c_str(), &status) != 0) {
    if (!looks_like_glob(input)) throw UserError("there is no file {}", input);
    std::vector<std::string> paths;
    for (const std::string& match : expand_glob(input, "")) {
      const auto found = files_of(match, true);  // which is there, if only as a link, so that it is no glob
      paths.insert(paths.end(), found.begin(), found.end());
    }
    if (paths.empty()) throw UserError("no file matches {}", input);
    return paths;
  }
  throw_unreachable(input, error);
}

}  // namespace

std::vector<std::string> find_text_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> paths;
  for (const std::string& input : inputs) {
    const auto found = files_of(input);
    paths.insert(paths.end(), found.begin(), found.end());
  }
  if (std::count(paths.begin(), paths.end(), std::string(kStandardInput)) > 1) {
    throw UserError("the standard input (-) can be read only once");
  }
  for (const std::string& path : paths) {  // now, and not when hours of reading are done
    if (path != kStandardInput && faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0) {
      throw UserError("cannot open {}: {}", path, std::strerror(errno));
    }
  }
  return paths;
}

uint64_t total_size(const std::vector<std::string>& paths) {
  uint64_t total = 0;
  for (const std::string& path : paths) {
    struct stat status {};
    if (path == kStandardInput || stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    total += uint64_t(status.st_size);
  }
  return total;
}

}  // namespace sluice
