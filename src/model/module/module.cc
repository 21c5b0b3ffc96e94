#include "model/module/module.h"

#include <cmath>

namespace sluice {

ParamId Declarations::linear(const std::string& name, int64_t out, int64_t in, bool residual,
                             std::vector<int64_t> matrices) const {
  Init init = Init::uniform(1.0 / std::sqrt(double(in)));
  if (config.init != InitialValues::kPytorch)
    init = Init::normal(residual && config.init == InitialValues::kGpt2
                            ? config.init_std / std::sqrt(2.0 * double(config.layers))
                            : config.init_std);
  return params.declare(name + ".weight", {out, in}, init, DecayGroup::kMatrix, std::move(matrices));
}

ParamId Declarations::linear_bias(const std::string& name, int64_t out, int64_t in, bool present) const {
  if (!present) return {};
  const Init init =
      config.init != InitialValues::kPytorch ? Init::constant(0) : Init::uniform(1.0 / std::sqrt(double(in)));
  return params.declare(name + ".bias", {out}, init, DecayGroup::kVector);
}

BufferId Declarations::activation(std::string name, std::string kind, Shape shape, DType dtype, Lifetime forward,
                                  Lifetime backward, bool recomputed) const {
  if (recomputed) return plan.declare(std::move(name), std::move(kind), shape, dtype, forward, backward);
  return plan.declare(std::move(name), std::move(kind), shape, dtype, {forward.first, backward.last});
}

BufferId Declarations::attention_activation(int layer, std::string name, std::string kind, Shape shape,
                                            DType dtype) const {
  return activation(std::move(name), std::move(kind), shape, dtype, {timeline.attention(layer), timeline.mlp(layer)},
                    {timeline.mlp_backward(layer), timeline.attention_backward(layer)}, recompute == Recompute::kBlock);
}

Tensor Pass::view(BufferId id, Shape shape) const {
  const MemoryPlan::Buffer& buffer = plan.buffer(id);
  check_le(shape.elements(), buffer.shape.elements(), buffer.name.c_str());
  return arena.at(buffer.offset, buffer.dtype, shape);
}

Tensor Pass::loss(PartLossId id) const {
  const MemoryPlan::Buffer& all = plan.buffer(losses.buffer());
  return arena.at(all.offset + size_t(id.index) * size_of(all.dtype), all.dtype, {1});
}

LinearOperands Pass::operands(const Tensor& x, ParamId weight) const {
  const LinearOperands given = {x, params.weight(weight)};
  return hook ? hook->operands(*this, weight, given) : given;
}

void Pass::linear(const Tensor& out, const Tensor& x, ParamId weight, ParamId bias) const {
  const LinearOperands in = operands(x, weight);
  backend.run(Matmul{.out = out, .a = in.x, .b = in.weight, .transpose_b = true, .bias = params.value(bias)});
}

void Pass::linear_backward(const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x, ParamId weight,
                           ParamId bias, const Tensor& workspace) const {
  if (d_x)
    backend.run(Matmul{.out = d_x, .a = d_out, .b = params.weight(weight), .accumulate = add_to_d_x, .bias = {}});
  backend.run(Matmul{
      .out = params.grad(weight), .a = d_out, .b = x, .transpose_a = true, .accumulate = accumulate, .bias = {}});
  if (bias) backend.run(BiasGradient{params.grad(bias), d_out, accumulate, workspace});
}

}  // namespace sluice
