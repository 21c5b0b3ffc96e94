// Runs, their locks and what a kill leaves, told by names and texts (run_entries.h).
#include "runs/run_entries.h"

#include <algorithm>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code unknown;
  return fs::exists(fs::symlink_status(path, unknown));
}

fs::path free_old_folder(const fs::path& run) {
  int number = 1;
  const auto name = [&] { return run / fmt::format("old{}", number); };
  while (is_there(name()) || is_there(name().string() + std::string(kMoving))) ++number;
  return name();
}

bool is_old_folder(std::string name) {
  if (!name.starts_with("old")) return false;
  if (name.ends_with(kMoving)) name.resize(name.size() - kMoving.size());
  return name.size() > 3 && name.find_first_not_of("0123456789", 3) == name.npos;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  if (error) throw_file_error("read the folder", folder, error.value());
  return entries;
}

bool is_being_moved(const fs::path& run) {
  for (const fs::path& entry : entries_of(run)) {
    const std::string name = entry.filename().string();
    if (is_old_folder(name) && name.ends_with(kMoving)) return true;
  }
  return false;
}

std::optional<Json> json_in(const fs::path& file) {
  std::error_code unknown;
  if (!fs::is_regular_file(file, unknown)) return std::nullopt;
  const std::string text = read_regular_file(file, kMostConfigBytes, "a file of a run");
  try {
    return parse_json(text, file.string());
  } catch (const UserError&) {
    return std::nullopt;
  }
}

bool is_own_info(const fs::path& file) {
  const auto info = json_in(file);
  return info && info->is_object() && info->contains("steps_done") && info->contains("status");
}

bool is_own_lock(const fs::path& file) {
  constexpr uintmax_t kMostDigits = 20;
  std::error_code unknown;
  if (!fs::is_regular_file(fs::symlink_status(file, unknown))) return false;
  const uintmax_t size = fs::file_size(file, unknown);
  return !unknown && size <= kMostDigits && read_file(file).find_first_not_of("0123456789") == std::string::npos;
}

bool is_beginning(const fs::path& entry) {
  const std::string name = entry.filename().string();
  std::error_code unknown;
  const bool is_folder = fs::is_directory(fs::symlink_status(entry, unknown));
  if (name == "lock") return is_own_lock(entry);
  if (name == "origin.json") return true;
  const bool is_ours = std::find(kRunEntries.begin(), kRunEntries.end(), name) != kRunEntries.end();
  // Where the shell has sent our own output into the folder.
  if (!is_ours && fs::is_regular_file(fs::symlink_status(entry, unknown)) && fs::file_size(entry, unknown) == 0)
    return true;
  return (is_folder && is_old_folder(name)) || is_name_aside(name);
}

}  // namespace sluice
