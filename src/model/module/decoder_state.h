// What a decoder keeps of its tokens so far, instead of running them again: what each part has asked for, rows of keys
// and values or a matrix. All sequences are equally long.
#pragma once

#include <functional>
#include <vector>

#include "kernels/arena.h"

namespace sluice {

struct StateId {
  int index = -1;
};

// Declared by modules in their constructors, beside their buffers.
class StatePlan {
 public:
  // Of each sequence [rows, columns]: one row a token (rows are then the context), or a matrix of any size.
  StateId declare(Shape of_sequence, DType dtype);
  // f32 elements that a step needs for so many sequences; parts run one after the other and share them.
  void share_workspace(std::function<int64_t(int64_t sequences)> elements) {
    workspaces_.push_back(std::move(elements));
  }

 private:
  friend class DecoderState;
  struct State {
    Shape of_sequence;
    DType dtype;
  };
  std::vector<State> states_;
  std::vector<std::function<int64_t(int64_t)>> workspaces_;
};

class DecoderState {
 public:
  // Room for `sequences` of at most `capacity` tokens, the model's context. `plan` must outlive it.
  DecoderState(Backend& backend, const StatePlan& plan, int64_t sequences, int64_t capacity);

  int64_t sequences() const { return sequences_; }
  int64_t capacity() const { return capacity_; }  // tokens a sequence can have
  int64_t length() const { return length_; }      // tokens it has
  void clear() { length_ = 0; }
  void extend(int64_t tokens) { length_ += tokens; }
  size_t bytes() const { return arena_.bytes(); }

  Tensor view(StateId id) const;  // [sequences * rows, columns]
  Tensor workspace() const;
  // Copies x, the tokens that come now [sequences * T, columns], behind those that every sequence has in `rows`
  // [sequences * capacity, columns]; extend() counts them later.
  void append(const Tensor& rows, const Tensor& x) const;

 private:
  Backend& backend_;
  const StatePlan& plan_;
  int64_t sequences_, capacity_, length_ = 0;
  std::vector<size_t> offsets_;
  int64_t workspace_elements_ = 0;
  Arena arena_;  // the states, then the workspace
};

}  // namespace sluice
