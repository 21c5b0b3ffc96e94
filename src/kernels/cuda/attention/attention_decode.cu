// Attention of one query a sequence over cached keys and values: a decoder's step. The stages are
// the CPU's (kernels/cpu/isa/attention_decode.cc): scores, rows, values, and the sum of the values' chunks, in order.
//
// What it costs is reading the cache once: length * KV (D_qk + D_v) elements a sequence and layer, which at 3.35 TB/s
// (H100) is 1.3 us for a sequence of 4,096 tokens with 8 key/value heads of 64 features in bf16; the scores' way
// through the workspace adds 16 H bytes a key, a sixteenth of that. Short caches cost the four launches instead. A
// query head reads its keys by itself; heads that share them find them in the L1 and L2 caches.
#include "kernels/cuda/attention/attention.cuh"

namespace sluice::cuda {
namespace {

inline constexpr int kThreads = 128;
inline constexpr int kRowThreads = 256;
inline constexpr int kChunk = 256;  // keys of a block

template <class S>
struct DecodeProblem : AttentionProblem {
  Rows<const S> q, k, v;
  Rows<S> out;
  int first, length, row, chunks;  // keys first .. first + length - 1 of the cache are seen, and counted from there
  float* scores;                   // [B, H, row]: those of the keys, then that of the bias slot
  float* partials;                 // [chunks, B, H, D_v]

  __device__ __forceinline__ const S* query(int b, int h) const { return q.at(b, int64_t(h) * D_qk); }
  __device__ __forceinline__ float* row_of(int b, int h) const { return scores + (int64_t(b) * H + h) * row; }
};

// s_j = scale * q . k_j. kD / 8 lanes share a key, eight features each.
template <class S, int kD>
__global__ void __launch_bounds__(kThreads) scores_kernel(const DecodeProblem<S> p) {
  constexpr int kLanes = kD / kPack, kKeys = kThreads / kLanes;
  const int b = int(blockIdx.y) / p.KV, kv = int(blockIdx.y) % p.KV;
  const int d = int(threadIdx.x) % kLanes * kPack, count = pack_count(p.D_qk, d);
  const int first = int(blockIdx.x) * kChunk, end = min(first + kChunk, p.length);
  // All lanes take part in every sum: the loop's end is the same for all.
  for (int start = first; start < end; start += kKeys) {
    const int j = start + int(threadIdx.x) / kLanes;
    float k[kPack];
    load(k, head_row(p.k, p, b, p.first + min(j, end - 1), kv, p.D_qk) + d, count, p.vectors);
    for (int h = kv * p.group(); h < (kv + 1) * p.group(); ++h) {
      float q[kPack], sum = 0;
      load(q, p.query(b, h) + d, count, p.vectors);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum += q[i] * k[i];
      sum = warp_sum<kLanes>(sum) * p.scale;
      if (d == 0 && j < end) p.row_of(b, h)[j] = sum;
    }
  }
}

// The largest x of the block's threads, in every one of them.
__device__ __forceinline__ float block_max(float x) {
  __shared__ float parts[kRowThreads / kWarp];
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  if (lane_index() == 0) parts[warp_index()] = x;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kRowThreads / kWarp; ++warp) x = fmaxf(x, parts[warp]);
  return x;
}

// Scores into weights, in place. A block has one row.
template <class S, class Score>
__global__ void __launch_bounds__(kRowThreads) rows_kernel(const DecodeProblem<S> p) {
  const int b = int(blockIdx.x) / p.H, h = int(blockIdx.x) % p.H, thread = int(threadIdx.x);
  float* const s = p.row_of(b, h);
  int count = p.length;
  if (p.key_bias) {
    float sum[1] = {0};
    const S* const q = p.query(b, h);
    const float* const k = p.key_bias + int64_t(h / p.group()) * p.D_qk;
    for (int d = thread; d < p.D_qk; d += kRowThreads) sum[0] += load_one(q + d) * k[d];
    team_sums<kRowThreads / kWarp>(sum);
    if (thread == 0) s[count] = sum[0] * p.scale;
    __syncthreads();
    ++count;
  }
  const auto constants = constants_of<Score>(p);
  const LearnedOfHead<float> learned = learned_of(p, h);
  const RowStart<float> start = row_start<Score>(p, float(p.length - 1), learned);
  float m = start.reference, mass[1] = {thread == 0 ? start.mass : 0.0f};
  if constexpr (Score::kRunningMax) {
    float largest = m;
    for (int j = thread; j < count; j += kRowThreads) largest = fmaxf(largest, s[j]);
    m = block_max(largest);
    mass[0] *= exp_of(start.reference - m);
  }
  for (int j = thread; j < count; j += kRowThreads)
    mass[0] += Score::mass(s[j], m, Score::weight(s[j], m, constants), constants);
  team_sums<kRowThreads / kWarp>(mass);
  const RowStats<float> stats = Score::finish(m, mass[0], float(p.length - 1), learned, constants);
  for (int j = thread; j < count; j += kRowThreads)
    s[j] = Score::probability(s[j], stats.reference, stats.inverse, constants);
}

// Of a chunk of keys: sum_j p_j v_j. kD / 8 threads share a key; what the others have summed comes together in order.
template <class S, int kD>
__global__ void __launch_bounds__(kThreads) values_kernel(const DecodeProblem<S> p) {
  constexpr int kLanes = kD / kPack, kKeys = kThreads / kLanes;
  __shared__ float parts[kKeys][kD];
  const int b = int(blockIdx.y) / p.KV, kv = int(blockIdx.y) % p.KV;
  const int d = int(threadIdx.x) % kLanes * kPack, key = int(threadIdx.x) / kLanes, count = pack_count(p.D_v, d);
  const int first = int(blockIdx.x) * kChunk, end = min(first + kChunk, p.length);
  for (int h = kv * p.group(); h < (kv + 1) * p.group(); ++h) {
    const float* const weights = p.row_of(b, h);
    float sums[kPack] = {};
#pragma unroll 4
    for (int j = first + key; j < end; j += kKeys) {
      float v[kPack];
      load(v, head_row(p.v, p, b, p.first + j, kv, p.D_v) + d, count, p.vectors);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sums[i] += weights[j] * v[i];
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) parts[key][d + i] = sums[i];
    __syncthreads();
    float* const to = p.partials + ((int64_t(blockIdx.x) * p.B + b) * p.H + h) * p.D_v;
    for (int column = int(threadIdx.x); column < p.D_v; column += kThreads) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kKeys; ++i) sum += parts[i][column];
      to[column] = sum;
    }
    __syncthreads();  // the next head writes there
  }
}

