// Matrix fragments in registers, and products of them, for the attention kernels: one interface for both storage types.
//
// A warp multiplies strips of 16 rows. Of lane l, with g = l / 4 and t = l % 4, an accumulator c[4] of 16 x 8 holds
// rows g (c[0], c[1]) and g + 8 (c[2], c[3]) in columns 2t and 2t + 1. Fragments of the left factor come from rows in
// shared memory or straight from accumulators (weights times values); those of the right factor from shared rows that
// are either its columns (scores: queries times keys) or its rows (weights times values).
//
// bf16: m16n8k16, loaded by ldmatrix. f32: every operand is split into two tf32 numbers, x = high + low + O(2^-22
// x), and a product is high high + high low + low high (m16n8k8 three times): about fp32's accuracy on tensor cores.
// These cut off what their sums lose instead of rounding it, which adds up over many terms; so sums leave them after
// every 8 terms and are added up in fp32. The order of the inner index is free as long as both factors agree, so f32
// gives lane t the indices 2t, 2t + 1 where the instruction says t, t + 4: then accumulators are left fragments as
// they are, and a pair is one 8-byte load.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/types/bf16.h"

namespace sluice::cuda {

__device__ __forceinline__ int lane_index() { return int(threadIdx.x) % kWarp; }

template <class S>
struct Fragments;

template <>
struct Fragments<Bf16> {
  static constexpr int kInner = 16;  // inner index of one instruction
  struct Left {
    uint32_t x[4];
  };
  struct Right {
    uint32_t x[2];
  };

  // Rows [0, 16) x [0, kInner) of `rows`.
  static __device__ __forceinline__ void load_left(Left& a, const Bf16* rows, int stride) {
    const int lane = lane_index();
    ldmatrix_x4(a.x, rows + lane % 16 * stride + lane / 16 * 8);
  }
  // 16 columns of the right factor, which are the rows [0, 16) x [0, kInner) of `rows`.
  static __device__ __forceinline__ void load_columns(Right (&b)[2], const Bf16* rows, int stride) {
    const int lane = lane_index();
    uint32_t r[4];
    ldmatrix_x4(r, rows + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8);
    unpack(b, r);
  }
  // 16 columns of the right factor, which has the rows [0, kInner) x [0, 16) of `rows`.
  static __device__ __forceinline__ void load_rows(Right (&b)[2], const Bf16* rows, int stride) {
    const int lane = lane_index();
    uint32_t r[4];
    ldmatrix_x4_trans(r, rows + lane % 16 * stride + lane / 16 * 8);
    unpack(b, r);
  }
  // Columns [kInner * step, ...) of accumulators.
  template <int kTiles>
  static __device__ __forceinline__ void from_accumulators(Left& a, const float (&c)[kTiles][4], int step) {
    for (int half = 0; half < 2; ++half)
      for (int row = 0; row < 2; ++row)
        a.x[2 * half + row] = pack_bf16(c[2 * step + half][2 * row], c[2 * step + half][2 * row + 1]);
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const Left& a, const Right& b) {
    mma_bf16(c, a.x, b.x);
  }

 private:
  static __device__ __forceinline__ void unpack(Right (&b)[2], const uint32_t (&r)[4]) {
    b[0].x[0] = r[0], b[0].x[1] = r[1], b[1].x[0] = r[2], b[1].x[1] = r[3];
  }
};

template <>
struct Fragments<float> {
  static constexpr int kInner = 8;
  template <int kRegisters>
  struct Split {
    uint32_t high[kRegisters], low[kRegisters];
    __device__ __forceinline__ void set(int i, float x) {
      high[i] = tf32_bits(x);
      low[i] = tf32_bits(x - __uint_as_float(high[i]));
    }
  };
  using Left = Split<4>;
  using Right = Split<2>;

