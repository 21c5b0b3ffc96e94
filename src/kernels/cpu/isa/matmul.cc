// Matrix products C = op(A) op(B), packed: for f64, for bf16 where oneDNN has no product, and for f32 where oneDNN's
// splits its sums by the number of threads.
//
// Of a panel of C, a chunk of at most kInner steps of the sum is brought into slivers that the innermost kernel reads
// from end to end: kRows rows of op(A), or kColumns columns of op(B), one step of the sum after the other, in the
// accumulator type. Transposition, stride, storage type and edges are the packing's matter; a row whose stride is a
// power of two is read a whole cache line at a time, so that its lines are done with before others take their places.
// The kernel keeps kRows x 2 vectors of C in registers over the chunk: at 6 x 16 (AVX2) 8 loads for 12 multiply-adds,
// at 14 x 32 (AVX-512) 16 for 28, which two load ports outrun. A task is a block of C that reads its slivers of A from
// the second-level cache; tasks go to whichever thread is free. Chunks are added up in order, so that the result does
// not depend on threads.
//
// Floor: M N K multiply-adds over the registers' peak. docs/benchmarks.md has what is reached.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/product_workspace.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int kRows = SLUICE_VECTOR_BYTES == 64 ? 14 : 6;  // of the innermost kernel: 32 registers or 16
template <class A>
constexpr int kColumns = 2 * Vec<A>::kLanes;
constexpr int64_t kInner = 256;                                       // a sliver of B stays in the first-level cache
constexpr int64_t kTaskSlivers = SLUICE_VECTOR_BYTES == 64 ? 7 : 16;  // of A: some 100 rows, in the second-level cache
constexpr int64_t kTaskColumns = 256;
constexpr int64_t kPanelRows = 4096, kPanelColumns = 4096, kPartialRows = 1024, kPartialColumns = 1024;
constexpr int64_t kLine = 16;         // steps that are packed at a time
constexpr int64_t kSmall = 64 << 10;  // multiply-adds that are not worth a second thread

SLUICE_INLINE constexpr int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

// One operand as the product sees it: element (i, k), i a row of op(A) or a column of op(B), k a step of the sum, at
// data[i * stride + k * step].
template <class S>
struct Operand {
  const S* data;
  int64_t stride, step;
  Operand from(int64_t i, int64_t k) const { return {data + i * stride + k * step, stride, step}; }
};

template <class S>
Operand<S> operand(const Tensor& x, bool along_rows) {
  return {static_cast<const S*>(x.data), along_rows ? x.stride : 1, along_rows ? 1 : x.stride};
}

// ---- packing: out[k][i] = x(i, k), i < kWide; zeros from `count`, which may be more than kWide, on

// Steps lie side by side: a line of each row in turn.
template <int kWide, class S>
void pack_along(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out) {
  using V = Vec<Acc<S>>;
  for (int64_t k = 0; k < K; k += kLine) {
    const int64_t steps = min_of(kLine, K - k);
    for (int64_t i = 0; i < kWide; ++i) {
      Acc<S> line[kLine] = {};
      if (i < count)
        for (int64_t j = 0; j < steps; j += V::kLanes)
          store(line + j, load_some(x.data + i * x.stride + k + j, min_of(V::kLanes, steps - j)));
      for (int64_t j = 0; j < steps; ++j) out[(k + j) * kWide + i] = line[j];
    }
  }
}

// What a step needs lies side by side. Whole vectors are stored that reach into the next step's place, which comes
// after.
template <int kWide, class S>
void pack_across(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out) {
  using V = Vec<Acc<S>>;
  for (int64_t k = 0; k < K; ++k)
    for (int64_t i = 0; i < kWide; i += V::kLanes) {
      const int64_t given = min_of(V::kLanes, count - i);
      const V step = given > 0 ? load_some(x.data + k * x.step + i, given) : V(0);
      store_some(out + k * kWide + i, step, k + 1 < K ? V::kLanes : min_of(V::kLanes, kWide - i));
    }
}

template <int kWide, class S>
void pack(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out) {
  if (x.step == 1) pack_along<kWide>(x, count, K, out);
  else pack_across<kWide>(x, count, K, out);
}

// ---- the innermost kernel

template <class A>
using Sums = Vec<A>[kRows][2];

template <class A>
SLUICE_INLINE void multiply_slivers(Sums<A>& sums, const A* a, const A* b, int64_t K) {
  using V = Vec<A>;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) sums[i][0] = sums[i][1] = V(0);
