// Token shards: round trip, the order of windows, and one clear sentence for every way a shard can be wrong.
#include "data/sources/token_shards.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/llmc_shard.h"
#include "data/sources/permutation.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

constexpr int64_t kContext = 8, kVocab = 5000;

std::vector<uint16_t> ramp(int64_t count, int first = 0) {
  std::vector<uint16_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), uint16_t(first));
  return tokens;
}

std::string shard(const TempFolder& folder, const std::string& name, const std::vector<uint16_t>& tokens) {
  write_llmc_shard<uint16_t>(folder.file(name), tokens);
  return folder.file(name);
}

TokenShardsOptions options_of(Split split = Split::kTrain, uint64_t seed = 42, int64_t vocab = kVocab) {
  TokenShardsOptions options;
  options.key = split == Split::kTrain ? "data.train_shards" : "data.validation_shards";
  options.split = split;
  options.context = kContext;
  options.vocab_size = vocab;
  options.seed = seed;
  return options;
}

TokenShards open_shards(const std::vector<std::string>& patterns, Split split = Split::kTrain, uint64_t seed = 42,
                        int64_t vocab = kVocab) {
  return TokenShards(patterns, options_of(split, seed, vocab));
}

std::vector<int32_t> inputs_of(const DataSource& source, int64_t first, int64_t count) {
  std::vector<int32_t> inputs(size_t(count * source.context())), targets(inputs.size());
  source.fill(first, count, inputs.data(), targets.data());
  return inputs;
}

// The first tokens of `count` sequences; with ramps as shards they name the window.
std::vector<int32_t> first_tokens(const DataSource& source, int64_t first, int64_t count) {
  const auto inputs = inputs_of(source, first, count);
  std::vector<int32_t> firsts;
  for (int64_t row = 0; row < count; ++row) firsts.push_back(inputs[size_t(row * source.context())]);
  return firsts;
}

std::string error_of(const std::vector<std::string>& patterns, int64_t vocab = kVocab) {
  return message_of<UserError>([&] { open_shards(patterns, Split::kTrain, 42, vocab); });
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(OrderOfEpoch, IsABijectionThatDependsOnSeedAndEpoch) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 16, 17, 1000, 4097}) {
    const Permutation permutation = order_of_epoch(size, 42, 0);
    std::vector<bool> hit(size);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t place = permutation(i);
      ASSERT_LT(place, size);
      ASSERT_FALSE(hit[place]) << size << " hits " << place << " twice";
      hit[place] = true;
    }
  }
  const auto first_hundred = [](uint64_t seed, uint32_t epoch) {
    std::vector<uint64_t> places;
    for (uint64_t i = 0; i < 100; ++i) places.push_back(order_of_epoch(1000, seed, epoch)(i));
    return places;
  };
  EXPECT_EQ(first_hundred(1, 0), first_hundred(1, 0));
  EXPECT_NE(first_hundred(1, 0), first_hundred(1, 1));
  EXPECT_NE(first_hundred(1, 0), first_hundred(2, 0));
}

// Were the order random, an index would land in its own tenth one time in ten.
TEST(OrderOfEpoch, Mixes) {
  const uint64_t size = 10000;
  const Permutation permutation = order_of_epoch(size, 3, 1);
  int same_tenth = 0;
  for (uint64_t i = 0; i < size; ++i) same_tenth += permutation(i) / 1000 == i / 1000;
  EXPECT_NEAR(same_tenth, 1000, 150);
}

TEST(OrderOfEpoch, HandlesManyWindows) {
  const uint64_t size = (uint64_t{1} << 40) + 12345;
  for (uint64_t i = 0; i < 100; ++i) EXPECT_LT(order_of_epoch(size, 3, 1)(size - 1 - i), size);
}

TokenShardsOptions in_file_order() {
  TokenShardsOptions options = options_of();
  options.shuffle = Shuffle::kNone;
  return options;
}

TEST(TokenShards, HeldOutIsInOneOrderAndStartsAgain) {
  TempFolder folder;
  shard(folder, "b.bin", ramp(2 * kContext + 1, 1000));  // two windows
  shard(folder, "a.bin", ramp(2 * kContext, 0));         // one, a token too short for two
  const TokenShards source = open_shards({folder.file("*.bin")}, Split::kHeldOut);
  EXPECT_EQ(source.sequences_per_epoch(), 3);
  EXPECT_EQ(source.tokens(), 4 * kContext + 1);
  EXPECT_EQ(first_tokens(source, 0, 5), (std::vector<int32_t>{0, 1008, 1000, 0, 1008}));
  EXPECT_EQ(source.vocab_size_needed(), 1017);

  std::vector<int32_t> inputs(kContext), targets(kContext);
  source.fill(1, 1, inputs.data(), targets.data());
  for (int32_t i = 0; i < kContext; ++i) {
    EXPECT_EQ(inputs[size_t(i)], 1008 + i);
    EXPECT_EQ(targets[size_t(i)], 1009 + i);
  }
}

