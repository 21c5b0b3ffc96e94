#include "kernels/ops/attention.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_shape(const OpCheck& op, const AttentionShape& s) {
  op.require(s.B > 0 && s.T > 0 && s.H > 0 && s.KV > 0 && s.D_qk > 0 && s.D_v > 0, "every size must be positive");
  op.require(s.H % s.KV == 0, "key/value heads must divide heads");
  op.require(s.D_qk <= kMaxHeadSize && s.D_v <= kMaxHeadSize, "a head has at most 256 features");
}

void check_spec(const OpCheck& op, const AttentionSpec& spec) {
  check_shape(op, spec.shape);
  op.require(spec.window >= 0, "a window has at least one key, or is 0 for none");
}

// Which tensors there are follows from the score function alone.
void check_learned(const OpCheck& op, const std::string& prefix, const LearnedTensors& learned,
                   const AttentionSpec& spec, DType acc) {
  for (int i = 0; i < kMostLearned; ++i) {
    if (const char* name = learned_name(spec.score, i))
      op.flat((prefix + name).c_str(), learned.at[i], acc, spec.shape.H);
    else
      op.absent(fmt::format("{}learned[{}]", prefix, i).c_str(), learned.at[i], "the score function does not learn it");
  }
}

// The parameters that attention reads: of an AttentionForward or an AttentionDecode.
template <class Args>
void check_attention_parameters(const OpCheck& op, const Args& args, DType acc) {
  const HeadSizes heads = args.spec.shape.heads();
  op.flat("key_bias", args.key_bias, acc, heads.key_columns(), Presence::kOptional);
  op.flat("value_bias", args.value_bias, acc, heads.value_columns(), Presence::kOptional);
  if (args.value_bias) op.require_present("key_bias", args.key_bias);
  check_learned(op, "", args.learned, args.spec, acc);
}

void check_attention(const OpCheck& op, const AttentionForward& args) {
  const AttentionShape& s = args.spec.shape;
  const DType act = op.activation_type("q", args.q), acc = accumulator_of(act);
  check_spec(op, args.spec);
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("q", args.q, act, N, heads.query_columns());
  op.matrix("k", args.k, act, N, heads.key_columns());
  op.matrix("v", args.v, act, N, heads.value_columns());
  op.matrix("out", args.out, act, N, heads.result_columns());
  op.flat("stats", args.stats, acc, s.B * s.H * s.T * 2);
  op.flat("first_key", args.first_key, DType::kI32, N, Presence::kOptional);
  op.flat("last_key", args.last_key, DType::kI32, N, Presence::kOptional);
  op.flat("order", args.order, DType::kI32, kOrderPlanes * N, Presence::kOptional);
  if (args.order) {
    op.absent("first_key", args.first_key, "the order says what rows see");
    op.absent("last_key", args.last_key, "the order says what rows see");
    op.require(args.spec.window == 0, "the order says what rows see: no window");
  }
  if (args.dropout) args.dropout.check(op, N, s.B);
  check_attention_parameters(op, args, acc);
}

// A row must see itself, and rows further down no earlier keys: the kernels leave out tiles by that.
void check_first_keys(const char* op, const AttentionForward& args) {
  if (!args.first_key) return;
  const int64_t T = args.spec.shape.T;
  const int32_t* first = args.first_key.as<int32_t>();
  for (int64_t n = 0; n < args.first_key.elements(); ++n) {
    const int64_t i = n % T;
    if (first[n] < (i > 0 ? first[n - 1] : 0) || first[n] > i)
      throw std::logic_error(fmt::format("{}: first_key[{}] is {}, at position {} of a sequence", op, n, first[n], i));
  }
}

// Rows between a first and a last key have the same two: a row sees those that see it.
void check_last_keys(const char* op, const AttentionForward& args) {
  if (!args.last_key) return;
  const int64_t T = args.spec.shape.T;
  const int32_t *first = args.first_key.as<int32_t>(), *last = args.last_key.as<int32_t>();
  for (int64_t n = 0, begin = 0; n < args.last_key.elements(); ++n) {
    const int64_t i = n % T;
    if (i == 0 || i > last[n - 1]) begin = i;
    const bool alike = i == begin || last[n] == last[n - 1];
    if (!alike || last[n] < i || last[n] >= T || (first ? first[n] : 0) != begin)
      throw std::logic_error(fmt::format("{}: last_key[{}] is {}, at position {} of a sequence", op, n, last[n], i));
  }
}