#pragma GCC unroll 2
  for (int64_t k = 0; k < K; ++k, a += kRows, b += kColumns<A>) {
    const V left = load(b), right = load(b + V::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V x(a[i]);
      sums[i][0] += x * left;
      sums[i][1] += x * right;
    }
  }
}

// ---- few rows: nothing is packed

constexpr int64_t kFewRows = 48;  // below it packing op(B) costs more than it brings
constexpr int kDotRows = 3, kDotColumns = 4;

// Dot products of kM rows of op(A) and kDotColumns of op(B), whose elements lie side by side. Pointers may repeat.
template <int kM, class S>
SLUICE_INLINE void dot_block(Acc<S> (&out)[kDotRows][kDotColumns], const S* const (&a)[kDotRows],
                             const S* const (&b)[kDotColumns], int64_t K) {
  using V = Vec<Acc<S>>;
  V sums[kM][kDotColumns];
#pragma GCC unroll 3
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) sums[i][j] = V(0);
  for_vectors<Acc<S>>(K, [&](int64_t k, int64_t count) SLUICE_INLINE_BODY {
    V right[kDotColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) right[j] = load_some(b[j] + k, count);
#pragma GCC unroll 3
    for (int i = 0; i < kM; ++i) {
      const V left = load_some(a[i] + k, count);
#pragma GCC unroll 4
      for (int j = 0; j < kDotColumns; ++j) sums[i][j] += left * right[j];
    }
  });
#pragma GCC unroll 3
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) out[i][j] = sum_of(sums[i][j]);
}

// C for op(A) of few rows and op(B) of rows that are its columns.
template <class S, class Out>
void multiply_few(const Matmul& args) {
  using A = Acc<S>;
  const int64_t M = args.out.rows(), N = args.out.cols(), K = args.a.cols();
#pragma omp parallel for schedule(static) if (M * N * K > kSmall)
  for (int64_t block = 0; block < pieces(N, kDotColumns); ++block) {
    const int64_t column = block * kDotColumns, columns = min_of(kDotColumns, N - column);
    const S* b[kDotColumns];
    for (int64_t j = 0; j < kDotColumns; ++j) b[j] = row_of<const S>(args.b, column + min_of(j, columns - 1));
    for (int64_t row = 0; row < M; row += kDotRows) {
      const int64_t rows = min_of(kDotRows, M - row);
      const S* a[kDotRows];
      for (int64_t i = 0; i < kDotRows; ++i) a[i] = row_of<const S>(args.a, row + min_of(i, rows - 1));
      A sums[kDotRows][kDotColumns];
      if (rows == 1) dot_block<1>(sums, a, b, K);
      else dot_block<kDotRows>(sums, a, b, K);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
          Out* const out = row_of<Out>(args.out, row + i) + column + j;
          A sum = sums[i][j];
          if (args.bias) sum += static_cast<const A*>(args.bias.data)[column + j];
          if (args.accumulate) sum += load_one(out);
          store_one(out, sum);
        }
    }
  }
}

