// Linear attention with decay on a GPU, in chunks of up to 32 rows. Results and all three gradients are one kind of sum
// (kernels/formulas/linear_attention.h),
//
//   out_i = sum_j lam^|i-j| (a_i . b_j) c_j   over the rows up to i or, backwards, from i on.
//
// A block has one query head of one sequence and 32 of its result's columns: it walks from chunk to chunk with the
// state of those columns in shared memory, and ends a chunk where a document ends. Sums over the heads that share keys
// and values go through the workspace, in the order of the heads.
#include <algorithm>

#include "kernels/cuda/cores/add_heads.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/formulas/linear_attention.h"
#include "kernels/ops/cores/linear_attention.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256, kRows = 32, kCols = 32, kStep = kCols + 1;

// A tensor of heads, each of which serves `group` query heads.
template <class S>
struct Heads {
  Rows<S> x;
  int64_t D, group;
  __device__ float at(int64_t row, int64_t h, int64_t i) const {
    return load_one(x.at(row, quotient(h, group) * D + i));
  }
};

template <class S>
struct DecayedSum {
  Heads<S> a, b, c;
  Rows<S> out;
  float* shares;             // [N, H D of c] in place of out, or null
  const int32_t* first_key;  // may be null
  float* state;              // [B H D of a, D of c], or null
  int64_t T, H;
  double decay;
  bool resume, backwards;
};

struct Chunk {
  int64_t first, count;
  bool fresh;
};

// `done` rows have been walked.
template <class S>
__device__ Chunk next_chunk(const DecayedSum<S>& sum, int64_t b, int64_t done) {
  const auto starts = [&](int64_t t) { return t == 0 || (sum.first_key && sum.first_key[b * sum.T + t] == t); };
  if (sum.backwards) {
    const int64_t end = sum.T - done;
    int64_t t = end - 1;
    while (end - t < kRows && !starts(t)) --t;
    return {end - 1, end - t, end == sum.T || starts(end)};
  }
  int64_t end = done + 1;
  while (end < sum.T && end - done < kRows && !starts(end)) ++end;
  return {done, end - done, starts(done) && !(done == 0 && sum.resume)};
}

// What a block has in shared memory; rows of a and b lie D + 1 numbers apart.
struct Shared {
  float *a, *b, *c, *p, *state, *powers, *lost;  // lost: 1 - lam^i
  __device__ explicit Shared(int64_t D) {
    a = reinterpret_cast<float*>(dynamic_shared());
    b = a + kRows * (D + 1);
    c = b + kRows * (D + 1);
    p = c + kRows * kStep;
    state = p + kRows * kStep;
    powers = state + D * kStep;
    lost = powers + kRows + 1;
  }
};

size_t shared_bytes(int64_t D) {
  return sizeof(float) * size_t(2 * kRows * (D + 1) + 2 * kRows * kStep + D * kStep + 2 * (kRows + 1));
}

// Where the block is: a head of a sequence, and columns of its results.
struct Place {
  int64_t b, h, first_col, cols;
};

// The chunk's rows, zeros beyond them.
template <class S>
__device__ void load_rows(const DecayedSum<S>& sum, const Place& place, const Shared& at, int64_t row, int64_t step,
                          int n) {
  const int64_t D = sum.a.D;
  for (int64_t i = threadIdx.x; i < kRows * D; i += kThreads) {
    const int64_t r = quotient(i, D), d = i - r * D;
    at.a[r * (D + 1) + d] = r < n ? sum.a.at(row + step * r, place.h, d) : 0.0f;
    at.b[r * (D + 1) + d] = r < n ? sum.b.at(row + step * r, place.h, d) : 0.0f;
  }
  for (int i = int(threadIdx.x); i < kRows * kCols; i += kThreads) {
    const int r = i / kCols, col = i % kCols;
    const bool valid = r < n && col < place.cols;
    at.c[r * kStep + col] = valid ? sum.c.at(row + step * r, place.h, place.first_col + col) : 0.0f;
  }
}