  static __device__ __forceinline__ void load_left(Left& a, const float* rows, int stride) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    for (int half = 0; half < 2; ++half) {
      const float2 pair = *reinterpret_cast<const float2*>(rows + (g + 8 * half) * stride + 2 * t);
      a.set(half, pair.x), a.set(half + 2, pair.y);
    }
  }
  static __device__ __forceinline__ void load_columns(Right (&b)[2], const float* rows, int stride) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    for (int n = 0; n < 2; ++n) {
      const float2 pair = *reinterpret_cast<const float2*>(rows + (g + 8 * n) * stride + 2 * t);
      b[n].set(0, pair.x), b[n].set(1, pair.y);
    }
  }
  static __device__ __forceinline__ void load_rows(Right (&b)[2], const float* rows, int stride) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    for (int n = 0; n < 2; ++n)
      for (int k = 0; k < 2; ++k) b[n].set(k, rows[(2 * t + k) * stride + 8 * n + g]);
  }
  template <int kTiles>
  static __device__ __forceinline__ void from_accumulators(Left& a, const float (&c)[kTiles][4], int step) {
    for (int row = 0; row < 2; ++row)
      for (int k = 0; k < 2; ++k) a.set(row + 2 * k, c[step][2 * row + k]);
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const Left& a, const Right& b) {
    float sum[4] = {};
    mma_tf32(sum, a.low, b.high);
    mma_tf32(sum, a.high, b.low);
    mma_tf32(sum, a.high, b.high);
    for (int e = 0; e < 4; ++e) c[e] += sum[e];
  }
};

// The left factor of a warp's products: kStrips strips of 16 rows, kWidth features wide, that stay in shared memory;
// kHeld keeps their fragments in registers.
template <class S, int kStrips, int kWidth, bool kHeld>
class LeftRows {
 public:
  using F = Fragments<S>;
  static constexpr int kSteps = kWidth / F::kInner;
  // Of loops over the steps. Registers have no index at run time, so what is held must be unrolled.
  static constexpr int kUnroll = kHeld ? kSteps : sizeof(S) == 2 ? 4 : 2;

  __device__ __forceinline__ LeftRows(const S* rows, int stride) : rows_(rows), stride_(stride) {}
  // To be called once the rows have arrived.
  __device__ __forceinline__ void hold() {
    if constexpr (kHeld) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) load(held_[step], step);
    }
  }
  __device__ __forceinline__ void get(typename F::Left (&a)[kStrips], int step) const {
    if constexpr (kHeld) {
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) a[strip] = held_[step][strip];
    } else {
      load(a, step);
    }
  }

 private:
  __device__ __forceinline__ void load(typename F::Left (&a)[kStrips], int step) const {
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip)
      F::load_left(a[strip], rows_ + 16 * strip * stride_ + step * F::kInner, stride_);
  }

  const S* rows_;
  int stride_;
  typename F::Left held_[kHeld ? kSteps : 1][kStrips];
};

template <int kStrips, int kTiles>
__device__ __forceinline__ void set_zero(float (&c)[kStrips][kTiles][4]) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int e = 0; e < 4; ++e) c[strip][tile][e] = 0;
}

// c = left . columns^T over kWidth features; `columns` are 8 * kTiles rows in shared memory.
template <class S, int kStrips, int kTiles, int kWidth, bool kHeld>
__device__ __forceinline__ void multiply_columns(float (&c)[kStrips][kTiles][4],
                                                 const LeftRows<S, kStrips, kWidth, kHeld>& left, const S* columns,
                                                 int stride) {
  using F = Fragments<S>;
  using Left = LeftRows<S, kStrips, kWidth, kHeld>;
  set_zero(c);
#pragma unroll Left::kUnroll
  for (int step = 0; step < Left::kSteps; ++step) {
    typename F::Left a[kStrips];
    left.get(a, step);
#pragma unroll
    for (int pair = 0; pair < kTiles / 2; ++pair) {
      typename F::Right b[2];
      F::load_columns(b, columns + 16 * pair * stride + step * F::kInner, stride);
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
        for (int half = 0; half < 2; ++half) F::multiply(c[strip][2 * pair + half], a[strip], b[half]);
    }
  }
}

// out += weights . rows; `rows` are 8 * kTiles rows of 8 * kWide features in shared memory.
template <class S, int kStrips, int kTiles, int kWide>
__device__ __forceinline__ void add_product(float (&out)[kStrips][kWide][4], const float (&weights)[kStrips][kTiles][4],
                                            const S* rows, int stride) {
  using F = Fragments<S>;
#pragma unroll
  for (int step = 0; step < 8 * kTiles / F::kInner; ++step) {
    typename F::Left a[kStrips];
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) F::from_accumulators(a[strip], weights[strip], step);
#pragma unroll
    for (int pair = 0; pair < kWide / 2; ++pair) {
      typename F::Right b[2];
      F::load_rows(b, rows + step * F::kInner * stride + 16 * pair, stride);
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
        for (int half = 0; half < 2; ++half) F::multiply(out[strip][2 * pair + half], a[strip], b[half]);
    }
  }
}

}  // namespace sluice::cuda
