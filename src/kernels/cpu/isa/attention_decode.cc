// Attention of one query a sequence over cached keys and values: a decoder's step.
//
//   s_j = scale * q . k_j, j < length (those of the window)     m, l by the score function's row formulas (score.h) O =
//   sum_j p_j v_j
//
// What it costs is reading the cache: length * KV (D_qk + D_v) elements a sequence and
// layer, each once, for two operations an
// element and query head. The floor is that over the memory's bandwidth. The scores of a row are kept, H * length
// numbers that stay in cache, so that every score function takes the same stages: scores, rows, values.
//
// A unit is one key/value head of a sequence with the query heads that share it. Where there are few units, keys are
// cut into chunks as well; their sums are added up in order. All follows from the sizes, never from the threads.
#include "kernels/cpu/isa/attention_tiles.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S, class Score>
class Decode {
 public:
  using A = Acc<S>;
  using V = Vec<A>;

  explicit Decode(const AttentionDecode& args)
      : args_(args),
        shape_(args.spec.shape),
        constants_(constants_of<Score, A>(args.spec)),
        layout_(shape_),
        length_(args.spec.window > 0 ? min_of(args.length, args.spec.window) : args.length),
        first_key_(args.length - length_),
        group_(shape_.H / shape_.KV),
        chunks_(layout_.chunks(shape_, length_)),
        chunk_keys_((length_ + chunks_ - 1) / chunks_),
        workspace_(static_cast<A*>(args.workspace.data)) {}

  void run() {
    const int64_t units = shape_.B * shape_.KV, tasks = units * chunks_;
    if (chunks_ == 1) {
#pragma omp parallel for schedule(dynamic) if (units > 1)
      for (int64_t unit = 0; unit < units; ++unit) {
        score_keys(unit, 0);
        for (int64_t head = unit * group_; head < (unit + 1) * group_; ++head) weigh_row(head);
        sum_values(unit, 0);
        for (int64_t head = unit * group_; head < (unit + 1) * group_; ++head) store_output(head);
      }
      return;
    }
#pragma omp parallel
    {
#pragma omp for schedule(static)
      for (int64_t task = 0; task < tasks; ++task) score_keys(task / chunks_, task % chunks_);
#pragma omp for schedule(static)
      for (int64_t head = 0; head < shape_.B * shape_.H; ++head) weigh_row(head);
#pragma omp for schedule(static)
      for (int64_t task = 0; task < tasks; ++task) sum_values(task / chunks_, task % chunks_);
#pragma omp for schedule(static)
      for (int64_t head = 0; head < shape_.B * shape_.H; ++head) store_output(head);
    }
  }

 private:
  // `head` counts through all sequences' query heads, `unit` through their key/value heads: the heads of a unit are
  // group_ rows from unit * group_ on.
  A* row(int64_t head) const { return workspace_ + layout_.scores + head * layout_.row; }  // [length (+ the bias slot)]
  A* partial(int64_t chunk, int64_t head) const {                                          // [padded_v]
    return workspace_ + layout_.partials + (chunk * shape_.B * shape_.H + head) * layout_.padded_v;
  }
  const S* query(int64_t head) const {
    return static_cast<const S*>(args_.q.data) + head / shape_.H * args_.q.stride + head % shape_.H * shape_.D_qk;
  }
  const S* cached(const Tensor& x, int64_t unit, int64_t t, int64_t D) const {
    return head_row<S>(x, shape_, unit / shape_.KV, first_key_ + t, unit % shape_.KV, D);
  }
  int64_t first_of(int64_t chunk) const { return min_of(chunk * chunk_keys_, length_); }

  template <class Key>
  SLUICE_INLINE A score(const S* q, const Key* k) const {
    V sum(0);
    for_vectors<A>(shape_.D_qk, [&](int64_t d, int64_t n) { sum += load_some(q + d, n) * load_some(k + d, n); });
    return sum_of(sum) * A(args_.spec.scale);
  }

