// Shards get their names STEM_00000.bin, STEM_00001.bin, ... all or none, whenever the process is killed.
//
// They are written in a folder aside (base/files/aside.h). When all are whole, that folder is renamed to
// .STEM.sluice-whole: from then on the corpus exists, and only names are left to give, which the next command with that
// stem does. As long as the folder is there, a shard of that stem is refused by all readers, because others may be
// missing.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/config/config.h"

namespace sluice {

std::string shard_name(const std::string& stem, size_t index);

// The name in the folder aside.
std::filesystem::path unnamed_shard(const std::filesystem::path& folder, size_t index);

// Names the `count` shards in `folder`, which goes. `note` stays with them until all have their names. RunError where a
// name is taken meanwhile: `folder` is then as it was. Nothing is overwritten.
std::vector<std::string> name_shards(const std::filesystem::path& folder, const std::string& stem, size_t count,
                                     const Json& note);

// Finishes what a killed name_shards has left; its note, or null if there was nothing to finish.
Json finish_naming(const std::string& stem);

// UserError, opened by `key`, for a shard of a corpus that is not wholly named.
void check_is_named(const std::string& key, const std::filesystem::path& shard);

}  // namespace sluice
