// The two ends of a model: tokens become rows, and logits become losses. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// How many rows of every sequence are registers.
SLUICE_ACCESSOR inline int64_t register_rows(const Tensor& registers) { return registers.data ? registers.rows() : 0; }

// out[n] = table[tokens[n]] + positions[n % T - R] + segment; the first R of every T rows, whose tokens are negative,
// are those of `registers` instead.
struct EmbeddingForward {
  static constexpr const char* kName = "embedding_forward";
  Tensor out;        // [N, C] act, strided
  Tensor tokens;     // [N] i32
  Tensor table;      // [V, C] acc
  Tensor positions;  // [>= T - R, C] acc, or absent
  int64_t T = 0;
  Tensor registers = {};  // [R, C] acc, R <= T, or absent: R is 0
  Tensor segment = {};    // [1, C] acc, or absent
  void for_tensors(auto f) { f(out), f(tokens), f(table), f(positions), f(registers), f(segment); }
  void check() const;
  void check_values() const;
};

struct EmbeddingBackward {
  static constexpr const char* kName = "embedding_backward";
  Tensor d_table, d_positions;  // like table and positions
  Tensor d_out;                 // [N, C] act, strided
  Tensor tokens;                // [N] i32
  int64_t T = 0;
  bool accumulate_table = false, accumulate_positions = false;
  Tensor d_registers = {};  // like registers; accumulated as positions are
  void for_tensors(auto f) { f(d_table), f(d_positions), f(d_out), f(tokens), f(d_registers); }
  void check() const;
  void check_values() const;
};

// losses[n] = -log softmax(logits[n])[targets[n]]; where `grad_scale` is not 0 the logits become their gradient times
// grad_scale, in place.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  Tensor losses;   // [N] acc
  Tensor logits;   // [N, V] act, strided
  Tensor targets;  // [N] i32; negative: ignored, loss 0
  double grad_scale = 0;
  void for_tensors(auto f) { f(losses), f(logits), f(targets); }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
