// How device code walks memory: in packs of eight elements of a row, 16-byte accesses where the address allows them.
//
// A thread holds a pack as it is stored (four registers for bf16, eight for fp32) and widens it to eight floats to
// compute. A row's last pack may be partial: what lies beyond `count` is loaded as zero and not stored. `vector` says
// that every row of the tensors at hand starts at a multiple of 16 bytes; without it elements are accessed one by one.
#pragma once

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/types/bf16.h"

namespace sluice::cuda {

inline constexpr int kPack = 8;

template <class S>
struct Pack;
template <>
struct Pack<Bf16> {
  uint4 words;
};
template <>
struct Pack<float> {
  float4 low, high;
};

__device__ __forceinline__ Pack<Bf16> load_pack(const Bf16* from, int count, bool vector) {
  if (vector && count == kPack) return {*reinterpret_cast<const uint4*>(from)};
  uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < count) words[i / 2] |= uint32_t{from[i].bits} << (i % 2 * 16);
  return {make_uint4(words[0], words[1], words[2], words[3])};
}

__device__ __forceinline__ Pack<float> load_pack(const float* from, int count, bool vector) {
  if (vector && count == kPack)
    return {reinterpret_cast<const float4*>(from)[0], reinterpret_cast<const float4*>(from)[1]};
  float x[kPack];
#pragma unroll
  for (int i = 0; i < kPack; ++i) x[i] = i < count ? from[i] : 0.0f;
  return {make_float4(x[0], x[1], x[2], x[3]), make_float4(x[4], x[5], x[6], x[7])};
}

__device__ __forceinline__ void unpack(float (&x)[kPack], const Pack<Bf16>& pack) {
  const uint32_t words[4] = {pack.words.x, pack.words.y, pack.words.z, pack.words.w};
#pragma unroll
  for (int i = 0; i < kPack; ++i) x[i] = __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
}

__device__ __forceinline__ void unpack(float (&x)[kPack], const Pack<float>& pack) {
  x[0] = pack.low.x, x[1] = pack.low.y, x[2] = pack.low.z, x[3] = pack.low.w;
  x[4] = pack.high.x, x[5] = pack.high.y, x[6] = pack.high.z, x[7] = pack.high.w;
}

// Rounds to storage.
template <class S>
__device__ __forceinline__ Pack<S> packed(const float (&x)[kPack]);
template <>
__device__ __forceinline__ Pack<Bf16> packed<Bf16>(const float (&x)[kPack]) {
  return {make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]))};
}
template <>
__device__ __forceinline__ Pack<float> packed<float>(const float (&x)[kPack]) {
  return {make_float4(x[0], x[1], x[2], x[3]), make_float4(x[4], x[5], x[6], x[7])};
}

__device__ __forceinline__ void store_pack(Bf16* to, const Pack<Bf16>& pack, int count, bool vector) {
  if (vector && count == kPack) {
    *reinterpret_cast<uint4*>(to) = pack.words;
    return;
  }
  const uint32_t words[4] = {pack.words.x, pack.words.y, pack.words.z, pack.words.w};
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < count) to[i] = {uint16_t(words[i / 2] >> (i % 2 * 16))};
}

__device__ __forceinline__ void store_pack(float* to, const Pack<float>& pack, int count, bool vector) {
  if (vector && count == kPack) {
    reinterpret_cast<float4*>(to)[0] = pack.low;
    reinterpret_cast<float4*>(to)[1] = pack.high;
    return;
  }
  float x[kPack];
  unpack(x, pack);
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < count) to[i] = x[i];
}

template <class S>
__device__ __forceinline__ void load(float (&x)[kPack], const S* from, int count, bool vector) {
  unpack(x, load_pack(from, count, vector));
}
template <class S>
__device__ __forceinline__ void store(S* to, const float (&x)[kPack], int count, bool vector) {
  store_pack(to, packed<S>(x), count, vector);
}

// A pack of a norm's gain, or ones where `from` is null.
__device__ __forceinline__ void load_gain(float (&gain)[kPack], const float* from, int64_t col, int count,
                                          bool vector) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) gain[i] = 1;
  if (from) load(gain, from + col, count, vector);
}

__device__ __forceinline__ float load_one(const float* from) { return *from; }
__device__ __forceinline__ float load_one(const Bf16* from) { return to_float(*from); }
__device__ __forceinline__ void store_one(float* to, float x) { *to = x; }
__device__ __forceinline__ void store_one(Bf16* to, float x) { *to = to_bf16(x); }

// a / b for a >= 0, b > 0; 64-bit division is slow.
__device__ __forceinline__ int64_t quotient(int64_t a, int64_t b) {
  if ((a | b) >> 32) return a / b;
  return int64_t(uint32_t(a) / uint32_t(b));
}

// The elements of a pack that starts at `col` of `cols`; 0 beyond the end.
__device__ __forceinline__ int pack_count(int64_t cols, int64_t col) {
  return cols - col >= kPack ? kPack : cols > col ? int(cols - col) : 0;
}

// A View for device code.
template <class S>
struct Rows {
  S* data;
  int64_t stride;
  __device__ __forceinline__ S* at(int64_t row, int64_t col) const { return data + row * stride + col; }
};

template <class S>
__host__ __device__ __forceinline__ Rows<S> rows_of(const View& view) {
  return {static_cast<S*>(view.data), view.stride};
}
template <class S>
Rows<S> rows_of(const Tensor& t) {
  return {t.as<S>(), t.stride};
}

// --- host side

inline bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Columns [first, first + count) of every row.
inline View column_range(View view, int64_t first, int64_t count) {
  view.data = static_cast<char*>(view.data) + first * (view.element == Element::kBf16 ? 2 : 4);
  view.cols = count;
  return view;
}

// An absent view or null pointer is in nobody's way.
inline bool vectorizable(const View& view) {
  const int64_t bytes = view.element == Element::kBf16 ? 2 : 4;
  return aligned(view.data) && (view.rows <= 1 || view.stride * bytes % 16 == 0);
}
inline bool vectorizable(const void* data) { return aligned(data); }

inline bool flat(const View& view) { return !view || view.rows <= 1 || view.stride == view.cols; }

// Calls body(S{}) with the view's element type.
template <class Body>
void with_element(Element element, Body body) {
  if (element == Element::kBf16) body(Bf16{});
  else body(float{});
}

inline constexpr int kMapThreads = 256;

template <class Op>
__global__ void __launch_bounds__(kMapThreads) map_kernel(int64_t rows, int64_t cols, int64_t packs, Op op) {
  const int64_t index = int64_t(blockIdx.x) * kMapThreads + threadIdx.x;
  if (index >= rows * packs) return;
  const int64_t row = quotient(index, packs), col = (index - row * packs) * kPack;
  op(row, col, pack_count(cols, col));
}

// op(row, col, count) for every pack of a [rows, cols] matrix, a thread each. `one_row`: every tensor is contiguous,
// and the matrix is walked as one row.
template <class Op>
void map(int64_t rows, int64_t cols, bool one_row, cudaStream_t stream, const Op& op) {
  if (one_row) cols *= rows, rows = 1;
  const int64_t packs = (cols + kPack - 1) / kPack, blocks = (rows * packs + kMapThreads - 1) / kMapThreads;
  if (blocks > 0) launch(map_kernel<Op>, dim3(unsigned(blocks)), dim3(kMapThreads), 0, stream, rows, cols, packs, op);
}

}  // namespace sluice::cuda
