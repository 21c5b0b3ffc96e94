// See checks.h.
#include "kernels/checks.h"

namespace sluice {
namespace {

enum class Layout { kContiguous, kStrided };
enum class Presence { kRequired, kOptional };

// The checks of one op; messages start with its name.
class Op {
 public:
  explicit Op(const char* name) : name_(name) {}

  void require(bool ok, const char* what) const {
    if (!ok) throw std::logic_error(fmt::format("{}: {}", name_, what));
  }

  // The activations' type: that of `tensor`.
  DType activation_type(const char* what, const Tensor& tensor) const {
    require_present(what, tensor);
    if (tensor.dtype == DType::kI32) fail(what, tensor, "f32, bf16 or f64");
    return tensor.dtype;
  }

  void matrix(const char* what, const Tensor& t, DType type, int64_t rows, int64_t cols,
              Layout layout = Layout::kStrided, Presence presence = Presence::kRequired) const {
    if (!t && presence == Presence::kOptional) return;
    require_present(what, t);
    if (t.dtype != type || t.rows() != rows || t.cols() != cols)
      fail(what, t, fmt::format("{} [{},{}]", name_of(type), rows, cols));
    if (t.stride < cols || (layout == Layout::kContiguous && !t.contiguous())) fail(what, t, "contiguous rows");
  }

  void flat(const char* what, const Tensor& t, DType type, int64_t elements,
            Presence presence = Presence::kRequired) const {
    if (!t && presence == Presence::kOptional) return;
    require_present(what, t);
    if (t.dtype != type || t.elements() != elements || !t.contiguous())
      fail(what, t, fmt::format("{} of {} contiguous elements", name_of(type), elements));
  }

  void absent(const char* what, const Tensor& t, const char* why) const {
    if (t) throw std::logic_error(fmt::format("{}: {} must be absent: {}", name_, what, why));
  }

  void require_present(const char* what, const Tensor& t) const {
    if (!t) throw std::logic_error(fmt::format("{}: {} is absent", name_, what));
  }

  [[noreturn]] void fail(const char* what, const Tensor& t, const std::string& expected) const {
    throw std::logic_error(fmt::format("{}: {} is {} {} with rows {} apart, expected {}", name_, what, name_of(t.dtype),
                                       t.shape.str(), t.stride, expected));
  }

