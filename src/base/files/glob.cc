// The system's glob(), with folders that exist taken literally and unreadable ones told (glob.h).
#include "base/files/glob.h"

#include <glob.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace sluice {
namespace {

bool is_there(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0;
}

std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (std::strchr("*?[]\\", c)) text += '\\';
    text += c;
  }
  return text;
}

// The pattern with its first folders escaped, as far as they are there.
std::string with_literal_folders(const std::string& pattern) {
  size_t literal = 0;
  for (size_t slash = pattern.find('/'); slash != pattern.npos; slash = pattern.find('/', slash + 1)) {
    if (slash > 0 && !is_there(pattern.substr(0, slash))) break;
    literal = slash + 1;
  }
  return escaped(pattern.substr(0, literal)) + pattern.substr(literal);
}

// glob() takes a function without data of its own.
struct Unreadable {
  std::string path;
  int error = 0;
};
thread_local Unreadable unreadable;

int note_unreadable(const char* path, int error) {
  if (error == ENOENT || error == ENOTDIR) return 0;  // a file, or a link to nothing, where a folder would have matched
  unreadable = {path, error};
  return 1;
}

}  // namespace

bool looks_like_glob(const std::string& path) { return path.find_first_of("*?[") != path.npos; }

std::vector<std::string> expand_glob(const std::string& pattern, const std::string& where) {
  glob_t found{};
  const int status = glob(with_literal_folders(pattern).c_str(), 0, note_unreadable, &found);
  std::vector<std::string> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  const std::string opening = where.empty() ? "" : where + ": ";
  if (status == GLOB_ABORTED) {
    throw UserError("{}{}: cannot read the folder {}: {}", opening, pattern, unreadable.path,
                    std::strerror(unreadable.error));
  }
  if (status == GLOB_NOSPACE) throw std::bad_alloc();
  return paths;
}

}  // namespace sluice
