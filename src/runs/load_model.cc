#include "runs/load_model.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "runs/tensors/finite_weights.h"

namespace sluice {
namespace {

// Sequences that make about 8,192 tokens: enough to keep the matrix products busy.
int64_t default_batch(int64_t context) { return std::max<int64_t>(1, 8192 / context); }

// A flat tensor of a device as the host writes it: itself where its memory is the host's, else a copy that is uploaded.
class HostSide {
 public:
  HostSide(Backend& backend, const Tensor& flat)
      : backend_(backend), flat_(flat), copy_(backend.traits().host_memory || !flat ? 0 : flat.bytes()) {}

  NamedTensor part(const std::string& name, int64_t offset, const Shape& shape) {
    const Tensor host(copy_.empty() ? flat_.data : copy_.data(), flat_.dtype, flat_.shape);
    return {name, slice(host, offset, shape.elements()).reshaped(shape)};
  }
  void upload() const {
    if (!copy_.empty()) backend_.upload(flat_, copy_.data());
  }

 private:
  Backend& backend_;
  const Tensor flat_;
  std::vector<std::byte> copy_;
};

void read_weights(const Checkpoint& checkpoint, Transformer& model) {
  HostSide values(model.backend(), model.params().all_values());
  HostSide averages(model.backend(), model.averages().all_values());
  std::vector<NamedTensor> targets;
  for (const ParamSpec& spec : model.params().specs())
    targets.push_back(values.part(spec.name, spec.offset, spec.shape));
  for (const MovingAverages::Average& average : model.averages().list())
    targets.push_back(averages.part(average.name, average.offset, average.shape));
  load_model(checkpoint, targets);
  FiniteWeights finite;
  for (const NamedTensor& named : targets)
    finite.add(named.name, {named.tensor.as<float>(), size_t(named.tensor.elements())});
  if (!finite.all())
    throw RunError("{}: {}: no figure or text of such a model means anything", checkpoint.path.string(),
                   finite.sentence());
  values.upload();
  averages.upload();
  model.params().refresh_compute_copy(model.backend());
}

}  // namespace

Experiment stored_experiment(const Checkpoint& checkpoint) {
  try {
    return parse_experiment(checkpoint.state.config);
  } catch (const UserError& error) {
    throw UserError("{}: its stored config cannot be used: {}", checkpoint.path.string(), error.what());
  }
}

std::filesystem::path run_of(const std::filesystem::path& checkpoint) {
  const std::filesystem::path folder = std::filesystem::absolute(checkpoint).lexically_normal().parent_path();
  const std::filesystem::path run = folder.parent_path();
  if (folder.filename() == "checkpoints" && std::filesystem::exists(run / "config.json")) return run;
  throw UserError("{} lies in no run's folder, where --save could put its figures; use --json FILE",
                  checkpoint.string());
}

LoadedModel load_model(const std::filesystem::path& path, Backend& backend, const LoadModelOptions& options) {
  LoadedModel out;
  const Checkpoint checkpoint = open_checkpoint(path, out.damaged);
  out.checkpoint = checkpoint.path;
  out.step = checkpoint.state.step;
  out.experiment = stored_experiment(checkpoint);
  TransformerOptions transformer;
  transformer.act = options.act.value_or(out.experiment.act());
  transformer.max_batch = options.max_batch > 0 ? options.max_batch : default_batch(out.experiment.model.context);
  transformer.training = options.training;
  if (options.max_batch > 0) transformer.batch_key = options.batch_key;
  out.model = std::make_unique<Transformer>(backend, out.experiment.model, transformer);
  read_weights(checkpoint, *out.model);
  return out;
}

void require_causal(const LoadedModel& loaded, const char* command) {
  if (!loaded.experiment.model.causal)
    throw UserError(
        "{} predicts the next token, and {} is a masked language model (model.causal = false); its loss on other text "
        "is "
        "what sluice analyze --data gives",
        command, loaded.checkpoint.string());
}

}  // namespace sluice
