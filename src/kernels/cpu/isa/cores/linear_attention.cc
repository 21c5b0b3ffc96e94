// Linear attention with decay on the CPU, in chunks of up to 64 rows: what a chunk's rows take of each other is a tile
// of products, what they take of all before it comes from a state that goes from chunk to chunk.
//
// Results and all three gradients are one kind of sum (kernels/formulas/linear_attention.h),
//
//   out_i = sum_j lam^|i-j| (a_i . b_j) c_j   over the rows up to i or, backwards, from i on,
//
// which is walked in the order of its rows: backwards is a negative distance between rows. A chunk ends where a
// document does, so that no mask but the triangle is needed. Heads that share keys and values are added up chunk by
// chunk, each with a state of its own. A task is such a group of heads of one sequence; no sum depends on the number of
// threads.
#include "kernels/formulas/linear_attention.h"
#include "kernels/cpu/isa/attention_tiles.h"
#include "kernels/cpu/linear_workspace.h"
#include "kernels/ops/cores/linear_attention.h"

namespace sluice::SLUICE_ISA {
namespace {

// A tensor of heads with D features, each of which serves `group` query heads.
template <class S>
struct Heads {
  const Tensor& x;
  int64_t D, group;
  SLUICE_INLINE S* row(int64_t n, int64_t h) const { return row_of<S>(x, n) + h / group * D; }
};

// One of the sums. The heads of `out` may serve several query heads: their sums are added up.
template <class S>
struct DecayedSum {
  const LinearAttentionForward& op;
  Heads<S> a, b, c, out;
  bool backwards;
};

// The rows of a document side by side that are worked on at once, in the order in which they are walked.
struct Chunk {
  int64_t first, count;
  bool fresh;      // nothing came before it
  bool continued;  // something comes after it
};

template <class S>
class Walk {
 public:
  using A = Acc<S>;
  using V = Vec<A>;
  static constexpr int64_t kLanes = V::kLanes;

  // The group of query heads that begins with head `first` of sequence b. `states`: for each a [D of b, whole vectors
  // of c].
  Walk(const DecayedSum<S>& sum, int64_t b, int64_t first, A* states)
      : sum_(sum), op_(sum.op), b_(b), first_head_(first), states_(states) {}

  // keep: the state after the last row is wanted. resumed: there is one before the first.
  void run(bool resumed, bool keep) {
    const int64_t T = op_.shape.T;
    for (int64_t done = 0; done < T;) {
      const Chunk chunk = sum_.backwards ? chunk_before(T - done) : chunk_from(done, resumed, keep);
      for (int64_t i = 0; i < sum_.out.group; ++i)
        add_head(chunk, first_head_ + i, states_ + i * sum_.b.D * padded_c_, i == 0);
      store(chunk);
      done += chunk.count;
    }
  }

 private:
  // Whether a document begins at row t.
  SLUICE_INLINE bool starts(int64_t t) const {
    return t == 0 || (op_.first_key.data && row_of<const int32_t>(op_.first_key, 0)[b_ * op_.shape.T + t] == t);
  }
  Chunk chunk_from(int64_t t, bool resumed, bool keep) const {
    const int64_t T = op_.shape.T;
    int64_t end = t + 1;
    while (end < T && end - t < kBlock && !starts(end)) ++end;
    return {t, end - t, starts(t) && !(t == 0 && resumed), end < T ? !starts(end) : keep};
  }
  Chunk chunk_before(int64_t end) const {
    int64_t t = end - 1;
    while (end - t < kBlock && !starts(t)) --t;
    return {end - 1, end - t, end == op_.shape.T || starts(end), !starts(t)};
  }

  SLUICE_INLINE S* rows(const Heads<S>& of, const Chunk& chunk, int64_t h) const {
    return of.row(b_ * op_.shape.T + chunk.first, h);
  }
  SLUICE_INLINE int64_t step(const Heads<S>& of) const { return sum_.backwards ? -of.x.stride : of.x.stride; }