// ---- a product

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
        a_(operand<S>(args.a, !args.transpose_a)),
        b_(operand<S>(args.b, args.transpose_b)),
        out_(static_cast<Out*>(args.out.data)),
        stride_(args.out.stride),
        bias_(static_cast<const A*>(args.bias.data)),
        accumulate_(args.accumulate) {}

  void run() {
    const int64_t chunk = min_of(kInner, K_);
    panel_rows_ = min_of((kInPlace ? kPanelRows : kPartialRows) / kRows * kRows, pieces(M_, kRows) * kRows);
    panel_columns_ = min_of(kInPlace ? kPanelColumns : kPartialColumns, pieces(N_, kWide) * kWide);
    const int64_t of_a = panel_rows_ * chunk, of_b = panel_columns_ * chunk;
    const int64_t of_partial = kInPlace || chunk == K_ ? 0 : panel_rows_ * panel_columns_;
    packed_a_ = static_cast<A*>(product_workspace(size_t(of_a + of_b + of_partial) * sizeof(A)));
    packed_b_ = packed_a_ + of_a;
    partial_ = packed_b_ + of_b;
#pragma omp parallel if (M_ * N_ * K_ > kSmall)
    for (int64_t row = 0; row < M_; row += panel_rows_)
      for (int64_t column = 0; column < N_; column += panel_columns_) run_panel(row, column);
  }

 private:
  static constexpr bool kInPlace = sizeof(Out) == sizeof(A);  // C itself holds what is summed so far

  // All threads of the team call.
  void run_panel(int64_t row, int64_t column) {
    const int64_t rows = min_of(panel_rows_, M_ - row), columns = min_of(panel_columns_, N_ - column);
    const int64_t down = pieces(rows, kRows), across = pieces(columns, kWide);
    constexpr int64_t kAcross = kTaskColumns / kWide;
    const int64_t tasks_down = pieces(down, kTaskSlivers), tasks = tasks_down * pieces(across, kAcross);
    for (int64_t k = 0; k < K_; k += kInner) {
      const int64_t steps = min_of(kInner, K_ - k);
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < down; ++i)
        pack<kRows>(a_.from(row + i * kRows, k), rows - i * kRows, steps, packed_a_ + i * kRows * steps);
#pragma omp for schedule(static)
      for (int64_t j = 0; j < across; ++j)
        pack<kWide>(b_.from(column + j * kWide, k), columns - j * kWide, steps, packed_b_ + j * kWide * steps);
#pragma omp for schedule(dynamic)
      for (int64_t task = 0; task < tasks; ++task) {
        const int64_t i = task % tasks_down * kTaskSlivers, j = task / tasks_down * kAcross;
        run_task(row, column, k, {i, min_of(i + kTaskSlivers, down)}, {j, min_of(j + kAcross, across)});
      }
    }
  }

  struct Range {
    int64_t first, end;
  };
  void run_task(int64_t row, int64_t column, int64_t k, Range of_rows, Range of_columns) const {
    const int64_t steps = min_of(kInner, K_ - k);
    for (int64_t j = of_columns.first; j < of_columns.end; ++j)
      for (int64_t i = of_rows.first; i < of_rows.end; ++i) {
        A* const partial = kInPlace ? reinterpret_cast<A*>(out_ + (row + i * kRows) * stride_ + column + j * kWide)
                                    : partial_ + i * kRows * panel_columns_ + j * kWide;
        prefetch(partial, min_of(kRows, M_ - row - i * kRows));
        Sums<A> sums;
        multiply_slivers(sums, packed_a_ + i * kRows * steps, packed_b_ + j * kWide * steps, steps);
        add_chunk(sums, row + i * kRows, column + j * kWide, partial, k == 0, k + steps == K_);
      }
  }

  // C's lines are on their way while the sums are made.
  SLUICE_INLINE void prefetch(const A* partial, int64_t rows) const {
    for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(partial + i * (kInPlace ? stride_ : panel_columns_), 1);
  }

  // A chunk's sums onto what is there, and after the last chunk into C.
  SLUICE_INLINE void add_chunk(const Sums<A>& sums, int64_t row, int64_t column, A* partial, bool first,
                               bool last) const {
    const int64_t partial_stride = kInPlace ? stride_ : panel_columns_, rows = min_of(kRows, M_ - row);
    const bool add_partial = !first || (kInPlace && accumulate_);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kRows; ++i) {
      if (i >= rows) return;
#pragma GCC unroll 2
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t at = half * V::kLanes, count = min_of(V::kLanes, N_ - column - at);
        if (count <= 0) continue;
        V sum = sums[i][half];
        A* const so_far = partial + i * partial_stride + at;
        if (add_partial) sum += load_some(so_far, count);
        if (!last) {
          store_some(so_far, sum, count);
          continue;
        }
        Out* const out = out_ + (row + i) * stride_ + column + at;
        if (bias_) sum += load_some(bias_ + column + at, count);
        if (!kInPlace && accumulate_) sum += load_some(out, count);
        store_some(out, sum, count);
      }
    }
  }

  const int64_t M_, N_, K_;
  const Operand<S> a_, b_;
  Out* const out_;
  const int64_t stride_;
  const A* const bias_;
  const bool accumulate_;
  int64_t panel_rows_ = 0, panel_columns_ = 0;
  A *packed_a_ = nullptr, *packed_b_ = nullptr;  // slivers of a chunk: of the panel's rows, of its columns
  A* partial_ = nullptr;                         // [panel_rows, panel_columns], unless kInPlace
};

template <class S, class Out>
void multiply(const Matmul& op) {
  if (op.out.rows() < kFewRows && !op.transpose_a && op.transpose_b) multiply_few<S, Out>(op);
  else Product<S, Out>(op).run();
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
