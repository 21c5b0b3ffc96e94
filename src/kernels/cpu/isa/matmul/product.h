// A matrix product: how it is cut. The innermost kernel and its slivers: registers.h.
//
// A chunk of the sum is brought into slivers: kRows rows of op(A), kWide columns of op(B). What a product loses, it
// loses where its operands come from memory. Hence two schedules, chosen by the shape:
//
// by rows     A block of rows is a task, whose thread packs it. B is packed once by all threads where it is small and
//             used by many rows, else by each task, sliver by sliver.
// by columns  Each thread packs a panel of A that fills half of its second-level cache, and a task packs a few slivers
//             of B and multiplies them by the whole panel. Of one or two threads nothing packed crosses from one core
//             to another: a line that another core has read costs its next writer more than packing it again. More
//             threads share the panel, which each would pack too often.
//
// A chunk's sums are added to C in order, whichever the schedule and however many threads: neither changes a bit.
//
// Floor: M N K multiply-adds over the registers' peak. docs/benchmarks.md has what is reached.
#pragma once

#include <omp.h>

#include "kernels/cpu/isa/matmul/registers.h"
#include "kernels/cpu/product_workspace.h"
#include "kernels/formulas/activation.h"

namespace sluice::SLUICE_ISA {

constexpr int64_t kBlockSlivers = SLUICE_VECTOR_BYTES == 64 ? 7 : 16;  // of A in a task where B is packed once
constexpr int64_t kGroup = 4;                                          // slivers of B that are packed together, at most
constexpr int64_t kTasks = 4;  // of each thread, at least, that it may ride out a slow core
constexpr int64_t kManyRows = 1024, kFewColumns = 1024, kSmallB = 1 << 20;  // where that is the faster
constexpr int64_t kPanelColumns = 8192;      // of C, which stays in the last-level cache over the chunks
constexpr int64_t kPartialColumns = 1024;    // the same where sums have a place of their own
constexpr int kPackingAlone = 2;             // threads; more of them share the packing of A
constexpr int64_t kSmallProduct = 64 << 10;  // multiply-adds that are not worth a second thread

template <class S, class Out>
class Product {
 public:
  using Kernel = Registers<S>;
  using A = Acc<S>;
  using V = Vec<A>;
  static constexpr int kRows = Kernel::kRows, kWide = Kernel::kWide;

