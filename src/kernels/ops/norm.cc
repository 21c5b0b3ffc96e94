#include "kernels/ops/norm.h"

#include "kernels/ops/check.h"
#include "kernels/types/attention_types.h"

namespace sluice {
namespace {

void check_norm(const OpCheck& op, const NormForward& args) {
  const DType act = op.activation_type("x", args.x), acc = accumulator_of(act);
  const int64_t N = args.x.rows(), C = args.x.cols();
  op.matrix("x", args.x, act, N, C);
  op.flat("gain", args.gain, acc, C, Presence::kOptional);
  op.flat("bias", args.bias, acc, C, Presence::kOptional);
  op.flat("stats", args.stats, acc, 2 * N);
  if (args.kind == Norm::kRmsNorm) op.absent("bias", args.bias, "RMSNorm has none");
  if (!args.gain) op.absent("bias", args.bias, "there is no gain");
}

void check_head_norm(const OpCheck& op, const HeadNormForward& args) {
  const DType act = op.activation_type("x", args.x);
  const int64_t D = args.D();
  op.require(D > 0 && args.x.cols() % D == 0, "the gain's elements, or the features, must divide the columns of x");
  op.require(D <= kMaxHeadSize, "a head has at most 256 features");
  op.matrix("x", args.x, act, args.x.rows(), args.x.cols());
  op.flat("gain", args.gain, accumulator_of(act), D, Presence::kOptional);
}

}  // namespace

void NormForward::check() const {
  const OpCheck op(kName);
  check_norm(op, *this);
  const DType act = x.dtype;
  const int64_t N = x.rows(), C = x.cols();
  op.matrix("delta", delta, act, N, C, Layout::kStrided, Presence::kOptional);
  if (!delta) op.absent("sum", sum, "there is no delta to add");
  op.matrix("sum", sum, act, N, C, Layout::kStrided, required_if(bool(delta)));
  op.matrix("out", out, act, N, C);
}

void NormBackward::check() const {
  const OpCheck op(kName);
  check_norm(op, forward);
  const DType act = forward.x.dtype, acc = accumulator_of(act);
  const int64_t N = forward.x.rows(), C = forward.x.cols();
  op.matrix("d_out", d_out, act, N, C);
  op.matrix("d_x", d_x, act, N, C);
  op.flat("d_gain", d_gain, acc, C, required_if(bool(forward.gain)));
  op.flat("d_bias", d_bias, acc, C, required_if(bool(forward.bias)));
}

void HeadNormForward::check() const {
  const OpCheck op(kName);
  check_head_norm(op, *this);
  op.matrix("out", out, x.dtype, x.rows(), x.cols());
}

void HeadNormBackward::check() const {
  const OpCheck op(kName);
  check_head_norm(op, forward);
  const Tensor& x = forward.x;
  op.matrix("d_out", d_out, x.dtype, x.rows(), x.cols());
  op.matrix("d_x", d_x, x.dtype, x.rows(), x.cols());
  op.flat("d_gain", d_gain, accumulator_of(x.dtype), forward.D(), required_if(bool(forward.gain)));
}

void BiasGradient::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("d_out", d_out);
  op.matrix("d_out", d_out, act, d_out.rows(), d_out.cols());
  op.flat("d_bias", d_bias, accumulator_of(act), d_out.cols());
}

}  // namespace sluice
