#include "model/attention/projections.h"

namespace sluice {

Projections::Projections(const Declarations& d, const std::string& name, int layer, const HeadSizes& sizes,
                         int64_t results)
    : sizes_(sizes) {
  const int64_t C = d.config.width, columns = sizes.projected_columns();
  qkv_ =
      d.linear(name + ".qkv", columns, C, false, {sizes.query_columns(), sizes.key_columns(), sizes.value_columns()});
  qkv_bias_ = d.linear_bias(name + ".qkv", columns, C, d.config.qkv_bias());
  output_ = d.linear(name + ".output", C, results, true, {C});
  output_bias_ = d.linear_bias(name + ".output", C, results, d.config.attention_output_bias());
  const int back = d.timeline.attention_backward(layer);
  const Shape shape = {d.max_tokens(), columns};
  projected_ = d.attention_activation(layer, name + ".qkv", "activations", shape, d.act);
  d_projected_ = d.plan.declare(name + ".d_qkv", "scratch", shape, d.act, {back, back});
}

void Projections::forward(const Pass& pass, const Tensor& x) const {
  pass.linear(all(pass, projected_), x, qkv_, qkv_bias_);
}

void Projections::backward(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  pass.linear_backward(d_x, false, all(pass, d_projected_), x, qkv_, qkv_bias_, workspace);
}

void Projections::output(const Pass& pass, const Tensor& out, const Tensor& results) const {
  pass.linear(out, results, output_, output_bias_);
}

void Projections::output_backward(const Pass& pass, const Tensor& d_results, const Tensor& d_out, const Tensor& results,
                                  const Tensor& workspace) const {
  pass.linear_backward(d_results, false, d_out, results, output_, output_bias_, workspace);
}

}  // namespace sluice
