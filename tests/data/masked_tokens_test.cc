// Masked language modelling as a source: what is predicted, what stands in its place, and what that depends on.
#include "data/sources/masked_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error_text.h"
#include "data/config.h"
#include "data/sources/random_tokens.h"

namespace sluice {
namespace {

constexpr int64_t kT = 40, kVocab = 50;
constexpr int32_t kMask = 49;

struct Sequences {
  std::vector<int32_t> tokens, targets;
};

Sequences read(const DataSource& source, int64_t first, int64_t count) {
  Sequences out;
  out.tokens.resize(size_t(count * source.context()));
  out.targets = out.tokens;
  source.fill(first, count, out.tokens.data(), out.targets.data());
  return out;
}

std::unique_ptr<DataSource> plain(Split split = Split::kTrain, uint64_t seed = 3, int64_t context = kT) {
  return std::make_unique<RandomTokens>(split, context, kMask, seed);  // tokens below the mask
}

MaskedTokens masked(Masking masking, Split split = Split::kTrain, uint64_t seed = 3, int64_t context = kT) {
  masking.token = kMask, masking.vocab_size = kVocab;
  return {plain(split, 3, context), masking, split, seed};
}

TEST(MaskedTokens, PredictsTheSameNumberOfTokensInEverySequence) {
  for (const auto& [share, count] : {std::pair{0.15, 6}, {0.001, 1}, {1.0, 40}, {0.5, 20}}) {
    const MaskedTokens source = masked({.share = share});
    EXPECT_EQ(source.predictions(), count);
    const Sequences all = read(source, 0, 20);
    for (int64_t s = 0; s < 20; ++s)
      EXPECT_EQ(std::count_if(&all.targets[size_t(s * kT)], &all.targets[size_t(s * kT)] + kT,
                              [](int32_t target) { return target >= 0; }),
                count);
  }
}

TEST(MaskedTokens, AsksForWhatStoodThereAndLeavesTheRest) {
  const Sequences text = read(*plain(), 5, 30), all = read(masked({.share = 0.3}), 5, 30);
  for (size_t i = 0; i < text.tokens.size(); ++i) {
    if (all.targets[i] < 0) EXPECT_EQ(all.tokens[i], text.tokens[i]) << i;
    else EXPECT_EQ(all.targets[i], text.tokens[i]) << i;
  }
}

// Shares of n draws lie within five of their deviations, sqrt(p (1 - p) / n).
void expect_share(double found, double p, double n) { EXPECT_NEAR(found, p, 5 * std::sqrt(p * (1 - p) / n)); }

TEST(MaskedTokens, PutsInTheirPlaceWhatItsSharesSay) {
  const Sequences text = read(*plain(), 0, 2000), all = read(masked({.share = 0.15}), 0, 2000);
  double predicted = 0, replaced = 0, other = 0;
  std::vector<double> at(static_cast<size_t>(kT));
  for (size_t i = 0; i < text.tokens.size(); ++i) {
    if (all.targets[i] < 0) continue;
    ++predicted, ++at[i % size_t(kT)];
    if (all.tokens[i] == kMask) ++replaced;
    else if (all.tokens[i] != text.tokens[i]) ++other;
  }
  EXPECT_EQ(predicted, 2000 * 6);
  // A random token is the mask, or what stood there, once in kVocab times each.
  expect_share(replaced / predicted, 0.8 + 0.1 / kVocab, predicted);
  expect_share(other / predicted, 0.1 * (1 - 2.0 / kVocab), predicted);
  for (int64_t i = 0; i < kT; ++i) expect_share(at[size_t(i)] / 2000, 0.15, 2000);
}

TEST(MaskedTokens, NeverAsksForWhatIsNoText) {
  const std::vector<int32_t> never = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  const Sequences some = read(masked({.share = 0.5, .never = never}), 0, 50);
  int64_t asked = 0;
  for (const int32_t target : some.targets) {
    EXPECT_TRUE(target < 1 || target > 20) << target;
    asked += target >= 0;
  }
  EXPECT_GT(asked, 50 * 15);
  std::vector<int32_t> all(static_cast<size_t>(kVocab));
  std::iota(all.begin(), all.end(), 0);
  const Sequences none = read(masked({.share = 0.5, .never = all}), 0, 3);
  EXPECT_EQ(none.tokens, read(*plain(), 0, 3).tokens);
  for (const int32_t target : none.targets) EXPECT_LT(target, 0);
}

TEST(MaskedTokens, DependOnTheSequenceAndTheSeedAlone) {
  const MaskedTokens source = masked({.share = 0.15});
  const Sequences all = read(source, 0, 12), later = read(source, 7, 3);
  EXPECT_TRUE(std::equal(later.tokens.begin(), later.tokens.end(), all.tokens.begin() + 7 * kT));
  EXPECT_TRUE(std::equal(later.targets.begin(), later.targets.end(), all.targets.begin() + 7 * kT));
  EXPECT_NE(read(masked({.share = 0.15}, Split::kTrain, 4), 0, 12).targets, all.targets);
  const auto held_out = [](uint64_t seed) { return read(masked({.share = 0.15}, Split::kHeldOut, seed), 0, 12); };
  EXPECT_EQ(held_out(3).targets, held_out(4).targets);
  EXPECT_EQ(held_out(3).tokens, held_out(4).tokens);
}

TEST(MaskedTokens, AreMadeFromAConfig) {
  const auto source = [](const Json& masking, int64_t vocab = kVocab) {
    DataConfig config;
    Fields fields;
    config.describe(fields);
    fields.parse({{"type", "random"}, {"masking", masking}}, "data");
    return make_source(config, Split::kTrain, kT, vocab, 3);
  };
  EXPECT_EQ(source({{"share", 0.15}, {"token", kMask}})->predictions(), 6);
  EXPECT_EQ(source({{"share", 0.15}, {"token", kMask}})->token_text(kMask), std::to_string(kMask));
  EXPECT_EQ(source({{"share", 0}})->predictions(), kT);
  expect_contains(user_error_of([&] {
                    source({{"share", 0.15}});
                  }),
                  {"data.masking.token is not set", "no data.tokenizer"});
  expect_contains(user_error_of([&] {
                    source({{"share", 0.15}, {"token", 50}});
                  }),
                  {"data.masking.token is 50", "model.vocab_size = 50"});
  expect_contains(user_error_of([&] { source({{"share", 1.5}}); }), {"data.masking.share"});
}

}  // namespace
}  // namespace sluice
