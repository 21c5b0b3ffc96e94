// Embedding of tokens, positions and registers, and their gradients without atomics.
//
// Gradient of the table. The tokens are sorted with their places as 64-bit keys (token, place): equal tokens become
// runs, in the order of places. Sorting: pairs of sorted pieces are merged, each key finding its place by binary search
// in the other piece; pieces up to kTile in shared memory, larger ones by one kernel each. Then every warp adds up a
// fixed number of sorted rows, 256 columns of them: a run inside its chunk goes to the table, the parts of a run that
// crosses chunks to scratch memory (`head`: of a run begun earlier, `tail`: of one that goes on), from where the chunk
// in which the run begins adds them in order. So the sums do not depend on timing, and a token that makes up half of
// the text costs no more than others. Cost: about log2(N / kTile) + 4 short kernels, one read of d_out, one read and
// write of each row met.
#include <algorithm>
#include <utility>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/ops/tokens.h"

namespace sluice::cuda {
namespace {

using Key = unsigned long long;  // token << 32 | place

constexpr int kTile = 2048, kTileThreads = 256;
constexpr int64_t kMaxTokens = int64_t{1} << 20;  // sorted at once
constexpr Key kLast = ~Key{0};

__device__ __forceinline__ int64_t token_of(Key key) { return int64_t(key >> 32); }
__device__ __forceinline__ int64_t place_of(Key key) { return int64_t(key & 0xffffffffu); }

// How many of the sorted keys are less than `key`.
__device__ __forceinline__ int64_t count_less(const Key* keys, int64_t n, Key key) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Where the key at `i` of n goes when sorted pieces of `width` are merged two by two. Keys are distinct.
__device__ __forceinline__ int64_t merged_place(const Key* keys, int64_t i, int64_t width, int64_t n) {
  const int64_t pair = i / (2 * width) * (2 * width), middle = min(pair + width, n), end = min(pair + 2 * width, n);
  if (i < middle) return i + count_less(keys + middle, end - middle, keys[i]);
  return pair + (i - middle) + count_less(keys + pair, middle - pair, keys[i]);
}

// Sorted tiles of keys, one a block.
__global__ void __launch_bounds__(kTileThreads) sort_tiles_kernel(Key* keys, const int32_t* tokens, int64_t N) {
  __shared__ Key buffers[2][kTile];
  const int64_t first = int64_t(blockIdx.x) * kTile;
  for (int i = int(threadIdx.x); i < kTile; i += kTileThreads)
    buffers[0][i] = first + i < N ? Key(uint32_t(tokens[first + i])) << 32 | Key(first + i) : kLast - Key(i);
  __syncthreads();
  int from = 0;
  for (int width = 1; width < kTile; width *= 2, from ^= 1) {
    for (int i = int(threadIdx.x); i < kTile; i += kTileThreads)
      buffers[from ^ 1][merged_place(buffers[from], i, width, kTile)] = buffers[from][i];
    __syncthreads();
  }
  for (int i = int(threadIdx.x); i < kTile && first + i < N; i += kTileThreads) keys[first + i] = buffers[from][i];
}

__global__ void __launch_bounds__(kTileThreads) merge_kernel(Key* to, const Key* from, int64_t width, int64_t N) {
  const int64_t i = int64_t(blockIdx.x) * kTileThreads + threadIdx.x;
  if (i < N) to[merged_place(from, i, width, N)] = from[i];
}

// What the kernels that add up runs share: sorted keys in chunks, and the parts of runs that cross chunks.
struct Runs {
  const Key* keys;
  int64_t N, length;   // of all; of a chunk, a multiple of kWarp
  float *head, *tail;  // [chunks, C]
  Rows<float> d_table;
  int64_t V, C;
  bool vector;

