// Draws what is masked: positions by the order of random words, then what stands there (masked_tokens.h).
#include "data/sources/masked_tokens.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/batch.h"
#include "base/philox.h"

namespace sluice {
namespace {

constexpr uint64_t kReplacements = uint64_t{1} << 31;  // of the stream: from here on a block a position

// Of every position a word; those with the smallest are predicted.
std::vector<std::pair<uint32_t, int64_t>> drawn_positions(uint64_t seed, int64_t sequence, int64_t context) {
  std::vector<std::pair<uint32_t, int64_t>> out;
  out.reserve(size_t(context));
  Random4 block{};
  for (int64_t i = 0; i < context; ++i) {
    if (i % 4 == 0) block = philox(seed, uint64_t(Stream::kMasking) | uint64_t(i / 4), uint64_t(sequence));
    out.emplace_back(block.word[i % 4], i);
  }
  return out;
}

}  // namespace

MaskedTokens::MaskedTokens(std::unique_ptr<DataSource> source, Masking masking, Split split, uint64_t seed)
    : DataSource(source->context()),
      source_(std::move(source)),
      masking_(std::move(masking)),
      seed_(split == Split::kTrain ? seed : 0) {}

int64_t MaskedTokens::predictions() const {
  return std::max<int64_t>(1, std::llround(masking_.share * double(context())));
}

int64_t MaskedTokens::vocab_size_needed() const {
  return std::max<int64_t>(source_->vocab_size_needed(), masking_.token + 1);
}

void MaskedTokens::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  source_->fill(first_sequence, count, inputs, targets);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < count; ++row)
    mask(first_sequence + row, inputs + row * context(), targets + row * context());
}

void MaskedTokens::mask(int64_t sequence, int32_t* inputs, int32_t* targets) const {
  std::vector<std::pair<uint32_t, int64_t>> drawn = drawn_positions(seed_, sequence, context());
  std::erase_if(drawn, [&](const auto& one) {
    return std::find(masking_.never.begin(), masking_.never.end(), inputs[one.second]) != masking_.never.end();
  });
  const int64_t count = std::min<int64_t>(predictions(), int64_t(drawn.size()));
  std::nth_element(drawn.begin(), drawn.begin() + count, drawn.end());
  std::fill_n(targets, context(), kNoTarget);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = drawn[size_t(k)].second;
    targets[i] = inputs[i];
    const Random4 draw = philox(seed_, uint64_t(Stream::kMasking) | kReplacements | uint64_t(i), uint64_t(sequence));
    const double which = uniform53(draw.word[0], draw.word[1]);
    if (which < masking_.replaced) inputs[i] = masking_.token;
    else if (which < masking_.replaced + masking_.random)
      inputs[i] = int32_t(uint64_t{draw.word[2]} * uint64_t(masking_.vocab_size) >> 32);
  }
}

std::string MaskedTokens::describe() const {
  return fmt::format("{}; {} of {} tokens of a sequence are predicted from both sides", source_->describe(),
                     predictions(), context());
}

std::string MaskedTokens::token_text(int32_t token) const {
  return token == masking_.token && token >= source_->vocab_size_needed() ? "[MASK]" : source_->token_text(token);
}

}  // namespace sluice
