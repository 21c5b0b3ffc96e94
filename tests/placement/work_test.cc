// What a step's work is: pieces of windows, operations and bytes of a model.
#include "placement/work.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/shards/shard_format.h"
#include "data/sources/token_shards.h"
#include "data/temp_folder.h"
#include "experiment/experiment.h"

namespace sluice {
namespace {

ModelConfig model_with(const Json& changes) {
  Json model = {{"vocab_size", 1000}, {"context", 64}, {"layers", 2},    {"heads", 4},
                {"kv_heads", 2},      {"width", 32},   {"mlp_width", 48}};
  model.update(changes);
  return parse_experiment({{"model", model}, {"data", {{"type", "random"}}}}).model;
}

TEST(Pieces, AreWhatWindowsHoldOfDocuments) {
  const TempFolder folder;
  const std::string path = folder.file("a.bin");
  ShardWriter writer(path, 2, 100, "test", 1);
  for (const size_t length : {5, 3, 20, 1, 4}) writer.append_document(std::vector<int32_t>(length, 7));
  writer.finish();
  TokenShardsOptions options;
  options.key = "data.train_shards";
  options.context = 8;
  options.vocab_size = 100;
  options.shuffle = Shuffle::kNone;
  options.mask_documents = true;
  EXPECT_EQ(pieces_of(TokenShards({path}, options), 0, 4), (Pieces{5, 3, 8, 8, 4, 1, 3}));
  EXPECT_EQ(pieces_of(TokenShards({path}, options), 2, 1), (Pieces{8}));
  options.mask_documents = false;
  EXPECT_EQ(pieces_of(TokenShards({path}, options), 0, 4), (Pieces{8, 8, 8, 8}));
}

TEST(ModelWork, CountsWhatATokenGoesThrough) {
  const ModelWork work = work_of(model_with(Json::object()), 2);
  // Queries 32, keys and values 16 each, output 32, MLP 48 up and down; the head.
  EXPECT_EQ(work.linear_operations, 6.0 * (2 * 32 * (32 + 16 + 16 + 32 + 48 + 48) + 32 * 1000));
  EXPECT_EQ(work.pair_operations, 2.0 * 4 * 14 * 8);  // 7 products of heads of 8 features
  EXPECT_EQ(work.query_bytes, 2.0 * 32 * 2);
  EXPECT_EQ(work.key_value_bytes, 2.0 * 32 * 2);
  EXPECT_EQ(work.result_bytes, 2.0 * (32 * 2 + 4 * 4));
}

TEST(ModelWork, KnowsTheHeadsThatStagesAskFor) {
  const ModelWork plain = work_of(model_with(Json::object()), 2),
                  twice = work_of(model_with({{"attention", "diff_v2"}}), 2);
  EXPECT_EQ(twice.pair_operations, 2 * plain.pair_operations);
  EXPECT_EQ(twice.query_bytes, 2 * plain.query_bytes);
  EXPECT_EQ(twice.key_value_bytes, plain.key_value_bytes);
}

TEST(ModelWork, RefusesWhatDoesNotAttendToAllRows) {
  const auto refusal = [](const Json& changes) {
    return message_of<UserError>([&] { work_of(model_with(changes), 2); });
  };
  EXPECT_EQ(refusal({{"attention", {{"type", "softmax"}, {"window", 16}}}}),
            "plan-ranks counts rows that attend to all rows before them, but model.attention.window is 16");
  EXPECT_EQ(refusal({{"attention", "key_only"}}),
            "plan-ranks counts pairs of queries and keys, but model.attention.core is key_only");
  EXPECT_EQ(refusal({{"registers", 4}}), "plan-ranks knows no rows but tokens, but model.registers is 4");
}

}  // namespace
}  // namespace sluice
