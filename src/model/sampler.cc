#include "model/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/philox.h"

namespace sluice {

void Sampler::keep_most_likely(size_t count) {
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.token < b.token);
  };
  count = std::min(count, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + std::ptrdiff_t(count), candidates_.end(), likelier);
  candidates_.resize(count);
}

int32_t Sampler::choose(std::span<const float> logits, uint64_t sequence, uint64_t position) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  const bool spoilt = std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
  if (spoilt || !std::isfinite(*largest)) throw RunError("the model's logits are not finite: its weights are spoilt");
  if (options_.temperature == 0) return int32_t(largest - logits.begin());

  candidates_.clear();
  for (size_t token = 0; token < logits.size(); ++token)
    candidates_.push_back({std::exp((double(logits[token]) - *largest) / options_.temperature), int32_t(token)});
  if (options_.top_k > 0) keep_most_likely(size_t(options_.top_k));
  const auto total = [&] {
    double sum = 0;
    for (const Candidate& candidate : candidates_) sum += candidate.weight;
    return sum;
  };
  if (options_.top_p < 1) {
    keep_most_likely(candidates_.size());
    const double enough = options_.top_p * total();
    double sum = 0;
    size_t count = 0;
    while (count < candidates_.size() && (count == 0 || sum < enough)) sum += candidates_[count++].weight;
    candidates_.resize(count);
  }

  const Random4 words = philox(options_.seed, uint64_t(Stream::kSample) + sequence, position);
  double left = uniform53(words.word[0], words.word[1]) * total();
  for (const Candidate& candidate : candidates_)
    if ((left -= candidate.weight) < 0) return candidate.token;
  // Rounding took the last one's share: the last that has any.
  return std::find_if(candidates_.rbegin(), candidates_.rend(), [](const Candidate& c) { return c.weight > 0; })->token;
}

}  // namespace sluice
