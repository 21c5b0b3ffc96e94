// The keys and values of a decoder's tokens so far, of every layer: what attention reads of them later. All sequences are
// equally long.
#pragma once

#include "kernels/arena.h"
#include "kernels/backend.h"
#include "model/config.h"

namespace sluice {

class KeyValueCache {
 public:
  // Room for `sequences` of the model's context. Allocates layers * sequences * context * 2 KV D elements of `act`.
  KeyValueCache(Backend& backend, const ModelConfig& config, DType act, int64_t sequences);

  int64_t sequences() const { return shape_.B; }
  int64_t capacity() const { return shape_.T; }   // tokens a sequence can have
  int64_t length() const { return length_; }      // tokens it has
  void clear() { length_ = 0; }
  void extend(int64_t tokens) { length_ += tokens; }
  size_t bytes() const { return arena_.bytes(); }

  Tensor keys(int layer) const { return rows(layer).columns(0, shape_.KV * shape_.D); }             // [B*capacity, KV*D]
  Tensor values(int layer) const { return rows(layer).columns(shape_.KV * shape_.D, shape_.KV * shape_.D); }
  Tensor workspace() const;  // of attention_decode
  // Copies k and v, [B*T, KV*D] each, behind the tokens that every sequence has; `extend` counts them later.
  void store(int layer, const Tensor& k, const Tensor& v) const;

 private:
  Tensor rows(int layer) const;  // [B*capacity, 2 KV D]

  Backend& backend_;
  AttentionShape shape_;  // T is the capacity
  DType act_;
  size_t layer_bytes_;
  int64_t workspace_elements_;
  Arena arena_;           // [layers], then the workspace
  int64_t length_ = 0;
};

}  // namespace sluice
