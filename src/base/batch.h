// What the data give and the model takes: some sequences of tokens, in host memory.
#pragma once

#include <cstdint>

namespace sluice {

inline constexpr int32_t kNoTarget = -1;  // of a target: nothing is predicted

struct Batch {
  const int32_t* tokens = nullptr;   // [B, T]
  const int32_t* targets = nullptr;  // [B, T]: what follows each; negative: nothing is predicted there; null: not known
  int64_t B = 0, T = 0;              // sequences, positions
  // [B, T]: at which position of its sequence each position's document starts; attention then stays within documents.
  // Null: a sequence is one. Positions count through the sequence.
  const int32_t* document_starts = nullptr;
  int64_t predictions = 0;  // targets of a sequence, where they are fewer than T (masked language modelling); 0: T

  int64_t predicted() const { return B * (predictions > 0 ? predictions : T); }
};

}  // namespace sluice