 private:
  const char* name_;
};

constexpr Presence required_if(bool present) { return present ? Presence::kRequired : Presence::kOptional; }

void check_embedding(const Op& op, const char* table_name, const Tensor& table, const char* positions_name,
                     const Tensor& positions, const char* act_name, const Tensor& act, const Tensor& tokens, int64_t T) {
  const DType acc = accumulator_of(op.activation_type(act_name, act));
  const int64_t N = act.rows(), C = act.cols();
  op.matrix(act_name, act, act.dtype, N, C);
  op.flat("tokens", tokens, DType::kI32, N);
  op.matrix(table_name, table, acc, table.rows(), C, Layout::kContiguous);
  op.require(T > 0, "T must be positive");
  if (!positions) return;
  op.matrix(positions_name, positions, acc, positions.rows(), C, Layout::kContiguous);
  if (positions.rows() < T) op.fail(positions_name, positions, fmt::format("at least T = {} rows", T));
}

void check_norm(const Op& op, const NormForward& args) {
  const DType act = op.activation_type("x", args.x), acc = accumulator_of(act);
  const int64_t N = args.x.rows(), C = args.x.cols();
  op.matrix("x", args.x, act, N, C);
  op.flat("gain", args.gain, acc, C);
  op.flat("bias", args.bias, acc, C, Presence::kOptional);
  op.flat("stats", args.stats, acc, 2 * N);
  if (args.kind == Norm::kRmsNorm) op.absent("bias", args.bias, "RMSNorm has none");
}

void check_head_norm(const Op& op, const HeadNormForward& args) {
  const DType act = op.activation_type("x", args.x);
  op.require_present("gain", args.gain);
  const int64_t D = args.gain.elements();
  op.require(D > 0 && args.x.cols() % D == 0, "the gain's elements must divide the columns of x");
  op.require(D <= kMaxHeadSize, "a head has at most 256 features");
  op.matrix("x", args.x, act, args.x.rows(), args.x.cols());
  op.flat("gain", args.gain, accumulator_of(act), D);
}

void check_shape(const Op& op, const AttentionShape& s) {
  op.require(s.B > 0 && s.T > 0 && s.H > 0 && s.KV > 0 && s.D > 0, "every size must be positive");
  op.require(s.H % s.KV == 0, "key/value heads must divide heads");
  op.require(s.D <= kMaxHeadSize, "a head has at most 256 features");
}

// The parameters that attention reads: of an AttentionForward or an AttentionDecode.
template <class Args>
void check_attention_parameters(const Op& op, const Args& args, DType acc) {
  const AttentionShape& s = args.spec.shape;
  op.flat("key_bias", args.key_bias, acc, s.KV * s.D, Presence::kOptional);
  op.flat("value_bias", args.value_bias, acc, s.KV * s.D, Presence::kOptional);
  if (args.value_bias) op.require_present("key_bias", args.key_bias);
  const bool sink = args.spec.score == ScoreKind::kSinkLogit;
  if (!sink) op.absent("sink_logit", args.sink_logit, "only the score sink_logit has one");
  op.flat("sink_logit", args.sink_logit, acc, s.H, required_if(sink));
}

void check_attention(const Op& op, const AttentionForward& args) {
  const AttentionShape& s = args.spec.shape;
  const DType act = op.activation_type("q", args.q), acc = accumulator_of(act);
  check_shape(op, s);
  const int64_t N = s.B * s.T;
  op.matrix("q", args.q, act, N, s.H * s.D);
  op.matrix("k", args.k, act, N, s.KV * s.D);
  op.matrix("v", args.v, act, N, s.KV * s.D);
  op.matrix("out", args.out, act, N, s.H * s.D);
  op.flat("stats", args.stats, acc, s.B * s.H * s.T * 2);
  op.flat("first_key", args.first_key, DType::kI32, N, Presence::kOptional);
  check_attention_parameters(op, args, acc);
}

void check_gate(const Op& op, const GateForward& args) {
  const DType act = op.activation_type("x", args.x);
  const int64_t N = args.x.rows(), C = args.x.cols();
  op.require(args.heads > 0 && C % args.heads == 0, "heads must divide the width");
  op.matrix("x", args.x, act, N, C);
  op.matrix("logits", args.logits, act, N, args.grain == GateGrain::kHead ? args.heads : C);
}

void check_range(const Op& op, const OptimizerRange& range) {
  const DType type = range.param.dtype;
  op.require(type == DType::kF32 || type == DType::kF64, "param must be f32 or f64");
  const int64_t n = range.param.elements();
  op.flat("param", range.param, type, n);
  op.flat("grad", range.grad, type, n);
  op.flat("compute_copy", range.compute_copy, DType::kBF16, n, Presence::kOptional);
  if (type == DType::kF64) op.absent("compute_copy", range.compute_copy, "f64 parameters have no bf16 copy");
}

}  // namespace

void check_upload(const Tensor& device_side) {
  const Op op("upload/download");
  op.require_present("the tensor", device_side);
  op.require(device_side.contiguous(), "the tensor must be contiguous");
}

void check_copy(const Tensor& out, const Tensor& x) {
  const Op op("copy");
  op.activation_type("x", x);
  op.matrix("out", out, op.activation_type("out", out), x.rows(), x.cols());
}

void check_random(const Tensor& out) { Op("random").activation_type("out", out); }

void check_embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                             int64_t T) {
  check_embedding(Op("embedding_forward"), "table", table, "positions", positions, "out", out, tokens, T);
}

void check_embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out,
                              const Tensor& tokens, int64_t T) {
  check_embedding(Op("embedding_backward"), "d_table", d_table, "d_positions", d_positions, "d_out", d_out, tokens, T);
}

