// Matrix products C = op(A) op(B), packed.
//
// A chunk of at most kInner steps of the sum is brought into slivers (packing.h): kRows rows of op(A), kColumns columns
// of op(B). The innermost kernel keeps kRows x 2 vectors of C in registers over the chunk: at 6 x 16 (AVX2) 8 loads for
// 12 multiply-adds, at 14 x 32 (AVX-512) 16 for 28, which two load ports outrun. It reaches 93 to 97% of the registers'
// peak; what a product loses, it loses where its operands come from memory. Hence two schedules, chosen by the shape:
//
// by rows     B, which is small and used by many rows, is packed once, by all threads; a block of rows is a task.
// by columns  Each thread packs a panel of A that fills most of its second-level cache, and a task packs one sliver of
//             B into the nearest cache and multiplies it by the whole panel. Nothing packed crosses from one core
//             to another: a line that another core has read costs its next writer more than packing it again.
//
// A chunk's sums are added to C in order, whichever the schedule and however many threads: neither changes a bit.
//
// Floor: M N K multiply-adds over the registers' peak. docs/benchmarks.md has what is reached.
#include <omp.h>

#include "kernels/cpu/isa/few_rows.h"
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/packing.h"
#include "kernels/cpu/product_workspace.h"
#include "kernels/formulas/activation.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int kRows = SLUICE_VECTOR_BYTES == 64 ? 14 : 6;  // of the innermost kernel: 32 registers or 16
template <class A>
constexpr int kColumns = 2 * Vec<A>::kLanes;
constexpr int64_t kInner = SLUICE_VECTOR_BYTES == 64 ? 768 : 384;  // a longer chunk visits C less, but less of A fits
constexpr int64_t kRowStep = kInner + 16;  // of op(A)'s rows that are packed as they are: not a power of two

constexpr int64_t kBlockSlivers = SLUICE_VECTOR_BYTES == 64 ? 7 : 16;  // of A in a task of the schedule by rows
constexpr int64_t kGroup = 4;                                          // slivers of B that are packed together there
constexpr int64_t kManyRows = 1024, kFewColumns = 1024, kSmallB = 1 << 20;  // where the schedule by rows is the faster
constexpr int64_t kPanelColumns = 8192;    // of C, which stays in the last-level cache over the chunks
constexpr int64_t kPartialColumns = 1024;  // the same where sums have a place of their own
constexpr int kPackingAlone = 2;           // threads; more of them share the packing of A

// kM rows of op(A), packed as they are (kAlong) or step by step, by a sliver of B.
template <int kM, bool kAlong, class A>
SLUICE_INLINE void multiply_slivers(Vec<A> (&sums)[kM][2], const A* a, const A* b, int64_t K) {
  using V = Vec<A>;
#pragma GCC unroll 16
  for (int i = 0; i < kM; ++i) sums[i][0] = sums[i][1] = V(0);
#pragma GCC unroll 2
  for (int64_t k = 0; k < K; ++k, a += kAlong ? 1 : kRows, b += kColumns<A>) {
    const V left = load(b), right = load(b + V::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
      const V x(kAlong ? a[i * kRowStep] : a[i]);
      sums[i][0] += x * left;
      sums[i][1] += x * right;
    }
  }
}

template <class S, class Out>
class Product {
 public:
  using A = Acc<S>;
  using V = Vec<A>;
  static constexpr int kWide = kColumns<A>;

  explicit Product(const Matmul& args)
      : M_(args.out.rows()),
        N_(args.out.cols()),
        K_(args.transpose_a ? args.a.rows() : args.a.cols()),
        chunk_(pieces_of(pieces_of(K_, pieces_of(K_, kInner)), 8) * 8),
        a_(args.a, !args.transpose_a),
        b_(args.b, args.transpose_b),
        args_(args),
        threads_(M_ * N_ * K_ > kSmallProduct ? omp_get_max_threads() : 1) {}

  void run() {
    if (M_ > 2 * N_ || is_used_often()) run_by_rows();
    else run_by_columns();
  }

 private:
  static constexpr bool kInPlace = sizeof(Out) == sizeof(A);  // C itself holds what is summed so far
  static constexpr int64_t kSliverA = kRows * kRowStep;       // elements of a packed sliver, at most