// What the kernels go by: a permutation, and windows that only move on and hold their row.
void check_order(const char* op, const AttentionForward& args) {
  if (!args.order) return;
  const int64_t T = args.spec.shape.T, N = args.spec.shape.B * T;
  for (int64_t n = 0; n < N; ++n) {
    const auto of = [&](OrderPlane plane, int64_t row) {
      return int64_t{args.order.as<int32_t>()[int64_t(plane) * N + row]};
    };
    const int64_t i = n % T, place = of(OrderPlane::kPlace, n), first = of(OrderPlane::kFirst, n);
    const int64_t begin = of(OrderPlane::kBegin, n), end = of(OrderPlane::kEnd, n);
    const bool placed = place >= 0 && place < T && of(OrderPlane::kRow, n - i + place) == i;
    const bool window = begin >= 0 && begin <= i && end > i && end <= T;
    const bool moves_on = i == 0 || (begin >= of(OrderPlane::kBegin, n - 1) && end >= of(OrderPlane::kEnd, n - 1));
    if (!placed || !window || !moves_on || first < 0 || first > place || of(OrderPlane::kLength, n) < 1)
      throw std::logic_error(
          fmt::format("{}: order, row {}: place {}, first {}, window {} to {}", op, n, place, first, begin, end));
  }
}

void check_seen(const char* op, const AttentionForward& args) {
  check_first_keys(op, args);
  check_last_keys(op, args);
  check_order(op, args);
}

}  // namespace

void Rope::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.require_present("table", table);
  const int64_t D = table.cols();
  op.require(D > 0 && D % 2 == 0 && x.cols() % D == 0, "the table's columns, an even number, must divide those of x");
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("table", table, accumulator_of(act), table.rows(), D, Layout::kContiguous);
  op.require(T > 0 && x.rows() % T == 0, "T must divide the rows of x");
  op.require(first_position >= 0, "positions count from 0");
  if (first_position + T > table.rows()) op.fail("table", table, fmt::format("at least {} rows", first_position + T));
}

std::string AttentionForward::note() const {
  std::string text = dropout ? fmt::format("dropout {}", dropout.probability) : "";
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (order) add("rows in an order of their own");
  if (spec.window > 0) add(fmt::format("window {}", spec.window));
  if (last_key) add("both sides");
  return text;
}

void AttentionForward::check() const { check_attention(OpCheck(kName), *this); }

void AttentionForward::check_values() const { check_seen(kName, *this); }

void AttentionBackward::check() const {
  const OpCheck op(kName);
  check_attention(op, forward);
  const int64_t N = forward.spec.shape.B * forward.spec.shape.T;
  const HeadSizes heads = forward.spec.shape.heads();
  const DType act = forward.q.dtype, acc = accumulator_of(act);
  op.matrix("d_out", d_out, act, N, heads.result_columns());
  op.matrix("d_q", d_q, act, N, heads.query_columns());
  op.matrix("d_k", d_k, act, N, heads.key_columns());
  op.matrix("d_v", d_v, act, N, heads.value_columns());
  op.flat("d_key_bias", d_key_bias, acc, heads.key_columns(), required_if(bool(forward.key_bias)));
  op.flat("d_value_bias", d_value_bias, acc, heads.value_columns(), required_if(bool(forward.value_bias)));
  check_learned(op, "d_", d_learned, forward.spec, acc);
}

void AttentionBackward::check_values() const { check_seen(kName, forward); }

void AttentionProbe::check() const {
  const OpCheck op(kName);
  check_attention(op, forward);
  const AttentionShape& s = forward.spec.shape;
  const DType acc = accumulator_of(forward.q.dtype);
  op.flat("sink_attention", sink_attention, acc, s.B * s.H * s.T);
  op.flat("sink_logit_gap", sink_logit_gap, acc, s.B * s.H * s.T);
}

void AttentionProbe::check_values() const { check_seen(kName, forward); }

void AttentionDecode::check() const {
  const OpCheck op(kName);
  const AttentionShape& s = spec.shape;
  const HeadSizes heads = s.heads();
  const DType act = op.activation_type("q", q), acc = accumulator_of(act);
  check_spec(op, spec);
  op.require(length >= 1 && length <= s.T, "length must be from 1 to the cache's rows");
  op.matrix("q", q, act, s.B, heads.query_columns());
  op.matrix("k", k, act, s.B * s.T, heads.key_columns());
  op.matrix("v", v, act, s.B * s.T, heads.value_columns());
  op.matrix("out", out, act, s.B, heads.result_columns());
  check_attention_parameters(op, *this, acc);
}

}  // namespace sluice
