// Causal means of rows, and their gradient. Conventions: kernels/ops.h.
//
// Sequences of T rows; in one, row i sees rows first_key[i] .. i, where first_key says at which row its document
// begins: a number that stays until the row that it names. Absent, all is one document.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// out_i = (sum of the x_j that row i sees) / (how many these are, or `divisor` where that is not 0).
struct PrefixMean {
  static constexpr const char* kName = "prefix_mean";
  int64_t T = 0;
  double divisor = 0;
  int64_t first_position = 0;  // rows that every sequence has had before these, with `sums`
  Tensor x;                    // [N, C] act, strided
  Tensor first_key = {};       // [N] i32, or absent
  // [N / T, C] acc, or absent: where first_position > 0 the sums of the rows before these; then with these. Not with
  // first_key.
  Tensor sums = {};
  Tensor out;  // [N, C] act, strided
  void for_tensors(auto f) { f(x), f(first_key), f(sums), f(out); }
  void check() const;
  void check_values() const;
};

// d_x_j += sum over the rows i that see j of d_out_i / (what row i's sum is divided by).
struct PrefixMeanBackward {
  static constexpr const char* kName = "prefix_mean_backward";
  int64_t T = 0;
  double divisor = 0;
  Tensor d_out;           // [N, C] act, strided
  Tensor first_key = {};  // [N] i32, or absent
  Tensor d_x;             // [N, C] act, strided
  void for_tensors(auto f) { f(d_out), f(first_key), f(d_x); }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
