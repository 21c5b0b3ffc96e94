// What tests of `sluice import` and `sluice export` share: the golden folders of tests/golden/transformers, copies of
// them to be changed, and what imported models compute.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/config/json_text.h"
#include "base/error_text.h"
#include "base/source_folder.h"
#include "data/temp_folder.h"
#include "interchange/export.h"
#include "interchange/import.h"
#include "kernels/backend.h"
#include "model/parity.h"
#include "runs/load_model.h"

namespace sluice {

namespace fs = std::filesystem;
using parity::Values;

// Relative to the norm of the logits, and above what fp32 rounding of two layers gives in another order of summation
// (about 1e-6); the golden values of tests/golden have the same bound.
inline constexpr double kLogitBound = 1e-5;

inline fs::path golden(const std::string& name) { return source_folder() / "tests/golden/transformers" / name; }

struct Imported {
  ForeignModel foreign;
  ImportResult result;
};

inline Imported import_to(const fs::path& folder, const fs::path& out, int64_t context = 0) {
  Imported imported{read_foreign_model(folder, context), {}};
  Json config = {{"data", "random"}};
  config["model"] = model_group(imported.foreign.model);
  imported.result = import_folder(folder, imported.foreign, parse_experiment(config), out);
  return imported;
}

inline ExportResult export_to(const fs::path& run, const fs::path& out, const ExportOptions& options = {}) {
  std::vector<std::string> damaged;
  const Checkpoint checkpoint = open_checkpoint(run, damaged);
  return export_checkpoint(checkpoint, stored_experiment(checkpoint).model, out, options);
}

using Weights = std::map<std::string, std::vector<float>>;

inline Weights weights_of(const fs::path& file) {
  const SafetensorsFile stored(file);
  Weights out;
  for (const StoredTensor& tensor : stored.tensors()) {
    if (tensor.type == "U8" || tensor.type == "I32") continue;  // a mask, tokens
    std::vector<float>& values = out[tensor.name];
    values.resize(size_t(tensor.shape.elements()));
    const int64_t rows = tensor.shape.rank() > 1 ? tensor.shape.rows() : tensor.shape.elements();
    stored.read_floats(tensor, 0, rows, values.data());
  }
  return out;
}

inline fs::path newest_weights(const fs::path& run) {
  std::vector<std::string> damaged;
  return open_checkpoint(run, damaged).path / "model.safetensors";
}

inline Values logits_of(const fs::path& run, const std::vector<int32_t>& tokens) {
  const auto backend = make_cpu_backend();
  const LoadedModel loaded = load_model(run, *backend, {.max_batch = 1, .act = DType::kF32});
  Values logits;
  const Pass pass = loaded.model->forward({tokens.data(), nullptr, 1, int64_t(tokens.size())});
  loaded.model->for_logits(pass, [&](int64_t, const Tensor& rows) {
    const Values part = parity::values_of(rows);
    logits.insert(logits.end(), part.begin(), part.end());
  });
  return logits;
}

struct Expected {
  std::vector<int32_t> tokens;
  Values logits;
};

inline Expected expected_logits(const fs::path& folder) {
  const SafetensorsFile file(folder / "logits.safetensors");
  Expected out;
  out.tokens.resize(size_t(file.find("tokens")->shape.elements()));
  file.read(*file.find("tokens"), out.tokens.data());
  const std::vector<float> logits = weights_of(file.path()).at("logits");
  out.logits.assign(logits.begin(), logits.end());
  return out;
}

// A copy of a golden folder, to be changed.
class ChangedFolder {
 public:
  explicit ChangedFolder(const std::string& name) { fs::copy(golden(name), path()); }

  fs::path path() const { return fs::path(folder_.file("folder")); }

  void config(const Json& changes) const {
    const std::string file = (path() / "config.json").string();
    Json config = read_json_file(file);
    config.update(changes);
    for (const auto& [key, value] : changes.items())
      if (value == "(removed)") config.erase(key);
    write_file_atomic(file, config.dump());
  }
  // The weights again, as the change leaves them: name -> tensor.
  void weights(const std::function<void(std::vector<NamedTensor>&)>& change) const {
    std::vector<NamedTensor> tensors;
    Weights values = weights_of(path() / "model.safetensors");
    {
      const SafetensorsFile file(path() / "model.safetensors");
      for (const StoredTensor& stored : file.tensors())
        tensors.push_back({stored.name, Tensor(values.at(stored.name).data(), DType::kF32, stored.shape)});
    }
    change(tensors);
    std::filesystem::remove(path() / "model.safetensors");
    write_safetensors(path() / "model.safetensors", tensors);
  }

  std::string problem(int64_t context = 0) const {
    const std::string out = folder_.file("out");
    const std::string text = message_of<UserError>([&] { import_to(path(), out, context); });
    EXPECT_FALSE(fs::exists(out)) << text;
    for (const auto& entry : fs::directory_iterator(fs::path(out).parent_path()))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << text << ": " << entry.path();
    return text;
  }

 private:
  TempFolder folder_;
};

inline void rename_tensors(const ChangedFolder& folder, const std::function<std::string(const std::string&)>& name) {
  folder.weights([&](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& named : tensors) named.name = name(named.name);
  });
}

}  // namespace sluice
