#include "model/module/decoder_state.h"

#include <algorithm>

#include "kernels/backend.h"

namespace sluice {
namespace {

size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

StateId StatePlan::declare(Shape of_sequence, DType dtype) {
  states_.push_back({of_sequence, dtype});
  return {int(states_.size()) - 1};
}

DecoderState::DecoderState(Backend& backend, const StatePlan& plan, int64_t sequences, int64_t capacity)
    : backend_(backend), plan_(plan), sequences_(sequences), capacity_(capacity) {
  size_t bytes = 0;
  for (const StatePlan::State& state : plan.states_) {
    offsets_.push_back(bytes);
    bytes += whole_lines(size_t(sequences * state.of_sequence.elements()) * size_of(state.dtype));
  }
  offsets_.push_back(bytes);
  for (const auto& elements : plan.workspaces_)
    workspace_elements_ = std::max(workspace_elements_, elements(sequences));
  arena_ = Arena(backend, bytes + size_t(workspace_elements_) * sizeof(float));
}

Tensor DecoderState::view(StateId id) const {
  const StatePlan::State& state = plan_.states_[size_t(id.index)];
  return arena_.at(offsets_[size_t(id.index)], state.dtype,
                   {sequences_ * state.of_sequence.rows(), state.of_sequence.cols()});
}

Tensor DecoderState::workspace() const { return arena_.at(offsets_.back(), DType::kF32, {workspace_elements_}); }

void DecoderState::append(const Tensor& rows, const Tensor& x) const {
  const int64_t T = x.rows() / sequences_;
  if (T == 1) {  // all sequences at once: their rows lie `capacity` apart
    Tensor out = rows.row_range(length_, 1);
    out.shape = x.shape;
    out.stride *= capacity_;
    return backend_.run(Copy{out, x});
  }
  for (int64_t b = 0; b < sequences_; ++b)
    backend_.run(Copy{rows.row_range(b * capacity_ + length_, T), x.row_range(b * T, T)});
}

}  // namespace sluice