  // Adds head h's part of the chunk's results to out_, or begins with it, and brings the state behind the chunk.
  void add_head(const Chunk& chunk, int64_t h, A* state, bool first) {
    decay_of(h);
    const S *a = rows(sum_.a, chunk, h), *b = rows(sum_.b, chunk, h), *c = rows(sum_.c, chunk, h);
    const int64_t n = chunk.count, D = sum_.a.D;
    const Rows<A> queries = tile_rows(a, step(sum_.a), n, D, padded_a_, a_);
    const Rows<A> values = tile_rows(c, step(sum_.c), n, sum_.c.D, padded_c_, c_);
    pack_transposed(b, step(sum_.b), n, D, A(1), columns_);
    for (int64_t i = 0; i < n; i += kStrip) {
      const int64_t count = min_of(kStrip, n - i), end = i + kStrip;
      A* p = p_ + i * kBlock;
      tile_gemm<A>({queries.data + i * queries.stride, queries.stride, 1, columns_, kBlock, p, kBlock, false}, count,
                   end, D);
      weigh(p, i, count, end);
      tile_gemm<A>({p, kBlock, 1, values.data, values.stride, out_ + i * padded_c_, padded_c_, !first}, count,
                   padded_c_, min_of(end, n));
    }
    if (!chunk.fresh) {
      scale_rows(a, step(sum_.a), n, [&](int64_t i) { return i + 1; });
      tile_gemm<A>({scaled_, padded_a_, 1, state, padded_c_, out_, padded_c_, true}, n, padded_c_, D);
    }
    if (!chunk.continued) return;
    if (!chunk.fresh) {
      const A kept = powers_[n], lost = lost_[n];
      for (int64_t i = 0; i < D * padded_c_; i += kLanes) store_vector(state + i, kept_of(load(state + i), kept, lost));
    }
    scale_rows(b, step(sum_.b), n, [&](int64_t i) { return n - 1 - i; });
    tile_gemm<A>({scaled_, 1, padded_a_, values.data, values.stride, state, padded_c_, !chunk.fresh}, D, padded_c_, n);
  }

  // lam^n state. lam^n near 1 is rounded to few digits of what is lost, and that error would grow from step to step of
  // a decoder: there it is taken as state - (1 - lam^n) state.
  static SLUICE_INLINE V kept_of(V state, A kept, A lost) {
    return kept < A(0.5) ? state * V(kept) : state - state * V(lost);
  }

  // Products of rows [i, i + count) of the chunk with its rows [0, end) into weights: what lies after a row has none.
  SLUICE_INLINE void weigh(A* p, int64_t i, int64_t count, int64_t end) const {
    for (int64_t row = 0; row < count; ++row, p += kBlock)
      for (int64_t j = 0; j < end; j += kLanes)
        store_vector(p + j, load(p + j) * load(falling_ + kBlock - 1 - (i + row) + j));
  }

  // scaled_[i] = lam^(power_of(i)) from[i]
  template <class PowerOf>
  SLUICE_INLINE void scale_rows(const S* from, int64_t stride, int64_t n, PowerOf power_of) {
    for (int64_t i = 0; i < n; ++i, from += stride) {
      const V factor(powers_[power_of(i)]);
      A* to = scaled_ + i * padded_a_;
      const S* row = from;
      for_vectors<A>(sum_.a.D, [=](int64_t d, int64_t count)
                                   SLUICE_INLINE_BODY { store_vector(to + d, load_some(row + d, count) * factor); });
    }
  }

  void store(const Chunk& chunk) const {
    S* to = rows(sum_.out, chunk, first_head_);
    for (int64_t i = 0; i < chunk.count; ++i, to += step(sum_.out)) {
      const A* from = out_ + i * padded_c_;
      S* row = to;
      for_vectors<A>(sum_.out.D,
                     [=](int64_t d, int64_t count) SLUICE_INLINE_BODY { store_some(row + d, load(from + d), count); });
    }
  }
  static SLUICE_INLINE void store_vector(A* to, V x) { sluice::SLUICE_ISA::store(to, x); }

  void decay_of(int64_t h) {
    if (h == decayed_head_) return;
    decayed_head_ = h;
    const double slope = op_.decay * head_slope(h, op_.shape.H), once = decay_after(slope, 1);
    double power = 1;
    for (int64_t i = 0; i <= kBlock; ++i, power *= once) powers_[i] = A(power), lost_[i] = A(1 - power);
    for (int64_t i = 0; i < kBlock; ++i) falling_[i] = powers_[kBlock - 1 - i], falling_[kBlock + i] = 0;
  }

