// Files that are either whole or not there.
//
// Every write is checked, and what a writer leaves unfinished is removed again. A file counts as stored when its bytes
// and the folder that names it have been synced (fsync), in this order: write aside, sync, rename, sync the folder.
// Checksums are XXH3-64. Where the place or the permissions are at fault a UserError is thrown, where the disk is
// (full, limit, input/output) a RunError; both name the path and the system's reason.
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

#include "base/error.h"

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
  void write(const void* data, size_t bytes);                          // all of it, or an exception
  void write_at(uint64_t offset, const void* data, size_t bytes);      // likewise; the place of write() stays
  size_t read_at(uint64_t offset, void* data, size_t bytes) const;     // fewer bytes than asked: the file ends there
  void truncate(uint64_t bytes);
  void sync();
  void close();                                                        // reports what ~File must swallow

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

// Of a regular file of up to 512 MiB; see base/files/input_file.h for other limits.
std::string read_file(const std::filesystem::path& path);

// Puts `bytes` at `path`, durably; a reader sees the old file or the new one, never a part, and so does a failure. It
// is written under a name of its own first (base/files/aside.h). A link at `path` is replaced, not followed.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

// The same for a file that the user has named: a link is followed, and a pipe or a device is written to.
void write_named_file(const std::filesystem::path& path, std::string_view bytes);

// Renames, and syncs the folder (or both folders) so that the new name survives a power cut. Where nothing had the name
// `to`, a sync that fails takes the new name back.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// For what is tidied up, or undone because of another failure: false where it cannot be done. Nothing is replaced.
bool move_quietly(const std::filesystem::path& from, const std::filesystem::path& to);
bool remove_quietly(const std::filesystem::path& path);

// What replace_durably adds to the name of what it replaces, where two names cannot be swapped.
inline constexpr const char* kFormer = ".former";

// Gives the name `to`, which may be taken, to `from`, and removes what had it; where the file system can swap names (on
// Linux all common ones) there is never nothing of that name, and elsewhere a kill may leave what had it as TO.former (or
// TO.former2, ...). What fails is undone. For folders, which rename() does not replace.
void replace_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// Renames, unless something has the name `to`: false then.
bool rename_to_free(const std::filesystem::path& from, const std::filesystem::path& to);

// A folder that is either whole or not there: its files go to path(), beside the target (base/files/aside.h), until finish()
// gives it its name. Without finish() all is removed again.
class FolderWriter {
 public:
  // UserError where the target is there already, unless it is an empty folder and neither the current one nor a mounted one.
  // What a killed writer has left is removed.
  explicit FolderWriter(std::filesystem::path target);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  const std::filesystem::path& path() const { return aside_; }
  void finish();
  // Calls fill(path()), then finish(). In what it throws the target's name stands for that of path(), which nobody has given.
  template <class Fill>
  void finish_with(const Fill& fill) {
    try {
      fill(std::as_const(aside_));
      finish();
    } catch (const UserError& error) {
      throw UserError("{}", with_target(error.what()));
    } catch (const RunError& error) {
      throw RunError("{}", with_target(error.what()));
    } catch (const std::filesystem::filesystem_error& error) {
      throw_file_error("use", with_target(error.path1().string()), error.code().value());
    }
  }

 private:
  std::string with_target(std::string text) const;

  std::filesystem::path target_, aside_;
  bool finished_ = false;
};

void create_folders(const std::filesystem::path& path);  // with parents; no error if it is there
void sync_folder(const std::filesystem::path& path);
uint64_t free_bytes(const std::filesystem::path& path);  // that this user may still write there; 0 if unknown

std::string bytes_text(uint64_t bytes);                  // "512 B", "1.5 GB" (powers of ten)

}  // namespace sluice
