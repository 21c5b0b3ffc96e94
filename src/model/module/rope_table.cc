#include "model/module/rope_table.h"

#include <cmath>
#include <vector>

namespace sluice {

// Angles in double: in float the angle of position 10000 would be off by 5e-4.
void fill_rope_table(Backend& backend, const Tensor& table, const ModelConfig& model) {
  const int64_t T = table.rows(), D = table.cols();
  const auto fill_as = [&](auto zero) {
    std::vector<decltype(zero)> values(size_t(T * D), zero);
    for (int64_t i = 0; i < D / 2; ++i) {
      const double speed = model.rope_speed(i);
      for (int64_t t = 0; t < T; ++t) {
        values[size_t(t * D + i)] = decltype(zero)(std::cos(double(t) * speed));
        values[size_t(t * D + D / 2 + i)] = decltype(zero)(std::sin(double(t) * speed));
      }
    }
    backend.upload(table, values.data());
  };
  if (table.dtype == DType::kF64) fill_as(0.0);
  else fill_as(0.0f);
}

}  // namespace sluice
