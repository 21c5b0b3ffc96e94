// Which files an input names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

inline constexpr const char* kStandardInput = "-";

// The files that `inputs` name: files, "-", globs, and folders with all that is in them (but hidden files), each in
// alphabetical order. Symbolic links are followed, to files and to folders; of a folder that is reached on several
// ways, or lies above itself, the files are taken once. UserError, which names the place, for what is not there, a link
// that leads nowhere, what may not be read, and what is neither file nor folder inside a folder.
std::vector<std::string> find_text_files(const std::vector<std::string>& inputs);

// Their sizes together; 0 if one is no regular file, so that the total is not known.
uint64_t total_size(const std::vector<std::string>& paths);

}  // namespace sluice
