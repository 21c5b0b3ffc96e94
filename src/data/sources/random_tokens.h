// Uniformly random token ids: no file is read and nothing can be learned, so that a benchmark measures the step alone.
// A token is floor(u V / 2^32), u a 32-bit random word (data/sources/generated.h).
#pragma once

#include <cstdint>
#include <string>

#include "data/sources/source.h"

namespace sluice {

class RandomTokens final : public DataSource {
 public:
  RandomTokens(Split split, int64_t context, int64_t vocab_size, uint64_t seed);

  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  int64_t vocab_size_needed() const override { return vocab_size_; }
  std::string describe() const override;
  std::string identity() const override;

 private:
  Split split_;
  int64_t vocab_size_;
  uint64_t seed_;
};

}  // namespace sluice
