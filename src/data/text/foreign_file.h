// Files that are no UTF-8 text, known by how they begin.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

inline constexpr size_t kForeignOpening = 512;  // bytes of a file that are enough to know it

struct FileOrigin {
  std::string name;         // for messages
  std::string path;         // empty: the standard input
  std::string unpacked_by;  // "gzip -dc" where the opening was packed in the file, else empty
};

// The command line that reads the text by way of `reader`, a command that takes a file's name or its standard input:
// this process's own line with - in the file's place, behind a pipe.
std::string piped(const FileOrigin& origin, const std::string& reader);

// A sentence that says what the file is and how its text can be read, or "" for what may be text.
std::string foreign_file(std::string_view opening, const FileOrigin& origin);

}  // namespace sluice