void check_norm_forward(const NormForward& args) {
  const Op op("norm_forward");
  check_norm(op, args);
  const DType act = args.x.dtype;
  const int64_t N = args.x.rows(), C = args.x.cols();
  op.matrix("delta", args.delta, act, N, C, Layout::kStrided, Presence::kOptional);
  if (!args.delta) op.absent("sum", args.sum, "there is no delta to add");
  op.matrix("sum", args.sum, act, N, C, Layout::kStrided, required_if(bool(args.delta)));
  op.matrix("out", args.out, act, N, C);
}

void check_norm_backward(const NormBackward& args) {
  const Op op("norm_backward");
  check_norm(op, args.forward);
  const DType act = args.forward.x.dtype, acc = accumulator_of(act);
  const int64_t N = args.forward.x.rows(), C = args.forward.x.cols();
  op.matrix("d_out", args.d_out, act, N, C);
  op.matrix("d_x", args.d_x, act, N, C);
  op.flat("d_gain", args.d_gain, acc, C);
  op.flat("d_bias", args.d_bias, acc, C, required_if(bool(args.forward.bias)));
}

void check_matmul(const MatmulArgs& args) {
  const Op op("matmul");
  const DType act = op.activation_type("a", args.a), acc = accumulator_of(act);
  const Tensor &a = args.a, &b = args.b;
  op.require_present("out", args.out);
  op.require_present("b", b);
  const int64_t M = args.transpose_a ? a.cols() : a.rows(), K = args.transpose_a ? a.rows() : a.cols();
  const int64_t N = args.transpose_b ? b.rows() : b.cols();
  op.matrix("a", a, act, a.rows(), a.cols());
  op.matrix("b", b, act, args.transpose_b ? N : K, args.transpose_b ? K : N);
  op.matrix("out", args.out, args.out.dtype == act ? act : acc, M, N);
  op.flat("bias", args.bias, acc, N, Presence::kOptional);
  if (args.activated) op.matrix("activated", args.activated, args.out.dtype, M, N);
}

void check_head_matmul(const HeadMatmul& args) {
  const Op op("head_matmul");
  const MatmulArgs& all = args.all;
  op.require_present("a", all.a);
  op.require_present("b", all.b);
  op.require_present("out", all.out);
  op.require(!all.activated, "`activated` must be absent");
  op.require(!all.transpose_a || !all.bias, "a weight's gradient has no bias");
  const auto divides = [&](int64_t size) { return args.heads >= 1 && size % args.heads == 0; };
  op.require(divides(all.a.cols()) && divides(all.transpose_a ? all.b.cols() : all.b.rows()) &&
                 divides(all.transpose_a ? all.out.rows() : all.out.cols()) && (!all.bias || divides(all.bias.elements())),
             "the heads must be equal slices of every tensor");
  check_matmul(args.of_head(0));
}

void check_bias_gradient(const Tensor& d_bias, const Tensor& d_out) {
  const Op op("bias_gradient");
  const DType act = op.activation_type("d_out", d_out);
  op.matrix("d_out", d_out, act, d_out.rows(), d_out.cols());
  op.flat("d_bias", d_bias, accumulator_of(act), d_out.cols());
}

void check_activation_forward(const Tensor& out, const Tensor& x) {
  const Op op("activation_forward");
  op.matrix("out", out, op.activation_type("x", x), x.rows(), x.cols());
}

void check_activation_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) {
  const Op op("activation_backward");
  const DType act = op.activation_type("x", x);
  op.matrix("d_x", d_x, act, x.rows(), x.cols());
  op.matrix("d_out", d_out, act, x.rows(), x.cols());
  op.matrix("out", out, act, x.rows(), x.cols(), Layout::kStrided, Presence::kOptional);
}

void check_swiglu_forward(const Tensor& out, const Tensor& x) {
  const Op op("swiglu_forward");
  const DType act = op.activation_type("out", out);
  op.matrix("out", out, act, out.rows(), out.cols());
  op.matrix("x", x, act, out.rows(), 2 * out.cols());
}

