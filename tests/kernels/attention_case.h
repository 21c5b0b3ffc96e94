// One attention problem for tests: inputs, results and workspace in guarded buffers, run with any instruction set.
//
// Queries, keys and values lie side by side in one strided buffer, as a model has them: every test is a test of slices.
// Results and workspace start as NaN, so that a kernel that adds where it should write, or reads what it never wrote,
// is seen. AttentionShape is B, T, H, KV, D_qk, D_v.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/cpu/attention_workspace.h"
#include "kernels/score_reference.h"
#include "kernels/test_buffer.h"

namespace sluice {

enum class Slot { kNone, kKey, kKeyValue };  // key_bias and value_bias
inline constexpr Slot kSlots[] = {Slot::kNone, Slot::kKey, Slot::kKeyValue};

// Columns of an input and of the buffer its gradient goes to.
struct AttentionPart {
  const char* name;
  TestBuffer *input, *gradient;
  int64_t first, count;
};

// Those columns as doubles, row by row.
inline Values values_of(const TestBuffer& x, int64_t first, int64_t count) {
  Values out;
  const int64_t cols = x.tensor().cols();
  for (int64_t row = 0; row < x.tensor().rows(); ++row)
    for (int64_t col = first; col < first + count; ++col) out.push_back(x.at(row * cols + col));
  return out;
}
inline Values values_of(const TestBuffer& x) { return values_of(x, 0, x.tensor().cols()); }
inline Values input_of(const AttentionPart& part) { return values_of(*part.input, part.first, part.count); }
inline Values gradient_of(const AttentionPart& part) { return values_of(*part.gradient, part.first, part.count); }

// |x - y| and |x| in the 2-norm.
inline double norm_of(const Values& x) {
  long double sum = 0;
  for (const double value : x) sum += value * value;
  return double(std::sqrt(sum));
}
inline double distance(const Values& x, const Values& y) {
  if (x.size() != y.size()) return std::numeric_limits<double>::infinity();
  Values difference(x);
  for (size_t i = 0; i < x.size(); ++i) difference[i] -= y[i];
  return norm_of(difference);
}

// Uniform in [-1, 1).
inline double random_unit(uint64_t stream, uint64_t i) {
  return 2 * double(uniform24(philox(11, stream, i).word[0])) - 1;
}

struct AttentionCase {
  AttentionSpec spec;
  Slot slot;
  bool documents = false;                       // pack_documents() was called
  bool ordered = false;                         // shuffle_rows() was called
  bool both_sides = false;                      // see_both_sides() was called
  double dropped = 0;                           // use_dropout() was called: with this probability
  TestBuffer dropout_keys;                      // [B, 2] i32
  TestBuffer first_key, last_key;               // [B, T] i32
  TestBuffer order;                             // [kOrderPlanes, B, T] i32
  TestBuffer qkv, key_bias, value_bias, d_out;  // inputs
  TestBuffer out, stats;                        // results
  TestBuffer d_qkv, d_key_bias, d_value_bias, workspace;
  TestBuffer sink_attention, sink_logit_gap;
  std::vector<TestBuffer> learned, d_learned;  // [1, H] each: what the score function learns

  AttentionCase(ScoreKind score, const AttentionShape& s, Slot slot, DType act)
      : slot(slot),
        dropout_keys(DType::kI32, s.B, 2),
        first_key(DType::kI32, s.B, s.T),
        last_key(DType::kI32, s.B, s.T),
        order(DType::kI32, {kOrderPlanes, s.B, s.T}),
        qkv(act, s.B * s.T, s.heads().projected_columns(), s.heads().projected_columns() + 5),
        key_bias(accumulator_of(act), s.KV, s.D_qk),
        value_bias(accumulator_of(act), s.KV, s.D_v),
        d_out(act, s.B * s.T, s.heads().result_columns(), s.heads().result_columns() + 2),
        out(act, s.B * s.T, s.heads().result_columns(), s.heads().result_columns() + 3),
        stats(accumulator_of(act), {2, s.B, s.H, s.T}),
        d_qkv(qkv),
        d_key_bias(key_bias),
        d_value_bias(value_bias),
        workspace(accumulator_of(act), 1, AttentionWorkspace(s).total),
        sink_attention(accumulator_of(act), {s.B, s.H, s.T}),
        sink_logit_gap(sink_attention),
        learned(learned_count(score), TestBuffer(accumulator_of(act), 1, s.H)),
        d_learned(learned) {
    spec = {.shape = s, .score = score, .constants = default_constants(score), .scale = 1 / std::sqrt(double(s.D_qk))};
    for (const TestBuffer* result :
         {&out, &stats, &d_qkv, &d_key_bias, &d_value_bias, &workspace, &sink_attention, &sink_logit_gap})
      poison(*result);
    for (const TestBuffer& result : d_learned) poison(result);
  }

