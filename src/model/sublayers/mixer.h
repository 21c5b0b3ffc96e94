// The first of a block's two sublayers: attention, or what stands in its place.
#pragma once

#include "model/module/module.h"

namespace sluice {

class AttentionLayer;

// What it reads; in the backward pass, the gradients there.
struct MixerInput {
  Tensor x;              // [N, C]: what its norm makes of the stream
  Tensor embedded = {};  // [N, C]: what its norm makes of the embedding; absent where nothing reads that
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  virtual void forward(const Pass& pass, const MixerInput& in, const Tensor& out) const = 0;  // out [N, C]
  // `in` as it was; d_in is overwritten.
  virtual void backward(const Pass& pass, const MixerInput& d_in, const Tensor& d_out, const MixerInput& in,
                        const Tensor& workspace) const = 0;
  // Columns of the widest rows whose biases' gradients it sums in the workspace.
  virtual int64_t widest() const = 0;
  // For instruments; null where there are no heads.
  virtual const AttentionLayer* attention() const { return nullptr; }
};

}  // namespace sluice