// Weights of the chunk's rows for each other.
__device__ void weigh(const Shared& at, int64_t D) {
  for (int i = int(threadIdx.x); i < kRows * kRows; i += kThreads) {
    const int r = i / kRows, j = i % kRows;
    float product = 0;
    if (j <= r)
      for (int64_t d = 0; d < D; ++d) product += at.a[r * (D + 1) + d] * at.b[j * (D + 1) + d];
    at.p[r * kStep + j] = j <= r ? product * at.powers[r - j] : 0.0f;
  }
}

// Results of the chunk's rows: of each other, and of the state where there is one.
template <class S>
__device__ void store_results(const DecayedSum<S>& sum, const Place& place, const Shared& at, int64_t row, int64_t step,
                              int n, bool fresh) {
  const int64_t D = sum.a.D, width = sum.c.D;
  for (int i = int(threadIdx.x); i < kRows * kCols; i += kThreads) {
    const int r = i / kCols, col = i % kCols;
    if (r >= n || col >= place.cols) continue;
    float near = 0, far = 0;
    for (int j = 0; j <= r; ++j) near += at.p[r * kStep + j] * at.c[j * kStep + col];
    if (!fresh)
      for (int64_t d = 0; d < D; ++d) far += at.a[r * (D + 1) + d] * at.state[d * kStep + col];
    const float out = fresh ? near : near + at.powers[r + 1] * far;
    const int64_t out_row = row + step * r, out_col = place.h * width + place.first_col + col;
    if (sum.shares) sum.shares[out_row * sum.H * width + out_col] = out;
    else store_one(sum.out.at(out_row, out_col), out);
  }
}

// Brings the state behind the chunk's n rows.
__device__ void advance(const Shared& at, int64_t D, int n, bool fresh) {
  for (int64_t i = threadIdx.x; i < D * kCols; i += kThreads) {
    const int64_t d = i / kCols, col = i % kCols;
    float added = 0;
    for (int j = 0; j < n; ++j) added += at.powers[n - 1 - j] * at.b[j * (D + 1) + d] * at.c[j * kStep + col];
    float& state = at.state[d * kStep + col];
    if (fresh) {  // nothing may stand there yet
      state = added;
      continue;
    }
    // Near 1, lam^n is rounded to few digits of what is lost, and a decoder would add up that error.
    const float kept = at.powers[n] < 0.5f ? at.powers[n] * state : state - at.lost[n] * state;
    state = kept + added;
  }
}

template <class S>
__global__ void __launch_bounds__(kThreads) decayed_sum_kernel(DecayedSum<S> sum) {
  const int64_t b = quotient(blockIdx.x, sum.H), h = blockIdx.x - b * sum.H, D = sum.a.D, width = sum.c.D;
  const int64_t first_col = int64_t(blockIdx.y) * kCols;
  const Place place{b, h, first_col, width - first_col < kCols ? width - first_col : kCols};
  const Shared at(D);
  const double slope = sum.decay * head_slope(h, sum.H);
  for (int i = int(threadIdx.x); i <= kRows; i += kThreads) {
    const double power = decay_after(slope, i);
    at.powers[i] = float(power), at.lost[i] = float(1 - power);
  }
  float* kept = sum.state ? sum.state + int64_t(blockIdx.x) * D * width + first_col : nullptr;
  if (sum.resume)
    for (int64_t i = threadIdx.x; i < D * kCols; i += kThreads) {
      const int64_t d = i / kCols, col = i % kCols;
      at.state[d * kStep + col] = col < place.cols ? kept[d * width + col] : 0.0f;
    }
  for (int64_t done = 0; done < sum.T;) {
    const Chunk chunk = next_chunk(sum, b, done);
    const int64_t row = b * sum.T + chunk.first, step = sum.backwards ? -1 : 1;
    const int n = int(chunk.count);
    __syncthreads();  // the last chunk's rows have been read
    load_rows(sum, place, at, row, step, n);
    __syncthreads();
    weigh(at, D);
    __syncthreads();
    store_results(sum, place, at, row, step, n, chunk.fresh);
    __syncthreads();
    advance(at, D, n, chunk.fresh);
    done += n;
  }
  if (!kept) return;
  for (int64_t i = threadIdx.x; i < D * kCols; i += kThreads) {  // a thread's own numbers
    const int64_t d = i / kCols, col = i % kCols;
    if (col < place.cols) kept[d * width + col] = at.state[d * kStep + col];
  }
}

