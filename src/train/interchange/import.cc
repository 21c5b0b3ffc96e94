// See import.h.
#include "train/interchange/import.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/json_text.h"
#include "train/checkpoint.h"
#include "train/guard.h"
#include "train/interchange/tensor_parts.h"
#include "train/interchange/tokenizer_files.h"
#include "train/interchange/weight_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPositionTable = "embedding.position.weight";

// A tensor of the folder and the rows of a parameter that it fills.
struct Source {
  TensorPart part;
  WeightFolder::Found found;
};

// The parts as the folder names and shapes them: models saved without their head lack the prefix, and a position table
// may be longer than what is taken of it.
struct StoredNames {
  StoredNames(const WeightFolder& weights, Architecture architecture) : prefix(name_prefix(architecture)) {
    headless = std::none_of(weights.tensors().begin(), weights.tensors().end(),
                            [&](const auto& entry) { return entry.first.starts_with(prefix); });
  }
  std::string of(const std::string& name) const {
    return headless && name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  }
  std::string prefix;
  bool headless;
};

Shape stored_shape(const TensorPart& part, int64_t positions) {
  return part.ours == kPositionTable ? Shape{positions, part.columns} : part.shape();
}

std::vector<Source> find_sources(const fs::path& folder, const WeightFolder& weights, const ForeignModel& foreign,
                                 const std::vector<TensorPart>& parts) {
  const StoredNames names(weights, foreign.architecture);
  std::vector<Source> sources;
  for (const TensorPart& part : parts) {
    const std::string name = names.of(part.theirs);
    const WeightFolder::Found* found = weights.find(name);
    const Shape expected = stored_shape(part, foreign.positions);
    if (found == nullptr) {
      throw UserError("{} has no tensor {} {}, which the model of its config.json needs", folder.string(), name,
                      expected);
    }
    if (found->tensor->shape != expected) {
      throw UserError("{}: tensor {} is {}, but {} by config.json", found->file->path().string(), name,
                      found->tensor->shape, expected);
    }
    sources.push_back({part, *found});
  }
  return sources;
}

std::vector<std::string> check_others(const WeightFolder& weights, const ForeignModel& foreign,
                                      const std::vector<Source>& sources) {
  std::set<std::string> used;
  for (const Source& source : sources) used.insert(source.found.tensor->name);
  std::vector<std::string> ignored;
  for (const auto& [name, found] : weights.tensors()) {
    if (used.contains(name)) continue;
    if (!is_ignored(foreign.architecture, foreign.model, name)) {
      throw UserError("{}: tensor {} {} is not part of the model that config.json describes ({})",
                      found.file->path().string(), name, found.tensor->shape, name_of(foreign.architecture));
    }
    ignored.push_back(name);
  }
  return ignored;
}

// All parameters in memory, filled from the folder.
class HostParameters {
 public:
  explicit HostParameters(const std::vector<ParamSpec>& parameters) {
    for (const ParamSpec& spec : parameters) {
      memory_.emplace_back(size_t(spec.shape.elements()));
      tensors_.push_back({spec.name, Tensor(memory_.back().data(), DType::kF32, spec.shape)});
    }
  }

  const std::vector<NamedTensor>& tensors() const { return tensors_; }

  void fill(const Source& source) {
    const TensorPart& part = source.part;
    const int64_t columns = std::max<int64_t>(part.columns, 1);
    float* to = find(part.ours).as<float>() + part.first_row * columns;
    if (!part.transposed) return source.found.file->read_floats(*source.found.tensor, 0, part.rows, to);
    std::vector<float> stored(size_t(part.rows * columns));  // [columns, rows]
    source.found.file->read_floats(*source.found.tensor, 0, columns, stored.data());
    transpose(stored.data(), columns, part.rows, to);
  }

 private:
  const Tensor& find(const std::string& name) const {
    const auto found =
        std::find_if(tensors_.begin(), tensors_.end(), [&](const NamedTensor& named) { return named.name == name; });
    check(found != tensors_.end(), "a parameter that is not the model's");
    return found->tensor;
  }

  std::vector<std::vector<float>> memory_;
  std::vector<NamedTensor> tensors_;
};

CheckpointState first_state(Experiment& experiment) {
  CheckpointState state;
  state.config = experiment.dump();
  state.trainer = {
      {"updates", 0}, {"next_sequence", 0}, {"seconds", 0.0}, {"guard", Guard(experiment.train.guard).state()}};
  return state;
}

}  // namespace

ForeignModel read_foreign_model(const fs::path& folder, int64_t context) {
  if (!fs::is_directory(folder)) throw UserError("{}: no such folder", folder.string());
  const std::string file = (folder / "config.json").string();
  return read_foreign_config(read_json_file(file), file, context);
}

ImportResult import_folder(const fs::path& folder, const ForeignModel& foreign, Experiment experiment,
                           const fs::path& out) {
  const WeightFolder weights(folder);
  const std::vector<ParamSpec> parameters = parameters_of(foreign.model);
  const std::vector<Source> sources =
      find_sources(folder, weights, foreign, tensor_parts(foreign.architecture, foreign.model, parameters));
  ImportResult result;
  result.architecture = foreign.architecture;
  result.ignored = check_others(weights, foreign, sources);
  FolderWriter writer(out);
  HostParameters values(parameters);
  for (const Source& source : sources) values.fill(source);
  for (const NamedTensor& named : values.tensors()) result.parameters += named.tensor.elements();

  CheckpointState state = first_state(experiment);
  write_file_atomic(writer.path() / "config.json", state.config.dump(2) + "\n");
  result.has_tokenizer = copy_tokenizer_files(folder, writer.path() / "tokenizer");
  CheckpointStore(writer.path() / "checkpoints", 0).save(std::move(state), values.tensors(), {});
  writer.finish();
  return result;
}

}  // namespace sluice
