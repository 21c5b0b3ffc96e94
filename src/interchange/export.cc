// The folder is written aside, file by file, and renamed (export.h).
#include "interchange/export.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/files/files.h"
#include "data/sources/random_tokens.h"
#include "interchange/model_card.h"
#include "interchange/tensor_parts.h"
#include "interchange/tokenizers/tokenizer_files.h"
#include "kernels/backend.h"
#include "kernels/types/bf16.h"
#include "model/config/qk_source.h"
#include "model/config/residual_parts.h"
#include "runs/load_model.h"
#include "runs/tensors/finite_weights.h"

namespace sluice {

namespace assets {
extern const std::string_view modeling_sluice_py;  // beside this file; cmake/embed.cmake
}

namespace {

namespace fs = std::filesystem;

const char* format_name(const std::string& type) {
  return type == "float32" ? "F32" : type == "bfloat16" ? "BF16" : "F16";
}

uint16_t to_half(float value) {
  const _Float16 half = _Float16(value);
  uint16_t bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

class WeightsWriter {
 public:
  WeightsWriter(const fs::path& path, const std::vector<TensorPart>& parts, const std::string& type)
      : type_(type), writer_(path, headers(parts, type), {{"format", "pt"}}) {}

  // The next tensor, whose elements are `values`.
  void write(const std::string& name, const std::vector<float>& values) {
    if (type_ == "float32") return writer_.write(values.data(), values.size() * sizeof(float));
    const bool half = type_ == "float16";
    std::vector<uint16_t> narrow(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      narrow[i] = half ? to_half(values[i]) : to_bf16(values[i]).bits;
      if (half && std::isfinite(values[i]) && std::abs(values[i]) >= kHalfLimit) {
        throw UserError("{} has the value {}, but float16 ends at 65504; export it with --dtype bfloat16 or float32",
                        name, values[i]);
      }
    }
    writer_.write(narrow.data(), narrow.size() * sizeof(uint16_t));
  }
  uint64_t finish() { return writer_.finish().bytes; }

 private:
  static constexpr float kHalfLimit = 65520;  // and beyond: rounded to infinity

  static std::vector<TensorHeader> headers(const std::vector<TensorPart>& parts, const std::string& type) {
    std::vector<TensorHeader> out;
    for (const TensorPart& part : parts) out.push_back({part.theirs, format_name(type), part.shape()});
    return out;
  }

  std::string type_;
  SafetensorsWriter writer_;
};

// UserError where the checkpoint's tensors are not the config's.
void check_weights(const SafetensorsFile& file, const std::vector<ParamSpec>& tensors) {
  std::vector<NamedTensor> targets;
  for (const ParamSpec& spec : tensors) targets.push_back({spec.name, Tensor(nullptr, DType::kF32, spec.shape)});
  file.check_targets(targets);
}

uint64_t write_weights(const fs::path& path, const SafetensorsFile& file, const std::vector<TensorPart>& parts,
                       const std::string& type) {
  WeightsWriter writer(path, parts, type);
  FiniteWeights finite;
  for (const TensorPart& part : parts) {
    std::vector<float> rows(size_t(part.shape().elements()));
    file.read_floats(*file.find(part.ours), part.first_row, part.rows, rows.data());
    finite.add(part.ours, rows);
    if (!part.transposed) {
      writer.write(part.theirs, rows);
      continue;
    }
    std::vector<float> columns(rows.size());
    transpose(rows.data(), part.rows, part.columns, columns.data());
    writer.write(part.theirs, columns);
  }
  if (!finite.all()) throw RunError("{}: {}: such a model is not exported", file.path().string(), finite.sentence());
  return writer.finish();
}

// Tokens [T] and the logits [T, V] that the CPU computes for them in fp32.
void write_logits(const fs::path& path, const Checkpoint& checkpoint, int64_t T) {
  const auto backend = make_cpu_backend();
  const LoadedModel loaded = load_model(checkpoint.path, *backend, {.max_batch = 1, .act = DType::kF32});
  const int64_t V = loaded.model->config().vocab_size;
  std::vector<int32_t> tokens(static_cast<size_t>(T)), next(static_cast<size_t>(T));
  RandomTokens(Split::kHeldOut, T, V, 0).fill(0, 1, tokens.data(), next.data());
  std::vector<float> logits(size_t(T * V));
  const Pass pass = loaded.model->forward({tokens.data(), nullptr, 1, T});
  loaded.model->for_logits(
      pass, [&](int64_t first, const Tensor& rows) { backend->download(logits.data() + first * V, rows); });
  write_safetensors(path, std::vector<NamedTensor>{{"tokens", Tensor(tokens.data(), DType::kI32, {T})},
                                                   {"logits", Tensor(logits.data(), DType::kF32, {T, V})}});
}

// What generate() takes when it is not told otherwise.
Json generation_config(const Tokenizer* tokenizer) {
  Json config = {{"do_sample", false}, {"use_cache", true}};
  if (tokenizer == nullptr) return config;
  if (const int32_t start = tokenizer->end_of_text(); start >= 0) config["bos_token_id"] = start;
  if (const int32_t end = tokenizer->ends_text(); end >= 0) config["eos_token_id"] = config["pad_token_id"] = end;
  return config;
}

void write_json(const fs::path& path, const Json& json) { write_file_atomic(path, json.dump(2) + "\n"); }

// Whether a stage asks for heads beside the model's.
bool has_noise_heads(const AttentionConfig& attention, const ModelConfig& model) {
  HeadSizes sizes = model.head_sizes();
  for (const StageOptions* stage : attention.stages()) sizes = stage->asks(sizes);
  return sizes.H_q + sizes.H_q2 > model.heads;
}

// What the Python beside the weights does not compute must not be written as if it did.
void check_exportable(const ModelConfig& model) {
  for (const AttentionConfig* attention : model.attention.kinds())
    if (const std::string part = attention->part_without_python(); !part.empty())
      throw UserError(
          "model.attention has the part {}, which the exported Python does not compute: such a model cannot be "
          "exported",
          part);
  for (const AttentionConfig* attention : model.attention.kinds())
    if (attention->core != "tiles" && has_noise_heads(*attention, model))
      throw UserError(
          "model.attention.core = {} with a difference is nothing that the exported Python computes: such a model "
          "cannot "
          "be exported",
          attention->core);
  if (!model.causal && model.registers > 0 && fixed_stream_of(model))
    throw UserError(
        "model.registers = {} see both sides, as model.causal = false has it, and the exported Python has none in the "
        "stream of model.attention.qk_source: such a model cannot be exported",
        model.registers);
  if (!model.residual.part().in_python)
    throw UserError("model.residual is {}, which the exported Python does not compute: such a model cannot be exported",
                    model.residual.type);
}

}  // namespace

ExportResult export_checkpoint(const Checkpoint& checkpoint, const ModelConfig& model, const fs::path& folder,
                               const ExportOptions& options) {
  if (options.logits > model.context)
    throw UserError("--logits {}: the model's context is {} tokens", options.logits, model.context);
  check_exportable(model);
  const SafetensorsFile file = model_file(checkpoint);
  const StoredModel stored = stored_model(model);
  check_weights(file, stored.tensors);
  const Architecture architecture = native_architecture(model);

  FolderWriter writer(folder);
  ExportResult result;
  result.architecture = architecture;
  result.parameters = stored.parameters;
  writer.finish_with([&](const fs::path& made) {
    result.bytes = write_weights(made / "model.safetensors", file, tensor_parts(architecture, model, stored.tensors),
                                 options.type);
    const Tokenizer* tokenizer = options.tokenizer;
    if (tokenizer) {
      const TokenizerFileOptions files = {
          .context = model.context, .first_token = options.trained.first, .mask_token = options.trained.mask};
      if (std::string note = write_tokenizer_files(options.tokenizer_path, *tokenizer, files, made); !note.empty())
        result.notes.push_back(std::move(note));
      result.has_tokenizer = fs::exists(made / "tokenizer.json");
    }
    const Json config = exported_config(architecture, model, options.type, tokenizer, options.trained);
    write_json(made / "config.json", config);
    if (std::string note = dropout_left_out(architecture, model, config); !note.empty())
      result.notes.push_back(std::move(note));
    if (model.causal) write_json(made / "generation_config.json", generation_config(tokenizer));
    write_file_atomic(made / "README.md", model_card(checkpoint, model, result, options));
    if (architecture == Architecture::kSluice)
      write_file_atomic(made / "modeling_sluice.py", assets::modeling_sluice_py);
    if (options.logits > 0) write_logits(made / "logits.safetensors", checkpoint, options.logits);
  });
  return result;
}

}  // namespace sluice
