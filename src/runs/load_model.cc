#include "runs/load_model.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "runs/tensors/finite_weights.h"

namespace sluice {
namespace {

// Sequences that make about 8,192 tokens: enough to keep the matrix products busy.
int64_t default_batch(int64_t context) { return std::max<int64_t>(1, 8192 / context); }

// Into the parameters' own memory where that is the host's, else by way of a copy.
void read_weights(const Checkpoint& checkpoint, Transformer& model) {
  Backend& backend = model.backend();
  const Tensor values = model.params().all_values();
  const bool on_host = backend.traits().host_memory;
  std::vector<std::byte> copy(on_host ? 0 : values.bytes());
  const Tensor host(on_host ? values.data : copy.data(), values.dtype, values.shape);
  std::vector<NamedTensor> targets;
  for (const ParamSpec& spec : model.params().specs())
    targets.push_back({spec.name, slice(host, spec.offset, spec.shape.elements()).reshaped(spec.shape)});
  load_model(checkpoint, targets);
  FiniteWeights finite;
  for (const NamedTensor& named : targets)
    finite.add(named.name, {named.tensor.as<float>(), size_t(named.tensor.elements())});
  if (!finite.all())
    throw RunError("{}: {}: no figure or text of such a model means anything", checkpoint.path.string(),
                   finite.sentence());
  if (!on_host) backend.upload(values, copy.data());
  model.params().refresh_compute_copy(backend);
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

}  // namespace sluice
