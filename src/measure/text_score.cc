// Texts of like length run together; behind its end a text is padded, which attention to the past does
// not see and which is not scored.
#include "measure/text_score.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace sluice {
namespace {

constexpr int64_t kLengthStep = 16;  // few different shapes, for which products are prepared once each
constexpr int32_t kPadding = 0, kNotScored = -1;

}  // namespace

std::vector<double> log_likelihoods(Transformer& model, std::span<const ScoredTokens> texts) {
  const int64_t context = model.config().context;
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return texts[a].tokens.size() > texts[b].tokens.size(); });
  std::vector<double> sums(texts.size());
  std::vector<int32_t> inputs, targets;
  for (size_t begin = 0; begin < order.size(); begin += size_t(model.max_batch())) {
    const size_t B = std::min(order.size() - begin, size_t(model.max_batch()));
    const int64_t longest = int64_t(texts[order[begin]].tokens.size()) - 1;
    check_le(longest, context, "tokens of a text to score");
    const size_t T = size_t(std::min(context, (longest + kLengthStep - 1) / kLengthStep * kLengthStep));
    inputs.assign(B * T, kPadding);
    targets.assign(B * T, kNotScored);
    for (size_t row = 0; row < B; ++row) {
      const ScoredTokens& text = texts[order[begin + row]];
      check(text.first >= 1 && text.first < text.tokens.size(), "the first token to score");
      std::copy(text.tokens.begin(), text.tokens.end() - 1, inputs.begin() + int64_t(row * T));
      std::copy(text.tokens.begin() + int64_t(text.first), text.tokens.end(),
                targets.begin() + int64_t(row * T + text.first) - 1);
    }
    const std::vector<double> losses = model.token_losses({inputs.data(), targets.data(), int64_t(B), int64_t(T)});
    for (size_t row = 0; row < B; ++row) {
      const auto first = losses.begin() + int64_t(row * T);
      sums[order[begin + row]] = -std::accumulate(first, first + int64_t(T), 0.0);
    }
  }
  return sums;
}

}  // namespace sluice