  __device__ int64_t end_of(int64_t chunk) const { return min((chunk + 1) * length, N); }
  // Whether the run at the chunk's first key began before it, and whether the run at its last key goes on after it.
  __device__ bool begun(int64_t chunk) const { return chunk > 0 && same(chunk * length - 1, chunk * length); }
  __device__ bool goes_on(int64_t chunk) const { return end_of(chunk) < N && same(end_of(chunk) - 1, end_of(chunk)); }
  __device__ bool same(int64_t a, int64_t b) const { return token_of(keys[a]) == token_of(keys[b]); }
  __device__ void add_to_table(int64_t token, int64_t c, int count, const float (&sum)[kPack]) const {
    if (token >= V) return;
    float row[kPack];
    load(row, d_table.at(token, c), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) row[i] += sum[i];
    store(d_table.at(token, c), row, count, vector);
  }
};

constexpr int kRunWarps = 4, kAhead = 4;  // chunks a block; rows that are loaded before the first is added
constexpr int64_t kRunColumns = kWarp * kPack;

// blockIdx.y counts groups of kRunColumns columns.
template <class S>
__global__ void __launch_bounds__(kRunWarps* kWarp) add_runs_kernel(Runs runs, Rows<S> d_out, bool vector) {
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t chunk = int64_t(blockIdx.x) * kRunWarps + threadIdx.x / kWarp, first = chunk * runs.length;
  if (first >= runs.N) return;  // a whole warp
  const int64_t end = runs.end_of(chunk), c = int64_t(blockIdx.y) * kRunColumns + lane * kPack;
  const int count = pack_count(runs.C, c);
  bool begun = runs.begun(chunk);
  const bool goes_on = runs.goes_on(chunk);
  float sum[kPack] = {};
  for (int64_t batch = first; batch < end; batch += kWarp) {
    // A lane's key and the token after it; beyond the chunk's end, no token's.
    const int64_t at = batch + lane;
    const Key mine = at < end ? runs.keys[at] : kLast, after = at + 1 < end ? runs.keys[at + 1] : kLast;
    const bool mine_closes = at + 1 == end || (at + 1 < end && token_of(after) != token_of(mine));
    for (int j = 0; j < kWarp; j += kAhead) {
      Key keys[kAhead];
      bool closes[kAhead];
      Pack<S> rows[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        keys[k] = __shfl_sync(kAllLanes, mine, j + k);
        closes[k] = __shfl_sync(kAllLanes, int(mine_closes), j + k) != 0;
        rows[k] = load_pack(d_out.at(batch + j + k < end ? place_of(keys[k]) : 0, c), batch + j + k < end ? count : 0,
                            vector);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        float v[kPack];
        unpack(v, rows[k]);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] += v[i];
        if (!closes[k]) continue;
        const bool last = batch + j + k + 1 == end;
        if (begun) store(runs.head + chunk * runs.C + c, sum, count, runs.vector);
        else if (last && goes_on) store(runs.tail + chunk * runs.C + c, sum, count, runs.vector);
        else runs.add_to_table(token_of(keys[k]), c, count, sum);
        begun = false;
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] = 0;
      }
    }
  }
}

// Of the runs that cross chunks, each by a warp of the chunk in which it begins.
__global__ void __launch_bounds__(kRunWarps* kWarp) join_runs_kernel(Runs runs) {
  const int64_t chunk = int64_t(blockIdx.x) * kRunWarps + threadIdx.x / kWarp, first = chunk * runs.length;
  if (first >= runs.N || !runs.goes_on(chunk)) return;
  const int64_t end = runs.end_of(chunk);
  if (runs.begun(chunk) && runs.same(first, end - 1)) return;  // the chunk is the middle of a run
  const int64_t c = int64_t(blockIdx.y) * kRunColumns + threadIdx.x % kWarp * kPack;
  const int count = pack_count(runs.C, c);
  float sum[kPack];
  load(sum, runs.tail + chunk * runs.C + c, count, runs.vector);
  int64_t next = chunk;
  do {
    ++next;
    float part[kPack];
    load(part, runs.head + next * runs.C + c, count, runs.vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += part[i];
  } while (runs.goes_on(next) && runs.same(next * runs.length, runs.end_of(next) - 1));
  runs.add_to_table(token_of(runs.keys[end - 1]), c, count, sum);
}

template <class S>
struct Embed {
  Rows<S> out;
  Rows<float> table;
  const int32_t* tokens;
  const float *positions, *registers, *segment;  // may be null
  int64_t V, C, T, R;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const int64_t t = row - quotient(row, T) * T;
    float v[kPack];
    if (t < R) {
      load(v, registers + t * C + col, count, vector);
      store(out.at(row, col), v, count, vector);
      return;
    }
    const int32_t token = tokens[row];
    if (token >= 0 && token < V) {
      load(v, table.at(token, col), count, vector);
    } else {
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] = NAN;
    }
    if (positions) add_row(v, positions + (t - R) * C + col, count);
    if (segment) add_row(v, segment + col, count);
    store(out.at(row, col), v, count, vector);
  }

 private:
  __device__ void add_row(float (&v)[kPack], const float* row, int count) const {
    float p[kPack];
    load(p, row, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] += p[i];
  }
};

// Row t of d_positions: the sum over the sequences' rows first + t. So with registers, whose rows are the first.
template <class S>
struct AddPositions {
  Rows<float> d_positions;
  Rows<S> d_out;
  int64_t N, T, first;
  bool accumulate, vector;
  __device__ void operator()(int64_t t, int64_t col, int count) const {
    const bool is_there = first + t < T;
    if (!is_there && accumulate) return;
    float sum[kPack] = {}, v[kPack];
    if (accumulate) load(sum, d_positions.at(t, col), count, vector);
    if (is_there) {
#pragma unroll 4
      for (int64_t row = first + t; row < N; row += T) {
        load(v, d_out.at(row, col), count, vector);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] += v[i];
      }
    }
    store(d_positions.at(t, col), sum, count, vector);
  }
};

