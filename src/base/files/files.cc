// Files and folders written aside, named when they are whole, replaced and undone.
#include "base/files/files.h"

#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

}  // namespace

std::string read_file(const fs::path& path) {
  return read_regular_file(path, kMostTokenizerBytes, "a file read whole");
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  remove_leftovers(folder_of(path), path.filename().string());
  FileAside made = create_file_aside(path);
  const fs::path aside = made.place;
  FileWriter writer(std::move(made.file), aside);
  writer.write(bytes);
  writer.finish();
  try {
    rename_durably(aside, path);
  } catch (...) {
    remove_quietly(aside);
    throw;
  }
}

void write_named_file(const fs::path& path, std::string_view bytes) {
  struct stat status {};
  const bool there = stat(path.c_str(), &status) == 0;
  if (there && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
    File file(path, O_WRONLY);
    file.write(bytes.data(), bytes.size());
    return file.close();
  }
  std::error_code error;
  const fs::path followed = fs::is_symlink(path, error) ? fs::weakly_canonical(path, error) : path;
  write_file_atomic(error ? path : followed, bytes);
}

void rename_durably(const fs::path& from, const fs::path& to) {
  std::error_code unknown;
  const bool was_free = !fs::exists(fs::symlink_status(to, unknown));
  if (uninterrupted([&] { return rename(from.c_str(), to.c_str()); }) != 0) {
    throw_file_error("rename", fmt::format("{} to {}", from.string(), to.string()), errno);
  }
  try {
    sync_folder(folder_of(to));
    if (folder_of(from) != folder_of(to)) sync_folder(folder_of(from));
  } catch (...) {
    if (was_free) move_quietly(to, from);
    throw;
  }
}

bool move_quietly(const fs::path& from, const fs::path& to) {
  const auto move = [&] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE); };
  if (uninterrupted(move) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  std::error_code unknown;  // a file system that cannot do both at once
  return !fs::exists(fs::symlink_status(to, unknown)) &&
         uninterrupted([&] { return rename(from.c_str(), to.c_str()); }) == 0;
}

bool remove_quietly(const fs::path& path) {
  std::error_code error;
  do fs::remove_all(path, error);
  while (error == std::errc::interrupted);
  return !error;
}

namespace {

// A free name for what has the name `to`. It is no leftover's name: until `to` is there again it may be all there is.
fs::path name_of_former(const fs::path& to) {
  const std::string name = to.string() + kFormer;
  fs::path former = name;
  std::error_code ignored;
  for (int number = 2; fs::exists(fs::symlink_status(former, ignored)); ++number)
    former = name + std::to_string(number);
  return former;
}

// False where the file system cannot do that. If only the sync fails they are swapped back.
bool swap_durably(const fs::path& from, const fs::path& to) {
  const auto swap = [&] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE); };
  if (uninterrupted(swap) != 0) return false;
  try {
    sync_folder(folder_of(to));
  } catch (...) {
    // If not even that can be done, the former one must not stay under the name that whoever failed removes.
    if (uninterrupted(swap) != 0) move_quietly(from, name_of_former(to));
    throw;
  }
  return true;
}

// In two steps, which are undone as far as they went if one fails. Returns where the former one lies.
fs::path replace_in_two_steps(const fs::path& from, const fs::path& to) {
  const fs::path former = name_of_former(to);
  rename_durably(to, former);  // undoes itself
  try {
    rename_durably(from, to);
  } catch (const std::exception& error) {
    if (move_quietly(former, to)) throw;
    throw RunError("{}; what had that name is {} now", error.what(), former.string());
  }
  const fs::path aside = name_aside(to);  // so that a kill while it is removed leaves a leftover
  return move_quietly(former, aside) ? aside : former;
}

}  // namespace

void replace_durably(const fs::path& from, const fs::path& to) {
  if (!fs::exists(to)) return rename_durably(from, to);
  remove_quietly(swap_durably(from, to) ? from : replace_in_two_steps(from, to));
}

bool rename_to_free(const fs::path& from, const fs::path& to) {
  if (uninterrupted([&] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE); }) == 0)
    return true;
  std::error_code ignored;
  if (errno == EEXIST || fs::exists(fs::symlink_status(to, ignored))) return false;
  rename_durably(from, to);  // a file system that cannot do both at once
  return true;
}

namespace {

// "a/b" for "a/b/" and "a/b/.", so that there is a name to give; what is a link is resolved.
fs::path named_path(fs::path path) {
  while ((!path.has_filename() || path.filename() == ".") && path.has_parent_path() && path.parent_path() != path)
    path = path.parent_path();
  std::error_code error;
  return fs::is_symlink(path, error) || path.filename() == ".." ? fs::weakly_canonical(path) : path;
}

// A folder that another cannot take the name of, although it may be empty.
void refuse_unreplaceable(const fs::path& target) {
  struct stat own {
  }, current{}, parent{};
  if (stat(target.c_str(), &own) != 0) return;
  if (stat(".", &current) == 0 && own.st_dev == current.st_dev && own.st_ino == current.st_ino) {
    throw UserError(
        "{} is the current folder, which another cannot take the place of; name a folder in it, or one elsewhere",
        target.string());
  }
  if (stat((target / "..").c_str(), &parent) == 0 && (own.st_dev != parent.st_dev || own.st_ino == parent.st_ino)) {
    throw UserError(
        "{} is the top of a file system, which another folder cannot take the place of; name a folder in it",
        target.string());
  }
}

}  // namespace

FolderWriter::FolderWriter(fs::path target) : target_(named_path(std::move(target))) {
  std::error_code error;
  if (fs::is_directory(target_, error)) refuse_unreplaceable(target_);
  if (fs::exists(target_) && !(fs::is_directory(target_) && fs::is_empty(target_, error))) {
    throw UserError("{} is there already and is not an empty folder; name another, or remove it", target_.string());
  }
  create_folders(folder_of(target_));
  remove_leftovers(folder_of(target_), target_.filename().string());
  aside_ = create_folder_aside(target_);
}

FolderWriter::~FolderWriter() {
  if (!finished_) remove_quietly(aside_);
}

std::string FolderWriter::with_target(std::string text) const {
  return named_as_target(std::move(text), aside_, target_);
}

void FolderWriter::finish() {
  sync_folder(aside_);
  std::error_code none;
  const bool was_empty = fs::is_directory(target_, none);
  try {
    rename_durably(aside_, target_);
  } catch (...) {
    if (was_empty && !fs::exists(aside_, none) && move_quietly(target_, aside_)) fs::create_directory(target_, none);
    throw;
  }
  finished_ = true;
}

void create_folders(const fs::path& path) {
  std::error_code error;
  do fs::create_directories(path, error);
  while (error == std::errc::interrupted);
  if (!error && !fs::is_directory(path, error) && !error) error = std::make_error_code(std::errc::not_a_directory);
  if (error) throw_file_error("create the folder", path, error.value());
}

void sync_folder(const fs::path& path) { File(path, O_RDONLY | O_DIRECTORY).sync(); }

uint64_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  return statvfs(path.c_str(), &status) == 0 ? uint64_t(status.f_bavail) * status.f_frsize : 0;
}

std::string bytes_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double amount = double(bytes);
  size_t unit = 0;
  while (amount >= 999.95 && unit + 1 < std::size(kUnits)) amount /= 1000, ++unit;
  return fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

}  // namespace sluice
