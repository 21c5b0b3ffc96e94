#include "model/module/moving_averages.h"

#include <algorithm>

namespace sluice {

AverageId MovingAverages::declare(std::string name, Shape shape, double initial, double keep) {
  check(std::none_of(list_.begin(), list_.end(), [&](const Average& other) { return other.name == name; }),
        "a moving average is declared twice");
  list_.push_back({std::move(name), shape, initial, keep, total_});
  total_ += (shape.elements() + 15) / 16 * 16;
  return {int(list_.size()) - 1};
}

void MovingAverages::allocate(Backend& backend, DType acc) {
  if (empty()) return;
  acc_ = acc;
  values_ = Arena(backend, size_t(total_) * size_of(acc));
  observed_ = Arena(backend, size_t(total_) * size_of(acc));
}

void MovingAverages::initialise(Backend& backend) const {
  for (size_t i = 0; i < list_.size(); ++i) backend.run(Fill{value({int(i)}), list_[i].initial});
}

void MovingAverages::update(Backend& backend) const {
  for (size_t i = 0; i < list_.size(); ++i) {
    const AverageId id{int(i)};
    const auto flat = [&](const Tensor& t) { return t.reshaped({t.elements()}); };
    backend.run(MovingAverage{flat(value(id)), flat(observed(id)), list_[i].keep});
  }
}

Tensor MovingAverages::at(const Arena& arena, AverageId id) const {
  const Average& average = list_[size_t(id.index)];
  return arena.at(size_t(average.offset) * size_of(acc_), acc_, average.shape);
}

}  // namespace sluice
