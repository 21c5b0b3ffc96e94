// Config, weights and tokenizer of a folder checked against each other, and written as a run (import.h).
#include "interchange/import.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "interchange/stored_tensors.h"
#include "interchange/tensor_parts.h"
#include "interchange/tokenizers/tokenizer_files.h"
#include "interchange/weight_folder.h"
#include "runs/checkpoint.h"
#include "runs/trainer_state.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPositionTable = "embedding.position.weight";

// A tensor of the folder and the rows of a parameter that it fills.
struct Source {
  TensorPart part;
  WeightFolder::Found found;
};

// Positions may be more than what is taken of them.
Shape stored_shape(const TensorPart& part, int64_t positions) {
  return part.ours == kPositionTable ? Shape{part.stored_first + positions, part.columns} : part.shape();
}

// The tensor of a part. A tied weight may be stored under the head's name alone: safetensors keeps one name of a
// memory.
const StoredTensors::Found& find_source(const fs::path& folder, const StoredTensors& stored,
                                        const ForeignModel& foreign, const TensorPart& part) {
  const StoredTensors::Found* found = stored.find(part.theirs);
  if (found == nullptr && foreign.model.tied_head && part.ours == kEmbedding)
    found = stored.find(head_name(foreign.architecture));
  const Shape expected = stored_shape(part, foreign.positions);
  if (found == nullptr) {
    const bool head = part.ours == "head.weight" && foreign.architecture != Architecture::kSluice;
    throw UserError("{} has no tensor {} {}, which the model of its config.json needs{}; it has {}", folder.string(),
                    stored.stored_name(part.theirs), expected.str(),
                    head ? ", whose tie_word_embeddings is false, or missing and so false" : "", stored.some_names());
  }
  if (found->tensor->shape != expected) {
    throw UserError("{}: tensor {} is {}, but {} by config.json", found->file->path().string(), found->tensor->name,
                    found->tensor->shape.str(), expected.str());
  }
  return *found;
}

std::vector<Source> find_sources(const fs::path& folder, const StoredTensors& stored, const ForeignModel& foreign,
                                 const std::vector<TensorPart>& parts) {
  std::vector<Source> sources;
  for (const TensorPart& part : parts) sources.push_back({part, find_source(folder, stored, foreign, part)});
  return sources;
}

bool equal(const StoredTensors::Found& a, const StoredTensors::Found& b) {
  if (a.tensor->shape != b.tensor->shape) return false;
  const int64_t rows = a.tensor->shape.rows(), columns = a.tensor->shape.cols();
  const int64_t block = std::max<int64_t>(1, (int64_t{1} << 20) / columns);
  std::vector<float> left(size_t(block * columns)), right(left.size());
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = std::min(block, rows - first);
    a.file->read_floats(*a.tensor, first, count, left.data());
    b.file->read_floats(*b.tensor, first, count, right.data());
    if (std::memcmp(left.data(), right.data(), size_t(count * columns) * sizeof(float)) != 0) return false;
  }
  return true;
}

// A head beside the embedding that it is said to be. Version 5 of the library uses the stored one, version 4 does not.
void check_tied_head(const ForeignModel& foreign, const StoredTensors& stored, const StoredTensors::Found& head,
                     const std::vector<TensorPart>& parts) {
  const auto part =
      std::find_if(parts.begin(), parts.end(), [](const TensorPart& one) { return one.ours == kEmbedding; });
  const StoredTensors::Found* embedding = stored.find(part->theirs);
  if (embedding == nullptr || equal(*embedding, head)) return;
  const bool own = foreign.architecture == Architecture::kSluice;
  throw UserError(
      "{}: tensor {} is not equal to {}, though {} says that one weight is both: write false there to use the "
      "stored head, or use the embedding with --ignore {}",
      head.file->path().string(), head.tensor->name, embedding->tensor->name,
      own ? "sluice_model.tied_head of config.json"
          : "tie_word_embeddings of config.json (true, or missing and so true)",
      head.tensor->name);
}