  void score_keys(int64_t unit, int64_t chunk) {
    for (int64_t j = first_of(chunk); j < first_of(chunk + 1); ++j) {
      const S* k = cached(args_.k, unit, j, shape_.D_qk);
      for (int64_t head = unit * group_; head < (unit + 1) * group_; ++head) row(head)[j] = score(query(head), k);
    }
  }

  // Scores into weights, in place; that of the bias slot comes behind the keys'.
  void weigh_row(int64_t head) {
    A* s = row(head);
    const int64_t h = head % shape_.H;
    int64_t count = length_;
    if (args_.key_bias)
      s[count++] = score(query(head), static_cast<const A*>(args_.key_bias.data) + h / group_ * shape_.D_qk);
    const LearnedOfHead<A> learned = learned_of<A>(args_.learned, h);
    const RowStart<A> start = Score::template start<A>(A(length_ - 1), learned, constants_);
    V m(start.reference), mass(0);
    A l = start.mass;
    if constexpr (Score::kRunningMax) {
      for_vectors<A>(count,
                     [&](int64_t i, int64_t n) { m = max_of(select(first_lanes<A>(n), load_some(s + i, n), m), m); });
      A largest = m[0];
      for (int64_t lane = 1; lane < V::kLanes; ++lane) largest = m[lane] > largest ? m[lane] : largest;
      m = V(largest);
      l *= exp_of(V(start.reference) - m)[0];
    }
    for_vectors<A>(count, [&](int64_t i, int64_t n) {
      const V x = load_some(s + i, n);
      mass += select(first_lanes<A>(n), Score::mass(x, m, Score::weight(x, m, constants_), constants_), V(0));
    });
    const RowStats<A> stats = Score::finish(m[0], l + sum_of(mass), A(length_ - 1), learned, constants_);
    for_vectors<A>(count, [&](int64_t i, int64_t n) {
      store_some(s + i, Score::probability(load_some(s + i, n), V(stats.reference), V(stats.inverse), constants_), n);
    });
  }

  void sum_values(int64_t unit, int64_t chunk) {
    alignas(64) A scratch[kBlock * kMaxHead];
    const int64_t padded = whole_vectors<A>(D_v_);
    A* sums = partial(chunk, unit * group_);
    std::memset(sums, 0, size_t(group_ * layout_.padded_v) * sizeof(A));
    const int64_t end = first_of(chunk + 1);
    for (int64_t j = first_of(chunk); j < end; j += kBlock) {
      const int64_t count = min_of(kBlock, end - j);
      const Rows<A> v = tile_rows(cached(args_.v, unit, j, D_v_), args_.v.stride, count, D_v_, padded, scratch);
      tile_gemm<A>({row(unit * group_) + j, layout_.row, 1, v.data, v.stride, sums, layout_.padded_v, true}, group_,
                   padded, count);
    }
  }

  void store_output(int64_t head) {
    const int64_t b = head / shape_.H, h = head % shape_.H;
    S* out = static_cast<S*>(args_.out.data) + b * args_.out.stride + h * D_v_;
    const A* bias = args_.value_bias ? static_cast<const A*>(args_.value_bias.data) + h / group_ * D_v_ : nullptr;
    for_vectors<A>(D_v_, [&](int64_t d, int64_t n) {
      V sum = bias ? V(row(head)[length_]) * load_some(bias + d, n) : V(0);
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) sum += load(partial(chunk, head) + d);
      store_some(out + d, sum, n);
    });
  }

  const AttentionDecode& args_;
  const AttentionShape& shape_;
  const typename Score::template Constants<A> constants_;
  const AttentionDecodeWorkspace layout_;
  const int64_t length_, first_key_;  // keys that the query sees, and where they begin: t counts from there
  const int64_t group_, chunks_, chunk_keys_, D_v_ = shape_.D_v;
  A* const workspace_;
};

}  // namespace

template <>
void on(const AttentionDecode& op) {
  with_storage(op.q.dtype, [&](auto storage) {
    ScoreFunctions::dispatch(op.spec.score, [&](auto score) { Decode<decltype(storage), decltype(score)>(op).run(); });
  });
}

}  // namespace sluice::SLUICE_ISA
