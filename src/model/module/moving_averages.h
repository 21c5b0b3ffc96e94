// State of a model that is not trained: moving averages of what its parts see in the batches of the training.
//
// A step's micro-batches are observed one after the other, each with its share of the step's tokens; ranks add up what
// they have observed; and the update of the weights is followed by
//   average = keep average + (1 - keep) observed
// Averages are saved with the parameters, under names of the same kind, and have neither gradients nor optimizer state.
#pragma once

#include <string>
#include <vector>

#include "kernels/arena.h"
#include "kernels/backend.h"

namespace sluice {

struct AverageId {
  int index = -1;
  explicit operator bool() const { return index >= 0; }
};

class MovingAverages {
 public:
  struct Average {
    std::string name;
    Shape shape;
    double initial;
    double keep;
    int64_t offset;  // in elements
  };

  AverageId declare(std::string name, Shape shape, double initial, double keep);
  void allocate(Backend& backend, DType acc);  // after all were declared; zeros
  void initialise(Backend& backend) const;

  bool empty() const { return list_.empty(); }
  const std::vector<Average>& list() const { return list_; }
  // What is kept, and what this step's micro-batches have shown so far: acc.
  Tensor value(AverageId id) const { return at(values_, id); }
  Tensor observed(AverageId id) const { return at(observed_, id); }
  // [padded_count()], absent where there are none.
  Tensor all_values() const { return all(values_); }
  Tensor all_observed() const { return all(observed_); }
  void update(Backend& backend) const;

  int64_t padded_count() const { return total_; }
  size_t bytes() const { return values_.bytes() + observed_.bytes(); }

 private:
  Tensor at(const Arena& arena, AverageId id) const;
  Tensor all(const Arena& arena) const { return total_ > 0 ? arena.at(0, acc_, {total_}) : Tensor{}; }

  std::vector<Average> list_;
  Arena values_, observed_;
  DType acc_ = DType::kF32;
  int64_t total_ = 0;
};

}  // namespace sluice