  // Sequences of several documents: of one token, within a tile, and over tiles' edges, so that there are tiles which a
  // block leaves out, tiles of which some rows see nothing, and (T = 130) rows that see nothing until their second
  // tile.
  AttentionCase& pack_documents() {
    const auto [B, T, H, KV, D_qk, D_v] = spec.shape;
    for (int64_t b = 0; b < B; ++b) {
      const int64_t starts[2][3] = {{0, T / 2 + 5, T / 2 + 6}, {0, 1, T / 3}};
      for (int64_t i = 0; i < T; ++i)
        for (const int64_t start : starts[b % 2])
          if (start <= i) first_key.set(b * T + i, double(start));
    }
    documents = true;
    return *this;
  }
  // Rows see those behind them too, of their documents, if there are some, which are packed before.
  AttentionCase& see_both_sides() {
    const int64_t T = spec.shape.T;
    for (int64_t n = spec.shape.B * T, last = 0; n-- > 0; last_key.set(n, double(last)))
      if (n % T == T - 1 || first_key_of(n / T, n % T) != first_key_of(n / T, n % T + 1)) last = n % T;
    both_sides = true;
    return *this;
  }
  // Rows become those of tokens in an order of their own, with windows of it; documents, if there are some, are packed
  // before. Slots lie at random among half as many more as there are tokens.
  AttentionCase& shuffle_rows(int64_t reach) {
    const int64_t T = spec.shape.T, slots = T + T / 2;
    std::vector<int64_t> places(static_cast<size_t>(slots));
    for (int64_t i = 0; i < slots; ++i) places[size_t(i)] = i;
    for (int64_t i = slots - 1; i > 0; --i)
      std::swap(places[size_t(i)], places[size_t(philox(12, 0, uint64_t(i)).word[0] % uint64_t(i + 1))]);
    std::vector<std::pair<int64_t, int64_t>> rows;  // slot and place, by slot
    for (int64_t slot = 0; slot < slots; ++slot)
      if (places[size_t(slot)] < T) rows.push_back({slot, places[size_t(slot)]});
    for (int64_t b = 0; b < spec.shape.B; ++b)
      for (int64_t i = 0; i < T; ++i) {
        const auto [own, place] = rows[size_t(i)];
        const int64_t first = first_key_of(b, place);
        int64_t begin = T, end = 0, length = 0;
        for (int64_t j = 0; j < T; ++j) {
          const auto [slot, other] = rows[size_t(j)];
          if (std::abs(slot - own) >= reach) continue;
          begin = std::min(begin, j), end = j + 1;
          length += other >= first && other <= place;
        }
        put_order(OrderPlane::kPlace, b, i, place), put_order(OrderPlane::kFirst, b, i, first);
        put_order(OrderPlane::kBegin, b, i, begin), put_order(OrderPlane::kEnd, b, i, end);
        put_order(OrderPlane::kLength, b, i, length);
        put_order(OrderPlane::kRow, b, place, i), put_order(OrderPlane::kSlot, b, place, own);
      }
    ordered = true;
    return *this;
  }
  void put_order(OrderPlane plane, int64_t b, int64_t t, int64_t x) {
    order.set((int64_t(plane) * spec.shape.B + b) * spec.shape.T + t, double(x));
  }
  int64_t in_order(OrderPlane plane, int64_t b, int64_t t) const {
    return int64_t(order.at((int64_t(plane) * spec.shape.B + b) * spec.shape.T + t));
  }
  int64_t last_key_of(int64_t b, int64_t i) const { return both_sides ? int64_t(last_key.at(b, i)) : i; }
  int64_t first_key_of(int64_t b, int64_t i) const { return documents ? int64_t(first_key.at(b, i)) : 0; }

