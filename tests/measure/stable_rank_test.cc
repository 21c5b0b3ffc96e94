// The stable rank of a head's update, where the singular values are known, and against power iteration on U itself.
#include "measure/figures/stable_rank.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/philox.h"

namespace sluice {
namespace {

std::vector<float> drawn(size_t count, uint64_t seed) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = float(philox(seed, 3, i).word[0]) * 0x1p-31f - 1;
  return out;
}

double rank_of(const std::vector<float>& z, const std::vector<float>& weight, int64_t T, int64_t D) {
  return HeadUpdate(weight.data(), D, int64_t(weight.size()) / D, D).stable_rank(z.data(), D, T);
}

// U = Z W^T, |U|_F^2 / |U|_2^2 by ten thousand steps of power iteration.
double plain_rank(const std::vector<float>& z, const std::vector<float>& weight, int64_t T, int64_t D) {
  const int64_t C = int64_t(weight.size()) / D;
  std::vector<double> u(size_t(T * C)), v(size_t(C), 1.0);
  double all = 0, most = 0;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t c = 0; c < C; ++c) {
      for (int64_t i = 0; i < D; ++i) u[size_t(t * C + c)] += double(z[size_t(t * D + i)]) * weight[size_t(c * D + i)];
      all += u[size_t(t * C + c)] * u[size_t(t * C + c)];
    }
  for (int step = 0; step < 10000; ++step) {
    std::vector<double> next(static_cast<size_t>(C));
    most = 0;
    for (int64_t t = 0; t < T; ++t) {
      double dot = 0;
      for (int64_t c = 0; c < C; ++c) dot += u[size_t(t * C + c)] * v[size_t(c)];
      for (int64_t c = 0; c < C; ++c) next[size_t(c)] += dot * u[size_t(t * C + c)];
    }
    for (const double x : next) most += x * x;
    most = std::sqrt(most);
    for (int64_t c = 0; c < C; ++c) v[size_t(c)] = next[size_t(c)] / most;
  }
  return all / most;
}

TEST(StableRank, OfKnownSingularValues) {
  const std::vector<float> identity = {1, 0, 0, 1, 0, 0};  // C = 3
  EXPECT_NEAR(rank_of({1, 2, 2, 4, -3, -6, 0, 0}, identity, 4, 2), 1, 1e-14) << "multiples of one direction";
  EXPECT_NEAR(rank_of({1, 0, 0, 1}, identity, 2, 2), 2, 1e-14);
  EXPECT_NEAR(rank_of({3, 0, 0, 1, 0, 0}, identity, 3, 2), 10.0 / 9, 1e-14);
  EXPECT_NEAR(rank_of({1, 0, 0, 1}, {3, 0, 0, -4}, 2, 2), 25.0 / 16, 1e-14) << "the projection counts";
  EXPECT_NEAR(rank_of({1, 0, 0, 1}, {2, 2, -1, -1}, 2, 2), 1, 1e-14) << "one that has one direction";
  EXPECT_NEAR(rank_of({5}, {2}, 1, 1), 1, 1e-15);
}

TEST(StableRank, OfNothingIsZeroAndOfNoNumberNone) {
  EXPECT_EQ(rank_of({0, 0, 0, 0}, {1, 0, 0, 1}, 2, 2), 0);
  EXPECT_EQ(rank_of({1, 2, 3, 4}, {0, 0, 0, 0}, 2, 2), 0);
  EXPECT_TRUE(std::isnan(rank_of({1, NAN, 3, 4}, {1, 0, 0, 1}, 2, 2)));
  EXPECT_TRUE(std::isnan(rank_of({1, 2, 3, 4}, {INFINITY, 0, 0, 1}, 2, 2)));
}

TEST(StableRank, IsThatOfPowerIteration) {
  for (const auto& [T, D, C] : {std::tuple<int64_t, int64_t, int64_t>{17, 5, 12}, {3, 8, 20}, {40, 8, 4}, {6, 6, 6}}) {
    const std::vector<float> z = drawn(size_t(T * D), uint64_t(T)), weight = drawn(size_t(C * D), uint64_t(C));
    EXPECT_NEAR(rank_of(z, weight, T, D), plain_rank(z, weight, T, D), 1e-9) << T << " " << D << " " << C;
  }
}

TEST(StableRank, ReadsAHeadAmongOthers) {
  const std::vector<float> z = drawn(7 * 3, 1), weight = drawn(5 * 3, 2);
  std::vector<float> wide_z(7 * 10, NAN), wide_weight(5 * 9, NAN);
  for (size_t t = 0; t < 7; ++t) std::copy_n(z.begin() + ptrdiff_t(3 * t), 3, wide_z.begin() + ptrdiff_t(10 * t));
  for (size_t c = 0; c < 5; ++c)
    std::copy_n(weight.begin() + ptrdiff_t(3 * c), 3, wide_weight.begin() + ptrdiff_t(9 * c));
  EXPECT_EQ(HeadUpdate(wide_weight.data(), 9, 5, 3).stable_rank(wide_z.data(), 10, 7), rank_of(z, weight, 7, 3));
}

TEST(LargestEigenvalue, OfKnownMatrices) {
  EXPECT_EQ(largest_eigenvalue({-3}, 1), -3);
  EXPECT_NEAR(largest_eigenvalue({2, 1, 1, 2}, 2), 3, 1e-15);
  EXPECT_NEAR(largest_eigenvalue({-2, 0, 0, -5}, 2), -2, 1e-15);
  EXPECT_NEAR(largest_eigenvalue(std::vector<double>(36, 1), 6), 6, 1e-14) << "all ones";
  EXPECT_EQ(largest_eigenvalue(std::vector<double>(25), 5), 0);
  // Second differences of n points: 2 - 2 cos(pi k / (n + 1)), k = n; rows and columns in another order too.
  constexpr int64_t kN = 9;
  for (const int64_t stride : {1, 2, 4}) {
    std::vector<double> matrix(size_t(kN * kN));
    for (int64_t i = 0; i < kN; ++i)
      for (int64_t j = 0; j < kN; ++j)
        matrix[size_t(i * stride % kN * kN + j * stride % kN)] = i == j ? 2 : std::abs(i - j) == 1 ? -1 : 0;
    EXPECT_NEAR(largest_eigenvalue(matrix, kN), 2 - 2 * std::cos(M_PI * kN / (kN + 1)), 1e-14) << stride;
  }
}

}  // namespace
}  // namespace sluice