  explicit Product(const Matmul& args)
      : M_(args.out.rows()),
        N_(args.out.cols()),
        K_(args.transpose_a ? args.a.rows() : args.a.cols()),
        chunk_(pieces_of(pieces_of(K_, pieces_of(K_, Kernel::kInner)), Kernel::kStepUnit) * Kernel::kStepUnit),
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
  bool is_used_often() const {
    return M_ >= kManyRows && N_ <= kFewColumns && right_size(N_, K_) <= kSmallB && a_.step == 1;
  }
  // How many packed slivers of A fill half of the second-level cache.
  int64_t fitting() const {
    return max_of(int64_t(second_level_cache() / 2 / sizeof(A)) / Kernel::left_sliver(a_, chunk_), 1);
  }
  // Elements of packed rows of op(A), and of a sliver of op(B).
  int64_t left_size(int64_t rows) const { return pieces_of(rows, kRows) * Kernel::left_sliver(a_, chunk_); }
  static int64_t right_size(int64_t columns, int64_t steps) { return pieces_of(columns, kWide) * kWide * steps; }

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
    const int64_t slivers = pieces_of(M_, kRows);
    const int64_t tasks = once ? pieces_of(slivers, kBlockSlivers) : min_of(slivers, kTasks * threads_);
    const int64_t columns = once || kInPlace ? N_ : min_of(N_, kPartialColumns);
    const int64_t blocks =
        min_of(pieces_of(max_of(tasks, pieces_of(slivers, fitting())), threads_) * threads_, slivers);
    const int64_t rows = pieces_of(slivers, blocks) * kRows;
    const int64_t of_a = left_size(rows), of_sliver = right_size(kWide, chunk_), of_b = once ? right_size(N_, K_) : 0;
    const int64_t each = line_of(of_a + of_sliver + partial_size(rows, columns));
    A* const packed_b = workspace(of_b + each * threads_);
#pragma omp parallel num_threads(threads_)
    {
      if (once) pack_right_together(packed_b);
      A* const packed_a = packed_b + of_b + omp_get_thread_num() * each;
      A* const sliver = packed_a + of_a;
#pragma omp for schedule(dynamic)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t column = 0; column < N_; column += columns) {
          const Panel part = panel(first_row(block, blocks), first_row(block + 1, blocks), column,
                                   min_of(columns, N_ - column), sliver + of_sliver);
          for_chunks([&](const Chunk& chunk) {
            pack_left(part.row, part.rows, chunk, packed_a);
            for (int64_t j = 0; j < part.columns; j += kWide) {
              if (!once) pack_right(column + j, min_of(kWide, part.columns - j), chunk, sliver);
              const A* const b = once ? packed_b + right_size(N_, chunk.first) + right_size(j, chunk.steps) : sliver;
              multiply_sliver(part, 0, part.rows, j, chunk, packed_a, b);
            }
          });
        }
    }
  }

  // All threads of the team call.
  void pack_right_together(A* packed) const {
    const int64_t group = kGroup * kWide, groups = pieces_of(N_, group);
#pragma omp for schedule(static)
    for (int64_t piece = 0; piece < groups * pieces_of(K_, chunk_); ++piece) {
      const int64_t j = piece % groups * group;
      const Chunk chunk = chunk_at(piece / groups * chunk_);
      pack_right(j, min_of(group, N_ - j), chunk, packed + right_size(N_, chunk.first) + right_size(j, chunk.steps));
    }
  }

  void run_by_columns() const {
    const int64_t slivers = pieces_of(M_, kRows), panels = pieces_of(slivers, fitting());
    const int64_t rows = pieces_of(slivers, panels) * kRows;
    const int64_t columns = min_of(N_, kInPlace ? kPanelColumns : kPartialColumns);
    const bool alone = threads_ <= kPackingAlone;
    const int64_t of_a = left_size(rows), of_b = right_size(task_slivers(columns) * kWide, chunk_);
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
            if (alone) pack_left(part.row, part.rows, chunk, packed_a);
            else pack_left_together(part, chunk, packed_a);
            run_columns(part, chunk, packed_a, mine);
          });
        }
    }
  }

  // Slivers of B that a task of the schedule by columns packs at once: more of a row lie side by side in memory, and
  // less often a thread asks for work.
  int64_t task_slivers(int64_t columns) const {
    return max_of(min_of(kGroup, pieces_of(columns, kWide) / (kTasks * threads_)), 1);
  }

  // All threads of the team call: a task is some slivers of B, and where those are few, some of the panel's rows.
  void run_columns(const Panel& part, const Chunk& chunk, const A* packed_a, A* packed_b) const {
    const int64_t wide = task_slivers(part.columns) * kWide, across = pieces_of(part.columns, wide);
    const int64_t down = pieces_of(part.rows, kRows);
    const int64_t cuts =
        across >= kTasks * threads_ ? 1 : min_of(pieces_of(kTasks * threads_, across), pieces_of(down, 4));
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < across * cuts; ++task) {
      const int64_t cut = task % cuts, first = down * cut / cuts * kRows;
      const int64_t end = min_of(down * (cut + 1) / cuts * kRows, part.rows);
      const int64_t column = task / cuts * wide, columns = min_of(wide, part.columns - column);
      pack_right(part.column + column, columns, chunk, packed_b);
      for (int64_t j = 0; j < columns; j += kWide)
        multiply_sliver(part, first, end, column + j, chunk, packed_a, packed_b + right_size(j, chunk.steps));
    }
  }

  void pack_left_together(const Panel& part, const Chunk& chunk, A* packed) const {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < part.rows; i += kRows)
      pack_left(part.row + i, min_of(kRows, part.rows - i), chunk,
                packed + i / kRows * Kernel::left_sliver(a_, chunk.steps));
  }

  void pack_left(int64_t row, int64_t rows, const Chunk& chunk, A* packed) const {
    Kernel::pack_left(a_.from(row, chunk.first), rows, chunk.steps, packed);
  }
  void pack_right(int64_t column, int64_t columns, const Chunk& chunk, A* packed) const {
    Kernel::pack_right(b_.from(column, chunk.first), columns, chunk.steps, packed);
  }

  // Rows [first, end) of a panel by the sliver of B at its column j.
  __attribute__((noinline)) void multiply_sliver(const Panel& part, int64_t first, int64_t end, int64_t j,
                                                 const Chunk& chunk, const A* packed_a, const A* packed_b) const {
    const Operand<S> x = a_.from(part.row, chunk.first);
    for (int64_t i = first; i < end; i += kRows) {
      const int64_t rows = min_of(kRows, end - i);
      if (kInPlace || chunk_ < K_) prefetch(part.partial + i * part.partial_stride + j, rows, part.partial_stride);
      Kernel::multiply(Kernel::left(x, packed_a, i, chunk.steps), rows, packed_b, chunk.steps,
                       [&](int row, const V(&sums)[2]) SLUICE_INLINE_BODY { add_row(part, i + row, j, chunk, sums); });
      if (chunk.is_last && args_.activated) activate(part, i, rows, j);
    }
  }

  // C's lines are on their way while the sums are made.
  SLUICE_INLINE static void prefetch(const A* partial, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) {
      __builtin_prefetch(partial + i * stride, 1);
      __builtin_prefetch(partial + i * stride + V::kLanes, 1);
    }
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
        activation_forward_span<decltype(f)>(to, from, columns);
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

}  // namespace sluice::SLUICE_ISA
