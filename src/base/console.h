// The person's side of the standard streams: messages, live lines, and text from outside on its way to a terminal.
//
// What is written here is for a reader who may go away at any time (`| head`, a closed terminal, a full disk): it never
// throws and changes no exit code. What a command is asked for, and fails without, goes through cli/output.h.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

// To be called before anything is opened: puts /dev/null where descriptor 0, 1 or 2 is closed, so that no file gets its
// number and then what is meant for a person. As on the closed one, reading 0 and writing 1 and 2 fails.
void open_closed_streams();

// One line that does nothing to a terminal: control characters (a newline too), the ones that reverse the direction of
// writing, and bytes that are no UTF-8 are spelled out: \n, \x1b, \u202e. Everything else stays.
std::string harmless(std::string_view text);
std::string harmless_lines(std::string_view text);  // line by line: newlines stay

// Columns that a harmless text takes, roughly: East Asian characters and pictographs two, accents that combine none.
size_t display_width(std::string_view text);
// The longest beginning that takes at most `columns`; an ellipsis stands for what was cut.
std::string fitted(std::string_view text, size_t columns);

// Columns of the terminal at this descriptor now: the window's, and no more than COLUMNS says; 80 where neither is
// known. 0 (no limit) where it is no terminal.
size_t terminal_width(int descriptor);

// Writes as much as can be written, behind what stdio holds for standard output.
void put_on_console(int descriptor, std::string_view text) noexcept;

// A line for a person on standard error, made harmless.
void tell_line(const std::string& line) noexcept;
template <class... Args>
void tell(fmt::format_string<Args...> text, Args&&... args) {
  tell_line(fmt::format(text, std::forward<Args>(args)...));
}

// The words that this process was started with, for messages that say how to start it otherwise; main() sets them.
std::vector<std::string>& command_words();
// A word as a shell takes it, in quotes where it needs them.
std::string shell_word(const std::string& word);

// A line that is rewritten in place, cut to the terminal's width; nothing where the descriptor is no terminal.
void show_live_line(int descriptor, std::string_view line) noexcept;
void clear_live_line(int descriptor) noexcept;

}  // namespace sluice
