// Config files: the chain of "base" files.
#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "base/config/config.h"
#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/limits.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::string chain_text(const std::vector<std::string>& chain) {
  std::string text;
  for (const std::string& path : chain) text += (text.empty() ? "" : " -> ") + path;
  return text;
}

// The path of the file's "base" as it is to be opened; empty if it has none.
std::string base_path(const Json& json, const std::string& path) {
  if (!json.contains("base")) return "";
  if (!json["base"].is_string() || json["base"].get<std::string>().empty()) {
    throw UserError("{}: base must be the path of a config file, got {}", path,
                    excerpt(json["base"].dump(), kMostQuoted));
  }
  const fs::path base = json["base"].get<std::string>();
  return (base.is_absolute() ? base : fs::path(path).parent_path() / base).lexically_normal().string();
}

// Its place in the file system, however it is written; as it stands where that cannot be told.
fs::path identity_of(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  return error ? fs::path(path) : canonical;
}

// A config as it stands in its file; "base", the path of the one below, is returned.
std::string read_one(const std::string& path, Json& json) {
  json = read_json_file(path);
  if (!json.is_object()) throw UserError("{}: a config must be a JSON object, {{...}}", path);
  check_key_count(json, path);
  const std::string base = base_path(json, path);
  json.erase("base");
  json.erase("$schema");  // for editors
  return base;
}

}  // namespace

std::vector<ConfigFile> read_config_files(const std::string& path) {
  std::vector<ConfigFile> files;  // the outermost first
  std::vector<std::string> chain;
  std::set<fs::path> seen;
  for (std::string next = path; !next.empty();) {
    const bool loop = !seen.insert(identity_of(next)).second;
    std::error_code error;
    if (!chain.empty() && !loop && !fs::exists(next, error)) {
      throw UserError("{}: base names \"{}\", which does not exist (config chain: {})", chain.back(), next,
                      chain_text(chain));
    }
    chain.push_back(next);
    if (loop) throw UserError("the base of a config leads back to itself: {}", chain_text(chain));
    if (chain.size() > kMostBases) throw UserError("{}: its chain of bases has more than {} files", path, kMostBases);
    files.emplace_back();
    files.back().path = next;
    next = read_one(files.back().path, files.back().json);
  }
  std::reverse(files.begin(), files.end());
  return files;
}

}  // namespace sluice
