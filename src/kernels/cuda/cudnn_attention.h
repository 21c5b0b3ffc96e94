// Plain softmax attention through cuDNN (its graph API, by NVIDIA's cudnn-frontend): forward, and a deterministic
// backward, in bf16. What it leaves are the statistics that our own kernels leave, with the log-sum-exp of a row as its
// reference and 1 as the inverse of the normaliser, so that probes read them.
//
// libcudnn is looked for when the program runs. A build without the headers (SLUICE_WITH_CUDNN 0) has these functions
// too: they say so.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/runtime/runtime.h"
#include "kernels/ops.h"

namespace sluice::cuda {

// Why it cannot be had, as a sentence without a full stop; empty if it can.
std::string cudnn_unavailable_reason();
std::string cudnn_version();  // "9.19.0"; only where it can be had

class CudnnAttention {
 public:
  virtual ~CudnnAttention() = default;

  // Bytes of the backward pass's workspace, which being deterministic may take 2 B H T^2 (cuDNN before 9.25 on Hopper).
  // Prepares both passes for queries, keys and values that lie side by side; UserError where cuDNN has no kernel for
  // these sizes on this GPU.
  virtual size_t workspace_bytes(const AttentionShape& shape) = 0;

  // The ops have been checked. Work is put on the stream; the first call for a shape also prepares it.
  virtual void forward(const AttentionForward& args) = 0;
  virtual void backward(const AttentionBackward& args) = 0;
};

// RunError where it cannot be had.
std::unique_ptr<CudnnAttention> make_cudnn_attention(const Stream& stream);

// Whether cuDNN does this attention, both its passes, or none. A sequence of one position is refused by its backward
// pass.
inline bool cudnn_takes(const AttentionForward& args) {
  return args.spec.score == ScoreKind::kSoftmax && args.q.dtype == DType::kBF16 && !args.key_bias && !args.first_key &&
         !args.last_key && !args.order && !args.dropout && args.spec.window == 0 && args.spec.shape.T > 1;
}

}  // namespace sluice::cuda
