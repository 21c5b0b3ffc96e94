// What the data give and the model takes: some sequences of tokens, in host memory.
#pragma once

#include <cstdint>

namespace sluice {

struct Batch {
  const int32_t* tokens = nullptr;   // [B, T]
  const int32_t* targets = nullptr;  // [B, T]: what follows each; negative: nothing is predicted there; null: not known
  int64_t B = 0, T = 0;              // sequences, positions
  // [B, T]: at which position of its sequence each position's document starts; attention then stays within documents.
  // Null: a sequence is one. Positions count through the sequence.
  const int32_t* document_starts = nullptr;
};

}  // namespace sluice
