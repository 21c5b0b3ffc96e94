// See output.h.
#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/files.h"

namespace sluice {

namespace {

[[noreturn]] void throw_output_error(int error) {
  throw RunError("cannot write to the standard output: {}", std::strerror(error));
}

}  // namespace

void print_text(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_output_error(errno);
}

void finish_output() {
  if (std::fflush(stdout) != 0) throw_output_error(errno);
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& text : notes) tell("note: {}", text);
}

void print_saved(const std::filesystem::path& path) { tell("saved: {}", path.string()); }

void write_json(const Json& json, const std::filesystem::path& path) {
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";  // names may be no UTF-8
  if (path == "-") print_text(text);
  else write_named_file(path, text);
}

}  // namespace sluice
