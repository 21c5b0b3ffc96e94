// What the head has to predict, and where. Where a batch says that it is few tokens of a sequence (masked language
// models), the head sees the rows of those alone: its logits are much of what a small model computes.
#pragma once

#include <vector>

#include "model/module/module.h"

namespace sluice {

// Of the pass whose targets were uploaded last; `pass` is that one.
class Predictions {
 public:
  explicit Predictions(const Declarations& d);

  // Of a batch without targets nothing.
  void upload(const Pass& pass);
  // The pass as the head has it: its T are the predicted rows of a sequence, and as many of every one. Where one has
  // fewer, the first of them follows again, and nothing is predicted of it.
  Pass of_head(const Pass& pass) const;
  Tensor targets(const Pass& pass) const;  // of the head's rows, i32; negative: nothing is predicted

  // The head's rows of x [N, C], which are x itself where it has all; and where their gradient goes.
  Tensor gather(const Pass& pass, const Tensor& x) const;
  Tensor gradient(const Pass& pass, const Tensor& d_x) const;
  // That gradient into d_x [N, C], with zeros between.
  void spread(const Pass& pass, const Tensor& d_x) const;
  // Numbers of the head's rows at the rows of the pass [N], with zeros between.
  std::vector<double> at_rows(const Pass& pass, const std::vector<double>& of_head) const;

 private:
  void find(const Pass& pass);

  bool any_ = false;                                        // targets
  int64_t width_, count_ = 0;                               // predicted rows of a sequence; 0: all rows are the head's
  BufferId targets_, rows_, places_, gathered_, gradient_;  // all but the first only of masked language models
  std::vector<int32_t> row_of_;                             // [B, count]: in its sequence
  std::vector<int32_t> target_of_;                          // [B, count]
  std::vector<int32_t> place_of_;  // [N]: among its sequence's predicted rows, negative: not one of them
};

}  // namespace sluice
