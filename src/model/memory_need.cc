// The sizes of a model's plan against the machine's memory, and which keys would make them smaller (memory_need.h).
#include "model/memory_need.h"

#include <fmt/ranges.h>

#include <vector>

#include "base/error.h"

namespace sluice {
namespace {

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// "a, b or c"
std::string alternatives(const std::vector<std::string>& keys) {
  std::string text;
  for (size_t i = 0; i < keys.size(); ++i) text += (i == 0 ? "" : i + 1 == keys.size() ? " or " : ", ") + keys[i];
  return text;
}

// `share`: of all parameters' memory. Where it is small, many layers are what takes the most.
std::string keys_of_parameter(const std::string& name, double share) {
  std::vector<std::string> keys = {"model.width"};
  if (has(name, "position")) keys = {"model.context", "model.width"};
  else if (has(name, "token") || has(name, "head")) keys = {"model.vocab_size", "model.width"};
  else if (has(name, "mlp")) keys = {"model.mlp_width"};
  if (share < 0.5) keys.push_back("model.layers");
  return alternatives(keys);
}

std::string keys_of_buffer(const MemoryPlan::Buffer& buffer, const std::string& batch_key) {
  if (buffer.kind == "logits") return "model.vocab_size";  // a chunk of rows, however many there are
  std::vector<std::string> keys;
  if (!batch_key.empty() && buffer.kind != "constants") keys.push_back(batch_key);
  keys.push_back("model.context");
  if (has(buffer.name, "mlp")) keys.push_back("model.mlp_width");
  else if (buffer.kind != "batch") keys.push_back("model.width");
  return alternatives(keys);
}

// Exact where it fits in 64 bits; the plan counts no more than any machine has (kernels/arena.cc).
double bytes_of(const MemoryPlan::Buffer& buffer) {
  double bytes = double(size_of(buffer.dtype));
  for (int i = 0; i < buffer.shape.rank(); ++i) bytes *= double(buffer.shape[i]);
  return bytes;
}

double gibibytes(double bytes) { return bytes / double(1 << 30); }

}  // namespace

MemoryNeed memory_need(const Params& params, const MemoryPlan& plan, double per_parameter,
                       const std::string& batch_key) {
  MemoryNeed need;
  need.parameters = uint64_t(double(params.padded_count()) * per_parameter);
  need.buffers = plan.total_bytes();
  const ParamSpec* parameter = nullptr;
  for (const ParamSpec& spec : params.specs())
    if (!parameter || spec.shape.elements() > parameter->shape.elements()) parameter = &spec;
  const MemoryPlan::Buffer* buffer = nullptr;
  for (const MemoryPlan::Buffer& one : plan.buffers())
    if (!buffer || bytes_of(one) > bytes_of(*buffer)) buffer = &one;
  if (parameter && (need.parameters > need.buffers || !buffer)) {
    need.largest = fmt::format("parameter {} {}", parameter->name, parameter->shape.str());
    need.largest_bytes = double(parameter->shape.elements()) * per_parameter;
    need.keys = keys_of_parameter(parameter->name, need.largest_bytes / double(need.parameters));
  } else if (buffer) {
    need.largest = fmt::format("buffer {} {}", buffer->name, buffer->shape.str());
    need.largest_bytes = bytes_of(*buffer);
    need.keys = keys_of_buffer(*buffer, batch_key);
  }
  return need;
}

void require_memory(const MemoryNeed& need, uint64_t available, int processes) {
  if (available == 0 || double(need.bytes()) * processes <= double(available)) return;
  const std::string each = processes > 1 ? fmt::format(" for each of {} processes", processes) : "";
  throw UserError(
      "this needs {:.2f} GiB of memory{} ({:.2f} for parameters, {:.2f} for the buffers of a step{}), but {:.2f} GiB "
      "are available: the largest is the {} with {:.2f} GiB; lower {}",
      gibibytes(double(need.bytes())), each, gibibytes(double(need.parameters)), gibibytes(double(need.buffers)),
      need.kernels > 0 ? fmt::format(", {:.2f} for kernels", gibibytes(double(need.kernels))) : "",
      gibibytes(double(available)), need.largest, gibibytes(need.largest_bytes), need.keys);
}

}  // namespace sluice
