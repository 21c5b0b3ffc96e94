// Weights that are NaN or infinite: counted, and said in words.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace sluice {

class FiniteWeights {
 public:
  void add(const std::string& name, std::span<const float> weights);
  bool all() const { return spoilt_ == 0; }
  // "2 of 4452 weights are NaN or infinite, the first of them in mlp.up.weight"; where there are some.
  std::string sentence() const;

 private:
  int64_t count_ = 0, spoilt_ = 0;
  std::string first_;
};

}  // namespace sluice