void check_swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) {
  const Op op("swiglu_backward");
  const DType act = op.activation_type("d_out", d_out);
  const int64_t N = d_out.rows(), F = d_out.cols();
  op.matrix("d_out", d_out, act, N, F);
  op.matrix("d_x", d_x, act, N, 2 * F);
  op.matrix("x", x, act, N, 2 * F);
  op.matrix("out", out, act, N, F, Layout::kStrided, Presence::kOptional);
}

void check_head_norm_forward(const HeadNormForward& args) {
  const Op op("head_norm_forward");
  check_head_norm(op, args);
  op.matrix("out", args.out, args.x.dtype, args.x.rows(), args.x.cols());
}

void check_head_norm_backward(const HeadNormBackward& args) {
  const Op op("head_norm_backward");
  check_head_norm(op, args.forward);
  const Tensor &x = args.forward.x, &gain = args.forward.gain;
  op.matrix("d_out", args.d_out, x.dtype, x.rows(), x.cols());
  op.matrix("d_x", args.d_x, x.dtype, x.rows(), x.cols());
  op.flat("d_gain", args.d_gain, gain.dtype, gain.elements());
}

void check_rope(const Rope& args) {
  const Op op("rope");
  const DType act = op.activation_type("x", args.x);
  const Tensor &x = args.x, &table = args.table;
  op.require_present("table", table);
  const int64_t D = table.cols();
  op.require(D > 0 && D % 2 == 0 && x.cols() % D == 0, "the table's columns, an even number, must divide those of x");
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("table", table, accumulator_of(act), table.rows(), D, Layout::kContiguous);
  op.require(args.T > 0 && x.rows() % args.T == 0, "T must divide the rows of x");
  op.require(args.first_position >= 0, "positions count from 0");
  if (args.first_position + args.T > table.rows())
    op.fail("table", table, fmt::format("at least {} rows", args.first_position + args.T));
}

void check_attention_forward(const AttentionForward& args) { check_attention(Op("attention_forward"), args); }

void check_attention_backward(const AttentionBackward& args) {
  const Op op("attention_backward");
  check_attention(op, args.forward);
  const AttentionForward& forward = args.forward;
  const AttentionShape& s = forward.spec.shape;
  const DType act = forward.q.dtype, acc = accumulator_of(act);
  op.matrix("d_out", args.d_out, act, s.B * s.T, s.H * s.D);
  op.matrix("d_q", args.d_q, act, s.B * s.T, s.H * s.D);
  op.matrix("d_k", args.d_k, act, s.B * s.T, s.KV * s.D);
  op.matrix("d_v", args.d_v, act, s.B * s.T, s.KV * s.D);
  op.flat("d_key_bias", args.d_key_bias, acc, s.KV * s.D, required_if(bool(forward.key_bias)));
  op.flat("d_value_bias", args.d_value_bias, acc, s.KV * s.D, required_if(bool(forward.value_bias)));
  op.flat("d_sink_logit", args.d_sink_logit, acc, s.H, required_if(bool(forward.sink_logit)));
}

void check_attention_probe(const AttentionProbe& args) {
  const Op op("attention_probe");
  check_attention(op, args.forward);
  const AttentionShape& s = args.forward.spec.shape;
  const DType acc = accumulator_of(args.forward.q.dtype);
  op.flat("sink_attention", args.sink_attention, acc, s.B * s.H * s.T);
  op.flat("sink_logit_gap", args.sink_logit_gap, acc, s.B * s.H * s.T);
}

void check_attention_decode(const AttentionDecode& args) {
  const Op op("attention_decode");
  const AttentionShape& s = args.spec.shape;
  const DType act = op.activation_type("q", args.q), acc = accumulator_of(act);
  check_shape(op, s);
  op.require(args.length >= 1 && args.length <= s.T, "length must be from 1 to the cache's rows");
  op.matrix("q", args.q, act, s.B, s.H * s.D);
  op.matrix("k", args.k, act, s.B * s.T, s.KV * s.D);
  op.matrix("v", args.v, act, s.B * s.T, s.KV * s.D);
  op.matrix("out", args.out, act, s.B, s.H * s.D);
  check_attention_parameters(op, args, acc);
}