// The chunks' sums and the bias slot's value.
template <class S>
__global__ void __launch_bounds__(kThreads) output_kernel(const DecodeProblem<S> p) {
  const int b = int(blockIdx.x) / p.H, h = int(blockIdx.x) % p.H;
  for (int d = int(threadIdx.x); d < p.D_v; d += kThreads) {
    float sum = p.value_bias ? p.row_of(b, h)[p.length] * p.value_bias[int64_t(h / p.group()) * p.D_v + d] : 0.0f;
    for (int chunk = 0; chunk < p.chunks; ++chunk)
      sum += p.partials[((int64_t(chunk) * p.B + b) * p.H + h) * p.D_v + d];
    store_one(p.out.at(b, int64_t(h) * p.D_v + d), sum);
  }
}

int64_t chunks_of(int64_t length) { return (length + kChunk - 1) / kChunk; }
int64_t row_size(int64_t T) { return (T + 1 + 3) / 4 * 4; }

template <class S>
void decode(const AttentionDecode& op, cudaStream_t stream) {
  const AttentionShape& s = op.spec.shape;
  const int64_t length = op.spec.window > 0 ? std::min(op.length, op.spec.window) : op.length;
  const int64_t row = row_size(s.T), chunks = chunks_of(length);
  float* workspace = floats(op.workspace);
  const DecodeProblem<S> p{problem_of(op, {}, allow_vectors<S>(s, op.q, op.k, op.v)),
                           rows_of<const S>(op.q),
                           rows_of<const S>(op.k),
                           rows_of<const S>(op.v),
                           rows_of<S>(op.out),
                           int(op.length - length),
                           int(length),
                           int(row),
                           int(chunks),
                           workspace,
                           workspace + s.B * s.H * row};
  const dim3 tiles(unsigned(chunks), unsigned(s.B * s.KV)), heads(unsigned(s.B * s.H));
  with_class(p.D_qk,
             [&](auto head_class) { launch(scores_kernel<S, head_class()>, tiles, dim3(kThreads), 0, stream, p); });
  ScoreFunctions::dispatch(p.score, [&](auto score) {
    launch(rows_kernel<S, RowFormula<decltype(score)>>, heads, dim3(kRowThreads), 0, stream, p);
  });
  with_class(p.D_v,
             [&](auto head_class) { launch(values_kernel<S, head_class()>, tiles, dim3(kThreads), 0, stream, p); });
  launch(output_kernel<S>, heads, dim3(kThreads), 0, stream, p);
}

}  // namespace

template <>
void on(const AttentionDecode& op, const Queue& queue) {
  with_element(view_of(op.q).element, [&](auto element) { decode<decltype(element)>(op, queue.stream); });
}

template <>
int64_t workspace_for(const AttentionDecode::Sizes& sizes) {
  const AttentionShape& s = sizes.shape;
  return s.B * s.H * (row_size(s.T) + chunks_of(s.T) * s.D_v);
}

}  // namespace sluice::cuda
