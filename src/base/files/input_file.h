// Files that are read: what they must be, and how large they may be.
//
// A path that the user gives may name anything: a pipe that nobody writes to, a device without end, a folder. Whoever
// reads a file through these functions neither waits for ever nor takes more memory than the stated limit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/files/files.h"

namespace sluice {

// "a named pipe", "a folder", "a device" ...: what is at the path; empty for a regular file or where nothing is.
std::string special_kind(const std::filesystem::path& path);

// Opens a regular file for reading. UserError where it is anything else; never waits.
File open_regular(const std::filesystem::path& path);

// The whole of a regular file. UserError where it has more than `most` bytes; `what` names the limit's kind: "a
// config".
std::string read_regular_file(const std::filesystem::path& path, uint64_t most, const char* what);

// The same, but a pipe that this process was given ("/dev/stdin", or "/dev/fd/63", which a shell makes of <(command))
// is read to its end.
std::string read_file_or_pipe(const std::filesystem::path& path, uint64_t most, const char* what);

// Opens what is read from front to back, once: a file, a pipe, a device. A named pipe that gives nothing for so long is
// a UserError: nobody writes to it.
File open_stream(const std::filesystem::path& path, double patience_seconds = 20);

}  // namespace sluice