  // Part of C, and where its sums so far are.
  struct Panel {
    int64_t row, rows, column, columns;
    A* partial;
    int64_t partial_stride;
  };
  // Steps of the sum.
  struct Chunk {
    int64_t first, steps;
    bool is_first, is_last;
  };

  Panel panel(int64_t row, int64_t end_row, int64_t column, int64_t columns, A* partial) const {
    if constexpr (kInPlace) return {row, end_row - row, column, columns, out(row, column), args_.out.stride};
    else return {row, end_row - row, column, columns, partial, pieces_of(columns, kWide) * kWide};
  }
  // How many elements sums of their own take.
  int64_t partial_size(int64_t rows, int64_t columns) const {
    return kInPlace || chunk_ >= K_ ? 0 : rows * pieces_of(columns, kWide) * kWide;
  }
  Out* out(int64_t row, int64_t column) const { return row_of<Out>(args_.out, row) + column; }

  // Is B worth packing once, in memory that all threads read?
  bool is_used_often() const { return M_ >= kManyRows && N_ <= kFewColumns && N_ * K_ <= kSmallB && a_.step == 1; }
  // How many packed slivers of A fill three quarters of the second-level cache.
  static int64_t fitting() { return int64_t(second_level_cache() * 3 / 4 / sizeof(A)) / kSliverA; }

  template <class Body>
  void for_chunks(Body body) const {
    for (int64_t k = 0; k < K_; k += chunk_) body(chunk_at(k));
  }
  Chunk chunk_at(int64_t k) const {
    const int64_t steps = min_of(chunk_, K_ - k);
    return {k, steps, k == 0, k + steps == K_};
  }
  // First row of part `i` of op(A)'s slivers, cut into `parts`.
  int64_t first_row(int64_t i, int64_t parts) const { return min_of(i * pieces_of(M_, kRows) / parts * kRows, M_); }

