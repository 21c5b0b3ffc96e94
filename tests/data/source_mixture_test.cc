// Mixtures: shares, order and epochs of several sources, from the number of a sequence alone.
#include "data/sources/source_mixture.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/config.h"
#include "data/llmc_shard.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

// Sequence n is n everywhere; the targets say which source it is.
class Counting final : public DataSource {
 public:
  Counting(int32_t number, TokenizerId tokenizer) : DataSource(4), number_(number), tokenizer_(std::move(tokenizer)) {}
  void fill(int64_t first, int64_t count, int32_t* inputs, int32_t* targets) const override {
    for (int64_t i = 0; i < count * 4; ++i) inputs[i] = int32_t(first + i / 4), targets[i] = number_;
  }
  bool masks_documents() const override { return true; }
  void fill_document_starts(int64_t first, int64_t count, int32_t* starts) const override {
    for (int64_t i = 0; i < count * 4; ++i) starts[i] = std::min(int32_t(i % 4), int32_t(first % 4));
  }
  int64_t target_bytes(int64_t, int64_t count) const override { return count * number_; }
  int64_t vocab_size_needed() const override { return number_; }
  std::string describe() const override { return "counting"; }
  std::string identity() const override { return std::to_string(number_); }
  TokenizerId tokenizer() const override { return tokenizer_; }

 private:
  int32_t number_;
  TokenizerId tokenizer_;
};

SourceMixture mixture_of(const std::vector<double>& weights, const std::vector<TokenizerId>& tokenizers = {}) {
  std::vector<MixturePart> parts;
  for (size_t i = 0; i < weights.size(); ++i) {
    const TokenizerId tokenizer = tokenizers.empty() ? TokenizerId{} : tokenizers[i];
    parts.push_back({std::make_unique<Counting>(int32_t(i + 1), tokenizer), weights[i], "part" + std::to_string(i)});
  }
  return SourceMixture(std::move(parts), "data.sources");
}

TEST(SourceMixture, EachSourceIsReadInItsOwnOrderWithoutGaps) {
  const SourceMixture mixture = mixture_of({3, 1, 0.25});
  std::vector<int64_t> next(3, 0);
  for (int64_t n = 0; n < 3 * 65536 + 100; ++n) {  // over the pattern's end
    const auto [part, sequence] = mixture.locate(n);
    ASSERT_EQ(sequence, next[part]) << n;
    ++next[part];
  }
}

// No stretch of sequences strays from the shares: after n of them a source is less than the number of sources away.
TEST(SourceMixture, SharesHoldAtEveryMoment) {
  const std::vector<double> weights{5, 2, 2, 1, 0.3};
  const double sum = 10.3;
  const SourceMixture mixture = mixture_of(weights);
  std::vector<double> count(weights.size(), 0);
  for (int64_t n = 1; n <= 65536; ++n) {
    ++count[mixture.locate(n - 1).first];
    for (size_t i = 0; i < weights.size(); ++i) {
      // The share itself is rounded to 1 in 65536, which makes one sequence at most over a period.
      ASSERT_LT(std::abs(count[i] - double(n) * weights[i] / sum), double(weights.size()) + 1) << n << " " << i;
    }
  }
}

TEST(SourceMixture, FillsRowByRow) {
  const SourceMixture mixture = mixture_of({1, 1});
  std::vector<int32_t> inputs(8 * 4), targets(8 * 4), starts(8 * 4), one(4), one_target(4);
  mixture.fill(5, 8, inputs.data(), targets.data());
  mixture.fill_document_starts(5, 8, starts.data());
  EXPECT_TRUE(mixture.masks_documents());
  std::map<int32_t, int> of;
  for (int64_t row = 0; row < 8; ++row) {
    const auto [part, sequence] = mixture.locate(5 + row);
    EXPECT_EQ(inputs[size_t(row * 4)], sequence);
    EXPECT_EQ(targets[size_t(row * 4 + 3)], int32_t(part + 1));
    EXPECT_EQ(starts[size_t(row * 4 + 3)], int32_t(sequence % 4));
    ++of[targets[size_t(row * 4)]];
    mixture.fill(5 + row, 1, one.data(), one_target.data());
    EXPECT_TRUE(std::equal(one.begin(), one.end(), inputs.begin() + row * 4));
  }
  EXPECT_EQ(of[1], 4);
  EXPECT_EQ(of[2], 4);
  EXPECT_EQ(mixture.target_bytes(5, 8), 4 * 1 + 4 * 2);
  EXPECT_EQ(mixture.vocab_size_needed(), 2);
  EXPECT_EQ(mixture.identity(), "mixture 1 2");
  EXPECT_EQ(mixture.describe(), "mixture of 2 sources; 50% part0 (counting); 50% part1 (counting)");
}

