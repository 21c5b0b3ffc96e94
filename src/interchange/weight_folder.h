// The weights of a transformers folder: model.safetensors, or the files that model.safetensors.index.json names.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runs/tensors/safetensors.h"

namespace sluice {

class WeightFolder {
 public:
  // Opens all files and checks their headers. UserError: there are none; the index is damaged, or does not fit the
  // files.
  explicit WeightFolder(const std::filesystem::path& folder);

  struct Found {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };
  const std::map<std::string, Found>& tensors() const { return tensors_; }
  const Found* find(const std::string& name) const;

 private:
  void open_indexed(const std::filesystem::path& folder);
  void open(const std::filesystem::path& path);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Found> tensors_;
};

}  // namespace sluice
