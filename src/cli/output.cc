// See output.h.
#include "cli/output.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/files.h"

namespace sluice {

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
  else write_named_file(path, text);
}

}  // namespace sluice