  const DecayedSum<S>& sum_;
  const LinearAttentionForward& op_;
  const int64_t b_, first_head_;
  A* const states_;
  int64_t decayed_head_ = -1;
  const int64_t padded_a_ = whole_vectors<A>(sum_.a.D), padded_c_ = whole_vectors<A>(sum_.c.D);
  A lost_[kBlock + 1];                  // 1 - lam^i
  A powers_[kBlock + 1];                // of lam, from 0 on
  A falling_[2 * kBlock];               // lam^(kBlock - 1) ... lam^0, then zeros
  alignas(64) A a_[kBlock * kMaxHead];  // converted rows, where needed
  alignas(64) A c_[kBlock * kMaxHead];
  alignas(64) A columns_[kMaxHead * kBlock];  // [D, kBlock]: rows of b
  alignas(64) A scaled_[kBlock * kMaxHead];   // [count, padded_a]: decayed rows of a, then of b
  alignas(64) A p_[kBlock * kBlock];          // [rows of a, rows of b]: products, then weights
  alignas(64) A out_[kBlock * kMaxHead];      // [count, padded_c]
};

// A group of heads of one of the sums, whose states lie at `states` for all heads of all sequences.
template <class S>
void run_group(const DecayedSum<S>& sum, int64_t task, Acc<S>* states) {
  const int64_t heads = sum.op.shape.H, first = task * sum.out.group;
  Walk<S>(sum, first / heads, first % heads, states + first * sum.b.D * whole_vectors<Acc<S>>(sum.c.D))
      .run(false, false);
}

template <class S>
void forward_head(const DecayedSum<S>& sum, int64_t head) {
  using A = Acc<S>;
  const LinearAttentionForward& op = sum.op;
  alignas(64) A state[kMaxHead * kMaxHead];
  const int64_t D = sum.c.D, padded = whole_vectors<A>(D);
  A* kept = op.state.data ? row_of<A>(op.state, head * sum.b.D) : nullptr;
  for (int64_t i = 0; op.resume && i < sum.b.D; ++i)
    for_vectors<A>(D, [&](int64_t d, int64_t count)
                          SLUICE_INLINE_BODY { store(state + i * padded + d, load_some(kept + i * D + d, count)); });
  Walk<S>(sum, head / op.shape.H, head % op.shape.H, state).run(op.resume, kept != nullptr);
  for (int64_t i = 0; kept && i < sum.b.D; ++i)
    for_vectors<A>(D, [&](int64_t d, int64_t count)
                          SLUICE_INLINE_BODY { store_some(kept + i * D + d, load(state + i * padded + d), count); });
}

}  // namespace

template <>
void on(const LinearAttentionForward& op) {
  const AttentionShape& s = op.shape;
  const int64_t group = s.H / s.KV;
  with_storage(op.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    const DecayedSum<S> sum = {op,   {op.q, s.D_qk, 1}, {op.k, s.D_qk, group}, {op.v, s.D_v, group}, {op.out, s.D_v, 1},
                               false};
#pragma omp parallel for schedule(dynamic)
    for (int64_t head = 0; head < s.B * s.H; ++head) forward_head(sum, head);
  });
}

template <>
void on(const LinearAttentionBackward& op) {
  const LinearAttentionForward& in = op.forward;
  const AttentionShape& s = in.shape;
  const int64_t group = s.H / s.KV, heads = s.B * s.H, groups = s.B * s.KV;
  with_storage(in.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    const Heads<S> q{in.q, s.D_qk, 1}, k{in.k, s.D_qk, group}, v{in.v, s.D_v, group}, d{op.d_out, s.D_v, 1};
    const DecayedSum<S> to_q = {in, d, v, k, {op.d_q, s.D_qk, 1}, false};
    const DecayedSum<S> to_k = {in, v, d, q, {op.d_k, s.D_qk, group}, true};
    const DecayedSum<S> to_v = {in, k, q, d, {op.d_v, s.D_v, group}, true};
    const LinearAttentionWorkspace layout(s);
    Acc<S>* workspace = static_cast<Acc<S>*>(op.workspace.data);
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < 2 * groups + heads; ++task) {
      if (task < groups) run_group(to_k, task, workspace + layout.d_k);
      else if (task < 2 * groups) run_group(to_v, task - groups, workspace + layout.d_v);
      else run_group(to_q, task - 2 * groups, workspace + layout.d_q);
    }
  });
}

}  // namespace sluice::SLUICE_ISA
