#include "model/key_value_cache.h"

namespace sluice {
namespace {

size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

KeyValueCache::KeyValueCache(Backend& backend, const ModelConfig& config, DType act, int64_t sequences)
    : backend_(backend),
      shape_{sequences, config.context, config.heads, config.kv_heads, config.head_size()},
      act_(act),
      layer_bytes_(
          whole_lines(size_t(sequences * config.context * 2 * config.kv_heads * config.head_size()) * size_of(act))),
      workspace_elements_(backend.workspace<AttentionDecode>({shape_, act})),
      arena_(backend, size_t(config.layers) * layer_bytes_ + size_t(workspace_elements_) * sizeof(float)) {}

Tensor KeyValueCache::rows(int layer) const {
  return arena_.at(size_t(layer) * layer_bytes_, act_, {shape_.B * shape_.T, 2 * shape_.KV * shape_.D});
}

Tensor KeyValueCache::workspace() const {
  const size_t bytes = size_t(workspace_elements_) * sizeof(float);
  return arena_.at(arena_.bytes() - bytes, DType::kF32, {workspace_elements_});
}

void KeyValueCache::store(int layer, const Tensor& k, const Tensor& v) const {
  const int64_t T = k.rows() / shape_.B;
  const auto copy = [&](const Tensor& cached, const Tensor& x) {
    if (T == 1) {  // all sequences at once: their rows lie `capacity` apart
      Tensor out = cached.row_range(length_, 1);
      out.shape = x.shape;
      out.stride *= shape_.T;
      return backend_.run(Copy{out, x});
    }
    for (int64_t b = 0; b < shape_.B; ++b)
      backend_.run(Copy{cached.row_range(b * shape_.T + length_, T), x.row_range(b * T, T)});
  };
  copy(keys(layer), k);
  copy(values(layer), v);
}

}  // namespace sluice