  AttentionCase& use_dropout(double probability) {
    dropped = probability;
    for (int64_t i = 0; i < dropout_keys.size(); ++i) dropout_keys.set(i, double(int32_t(philox(13, 0, i).word[0])));
    return *this;
  }
  DropoutMask dropout() const { return dropped > 0 ? DropoutMask{dropout_keys, 77, dropped} : DropoutMask{}; }
  // Scores of deviation `spread`.
  AttentionCase& randomise(double spread = 1.5) {
    qkv.randomise(1), key_bias.randomise(2), value_bias.randomise(3), d_out.randomise(5);
    for (size_t i = 0; i < learned.size(); ++i) learned[i].randomise(i == 0 ? 4 : 5 + i);
    scale_queries(spread);
    return *this;
  }
  // Scores near 2 and near -2, none near the kinks of relu and softpick at 0: the first features decide the sign.
  AttentionCase& randomise_off_kinks() {
    randomise(0.2);
    const auto [B, T, H, KV, D, D_v] = spec.shape;
    const double size = std::sqrt(2 / spec.scale);
    for (int64_t row = 0; row < B * T; ++row)
      for (int64_t h = 0; h < H + KV; ++h) set_first(qkv, row, h, D, random_unit(6, row * 64 + h), size);
    for (int64_t kv = 0; kv < KV; ++kv) set_first(key_bias, kv, 0, D, random_unit(7, kv), size);
    return *this;
  }
  void scale_queries(double factor) {
    const int64_t cols = qkv.tensor().cols(), queries = spec.shape.heads().query_columns();
    for (int64_t i = 0; i < qkv.size(); ++i)
      if (i % cols < queries) qkv.set(i, qkv.at(i) * factor);
  }
  // The same numbers in f64.
  AttentionCase in_f64() const {
    AttentionCase wide(spec.score, spec.shape, slot, DType::kF64);
    wide.spec = spec;
    wide.documents = documents, wide.ordered = ordered, wide.both_sides = both_sides;
    wide.first_key = first_key, wide.last_key = last_key, wide.order = order;
    wide.dropped = dropped, wide.dropout_keys = dropout_keys;
    for (const auto& [to, from] : {std::pair{&wide.qkv, &qkv},
                                   {&wide.key_bias, &key_bias},
                                   {&wide.value_bias, &value_bias},
                                   {&wide.d_out, &d_out}})
      for (int64_t i = 0; i < from->size(); ++i) to->set(i, from->at(i));
    for (size_t which = 0; which < learned.size(); ++which)
      for (int64_t i = 0; i < learned[which].size(); ++i) wide.learned[which].set(i, learned[which].at(i));
    return wide;
  }

  AttentionCase& use_unusual_constants() {
    spec.constants = reference_of(spec.score).unusual;
    return *this;
  }
  LearnedOfHead<double> learned_of_head(int64_t h) const {
    LearnedOfHead<double> out{};
    for (size_t i = 0; i < learned.size(); ++i) out.at[i] = learned[i].at(h);
    return out;
  }

  // The columns of qkv, d_qkv or a copy of them, whatever stands for a matrix with a method `columns`.
  auto queries_of(const auto& side_by_side) const {
    return side_by_side.columns(0, spec.shape.heads().query_columns());
  }
  auto keys_of(const auto& side_by_side) const {
    const HeadSizes heads = spec.shape.heads();
    return side_by_side.columns(heads.query_columns(), heads.key_columns());
  }
  auto values_of_heads(const auto& side_by_side) const {
    const HeadSizes heads = spec.shape.heads();
    return side_by_side.columns(heads.query_columns() + heads.key_columns(), heads.value_columns());
  }

  AttentionForward forward_args() const {
    AttentionForward args;
    args.spec = spec;
    args.q = queries_of(qkv.tensor());
    args.k = keys_of(qkv.tensor());
    args.v = values_of_heads(qkv.tensor());
    if (slot != Slot::kNone) args.key_bias = key_bias;
    if (slot == Slot::kKeyValue) args.value_bias = value_bias;
    for (size_t i = 0; i < learned.size(); ++i) args.learned.at[i] = learned[i];
    if (ordered) args.order = order;
    else if (documents) args.first_key = first_key;
    if (both_sides) args.last_key = last_key;
    args.dropout = dropout();
    args.out = out;
    args.stats = stats;
    return args;
  }
  AttentionBackward backward_args(bool accumulate = false) const {
    AttentionBackward args;
    args.forward = forward_args();
    args.d_out = d_out;
    args.d_q = queries_of(d_qkv.tensor());
    args.d_k = keys_of(d_qkv.tensor());
    args.d_v = values_of_heads(d_qkv.tensor());
    if (args.forward.key_bias) args.d_key_bias = d_key_bias;
    if (args.forward.value_bias) args.d_value_bias = d_value_bias;
    for (size_t i = 0; i < learned.size(); ++i) args.d_learned.at[i] = d_learned[i];
    args.accumulate = accumulate;
    args.workspace = workspace;
    return args;
  }
  AttentionCase& forward(const IsaKernels& isa) {
    isa.run(forward_args());
    return *this;
  }
  AttentionCase& backward(const IsaKernels& isa, bool accumulate = false) {
    isa.run(backward_args(accumulate));
    return *this;
  }
  void probe(const IsaKernels& isa) {
    AttentionProbe args;
    args.forward = forward_args();
    args.sink_attention = sink_attention;
    args.sink_logit_gap = sink_logit_gap;
    isa.run(args);
  }