// Sorts (token, place) into one of the two buffers of N keys and returns it.
const Key* sorted_keys(const int32_t* tokens, int64_t N, Key* buffer, Key* other, cudaStream_t stream) {
  const unsigned tiles = unsigned((N + kTile - 1) / kTile), blocks = unsigned((N + kTileThreads - 1) / kTileThreads);
  launch(sort_tiles_kernel, dim3(tiles), dim3(kTileThreads), 0, stream, buffer, tokens, N);
  for (int64_t width = kTile; width < N; width *= 2) {
    launch(merge_kernel, dim3(blocks), dim3(kTileThreads), 0, stream, other, buffer, width, N);
    std::swap(buffer, other);
  }
  return buffer;
}

// Adds to d_table; tokens outside the table are passed over. At most kMaxTokens rows.
void add_to_table(const View& d_table, const View& d_out, const int32_t* tokens, const Queue& queue) {
  const int64_t N = d_out.rows, C = d_out.cols;
  if (N == 0) return;
  Key* buffer = static_cast<Key*>(queue.scratch);
  const Key* keys = sorted_keys(tokens, N, buffer, buffer + kMaxTokens, queue.stream);

  float* parts = reinterpret_cast<float*>(buffer + 2 * kMaxTokens);
  const int64_t part_bytes = int64_t(kScratchBytes) - int64_t(2 * kMaxTokens * sizeof(Key));
  const int64_t most = std::clamp<int64_t>(part_bytes / (2 * C * int64_t(sizeof(float))), 1, 8192);  // chunks
  const int64_t length = (N + most * kWarp - 1) / (most * kWarp) * kWarp, chunks = (N + length - 1) / length;
  const Runs runs{keys,
                  N,
                  length,
                  parts,
                  parts + chunks * C,
                  rows_of<float>(d_table),
                  d_table.rows,
                  C,
                  vectorizable(d_table) && C % kPack == 0};
  const dim3 grid(unsigned((chunks + kRunWarps - 1) / kRunWarps), unsigned((C + kRunColumns - 1) / kRunColumns));
  with_element(d_out.element, [&](auto storage) {
    using S = decltype(storage);
    launch(add_runs_kernel<S>, grid, dim3(kRunWarps * kWarp), 0, queue.stream, runs, rows_of<S>(d_out),
           vectorizable(d_out));
  });
  launch(join_runs_kernel, grid, dim3(kRunWarps * kWarp), 0, queue.stream, runs);
}

// Where they are there: the gradients of rows [first, ...) of every sequence.
void add_to_positions(const Tensor& d_rows, int64_t first, const EmbeddingBackward& op, cudaStream_t stream) {
  if (!d_rows) return;
  const View d_positions = view_of(d_rows), d_out = view_of(op.d_out);
  with_element(d_out.element, [&](auto storage) {
    using S = decltype(storage);
    map(d_positions.rows, d_positions.cols, false, stream,
        AddPositions<S>{rows_of<float>(d_positions), rows_of<S>(d_out), d_out.rows, op.T, first,
                        op.accumulate_positions, vectorizable(d_positions) && vectorizable(d_out)});
  });
}

}  // namespace

template <>
void on(const EmbeddingForward& op, const Queue& queue) {
  const View out = view_of(op.out), table = view_of(op.table);
  const float *positions = floats(op.positions), *registers = floats(op.registers), *segment = floats(op.segment);
  with_element(out.element, [&](auto storage) {
    using S = decltype(storage);
    const bool vector = vectorizable(out) && vectorizable(table) && vectorizable(positions) &&
                        vectorizable(registers) && vectorizable(segment) &&
                        ((!positions && !registers && !segment) || out.cols % kPack == 0);
    map(out.rows, out.cols, false, queue.stream,
        Embed<S>{rows_of<S>(out), rows_of<float>(table), op.tokens.as<const int32_t>(), positions, registers, segment,
                 table.rows, out.cols, op.T, register_rows(op.registers), vector});
  });
}

template <>
void on(const EmbeddingBackward& op, const Queue& queue) {
  if (!op.accumulate_table) {
    const cudaError_t error = cudaMemsetAsync(op.d_table.data, 0, op.d_table.bytes(), queue.stream);
    if (error != cudaSuccess) throw LaunchError("cudaMemset", error);
  }
  const int64_t N = op.d_out.rows();
  for (int64_t first = 0; first < N; first += kMaxTokens)
    add_to_table(view_of(op.d_table), view_of(op.d_out.row_range(first, std::min(kMaxTokens, N - first))),
                 op.tokens.as<const int32_t>() + first, queue);
  add_to_positions(op.d_registers, 0, op, queue.stream);
  add_to_positions(op.d_positions, register_rows(op.d_registers), op, queue.stream);
}

}  // namespace sluice::cuda
