// What the commands print and write alike.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config/config.h"
#include "base/console.h"

namespace sluice {

// Columns of standard output; 0 (no limit) where it is no terminal.
inline size_t terminal_width() { return terminal_width(1); }

// What a command is asked for, on standard output. RunError where it cannot be written.
void print_text(std::string_view text);
template <class... Args>
void print_out(fmt::format_string<Args...> text, Args&&... args) {
  print_text(fmt::format(text, std::forward<Args>(args)...));
}
// A line for a person, made harmless.
template <class... Args>
void print_line(fmt::format_string<Args...> text, Args&&... args) {
  print_text(harmless(fmt::format(text, std::forward<Args>(args)...)) + "\n");
}
// Hands on what is still held back. RunError where it cannot be written.
void finish_output();

// A line "note: ..." on standard error for each.
void print_notes(const std::vector<std::string>& notes);

// A line "saved: PATH" on standard error, for a file that the user did not name.
void print_saved(const std::filesystem::path& path);

// UserError where `path` cannot become a file: to be called before hours of work whose result goes there. An empty path
// and "-" are fine; so is a device or a pipe, which is written to as it is. `option` begins the sentence: "--json". Nor
// may it be one of `inputs`, which are files, folders or globs that the command reads.
void check_output_file(const std::string& option, const std::filesystem::path& path,
                       const std::vector<std::string>& inputs = {});
// The same for a folder that will be made, with those above it.
void check_output_folder(const std::string& option, const std::filesystem::path& path);

// To the file, or to standard output where the path is "-". RunError where it cannot be written.
void write_text(std::string_view text, const std::filesystem::path& path);
void write_json(const Json& json, const std::filesystem::path& path);

}  // namespace sluice
