// The stable rank of what a head adds to the residual stream (arXiv 2606.08105): |U|_F^2 / |U|_2^2 of U = Z W^T, Z [T,
// D] the head's results after all stages and W [C, D] its columns of the output projection. From 1, every position is
// given a multiple of one direction (a sink that broadcasts), to D; 0 where the head adds nothing.
//
// With W = Q R, R [D, D] upper triangular, U has the singular values of Y = Z R^T, so that C is met once a head.
// |U|_2^2 is the largest eigenvalue of Y^T Y, by Householder's reflections to a tridiagonal matrix and bisection with
// Sturm's count: no start to choose, no iteration that converges slowly where two eigenvalues are close.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

class HeadUpdate {
 public:
  // Row c of W is at weight + c * stride.
  HeadUpdate(const float* weight, int64_t stride, int64_t C, int64_t D);
  // Row t of Z is at results + t * stride. 0 if U is 0; NaN if it is not finite.
  double stable_rank(const float* results, int64_t stride, int64_t T) const;

 private:
  int64_t D_;
  std::vector<double> triangle_;  // [D, D]: R
};

// Of a symmetric matrix [n, n] of finite numbers, n > 0, to rounding.
double largest_eigenvalue(std::vector<double> matrix, int64_t n);

}  // namespace sluice
