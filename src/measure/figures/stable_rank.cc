#include "measure/figures/stable_rank.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "measure/figures/dot.h"

namespace sluice {
namespace {

void add_scaled(double* a, double scale, const double* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) a[i] += scale * b[i];
}

struct Tridiagonal {
  std::vector<double> diagonal, beside;  // [n], [n - 1]
};

// Reflections I - v v^T / h, h = v^T v / 2, from both sides: each leaves of a column what lies beside the diagonal.
Tridiagonal tridiagonal(std::vector<double> a, int64_t n) {
  Tridiagonal out{std::vector<double>(size_t(n)), std::vector<double>(size_t(n - 1))};
  std::vector<double> v(static_cast<size_t>(n)), w(static_cast<size_t>(n));
  for (int64_t k = 0; k + 1 < n; ++k) {
    const int64_t m = n - k - 1;  // what is below
    out.diagonal[size_t(k)] = a[size_t(k * n + k)];
    std::copy_n(a.begin() + k * n + k + 1, m, v.begin());
    const double size = std::sqrt(dot(v.data(), v.data(), m)), left = v[0] > 0 ? -size : size;
    out.beside[size_t(k)] = m == 1 ? v[0] : left;
    if (m == 1 || size == 0) continue;
    v[0] -= left;
    const double h = dot(v.data(), v.data(), m) / 2;
    const auto row = [&](int64_t i) { return a.data() + (k + 1 + i) * n + k + 1; };
    for (int64_t i = 0; i < m; ++i) w[size_t(i)] = dot(row(i), v.data(), m) / h;
    add_scaled(w.data(), -dot(v.data(), w.data(), m) / (2 * h), v.data(), m);
    for (int64_t i = 0; i < m; ++i) {
      add_scaled(row(i), -v[size_t(i)], w.data(), m);
      add_scaled(row(i), -w[size_t(i)], v.data(), m);
    }
  }
  out.diagonal.back() = a.back();
  return out;
}

// Whether all eigenvalues are below x (Sturm): whether x - A has positive pivots only.
bool all_below(const Tridiagonal& a, double x) {
  double pivot = x - a.diagonal[0];
  for (size_t i = 0; i < a.beside.size() && pivot > 0; ++i)
    pivot = x - a.diagonal[i + 1] - a.beside[i] * a.beside[i] / pivot;
  return pivot > 0;
}

}  // namespace

double largest_eigenvalue(std::vector<double> matrix, int64_t n) {
  const Tridiagonal a = tridiagonal(std::move(matrix), n);
  double low = *std::max_element(a.diagonal.begin(), a.diagonal.end()), high = low;  // it is no less
  for (size_t i = 0; i < a.diagonal.size(); ++i) {
    const double left = i > 0 ? a.beside[i - 1] : 0, right = i < a.beside.size() ? a.beside[i] : 0;
    high = std::max(high, a.diagonal[i] + std::fabs(left) + std::fabs(right));
  }
  for (double middle = low + (high - low) / 2; low < middle && middle < high; middle = low + (high - low) / 2)
    (all_below(a, middle) ? high : low) = middle;
  return high;
}

// Gram and Schmidt, each direction taken from all columns that follow as soon as it is there.
HeadUpdate::HeadUpdate(const float* weight, int64_t stride, int64_t C, int64_t D) : D_(D), triangle_(size_t(D * D)) {
  std::vector<double> columns(static_cast<size_t>(D * C));  // [D, C]
  for (int64_t c = 0; c < C; ++c)
    for (int64_t i = 0; i < D; ++i) columns[size_t(i * C + c)] = weight[c * stride + i];
  const auto column = [&](int64_t i) { return columns.data() + i * C; };
  for (int64_t k = 0; k < D; ++k) {
    double* row = triangle_.data() + k * D;
    row[k] = std::sqrt(dot(column(k), column(k), C));
    if (row[k] == 0) continue;
    std::for_each_n(column(k), C, [&](double& x) { x /= row[k]; });
    for (int64_t j = k + 1; j < D; ++j) {
      row[j] = dot(column(k), column(j), C);
      add_scaled(column(j), -row[j], column(k), C);
    }
  }
}

double HeadUpdate::stable_rank(const float* results, int64_t stride, int64_t T) const {
  std::vector<double> gram(static_cast<size_t>(D_ * D_)), z(static_cast<size_t>(D_)), y(static_cast<size_t>(D_));
  for (int64_t t = 0; t < T; ++t) {
    std::copy_n(results + t * stride, D_, z.begin());
    for (int64_t i = 0; i < D_; ++i) y[size_t(i)] = dot(triangle_.data() + i * D_ + i, z.data() + i, D_ - i);
    for (int64_t i = 0; i < D_; ++i) add_scaled(gram.data() + i * D_, y[size_t(i)], y.data(), D_);
  }
  double squares = 0;  // |U|_F^2
  for (int64_t i = 0; i < D_; ++i) squares += gram[size_t(i * D_ + i)];
  if (!std::isfinite(squares)) return std::numeric_limits<double>::quiet_NaN();
  if (squares == 0) return 0;
  return squares / largest_eigenvalue(std::move(gram), D_);
}

}  // namespace sluice
