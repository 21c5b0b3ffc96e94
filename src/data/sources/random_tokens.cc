// Tokens drawn by position (random_tokens.h).
#include "data/sources/random_tokens.h"

#include <fmt/format.h>

#include "data/sources/generated.h"

namespace sluice {

RandomTokens::RandomTokens(Split split, int64_t context, int64_t vocab_size, uint64_t seed)
    : DataSource(context), split_(split), vocab_size_(vocab_size), seed_(seed) {}

void RandomTokens::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  const auto sampler = [vocab = uint64_t(vocab_size_)](int64_t, uint32_t word) { return int32_t(word * vocab >> 32); };
  fill_generated(split_, seed_, context(), first_sequence, count, inputs, targets, [&] { return sampler; });
}

std::string RandomTokens::describe() const {
  return fmt::format("random: uniform over {} tokens, {} split", vocab_size_, split_name(split_));
}

std::string RandomTokens::identity() const { return fmt::format("random:{}", vocab_size_); }

}  // namespace sluice
