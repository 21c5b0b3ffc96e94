// The next token from a row of logits.
//
// p = softmax(logits / temperature), cut to the top_k most likely tokens and then to the fewest of these that hold
// top_p of the probability (arXiv 1904.09751). The draw depends on (seed, sequence, position) alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

struct SamplingOptions {
  double temperature = 1;  // 0: always the most likely token
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
  uint64_t seed = 42;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options) {}

  // `sequence` tells samples apart, `position` the tokens of one. Of equally likely tokens the lowest id comes first.
  // RunError if no logit is finite or one is a NaN.
  int32_t choose(std::span<const float> logits, uint64_t sequence, uint64_t position);

 private:
  struct Candidate {
    double weight;  // of its probability
    int32_t token;
  };
  void keep_most_likely(size_t count);

  SamplingOptions options_;
  std::vector<Candidate> candidates_;
};

}  // namespace sluice