// What of the folder holds no weights, or is to be ignored. Whatever else the model does not take is an error.
std::vector<std::string> check_others(const fs::path& folder, const StoredTensors& stored, const ForeignModel& foreign,
                                      const std::vector<Source>& sources, const std::vector<TensorPart>& parts) {
  std::set<std::string> used, to_ignore(foreign.ignored_tensors.begin(), foreign.ignored_tensors.end());
  for (const Source& source : sources) used.insert(source.found.tensor->name);
  std::vector<std::string> ignored;
  for (const auto& [name, found] : stored.tensors()) {
    const std::string& written = found.tensor->name;
    if (used.contains(written)) continue;
    ignored.push_back(written);
    if (to_ignore.erase(written) + to_ignore.erase(name) > 0) continue;
    if (foreign.model.tied_head && name == head_name(foreign.architecture)) {
      check_tied_head(foreign, stored, found, parts);
    } else if (!is_ignored(foreign.architecture, name)) {
      throw UserError(
          "{}: tensor {} {} is not part of the model that config.json describes ({}); --ignore {} leaves it out",
          found.file->path().string(), written, found.tensor->shape.str(), name_of(foreign.architecture), written);
    }
  }
  to_ignore.erase("adapter_config.json");  // no tensor: see read_foreign_model
  for (const std::string& name : to_ignore) {
    const bool needed = used.contains(name) || used.contains(stored.stored_name(name));
    throw UserError("--ignore {}: {}", name,
                    needed ? "the model needs this tensor"
                           : fmt::format("{} has no such field in config.json, and no such tensor", folder.string()));
  }
  return ignored;
}

// All tensors of the model in memory, filled from the folder.
class HostTensors {
 public:
  explicit HostTensors(const std::vector<ParamSpec>& tensors) {
    for (const ParamSpec& spec : tensors) {
      memory_.emplace_back(size_t(spec.shape.elements()));
      tensors_.push_back({spec.name, Tensor(memory_.back().data(), DType::kF32, spec.shape)});
    }
  }

  const std::vector<NamedTensor>& tensors() const { return tensors_; }

  void fill(const Source& source) {
    const TensorPart& part = source.part;
    const int64_t columns = std::max<int64_t>(part.columns, 1);
    float* to = find(part.ours).as<float>() + part.first_row * columns;
    if (part.transposed) {
      std::vector<float> stored(size_t(part.rows * columns));  // [columns, rows]
      source.found.file->read_floats(*source.found.tensor, 0, columns, stored.data());
      transpose(stored.data(), columns, part.rows, to);
    } else {
      source.found.file->read_floats(*source.found.tensor, part.stored_first, part.rows, to);
    }
    finite_.add(source.found.tensor->name, {to, size_t(part.rows * columns)});
  }
  const FiniteWeights& finite() const { return finite_; }

 private:
  const Tensor& find(const std::string& name) const {
    const auto found =
        std::find_if(tensors_.begin(), tensors_.end(), [&](const NamedTensor& named) { return named.name == name; });
    check(found != tensors_.end(), "a tensor that is not the model's");
    return found->tensor;
  }

  std::vector<std::vector<float>> memory_;
  std::vector<NamedTensor> tensors_;
  FiniteWeights finite_;
};

CheckpointState first_state(Experiment& experiment) {
  CheckpointState state;
  state.config = experiment.dump();
  state.trainer = TrainerState().json();
  return state;
}

}  // namespace

ImportResult import_folder(const fs::path& folder, const ForeignModel& foreign, Experiment experiment,
                           const fs::path& out) {
  const WeightFolder weights(folder);
  const StoredModel model = stored_model(foreign.model);
  const std::vector<TensorPart> parts =
      tensor_parts(foreign.architecture, foreign.model, model.tensors, foreign.segments);
  const StoredTensors stored(weights, foreign.architecture, parts);
  const std::vector<Source> sources = find_sources(folder, stored, foreign, parts);
  ImportResult result;
  result.architecture = foreign.architecture;
  result.unwrapped = stored.unwrapped();
  result.ignored = check_others(folder, stored, foreign, sources, parts);
  FolderWriter writer(out);
  HostTensors values(model.tensors);
  for (const Source& source : sources) values.fill(source);
  result.finite = values.finite();
  result.parameters = model.parameters;

  writer.finish_with([&](const fs::path& run) {
    CheckpointState state = first_state(experiment);
    write_file_atomic(run / "config.json", state.config.dump(2) + "\n");
    result.has_tokenizer = copy_tokenizer_files(folder, run / "tokenizer");
    CheckpointStore(run / "checkpoints", 0).save(std::move(state), values.tensors(), {});
  });
  return result;
}

}  // namespace sluice
