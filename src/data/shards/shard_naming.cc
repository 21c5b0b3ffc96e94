// Renames all or none: a note of what is to be named, and what is left of an earlier command (shard_naming.h).
#include "data/shards/shard_naming.h"

#include <system_error>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/files.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr const char* kNote = "corpus.json";
constexpr const char* kUnnamed = ".unfinished";
constexpr const char* kShard = ".bin";
constexpr size_t kMostName = 180;  // bytes of a stem, so that the folder's name stays below what file systems take

fs::path whole_folder(const std::string& stem) {
  const fs::path path = stem;
  return path.parent_path() / fmt::format(".{}.sluice-whole", path.filename().string().substr(0, kMostName));
}

// "STEM" of STEM_00012.bin; empty for a file that is called otherwise.
std::string stem_of(const fs::path& shard) {
  std::string text = shard.string();
  if (!text.ends_with(kShard)) return "";
  text.resize(text.size() - std::string(kShard).size());
  const size_t last = text.find_last_not_of("0123456789");
  if (last == text.npos || last + 1 == text.size() || text[last] != '_') return "";
  return text.substr(0, last);
}

void give_name(const fs::path& folder, const std::string& stem, size_t index) {
  const std::string name = shard_name(stem, index);
  if (rename_to_free(unnamed_shard(folder, index), name)) return;
  throw RunError(
      "{} is there meanwhile, so the shards of {} cannot have their names; move it away, and the same command "
      "names them",
      name, folder.string());
}

// From the last to the first, so that what is named is never the beginning of a corpus.
void give_names(const fs::path& folder, const std::string& stem, size_t count) {
  for (size_t i = count; i-- > 0;) {
    if (fs::exists(unnamed_shard(folder, i))) give_name(folder, stem, i);
  }
  const fs::path parent = folder.parent_path();
  sync_folder(parent.empty() ? fs::path(".") : parent);
  const fs::path done = name_aside(stem);
  rename_durably(folder, done);
  remove_quietly(done);
}

}  // namespace

std::string shard_name(const std::string& stem, size_t index) { return fmt::format("{}_{:05}{}", stem, index, kShard); }

fs::path unnamed_shard(const fs::path& folder, size_t index) {
  return folder / fmt::format("{:05}{}", index, kUnnamed);
}

std::vector<std::string> name_shards(const fs::path& folder, const std::string& stem, size_t count, const Json& note) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(shard_name(stem, i));
  std::error_code unknown;
  for (const std::string& name : names) {  // before the corpus exists: another command may have made this one meanwhile
    if (!fs::exists(fs::symlink_status(name, unknown))) continue;
    throw RunError(
        "{} is there meanwhile, so the shards cannot have their names, and nothing is kept of them; choose another "
        "name",
        name);
  }
  Json all = note;
  all["shards"] = count;
  write_file_atomic(folder / kNote, all.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  const fs::path whole = whole_folder(stem);
  rename_durably(folder, whole);
  give_names(whole, stem, count);
  return names;
}

Json finish_naming(const std::string& stem) {
  const fs::path whole = whole_folder(stem);
  std::error_code unknown;
  if (!fs::is_directory(fs::symlink_status(whole, unknown)) || !fs::exists(whole / kNote)) return Json();
  Json note = read_json_file((whole / kNote).string());
  if (!note.is_object() || !note.contains("shards") || !note["shards"].is_number_unsigned())
    throw UserError("{} does not say how many shards {} has; move that folder away", (whole / kNote).string(),
                    whole.string());
  give_names(whole, stem, note["shards"].get<size_t>());
  return note;
}

void check_is_named(const std::string& key, const fs::path& shard) {
  const std::string stem = stem_of(shard);
  std::error_code unknown;
  if (stem.empty() || !fs::exists(whole_folder(stem) / kNote, unknown)) return;
  throw UserError(
      "{}: {} is of a corpus of which some shards have no names yet, because the command that encoded it was "
      "killed; the same command gives them their names",
      key, shard.string());
}

}  // namespace sluice
