// Files that are either whole or not there.
//
// Every write is checked, and what a writer leaves unfinished is removed again. A file counts as stored when its bytes
// and the folder that names it have been synced (fsync), in this order: write aside, sync, rename, sync the folder.
// What is thrown is that of open_file.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/files/open_file.h"

namespace sluice {

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
// Linux all common ones) there is never nothing of that name, and elsewhere a kill may leave what had it as TO.former
// (or TO.former2, ...). What fails is undone. For folders, which rename() does not replace.
void replace_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// Renames, unless something has the name `to`: false then.
bool rename_to_free(const std::filesystem::path& from, const std::filesystem::path& to);

// A folder that is either whole or not there: its files go to path(), beside the target (base/files/aside.h), until
// finish() gives it its name. Without finish() all is removed again.
class FolderWriter {
 public:
  // UserError where the target is there already, unless it is an empty folder and neither the current one nor a mounted
  // one. What a killed writer has left is removed.
  explicit FolderWriter(std::filesystem::path target);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  const std::filesystem::path& path() const { return aside_; }
  void finish();
  // Calls fill(path()), then finish(). In what it throws the target's name stands for that of path(), which nobody has
  // given.
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

std::string bytes_text(uint64_t bytes);  // "512 B", "1.5 GB" (powers of ten)

}  // namespace sluice
