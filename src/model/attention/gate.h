// The gate of an attention layer: g = sigmoid(input W_g^T (+ b)) and where it acts (see GateConfig).
//
// Grain `head` at site `output` has one gate per query head; at site `source` one per key/value head, because it scales
// values. With input `hidden_head` each head has its own small matrix over its slice of the input.
#pragma once

#include "model/module.h"

namespace sluice {

class Gate {
 public:
  Gate(const Declarations& d, const std::string& name, int layer);

  bool at_source() const { return at_source_; }
  bool reads_values() const { return reads_ == Reads::kValue; }

  // The logits from x [N, C] and the values v [N, KV*D].
  void compute(const Pass& pass, const Tensor& x, const Tensor& v) const;
  // out = g * in, [N, groups * D]
  void apply(const Pass& pass, const Tensor& out, const Tensor& in) const;
  // From d_out: d_in (may be d_out) and the gate's own gradients; what the gate read receives its share by
  // `backward_input`.
  void backward(const Pass& pass, const Tensor& d_in, const Tensor& d_out, const Tensor& in) const;
  // d_read += the gradient through the gate's logits; `read` and `d_read` are x or v, as reads_values() says.
  void backward_input(const Pass& pass, const Tensor& d_read, const Tensor& read, const Tensor& workspace) const;

  int64_t columns() const { return columns_; }   // of the logits
  int64_t groups() const { return groups_; }     // heads that are gated
  Tensor logits(const Pass& pass) const { return pass.view(logits_, {pass.N(), columns_}); }

 private:
  enum class Reads { kHidden, kHiddenHead, kValue };
  GateForward arguments(const Pass& pass, const Tensor& in) const;

  Reads reads_;
  bool at_source_;
  GateGrain grain_;
  int64_t groups_, head_size_, columns_;
  ParamId weight_, bias_;
  BufferId logits_, d_logits_;
};

}  // namespace sluice
