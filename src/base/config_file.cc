// Config files: the chain of "base" files.
#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/config.h"
#include "base/error.h"
#include "base/json_text.h"

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
    throw UserError("{}: base must be the path of a config file, got {}", path, json["base"].dump());
  }
  const fs::path base = json["base"].get<std::string>();
  return (base.is_absolute() ? base : fs::path(path).parent_path() / base).lexically_normal().string();
}

// `chain` holds the files from the outermost to the one that names `path`.
std::vector<ConfigFile> read_with_bases(const std::string& path, std::vector<std::string> chain) {
  const auto same_file = [&](const std::string& other) {
    return fs::weakly_canonical(other) == fs::weakly_canonical(path);
  };
  const bool loop = std::any_of(chain.begin(), chain.end(), same_file);
  if (!chain.empty() && !loop && !fs::exists(path)) {
    throw UserError("{}: base names \"{}\", which does not exist (config chain: {})", chain.back(), path,
                    chain_text(chain));
  }
  chain.push_back(path);
  if (loop) throw UserError("the base of a config leads back to itself: {}", chain_text(chain));

  Json json = read_json_file(path);
  if (!json.is_object()) throw UserError("{}: a config must be a JSON object, {{...}}", path);
  const std::string base = base_path(json, path);
  json.erase("base");
  json.erase("$schema");  // for editors
  std::vector<ConfigFile> files;
  if (!base.empty()) files = read_with_bases(base, std::move(chain));
  files.push_back({path, std::move(json)});
  return files;
}

}  // namespace

std::vector<ConfigFile> read_config_files(const std::string& path) { return read_with_bases(path, {}); }

}  // namespace sluice