  // Everything with a gradient.
  std::vector<AttentionPart> parts() {
    const HeadSizes heads = spec.shape.heads();
    const int64_t queries = heads.query_columns(), keys = heads.key_columns();
    std::vector<AttentionPart> out = {{"q", &qkv, &d_qkv, 0, queries},
                                      {"k", &qkv, &d_qkv, queries, keys},
                                      {"v", &qkv, &d_qkv, queries + keys, heads.value_columns()}};
    if (slot != Slot::kNone) out.push_back({"key_bias", &key_bias, &d_key_bias, 0, heads.D_qk});
    if (slot == Slot::kKeyValue) out.push_back({"value_bias", &value_bias, &d_value_bias, 0, heads.D_v});
    for (size_t i = 0; i < learned.size(); ++i)
      out.push_back({learned_name(spec.score, int(i)), &learned[i], &d_learned[i], 0, heads.H_q});
    return out;
  }
  bool untouched() const {
    for (const TestBuffer* b : {&first_key, &last_key, &order, &qkv, &key_bias, &value_bias, &d_out, &out, &stats,
                                &d_qkv, &d_key_bias, &d_value_bias, &workspace, &sink_attention, &sink_logit_gap})
      if (!b->untouched()) return false;
    return std::all_of(learned.begin(), learned.end(), [](const TestBuffer& b) { return b.untouched(); }) &&
           std::all_of(d_learned.begin(), d_learned.end(), [](const TestBuffer& b) { return b.untouched(); });
  }

 private:
  static void set_first(TestBuffer& x, int64_t row, int64_t head, int64_t D, double sign, double size) {
    x.set(row * x.tensor().cols() + head * D, sign < 0 ? -size : size);
  }
};

// test(score) for every registered score function.
template <class Test>
void for_scores(Test test) {
  ScoreFunctions::for_each([&](auto score) {
    SCOPED_TRACE(score.kName);
    test(kind_of<decltype(score)>);
  });
}

// body(problem) for the problem as it is and, where there is more than one token, for packed documents, for a window,
// for rows that see both sides, all and in a window, and for rows in an order of their own; these with documents where
// there are several sequences.
template <class Body>
void with_and_without_masks(const AttentionCase& problem, Body body) {
  {
    AttentionCase one = problem;
    body(one);
  }
  if (problem.spec.shape.T == 1) return;
  {
    SCOPED_TRACE("documents");
    AttentionCase packed = problem;
    packed.pack_documents();
    body(packed);
  }
  {
    SCOPED_TRACE("window");
    AttentionCase windowed = problem;
    windowed.spec.window = problem.spec.shape.T / 3 + 1;
    body(windowed);
  }
  AttentionCase packed = problem;
  if (problem.spec.shape.B > 1) packed.pack_documents();
  for (const int64_t window : {int64_t{0}, problem.spec.shape.T / 3 + 1}) {
    SCOPED_TRACE(fmt::format("both sides, window {}", window));
    AttentionCase both = packed;
    both.spec.window = window;
    body(both.see_both_sides());
  }
  SCOPED_TRACE("order");
  AttentionCase shuffled = packed;
  body(shuffled.shuffle_rows(problem.spec.shape.T / 6 + 1));
}

inline std::string describe(const AttentionShape& s, Slot slot) {
  static constexpr const char* kNames[] = {"no bias", "key bias", "key and value bias"};
  return fmt::format("B {} T {} H {} KV {} D_qk {} D_v {}, {}", s.B, s.T, s.H, s.KV, s.D_qk, s.D_v, kNames[int(slot)]);
}

}  // namespace sluice
