#include "model/attention/projections.h"

namespace sluice {

Projections::Projections(const Declarations& d, const std::string& name, int layer, const HeadSizes& sizes,
                         int64_t results, QkSource qk_source)
    : sizes_(sizes), qk_source_(qk_source) {
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

Projections::Part Projections::values_part(const Pass& pass) const {
  return {sizes_.query_columns() + sizes_.key_columns(), sizes_.value_columns(), 0, pass.N()};
}

Projections::Part Projections::queries_and_keys_part(const Pass& pass) const {
  const int64_t columns = sizes_.query_columns() + sizes_.key_columns();
  if (qk_source_ == QkSource::kEmbedding) return {0, columns, 0, pass.N()};
  return {0, columns, pass.N() - pass.T, pass.T};
}

void Projections::project(const Pass& pass, const Part& part, const LinearOperands& in) const {
  pass.backend.run(Matmul{.out = part.of(all(pass, projected_)),
                          .a = part.rows_of(in.x),
                          .b = in.weight.row_range(part.first, part.count),
                          .transpose_b = true,
                          .bias = slice(pass.params.value(qkv_bias_), part.first, part.count)});
}

void Projections::project_back(const Pass& pass, const Part& part, const Tensor& d_x, bool add_to_d_x, const Tensor& x,
                               const Tensor& workspace) const {
  const Tensor d_out = part.of(all(pass, d_projected_));
  const auto of_part = [&](const Tensor& weight) { return weight.row_range(part.first, part.count); };
  pass.backend.run(Matmul{.out = part.rows_of(d_x),
                          .a = d_out,
                          .b = of_part(pass.params.weight(qkv_)),
                          .accumulate = add_to_d_x,
                          .bias = {}});
  pass.backend.run(Matmul{.out = of_part(pass.params.grad(qkv_)),
                          .a = d_out,
                          .b = part.rows_of(x),
                          .transpose_a = true,
                          .accumulate = pass.accumulate,
                          .bias = {}});
  if (qkv_bias_)
    pass.backend.run(
        BiasGradient{slice(pass.params.grad(qkv_bias_), part.first, part.count), d_out, pass.accumulate, workspace});
}

void Projections::forward(const Pass& pass, const MixerInput& in) const {
  if (qk_source_ == QkSource::kHidden) return pass.linear(all(pass, projected_), in.x, qkv_, qkv_bias_);
  const LinearOperands of_x = pass.operands(in.x, qkv_);
  project(pass, values_part(pass), of_x);
  const bool of_embedding = qk_source_ == QkSource::kEmbedding;
  project(pass, queries_and_keys_part(pass), of_embedding ? pass.operands(in.embedded, qkv_) : of_x);
}

void Projections::backward(const Pass& pass, const MixerInput& d_in, const MixerInput& in,
                           const Tensor& workspace) const {
  if (qk_source_ == QkSource::kHidden)
    return pass.linear_backward(d_in.x, false, all(pass, d_projected_), in.x, qkv_, qkv_bias_, workspace);
  project_back(pass, values_part(pass), d_in.x, false, in.x, workspace);
  const bool of_embedding = qk_source_ == QkSource::kEmbedding;
  project_back(pass, queries_and_keys_part(pass), of_embedding ? d_in.embedded : d_in.x, !of_embedding,
               of_embedding ? in.embedded : in.x, workspace);
}

void Projections::output(const Pass& pass, const Tensor& out, const Tensor& results) const {
  pass.linear(out, results, output_, output_bias_);
}

void Projections::output_backward(const Pass& pass, const Tensor& d_results, const Tensor& d_out, const Tensor& results,
                                  const Tensor& workspace) const {
  pass.linear_backward(d_results, false, d_out, results, output_, output_bias_, workspace);
}

}  // namespace sluice