// A part of the held-out split stands for all of it: of its first n windows about a fifth lies in each fifth of the
// text.
TEST(TokenShards, EveryBeginningOfHeldOutIsSpreadEvenly) {
  TempFolder folder;
  for (const int64_t windows : {400, 401, 360}) {
    const std::string path = shard(folder, "a.bin", ramp(windows * kContext + 1));
    const TokenShards source = open_shards({path}, Split::kHeldOut);
    const auto all = first_tokens(source, 0, windows);
    EXPECT_EQ(std::set<int32_t>(all.begin(), all.end()).size(), size_t(windows));
    for (const int64_t n : {5, 20, 100}) {
      std::vector<int64_t> in_part(5);
      for (int64_t i = 0; i < n; ++i) ++in_part[size_t(all[size_t(i)] * 5 / (windows * kContext))];
      // Golden-section steps miss by some log(n); a random order's standard deviation is 0.4 sqrt(n), 4 at n = 100.
      const double bound = 1 + std::log(double(n)) / 3;
      for (const int64_t count : in_part) EXPECT_NEAR(double(count), double(n) / 5, bound) << windows << " " << n;
    }
  }
}

TEST(TokenShards, AnEpochVisitsEachWindowOnce) {
  TempFolder folder;
  const std::vector<std::string> paths{shard(folder, "a.bin", ramp(50 * kContext + 3, 0)),
                                       shard(folder, "b.bin", ramp(30 * kContext + 1, 1000))};
  const TokenShards source = open_shards(paths);
  ASSERT_EQ(source.sequences_per_epoch(), 80);
  const auto first = first_tokens(source, 0, 80), second = first_tokens(source, 80, 80);
  EXPECT_EQ(std::set<int32_t>(first.begin(), first.end()).size(), 80u);
  EXPECT_EQ(std::set<int32_t>(second.begin(), second.end()).size(), 80u);
  EXPECT_NE(first, second) << "the second epoch is shuffled anew";
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_EQ(first_tokens(open_shards(paths), 0, 80), first);
  EXPECT_NE(first_tokens(open_shards(paths, Split::kTrain, 43), 0, 80), first);
}

TEST(TokenShards, AFirstTokenOpensEveryWindow) {
  TempFolder folder;
  TokenShardsOptions options = in_file_order();
  options.first_token = 4999;
  const TokenShards source({shard(folder, "a.bin", ramp(100))}, options);
  std::vector<int32_t> inputs(2 * kContext), targets(2 * kContext);
  source.fill(1, 2, inputs.data(), targets.data());
  EXPECT_EQ(inputs, (std::vector<int32_t>{4999, 8, 9, 10, 11, 12, 13, 14, 4999, 16, 17, 18, 19, 20, 21, 22}));
  EXPECT_EQ(targets, (std::vector<int32_t>{8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}));

  options.first_token = kVocab;
  EXPECT_EQ(message_of<UserError>([&] { TokenShards({folder.file("a.bin")}, options); }),
            "data.first_token is 5000, but model.vocab_size is 5000");
}

TEST(TokenShards, AFirstTokenMovesTheDocuments) {
  TempFolder folder;
  TokenShardsOptions options = options_of(Split::kHeldOut);
  options.mask_documents = true;
  options.document_token = 3;
  const std::vector<std::string> paths = {shard(folder, "a.bin", ramp(100))};
  std::vector<int32_t> plain(kContext), moved(kContext);
  TokenShards(paths, options).fill_document_starts(0, 1, plain.data());
  options.first_token = 4999;
  TokenShards(paths, options).fill_document_starts(0, 1, moved.data());
  EXPECT_EQ(plain, (std::vector<int32_t>{0, 0, 0, 3, 3, 3, 3, 3}));
  EXPECT_EQ(moved, (std::vector<int32_t>{0, 0, 0, 0, 4, 4, 4, 4}));
}

TEST(TokenShards, SlicingABatchChangesNothing) {
  TempFolder folder;
  const TokenShards source = open_shards({shard(folder, "a.bin", ramp(4000))});
  const auto whole = inputs_of(source, 490, 20);  // across the end of an epoch
  for (int64_t row = 0; row < 20; ++row) {
    const auto one = inputs_of(source, 490 + row, 1);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), whole.begin() + row * kContext));
  }
}

TEST(TokenShards, MissingFiles) {
  TempFolder folder;
  const std::string path = folder.file("none.bin");
  EXPECT_EQ(error_of({path}), "data.train_shards: cannot open " + path + ": No such file or directory");
  EXPECT_EQ(error_of({folder.file("none_*.bin")}), "data.train_shards: no file matches " + folder.file("none_*.bin"));
  EXPECT_EQ(error_of({}), "data.train_shards names no file, so there are no tokens to train on");
  EXPECT_EQ(message_of<UserError>([] { open_shards({}, Split::kHeldOut); }),
            "data.validation_shards names no file, so there are no tokens to evaluate on; where none are wanted, set "
            "log.eval_every, log.probe_every, log.analyze_every and log.map_positions to 0");
  EXPECT_EQ(error_of({folder.file("")}), "data.train_shards: " + folder.file("") + " is not a file");
}

