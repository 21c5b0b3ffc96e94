// An open file, each call on it checked; a writer of a new one; checksums (XXH3-64).
//
// Where the place or the permissions are at fault a UserError is thrown, where the disk is (full, limit, input/output)
// a RunError; both name the path and the system's reason.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct XXH3_state_s;

namespace sluice {

// Throws for the errno value `error`: "cannot write runs/a/config.json: No space left on device".
[[noreturn]] void throw_file_error(const char* action, const std::filesystem::path& path, int error);
// Whether the user mends that errno value by naming another place or changing permissions.
bool is_about_the_place(int error);

// A call that a signal has interrupted has done nothing, and is made again.
template <class Call>
int uninterrupted(const Call& call) {
  int result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class Checksum {
 public:
  Checksum();
  void update(const void* data, size_t bytes);
  uint64_t value() const;  // of everything so far

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

std::string checksum_text(uint64_t checksum);  // 16 hexadecimal digits
uint64_t checksum_of(std::string_view bytes);
uint64_t checksum_of_file(const std::filesystem::path& path);

// An open file that closes itself. Its name serves for messages.
class File {
 public:
  // `flags` as for open(2), O_CLOEXEC is added; a file that is created gets mode 0666 less the umask.
  File(std::filesystem::path path, int flags);
  struct Opened {
    int descriptor;
  };
  File(std::filesystem::path path, Opened opened) : path_(std::move(path)), descriptor_(opened.descriptor) {}
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int descriptor() const { return descriptor_; }
  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const;
  void write(const void* data, size_t bytes);                       // all of it, or an exception
  void write_at(uint64_t offset, const void* data, size_t bytes);   // likewise; the place of write() stays
  size_t read_at(uint64_t offset, void* data, size_t bytes) const;  // fewer bytes than asked: the file ends there
  void truncate(uint64_t bytes);
  void sync();
  void close();  // reports what ~File must swallow

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Writes a new file through a buffer, and sums what it writes. Without finish() the file is removed again.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);  // UserError where something has that name already
  FileWriter(File file, std::filesystem::path place);      // one that was made for this, and where it lies
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Puts other bytes where some have been written, for a header that is known last. checksum() stays that of the first.
  void overwrite(uint64_t offset, const void* data, size_t bytes);
  void finish();                                           // flush, sync, close
  uint64_t bytes() const { return bytes_; }                // written so far
  uint64_t checksum() const { return checksum_.value(); }  // of these

 private:
  void flush();

  File file_;
  std::filesystem::path place_;
  Checksum checksum_;
  std::vector<char> buffer_;
  uint64_t bytes_ = 0;
  bool finished_ = false;
};

}  // namespace sluice
