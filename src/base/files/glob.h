// Globs: names with *, ? and [...] in them.
#pragma once

#include <string>
#include <vector>

namespace sluice {

// Whether it has a character that a glob gives a meaning.
bool looks_like_glob(const std::string& path);

// What `pattern` names, files and folders, in alphabetical order; empty where it names nothing. Folders on the way that
// are there under exactly this name are taken as they are, so that "data [v1]/*.txt" needs no escapes. UserError,
// opened by `where` (may be empty), for a folder on the way that cannot be read.
std::vector<std::string> expand_glob(const std::string& pattern, const std::string& where);

}  // namespace sluice