TEST(TokenShards, AFileWithBracketsInItsNameIsNoGlob) {
  TempFolder folder;
  EXPECT_EQ(error_of({shard(folder, "a[1].bin", ramp(100))}), "(nothing was thrown)");
}

TEST(TokenShards, DamagedFiles) {
  TempFolder folder;
  const std::string good = bytes_of(shard(folder, "good.bin", ramp(100)));
  const std::string path = folder.file("bad.bin"), where = "data.train_shards: " + path;
  const auto error_with = [&](const std::string& bytes) { return error_of({folder.write("bad.bin", bytes)}); };
  EXPECT_EQ(error_with(""), where + " is truncated: 0 bytes are fewer than the 8 of a shard's header");
  EXPECT_EQ(error_with(good.substr(0, 1200)),
            where + " is truncated: its header counts 100 tokens, which makes 1224 bytes, but it has 1200");
  EXPECT_EQ(error_with(good), "(nothing was thrown)");
}

TEST(TokenShards, TokensBeyondTheVocabulary) {
  TempFolder folder;
  auto tokens = ramp(100);
  tokens[63] = 9999;
  const std::string path = shard(folder, "a.bin", tokens);
  EXPECT_EQ(error_of({path}, 5000),
            "data.train_shards: " + path + " has token id 9999 at position 63, but model.vocab_size is 5000");
  EXPECT_EQ(error_of({path}, 10000), "(nothing was thrown)");
}

// A bad token past the part that is scanned at the start is still never handed out.
TEST(TokenShards, LateBadTokensAreCaughtByFill) {
  TempFolder folder;
  const int64_t count = (1 << 20) + 4 * kContext + 1;
  std::vector<uint16_t> tokens(size_t(count), 1);
  tokens.back() = 5000;
  const std::string path = shard(folder, "a.bin", tokens);
  const TokenShards source({path}, in_file_order());
  inputs_of(source, source.sequences_per_epoch() - 2, 1);
  EXPECT_EQ(message_of<UserError>([&] { inputs_of(source, source.sequences_per_epoch() - 1, 1); }),
            "data.train_shards: " + path + " has token id 5000 at position " + std::to_string(count - 1) +
                ", but model.vocab_size is 5000");
}

TEST(TokenShards, TooFewTokens) {
  TempFolder folder;
  const std::vector<std::string> paths{shard(folder, "a.bin", ramp(kContext)), shard(folder, "b.bin", {})};
  EXPECT_EQ(error_of(paths),
            "data.train_shards has 8 tokens in 2 file(s), and none holds one window of model.context + 1 = 9 tokens");
}

TEST(TokenShards, IdentityFollowsTheTokensNotTheirPlace) {
  TempFolder folder;
  const std::string a = shard(folder, "a.bin", ramp(100)), b = shard(folder, "b.bin", ramp(100)),
                    c = shard(folder, "c.bin", ramp(100, 1));
  EXPECT_EQ(open_shards({a}).identity(), open_shards({b}, Split::kHeldOut, 7).identity());
  EXPECT_NE(open_shards({a}).identity(), open_shards({c}).identity());
  EXPECT_NE(open_shards({a, c}).identity(), open_shards({c, a}).identity());
  // Far from the ends only a checksum tells, and Sluice's shards have one.
  std::vector<int32_t> tokens(400'000, 5);
  const auto own = [&](const char* name) {
    ShardWriter writer(folder.file(name), 2, kVocab, "test", 1);
    writer.append_document(tokens);
    writer.finish();
    return folder.file(name);
  };
  const std::string d = own("d.bin");
  tokens[200'000] = 6;
  EXPECT_NE(open_shards({d}).identity(), open_shards({own("e.bin")}).identity());
  EXPECT_EQ(open_shards({a}).describe(), "tokens: 100 tokens in 1 file(s), 12 windows of 8, train split");
  EXPECT_EQ(open_shards({a}).token_text(7), "7");
}

// The order that runs have been trained in since the first release: the windows of the first and the second epoch.
TEST(TokenShards, TheOrderOfWindowsStaysAsItIs) {
  TempFolder folder;
  const TokenShards source = open_shards({shard(folder, "a.bin", ramp(12 * kContext + 1))});
  const auto windows = first_tokens(source, 0, 24);
  std::vector<int32_t> numbers;
  for (const int32_t first : windows) numbers.push_back(first / kContext);
  EXPECT_EQ(numbers,
            (std::vector<int32_t>{8, 6, 5, 3, 9, 10, 1, 7, 11, 4, 2, 0, 10, 1, 9, 3, 7, 2, 8, 11, 4, 6, 0, 5}));
}

}  // namespace
}  // namespace sluice
