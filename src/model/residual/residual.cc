#include "model/residual/residual.h"

namespace sluice {

void Residual::normalise(const Pass& pass, int sublayer, const NormLayer& norm, const Tensor& out) const {
  ActivationHook* hook = pass.activations();
  if (!hook) return norm.forward(pass, input(pass, sublayer), out);
  norm.ungated(pass, input(pass, sublayer), out);
  const Tensor stream = stream_at(pass, sublayer);
  hook->tensor(pass, {sublayer, Shown::kStream}, stream);
  norm.recompute(pass, stream, out);
  hook->tensor(pass, {sublayer, Shown::kNormed}, out);
}

}  // namespace sluice