template <class S>
void launch_sum(const DecayedSum<S>& sum, int64_t B, cudaStream_t stream) {
  const dim3 grid(unsigned(B * sum.H), unsigned((sum.c.D + kCols - 1) / kCols));
  launch(decayed_sum_kernel<S>, grid, dim3(kThreads), shared_bytes(sum.a.D), stream, sum);
}

// A sum whose results belong to heads of keys and values.
template <class S>
void launch_grouped(DecayedSum<S> sum, const AttentionShape& s, float* shares, cudaStream_t stream) {
  const int64_t group = s.H / s.KV, width = sum.c.D;
  sum.shares = group > 1 ? shares : nullptr;
  launch_sum(sum, s.B, stream);
  if (group > 1)
    map(s.B * s.T, s.KV * width, false, stream,
        AddHeads<S>{sum.out, {shares, s.T * s.H * width, width, s.H * width}, s.T, width, group});
}

template <class S>
DecayedSum<S> sum_of(const LinearAttentionForward& op, const Heads<S>& a, const Heads<S>& b, const Heads<S>& c,
                     const Tensor& out, bool backwards) {
  return {.a = a,
          .b = b,
          .c = c,
          .out = rows_of<S>(out),
          .shares = nullptr,
          .first_key = op.first_key.as<const int32_t>(),
          .state = op.state.as<float>(),
          .T = op.shape.T,
          .H = op.shape.H,
          .decay = op.decay,
          .resume = op.resume,
          .backwards = backwards};
}

}  // namespace

template <>
void on(const LinearAttentionForward& op, const Queue& queue) {
  const AttentionShape& s = op.shape;
  const int64_t group = s.H / s.KV;
  with_element(view_of(op.q).element, [&](auto storage) {
    using S = decltype(storage);
    const Heads<S> q{rows_of<S>(op.q), s.D_qk, 1}, k{rows_of<S>(op.k), s.D_qk, group},
        v{rows_of<S>(op.v), s.D_v, group};
    launch_sum(sum_of<S>(op, q, k, v, op.out, false), s.B, queue.stream);
  });
}

template <>
void on(const LinearAttentionBackward& op, const Queue& queue) {
  const LinearAttentionForward& in = op.forward;
  const AttentionShape& s = in.shape;
  const int64_t group = s.H / s.KV;
  with_element(view_of(in.q).element, [&](auto storage) {
    using S = decltype(storage);
    const Heads<S> q{rows_of<S>(in.q), s.D_qk, 1}, k{rows_of<S>(in.k), s.D_qk, group},
        v{rows_of<S>(in.v), s.D_v, group}, d{rows_of<S>(op.d_out), s.D_v, 1};
    float* shares = op.workspace.as<float>();
    launch_sum(sum_of<S>(in, d, v, k, op.d_q, false), s.B, queue.stream);
    launch_grouped(sum_of<S>(in, v, d, q, op.d_k, true), s, shares, queue.stream);
    launch_grouped(sum_of<S>(in, k, q, d, op.d_v, true), s, shares, queue.stream);
  });
}

template <>
int64_t workspace_for(const LinearAttentionBackward::Sizes& sizes) {
  const AttentionShape& s = sizes.shape;
  return s.H == s.KV ? 1 : s.B * s.T * s.H * std::max(s.D_qk, s.D_v);
}

}  // namespace sluice::cuda
