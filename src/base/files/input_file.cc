// Opens a file and looks what kind it is before anything is read (input_file.h).
#include "base/files/input_file.h"

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBlock = 1 << 20, kLeast = 4 << 10;  // bytes read at a time

std::string kind_of(mode_t mode) {
  if (S_ISREG(mode)) return "";
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

[[noreturn]] void refuse(const fs::path& path, const std::string& kind) {
  throw UserError("cannot read {}: it is {}, but must be a file", path.string(), kind);
}

[[noreturn]] void too_large(const fs::path& path, uint64_t most, const char* what) {
  throw UserError("cannot read {}: it has more than {}, the limit for {}", path.string(), bytes_text(most), what);
}

// What a shell hands on: the pipe has, or had, somebody who writes to it.
bool is_handed_on(const fs::path& path) {
  const std::string text = path.lexically_normal().string();
  return text == "/dev/stdin" || text.starts_with("/dev/fd/") ||
         (text.starts_with("/proc/") && text.find("/fd/") != std::string::npos);
}

std::string read_to_end(int descriptor, const fs::path& path, uint64_t expected, uint64_t most, const char* what) {
  std::string text;
  text.reserve(size_t(expected + kLeast));
  while (true) {
    const size_t before = text.size();
    // Not much more than there should be, for room is filled with zeros before it is read into.
    const uint64_t left = expected - std::min<uint64_t>(expected, before) + 1;
    const uint64_t block = std::clamp<uint64_t>(std::max<uint64_t>(left, before), kLeast, kBlock);
    text.resize(before + size_t(std::min<uint64_t>(block, most + 1 - before)));
    const ssize_t got = ::read(descriptor, text.data() + before, text.size() - before);
    if (got < 0 && errno != EINTR) throw_file_error("read", path, errno);
    text.resize(before + size_t(std::max<ssize_t>(0, got)));
    if (text.size() > most) too_large(path, most, what);
    if (got == 0) return text;
  }
}

// Until there is something to read, or a writer has come and gone.
bool wait_for_writer(const File& pipe, double seconds) {
  pollfd waiting{pipe.descriptor(), POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&waiting, 1, int(seconds * 1000));
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace

std::string special_kind(const fs::path& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? kind_of(status.st_mode) : "";
}

// Looked at before and after: to open a device may already do something.
File open_regular(const fs::path& path) {
  if (const std::string kind = special_kind(path); !kind.empty()) refuse(path, kind);
  File file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat status {};
  if (fstat(file.descriptor(), &status) != 0) throw_file_error("read", path, errno);
  if (!S_ISREG(status.st_mode)) refuse(path, kind_of(status.st_mode));
  return file;
}

std::string read_regular_file(const fs::path& path, uint64_t most, const char* what) {
  const File file = open_regular(path);
  const uint64_t size = file.size();  // 0 for files of /proc
  if (size > most) too_large(path, most, what);
  return read_to_end(file.descriptor(), path, size, most, what);
}

std::string read_file_or_pipe(const fs::path& path, uint64_t most, const char* what) {
  const std::string kind = special_kind(path);
  if (kind != "a named pipe" || !is_handed_on(path)) return read_regular_file(path, most, what);
  const File pipe(path, O_RDONLY);
  return read_to_end(pipe.descriptor(), path, 0, most, what);
}

File open_stream(const fs::path& path, double patience_seconds) {
  const std::string kind = special_kind(path);
  if (kind == "a folder" || kind == "a socket") refuse(path, kind);
  if (kind != "a named pipe" || is_handed_on(path)) return File(path, O_RDONLY);
  File pipe(path, O_RDONLY | O_NONBLOCK);
  if (!wait_for_writer(pipe, patience_seconds))
    throw UserError("cannot read {}: it is a named pipe, and nobody wrote to it for {} seconds", path.string(),
                    patience_seconds);
  if (fcntl(pipe.descriptor(), F_SETFL, 0) != 0) throw_file_error("read", path, errno);
  return pipe;
}

}  // namespace sluice
