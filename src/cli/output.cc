// See output.h.
#include "cli/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/input_file.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

void check_entry(const std::string& option, const fs::path& path, const fs::path& folder) {
  if (access(folder.c_str(), W_OK | X_OK) == 0) return;
  throw UserError("{} {}: cannot write in the folder {}: {}", option, path.string(), folder.string(), std::strerror(errno));
}

bool is_stream(const fs::path& path) {
  const std::string kind = special_kind(path);
  return kind == "a device" || kind == "a named pipe";
}

}  // namespace

void check_output_file(const std::string& option, const fs::path& path) {
  if (path.empty() || path == "-" || is_stream(path)) return;
  std::error_code error;
  if (!path.has_filename() || fs::is_directory(path, error))
    throw UserError("{} {}: this is a folder; name a file", option, path.string());
  check_entry(option, path, path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void check_output_folder(const std::string& option, const fs::path& path) {
  std::error_code error;
  fs::path nearest = path.has_filename() ? path : path.parent_path();
  while (!nearest.empty() && !fs::exists(nearest, error) && !error) nearest = nearest.parent_path();
  if (nearest.empty()) nearest = ".";
  if (!error && !fs::is_directory(nearest, error))
    throw UserError("{} {}: cannot write there: {} is no folder", option, path.string(), nearest.string());
  // A folder that is there may be replaced, which its parent must allow; the writer tells.
  check_entry(option, path, nearest);
}

size_t terminal_width() {
  winsize size{};
  if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& text : notes) fmt::print(stderr, "note: {}\n", text);
}

void print_saved(const std::filesystem::path& path) { fmt::print(stderr, "saved: {}\n", path.string()); }

void write_json(const Json& json, const std::filesystem::path& path) {
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";  // names may be no UTF-8
  if (path == "-") fmt::print("{}", text);
  else if (is_stream(path)) File(path, O_WRONLY).write(text.data(), text.size());
  else write_file_atomic(path, text);
}

}  // namespace sluice