  void run_by_rows() const {
    const bool once = is_used_often();
    const int64_t slivers = pieces_of(M_, kRows), wide = pieces_of(N_, kWide) * kWide;
    const int64_t tasks = once ? pieces_of(slivers, kBlockSlivers) : min_of(slivers, 4 * threads_);
    const int64_t columns = once || kInPlace ? N_ : min_of(N_, kPartialColumns);
    const int64_t blocks =
        min_of(pieces_of(max_of(tasks, pieces_of(slivers, fitting())), threads_) * threads_, slivers);
    const int64_t rows = pieces_of(slivers, blocks) * kRows;
    const int64_t of_a = rows * kRowStep, of_sliver = chunk_ * kWide, of_b = once ? wide * K_ : 0;
    const int64_t each = line_of(of_a + of_sliver + partial_size(rows, columns));
    A* const packed_b = workspace(of_b + each * threads_);
#pragma omp parallel num_threads(threads_)
    {
      if (once) pack_b_together(packed_b);
      A* const packed_a = packed_b + of_b + omp_get_thread_num() * each;
      A* const sliver = packed_a + of_a;
#pragma omp for schedule(dynamic)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t column = 0; column < N_; column += columns) {
          const Panel part = panel(first_row(block, blocks), first_row(block + 1, blocks), column,
                                   min_of(columns, N_ - column), sliver + of_sliver);
          for_chunks([&](const Chunk& chunk) {
            pack_a(part.row, part.rows, chunk, packed_a);
            for (int64_t j = 0; j < part.columns; j += kWide) {
              if (!once) pack_b(column + j, min_of(kWide, part.columns - j), chunk, sliver);
              const A* const b = once ? packed_b + chunk.first * wide + j * chunk.steps : sliver;
              multiply_sliver(part, 0, part.rows, j, chunk, packed_a, b);
            }
          });
        }
    }
  }

  // All threads of the team call.
  void pack_b_together(A* packed) const {
    const int64_t wide = pieces_of(N_, kWide) * kWide, group = kGroup * kWide, groups = pieces_of(N_, group);
#pragma omp for schedule(static)
    for (int64_t piece = 0; piece < groups * pieces_of(K_, chunk_); ++piece) {
      const int64_t j = piece % groups * group;
      const Chunk chunk = chunk_at(piece / groups * chunk_);
      pack_b(j, min_of(group, N_ - j), chunk, packed + chunk.first * wide + j * chunk.steps);
    }
  }

  void run_by_columns() const {
    const int64_t slivers = pieces_of(M_, kRows), panels = pieces_of(slivers, fitting());
    const int64_t rows = pieces_of(slivers, panels) * kRows,
                  columns = min_of(N_, kInPlace ? kPanelColumns : kPartialColumns);
    const bool alone = threads_ <= kPackingAlone;
    const int64_t of_a = rows * kRowStep, of_b = chunk_ * kWide;
    const int64_t shared = line_of((alone ? 0 : of_a) + partial_size(rows, columns));
    const int64_t each = line_of((alone ? of_a : 0) + of_b);
    A* const memory = workspace(shared + each * threads_);
#pragma omp parallel num_threads(threads_)
    {
      A* const mine = memory + shared + omp_get_thread_num() * each;
      A* const packed_a = alone ? mine + of_b : memory;
      for (int64_t p = 0; p < panels; ++p)
        for (int64_t column = 0; column < N_; column += columns) {
          const Panel part = panel(first_row(p, panels), first_row(p + 1, panels), column, min_of(columns, N_ - column),
                                   alone ? memory : memory + of_a);
          for_chunks([&](const Chunk& chunk) {
            if (alone) pack_a(part.row, part.rows, chunk, packed_a);
            else pack_a_together(part, chunk, packed_a);
            run_columns(part, chunk, packed_a, mine);
          });
        }
    }
  }

  // All threads of the team call: a task is one sliver of B, and where those are few, some of the panel's rows.
  void run_columns(const Panel& part, const Chunk& chunk, const A* packed_a, A* packed_b) const {
    const int64_t across = pieces_of(part.columns, kWide), down = pieces_of(part.rows, kRows);
    const int64_t cuts = across >= 4 * threads_ ? 1 : min_of(pieces_of(4 * threads_, across), pieces_of(down, 4));
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < across * cuts; ++task) {
      const int64_t j = task / cuts * kWide, cut = task % cuts;
      pack_b(part.column + j, min_of(kWide, part.columns - j), chunk, packed_b);
      multiply_sliver(part, down * cut / cuts * kRows, min_of(down * (cut + 1) / cuts * kRows, part.rows), j, chunk,
                      packed_a, packed_b);
    }
  }

  void pack_a_together(const Panel& part, const Chunk& chunk, A* packed_a) const {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < part.rows; i += kRows)
      pack_a(part.row + i, min_of(kRows, part.rows - i), chunk, packed_a + i / kRows * sliver_size(chunk));
  }

  // ---- packing

  int64_t sliver_size(const Chunk& chunk) const { return a_.step == 1 ? kSliverA : kRows * chunk.steps; }

  void pack_a(int64_t row, int64_t rows, const Chunk& chunk, A* packed) const {
    const Operand<S> x = a_.from(row, chunk.first);
    if (x.step != 1) return pack_steps<kRows>(x, rows, chunk.steps, packed);
    for (int64_t i = 0; i < rows; i += kRows, packed += kSliverA)
      pack_rows<kRows>(x.from(i, 0), rows - i, chunk.steps, packed, kRowStep);
  }
  void pack_b(int64_t column, int64_t columns, const Chunk& chunk, A* packed) const {
    const Operand<S> x = b_.from(column, chunk.first);
    if (x.step != 1) return pack_steps<kWide>(x, columns, chunk.steps, packed);
    for (int64_t j = 0; j < columns; j += kWide, packed += kWide * chunk.steps)
      pack_transposed<kWide>(x.from(j, 0), columns - j, chunk.steps, packed);
  }

  // ---- multiplying

  // Rows [first, end) of a panel by the sliver of B at its column j.
  __attribute__((noinline)) void multiply_sliver(const Panel& part, int64_t first, int64_t end, int64_t j,
                                                 const Chunk& chunk, const A* packed_a, const A* packed_b) const {
    for (int64_t i = first; i < end; i += kRows) {
      const A* const a = packed_a + i / kRows * sliver_size(chunk);
      prefetch(part.partial + i * part.partial_stride + j, min_of(kRows, end - i), part.partial_stride);
      if (a_.step == 1) multiply_block<true, kRows>(part, i, end - i, j, chunk, a, packed_b);
      else multiply_block<false, kRows>(part, i, end - i, j, chunk, a, packed_b);
    }
  }

  // C's lines are on their way while the sums are made.
  SLUICE_INLINE static void prefetch(const A* partial, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) {
      __builtin_prefetch(partial + i * stride, 1);
      __builtin_prefetch(partial + i * stride + V::kLanes, 1);
    }
  }

  // The kernel for `rows` rows, or the next even number of them.
  template <bool kAlong, int kM>
  SLUICE_INLINE void multiply_block(const Panel& part, int64_t i, int64_t rows, int64_t j, const Chunk& chunk,
                                    const A* a, const A* b) const {
    if constexpr (kM > 2) {
      if (rows <= kM - 2) return multiply_block<kAlong, kM - 2>(part, i, rows, j, chunk, a, b);
    }
    Vec<A> sums[kM][2];
    multiply_slivers<kM, kAlong>(sums, a, b, chunk.steps);
#pragma GCC unroll 16
    for (int row = 0; row < kM; ++row)
      if (row < rows) add_row(part, i + row, j, chunk, sums[row]);
    if (chunk.is_last && args_.activated) activate(part, i, min_of(kM, rows), j);
  }

  // A chunk's sums of one row onto what is there, and after the last chunk into C.
  SLUICE_INLINE void add_row(const Panel& part, int64_t i, int64_t j, const Chunk& chunk, const V (&sums)[2]) const {
    A* const partial = part.partial + i * part.partial_stride + j;
    const bool add_partial = !chunk.is_first || (kInPlace && args_.accumulate);
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t at = half * V::kLanes, count = min_of(V::kLanes, part.columns - j - at);
      if (count <= 0) return;
      V sum = sums[half];
      if (add_partial) sum += load_some(partial + at, count);
      if (chunk.is_last) finish(part.row + i, part.column + j + at, sum, count);
      else store_some(partial + at, sum, count);
    }
  }

  SLUICE_INLINE void finish(int64_t row, int64_t column, V sum, int64_t count) const {
    Out* const to = out(row, column);
    if (args_.bias) sum += load_some(static_cast<const A*>(args_.bias.data) + column, count);
    if (!kInPlace && args_.accumulate) sum += load_some(to, count);
    store_some(to, sum, count);
  }

  // Of what was stored, rounded as the gradient will read it.
  __attribute__((noinline)) void activate(const Panel& part, int64_t first, int64_t rows, int64_t j) const {
    const int64_t column = part.column + j, columns = min_of(kWide, part.columns - j);
    with_activation(args_.activation, [&](auto f) {
      for (int64_t row = part.row + first; row < part.row + first + rows; ++row) {
        const Out* const from = out(row, column);
        Out* const to = row_of<Out>(args_.activated, row) + column;
        for_vectors<A>(columns, [&](int64_t i, int64_t count) SLUICE_INLINE_BODY {
          store_some(to + i, decltype(f)::template forward<A>(load_some(from + i, count)), count);
        });
      }
    });
  }

  // ---- memory

  static int64_t line_of(int64_t elements) { return pieces_of(elements, 16) * 16; }
  static A* workspace(int64_t elements) { return static_cast<A*>(product_workspace(size_t(elements) * sizeof(A))); }

  const int64_t M_, N_, K_, chunk_;
  const Operand<S> a_, b_;
  const Matmul& args_;
  const int threads_;
};

template <class S, class Out>
void multiply(const Matmul& op) {
  const bool few = op.out.rows() < kFewRows && !op.transpose_a && op.transpose_b;
  if (!few) return Product<S, Out>(op).run();
  multiply_few<S, Out>(op);
  if (op.activated) on(ActivationForward{op.activation, op.activated, op.out});
}

}  // namespace

template <>
void on(const Matmul& op) {
  with_storage(op.a.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (op.out.dtype == op.a.dtype) multiply<S, S>(op);
    else multiply<S, Acc<S>>(op);
  });
}

}  // namespace sluice::SLUICE_ISA
