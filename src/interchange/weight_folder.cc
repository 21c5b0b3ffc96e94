// model.safetensors or the files of an index, opened and searched by name (weight_folder.h).
#include "interchange/weight_folder.h"

#include <set>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/limits.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// A name in an index must not lead out of the folder.
bool is_plain_name(const std::string& name) {
  return !name.empty() && fs::path(name).filename() == name && name != "." && name != "..";
}

}  // namespace

WeightFolder::WeightFolder(const fs::path& folder) {
  if (fs::exists(folder / kSingle)) {
    open(folder / kSingle);
  } else if (fs::exists(folder / kIndex)) {
    open_indexed(folder);
  } else {
    const bool pickled =
        fs::exists(folder / "pytorch_model.bin") || fs::exists(folder / "pytorch_model.bin.index.json");
    throw UserError("{} has neither {} nor {}{}", folder.string(), kSingle, kIndex,
                    pickled ? "; its pytorch_model.bin could run code when read: save it as safetensors first" : "");
  }
}

void WeightFolder::open_indexed(const fs::path& folder) {
  const fs::path path = folder / kIndex;
  const Json index = read_json_file(path.string());
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw UserError("{} has no weight_map", path.string());
  std::set<std::string> names;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()))
      throw UserError("{}: weight_map says that {} is in {}, which is no file's name", path.string(),
                      excerpt(tensor, kMostQuoted), shown(file));
    names.insert(file.get<std::string>());
  }
  for (const std::string& name : names) open(folder / name);
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const Found* found = find(tensor);
    if (found == nullptr || found->file->path().filename() != file.get<std::string>())
      throw UserError("{}: weight_map says that {} is in {}, but it is not", path.string(),
                      excerpt(tensor, kMostQuoted), shown(file));
  }
}

void WeightFolder::open(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  const SafetensorsFile& file = *files_.back();
  for (const StoredTensor& tensor : file.tensors()) {
    const auto [at, is_new] = tensors_.insert({tensor.name, {&file, &tensor}});
    if (!is_new)
      throw UserError("tensor {} is in {} and in {}", tensor.name, at->second.file->path().string(), path.string());
  }
}

const WeightFolder::Found* WeightFolder::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace sluice