void check_gate_forward(const GateForward& args) {
  const Op op("gate_forward");
  check_gate(op, args);
  op.matrix("out", args.out, args.x.dtype, args.x.rows(), args.x.cols());
}

void check_gate_backward(const GateBackward& args) {
  const Op op("gate_backward");
  check_gate(op, args.forward);
  const Tensor &x = args.forward.x, &logits = args.forward.logits;
  op.matrix("d_out", args.d_out, x.dtype, x.rows(), x.cols());
  op.matrix("d_x", args.d_x, x.dtype, x.rows(), x.cols());
  op.matrix("d_logits", args.d_logits, x.dtype, logits.rows(), logits.cols());
}

void check_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets) {
  const Op op("cross_entropy");
  const DType act = op.activation_type("logits", logits);
  op.matrix("logits", logits, act, logits.rows(), logits.cols());
  op.flat("losses", losses, accumulator_of(act), logits.rows());
  op.flat("targets", targets, DType::kI32, logits.rows());
}

void check_adamw_update(const OptimizerRange& range, const AdamWStep& step) {
  const Op op("adamw_update");
  check_range(op, range);
  op.flat("first_moment", range.first_moment, range.param.dtype, range.param.elements());
  op.flat("second_moment", range.second_moment, range.param.dtype, range.param.elements());
  op.require(step.step >= 1, "steps count from 1");
}

void check_sgd_update(const OptimizerRange& range, const SgdStep& step) {
  const Op op("sgd_update");
  check_range(op, range);
  op.flat("first_moment", range.first_moment, range.param.dtype, range.param.elements(),
          required_if(step.momentum != 0));
  op.absent("second_moment", range.second_moment, "SGD has none");
}

void check_muon_momentum(const MuonMomentum& args) {
  const Op op("muon_momentum");
  const DType act = op.activation_type("out", args.out), acc = accumulator_of(act);
  const int64_t R = args.out.rows(), C = args.out.cols();
  op.matrix("out", args.out, act, R, C, Layout::kContiguous);
  op.matrix("grad", args.grad, acc, R, C, Layout::kContiguous);
  op.matrix("momentum", args.momentum, acc, R, C, Layout::kContiguous);
}

void check_matrix_sum(const MatrixSum& args) {
  const Op op("matrix_sum");
  const DType act = op.activation_type("out", args.out);
  const int64_t n = args.out.rows();
  op.matrix("out", args.out, act, n, n, Layout::kContiguous);
  op.matrix("x", args.x, act, n, n, Layout::kContiguous);
  op.matrix("y", args.y, act, n, n, Layout::kContiguous);
}

void check_sum(const Tensor& x) {
  const Op op("sum");
  op.activation_type("x", x);
  op.require(x.contiguous(), "x must be contiguous");
}

void check_group_norms(const Tensor& out, const Tensor& x, int64_t groups) {
  const Op op("group_norms");
  const DType act = op.activation_type("x", x);
  op.require(groups > 0 && x.cols() % groups == 0, "groups must divide the width");
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("out", out, accumulator_of(act), x.rows(), groups);
}

void check_fake_quantize(const FakeQuantize& args) {
  const Op op("fake_quantize");
  const DType act = op.activation_type("x", args.x);
  op.matrix("x", args.x, act, args.x.rows(), args.x.cols());
  op.matrix("out", args.out, act, args.x.rows(), args.x.cols());
  op.require_present("scale", args.scale);
  op.flat("scale", args.scale, accumulator_of(act), args.scale.elements() == 1 ? 1 : args.x.rows());
  op.require(args.low <= 0 && args.high >= 0 && args.low >= -0x1p20 && args.high <= 0x1p20,
             "low and high must enclose 0 and lie within 2^20 of it");
}

void check_row_ranges(const Tensor& out, const Tensor& x) {
  const Op op("row_ranges");
  const DType act = op.activation_type("x", x);
  op.matrix("x", x, act, x.rows(), x.cols());
  op.require(x.cols() > 0, "a row without elements has no range");
  op.matrix("out", out, accumulator_of(act), x.rows(), 2, Layout::kContiguous);
}

}  // namespace sluice