TEST(SourceMixture, BadWeightsAndTokenizers) {
  EXPECT_EQ(message_of<UserError>([] {
              mixture_of({1, 1e-9});
            }),
            "data.sources: the weight 1e-09 of part1 is less than one sequence in 65536; raise it, or leave the source "
            "out");
  EXPECT_EQ(message_of<UserError>([] {
              mixture_of({1, 1, 1}, {{}, {"a", 1}, {"b", 2}});
            }),
            "data.sources: part2 was encoded by another tokenizer (b, hash 0000000000000002) than part1 (a, hash "
            "0000000000000001)");
  EXPECT_EQ(mixture_of({1, 1}, {{}, {"a", 1}}).tokenizer().name, "a");
  mixture_of({1, 1}, {{"a", 1}, {"renamed", 1}});  // one tokenizer under two names
}

TEST(SourceMixture, FromAConfig) {
  TempFolder folder;
  std::vector<uint16_t> low(401), high(401);
  for (size_t i = 0; i < low.size(); ++i) low[i] = uint16_t(i), high[i] = uint16_t(1000 + i);
  write_llmc_shard<uint16_t>(folder.file("low.bin"), low);
  write_llmc_shard<uint16_t>(folder.file("high.bin"), high);
  const auto parse = [&](const std::string& sources, const std::string& more = "") {
    DataConfig config;
    Fields fields;
    config.describe(fields);
    fields.parse(Json::parse(R"({"type": "tokens", "sources": )" + sources + more + "}"), "data");
    EXPECT_EQ(fields.dump()["sources"].size(), config.sources.size());
    return config;
  };
  const std::string low_source = R"({"shards": [")" + folder.file("low.bin") + R"("], "weight": 3})",
                    high_source = R"({"shards": [")" + folder.file("high.bin") + R"("]})";
  const DataConfig config = parse("[" + low_source + ", " + high_source + "]");
  EXPECT_EQ(config.sources[1].weight, 1);
  const auto source = make_source(config, Split::kTrain, 8, 2000, 42);
  std::vector<int32_t> inputs(64 * 8), targets(64 * 8);
  source->fill(0, 64, inputs.data(), targets.data());
  int of_high = 0;
  std::vector<int32_t> low_order, high_order;
  for (int row = 0; row < 64; ++row) {
    const int32_t first = inputs[size_t(row * 8)];
    of_high += first >= 1000;
    (first >= 1000 ? high_order : low_order).push_back(first % 1000);
  }
  EXPECT_EQ(of_high, 16);
  low_order.resize(high_order.size());
  EXPECT_NE(low_order, high_order) << "two sources of one size are shuffled alike";

  const auto error_of = [](const DataConfig& bad) {
    return message_of<UserError>([&] { make_source(bad, Split::kTrain, 8, 2000, 42); });
  };
  EXPECT_EQ(error_of(parse("[" + low_source + ", {}]")),
            "data.sources[1].shards names no file, so there are no tokens to train on");
  EXPECT_EQ(error_of(parse("[" + low_source + "]", R"(, "train_shards": ["a.bin"])")),
            "data.train_shards and data.sources both say what to train on; leave one of them out");
  EXPECT_EQ(message_of<UserError>([&] { parse(R"([{"shard": ["a"]}])"); }),
            "unknown config key data.sources[0].shard; did you mean data.sources[0].shards?");
  EXPECT_EQ(message_of<UserError>([&] { parse(R"([{"weight": 0}])"); }),
            "data.sources[0].weight is 0, but must be above 0 and below 1000000000");
  EXPECT_EQ(message_of<UserError>([&] { parse(R"({"shards": []})"); }),
            "data.sources must be a list of objects, got an object");
  EXPECT_EQ(message_of<UserError>([&] { parse(R"(["a.bin"])"); }),
            "data.sources[0] must be an object, got the string \"a.bin\"");
}

}  // namespace
}  // namespace sluice
