// The "data" group: fields, the factory, and the check against the model's vocabulary.
#include "data/config.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/llmc_shard.h"
#include "data/sources/bigram_backcopy.h"
#include "data/sources/random_tokens.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

DataConfig parse(const char* json) {
  DataConfig config;
  Fields fields;
  config.describe(fields);
  fields.parse(Json::parse(json), "data");
  return config;
}

std::string error_of(const DataConfig& config, Split split = Split::kTrain, int64_t vocab = 67) {
  return message_of<UserError>([&] { make_source(config, split, 16, vocab, 1); });
}

TEST(DataConfig, TheDefaultIsThePublishedTask) {
  const auto source = make_source(parse("{}"), Split::kTrain, 256, 67, 42);
  const auto* task = dynamic_cast<const BigramBackcopy*>(source.get());
  ASSERT_NE(task, nullptr);
  EXPECT_EQ(task->triggers().size(), 3u);
  EXPECT_EQ(source->context(), 256);
  EXPECT_EQ(source->sequences_per_epoch(), 0);
}

TEST(DataConfig, FieldsOfEachType) {
  const DataConfig config = parse(R"({"type": "tokens", "train_shards": ["a", "b"], "validation_shards": ["c"]})");
  EXPECT_EQ(config.train_shards, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.validation_shards, (std::vector<std::string>{"c"}));
  EXPECT_EQ(parse(R"({"triggers": 5})").triggers, 5);
  EXPECT_THROW(parse(R"({"triggers": -1})"), UserError);
  EXPECT_THROW(parse(R"({"type": "token"})"), UserError);
}

TEST(DataConfig, AUserTextReplacesTheStatistics) {
  TempFolder folder;
  DataConfig config;
  config.statistics = folder.write("text.txt", "the cat sat on the mat");
  const auto source = make_source(config, Split::kTrain, 16, 12, 42);
  EXPECT_EQ(source->vocab_size_needed(), 12);  // a space, nine letters, BOS and the delimiter
  EXPECT_NE(source->describe().find(config.statistics), std::string::npos);
}

TEST(DataConfig, VocabularyTooSmall) {
  TempFolder folder;
  DataConfig config;
  EXPECT_EQ(error_of(config, Split::kTrain, 65),
            "data.type bigram_backcopy has 67 tokens (its characters, BOS and a delimiter), but model.vocab_size is "
            "65; set it to 67");
  EXPECT_EQ(error_of(config, Split::kTrain, 128), "(nothing was thrown)");
  config.statistics = folder.write("text.txt", "abcdef");
  EXPECT_EQ(error_of(config, Split::kTrain, 7),
            "the text of data.statistics has 8 tokens (its characters, BOS and a delimiter), but model.vocab_size is "
            "7; set it to 8");
}

TEST(DataConfig, TokensNeedShardsForTheSplitThatIsAskedFor) {
  TempFolder folder;
  DataConfig config;
  config.type = "tokens";
  write_llmc_shard<uint16_t>(folder.file("a.bin"), std::vector<uint16_t>(100, 3));
  config.train_shards = {folder.file("a.bin")};
  EXPECT_EQ(error_of(config), "(nothing was thrown)");
  EXPECT_EQ(error_of(config, Split::kHeldOut),
            "data.validation_shards names no file, so there are no tokens to evaluate on; where none are wanted, set "
            "log.eval_every, log.probe_every, log.analyze_every and log.map_positions to 0");
}

TEST(RandomTokens, UniformReproducibleAndShifted) {
  DataConfig config;
  config.type = "random";
  const int64_t count = 200, context = 50, vocab = 10;
  const auto source = make_source(config, Split::kTrain, context, vocab, 1);
  std::vector<int32_t> inputs(size_t(count * context)), targets(inputs.size()), again(inputs.size());
  source->fill(7, count, inputs.data(), targets.data());
  std::vector<int> seen(static_cast<size_t>(vocab));
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = 0; i < context; ++i) {
      const int32_t token = inputs[size_t(row * context + i)];
      ASSERT_TRUE(token >= 0 && token < vocab);
      ++seen[size_t(token)];
      if (i > 0) {
        ASSERT_EQ(token, targets[size_t(row * context + i - 1)]);
      }
    }
  }
  for (const int times : seen) EXPECT_NEAR(times, 1000, 150);
  source->fill(7, count, again.data(), targets.data());
  EXPECT_EQ(again, inputs);
  make_source(config, Split::kHeldOut, context, vocab, 1)->fill(7, count, again.data(), targets.data());
  EXPECT_NE(again, inputs);
  EXPECT_EQ(source->identity(), "random:10");
}

}  // namespace
}  // namespace sluice
