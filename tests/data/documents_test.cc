// Documents: shuffled and packed, masked, in all formats; tokenizers that do not fit; damaged lists.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "data/corpus/tokenizer_trainer.h"
#include "data/llmc_shard.h"
#include "data/sources/token_shards.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

constexpr int32_t kStart = 0;  // opens each document
constexpr int64_t kContext = 8;

using Documents = std::vector<std::vector<int32_t>>;

// Documents of 1 to 13 tokens: kStart, then numbers that name the document and the place in it.
Documents some_documents(int64_t count, int32_t first = 1) {
  Documents documents;
  for (int32_t d = first; d < first + count; ++d) {
    std::vector<int32_t> tokens{kStart};
    for (int32_t i = 0; i < d * 7 % 13; ++i) tokens.push_back(d * 16 + i);
    documents.push_back(tokens);
  }
  return documents;
}

std::string write_documents(const std::string& path, const Documents& documents, int64_t token_bytes = 2,
                            uint64_t tokenizer_hash = 5, int64_t vocab_size = 60000) {
  ShardWriter writer(path, token_bytes, vocab_size, "test", tokenizer_hash);
  for (const auto& document : documents) writer.append_document(document);
  writer.finish();
  return path;
}

std::string write_llmc_documents(const std::string& path, const Documents& documents) {
  std::vector<uint16_t> tokens;
  for (const auto& document : documents) tokens.insert(tokens.end(), document.begin(), document.end());
  write_llmc_shard<uint16_t>(path, tokens);
  return path;
}

TokenShardsOptions options_with(Shuffle shuffle, bool mask = false, Split split = Split::kTrain) {
  TokenShardsOptions options;
  options.key = "data.train_shards";
  options.split = split;
  options.context = kContext;
  options.vocab_size = 60000;
  options.seed = 11;
  options.shuffle = shuffle;
  options.mask_documents = mask;
  return options;
}

struct Batch {
  std::vector<int32_t> inputs, targets, starts;
};

Batch batch_of(const DataSource& source, int64_t first, int64_t count) {
  Batch batch;
  const size_t size = size_t(count * source.context());
  batch.inputs.resize(size), batch.targets.resize(size), batch.starts.resize(size);
  source.fill(first, count, batch.inputs.data(), batch.targets.data());
  source.fill_document_starts(first, count, batch.starts.data());
  return batch;
}

// What fill_document_starts must say of a window, from its tokens alone.
std::vector<int32_t> expected_starts(const std::vector<int32_t>& inputs) {
  std::vector<int32_t> starts;
  int32_t document = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == kStart) document = int32_t(i % kContext);
    if (i % kContext == 0) document = 0;
    starts.push_back(document);
  }
  return starts;
}

std::string error_of(const std::vector<std::string>& paths, const TokenShardsOptions& options) {
  return message_of<UserError>([&] { TokenShards(paths, options); });
}

TEST(Documents, PlainOrderIsTheRowOfAllDocuments) {
  TempFolder folder;
  const Documents documents = some_documents(40);
  const TokenShards source({write_documents(folder.file("a.bin"), documents)}, options_with(Shuffle::kNone));
  std::vector<int32_t> row;
  for (const auto& document : documents) row.insert(row.end(), document.begin(), document.end());
  const int64_t windows = source.sequences_per_epoch();
  ASSERT_EQ(windows, (int64_t(row.size()) - 1) / kContext);
  const Batch batch = batch_of(source, 0, windows);
  EXPECT_TRUE(std::equal(batch.inputs.begin(), batch.inputs.end(), row.begin()));
  EXPECT_TRUE(std::equal(batch.targets.begin(), batch.targets.end(), row.begin() + 1));
}

TEST(Documents, ShuffledAndPackedEachEpochAnew) {
  TempFolder folder;
  const Documents documents = some_documents(300);
  std::map<int32_t, std::vector<int32_t>> by_first;  // by a document's first own token
  int64_t tokens = 0;
  for (const auto& document : documents) {
    if (document.size() > 1) by_first[document[1]] = document;
    tokens += int64_t(document.size());
  }
  // Two shards, so that places must be found in both.
  const std::vector<std::string> paths{
      write_documents(folder.file("a.bin"), Documents(documents.begin(), documents.begin() + 100)),
      write_documents(folder.file("b.bin"), Documents(documents.begin() + 100, documents.end()), 4)};
  const TokenShards source(paths, options_with(Shuffle::kDocuments));
  const int64_t windows = source.sequences_per_epoch();
  ASSERT_EQ(windows, (tokens - 1) / kContext);

  std::vector<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const Batch batch = batch_of(source, epoch * windows, windows);
    std::multiset<int32_t> seen(batch.inputs.begin(), batch.inputs.end());
    seen.erase(kStart);
    int64_t missing = 0;
    for (const auto& document : documents) {
      for (size_t i = 1; i < document.size(); ++i) missing += seen.count(document[i]) == 0;
    }
    EXPECT_LE(missing, kContext) << "an epoch leaves out the last tokens that make no window";
    EXPECT_EQ(std::set<int32_t>(seen.begin(), seen.end()).size(), seen.size()) << "a token came twice";

    // Within a window a document's tokens stand as they were written, and different documents follow each other.
    int64_t joints = 0;
    for (size_t i = 0; i < batch.inputs.size(); ++i) {
      const int32_t token = batch.inputs[i], next = batch.targets[i];
      if (token == kStart) continue;
      if (next == kStart) continue;
      EXPECT_EQ(next, token + 1);
    }
    for (size_t i = 0; i + 1 < batch.inputs.size(); ++i) {
      const bool same_window = (i + 1) % kContext != 0;
      if (same_window && batch.inputs[i] != kStart && batch.inputs[i + 1] == kStart) ++joints;
    }
    EXPECT_GT(joints, 50);
    orders.push_back(batch.inputs);
  }
  EXPECT_NE(orders[0], orders[1]);
  const TokenShards again(paths, options_with(Shuffle::kDocuments));
  EXPECT_EQ(batch_of(again, windows, windows).inputs, orders[1]) << "an epoch needs none of those before it";
  EXPECT_EQ(batch_of(again, 3, 1).inputs,
            std::vector<int32_t>(orders[0].begin() + 3 * kContext, orders[0].begin() + 4 * kContext));
}

// More documents than a group of the prefix sum holds, some of them longer than a window.
TEST(Documents, LongAndShortOnesAreFoundByTheIndex) {
  TempFolder folder;
  Documents documents;
  for (int32_t d = 0; d < 1000; ++d) documents.push_back(std::vector<int32_t>(size_t(d % 97 == 0 ? 200 : 1), d));
  const Shard shard(write_documents(folder.file("a.bin"), documents), "key");
  Shard indexed(folder.file("a.bin"), "key");
  indexed.find_documents(-1, true, "key");
  const DocumentOrder order({&indexed}, 3);
  ASSERT_EQ(order.documents(), 1000);
  const auto all = [&](int64_t epoch, int64_t step) {
    std::vector<int32_t> row;
    for (int64_t start = 0; start < order.tokens(); start += step) {
      std::vector<ShardPiece> pieces;
      const int64_t count = std::min(step, order.tokens() - start);
      order.find(epoch, start, count, pieces);
      int64_t found = 0;
      for (const ShardPiece& piece : pieces) {
        row.resize(row.size() + size_t(piece.count));
        piece.shard->copy(piece.start, piece.count, row.data() + row.size() - piece.count);
        found += piece.count;
      }
      EXPECT_EQ(found, count);
    }
    return row;
  };
  const std::vector<int32_t> whole = all(0, order.tokens());
  EXPECT_EQ(all(0, 7), whole);
  EXPECT_EQ(std::set<int32_t>(whole.begin(), whole.end()).size(), 1000u);
  const std::vector<int32_t> next = all(1, 13);
  EXPECT_NE(next, whole);
  EXPECT_EQ(all(2, 5).size(), whole.size());
  EXPECT_EQ(all(0, 64), whole) << "an epoch whose index was dropped is found again";
}

TEST(Documents, MaskFollowsTheTokensInEveryOrderAndFormat) {
  TempFolder folder;
  const Documents documents = some_documents(120);
  const std::string own = write_documents(folder.file("a.bin"), documents),
                    llmc = write_llmc_documents(folder.file("b.bin"), documents);
  for (const std::string& path : {own, llmc}) {
    for (const Shuffle shuffle : {Shuffle::kWindows, Shuffle::kDocuments, Shuffle::kNone}) {
      for (const Split split : {Split::kTrain, Split::kHeldOut}) {
        TokenShardsOptions options = options_with(shuffle, true, split);
        options.document_token = kStart;
        const TokenShards source({path}, options);
        EXPECT_TRUE(source.masks_documents());
        const Batch batch = batch_of(source, 2, 40);
        EXPECT_EQ(batch.starts, expected_starts(batch.inputs)) << path << " " << int(shuffle);
        EXPECT_TRUE(std::any_of(batch.starts.begin(), batch.starts.end(), [](int32_t start) { return start > 0; }));
      }
    }
  }
  EXPECT_EQ(batch_of(TokenShards({own}, options_with(Shuffle::kWindows)), 2, 40).starts,
            std::vector<int32_t>(40 * kContext, 0));
}

TEST(Documents, TheMaskNeedsToKnowThem) {
  TempFolder folder;
  const std::string path = write_llmc_documents(folder.file("a.bin"), some_documents(20));
  const std::string end = "; set data.document_token to the id that opens one (50256 in GPT-2's vocabulary)";
  EXPECT_EQ(
      error_of({path}, options_with(Shuffle::kWindows, true)),
      "data.train_shards: " + path + " does not say where its documents start, which data.document_mask needs" + end);
  EXPECT_EQ(error_of({path}, options_with(Shuffle::kDocuments)),
            "data.train_shards: " + path +
                " does not say where its documents start, which data.shuffle documents needs" + end);
  TokenShardsOptions options = options_with(Shuffle::kWindows, true);
  options.tokenizer = load_tokenizer("bytes", "data.tokenizer");  // its end of text is 256
  EXPECT_EQ(error_of({path}, options), "(nothing was thrown)");
}

TEST(Documents, ATokenThatOpensNoneIsRefused) {
  TempFolder folder;
  const std::string path = write_llmc_documents(folder.file("a.bin"), some_documents(20));
  TokenShardsOptions options = options_with(Shuffle::kWindows, true);
  options.document_token = 59999;
  EXPECT_EQ(
      error_of({path}, options),
      "data.train_shards: no document starts anywhere in 1 file(s), for the token 59999 that should open one does "
      "not occur; set data.document_token");
  options.document_token = 60000;
  EXPECT_EQ(error_of({path}, options), "data.document_token is 60000, but model.vocab_size is 60000");
  options.document_token = kStart;
  EXPECT_EQ(error_of({path}, options), "(nothing was thrown)");
}

TEST(Documents, ADamagedListIsRefusedWhereItIsUsed) {
  TempFolder folder;
  const std::string path = write_documents(folder.file("a.bin"), some_documents(20));
  const ShardInfo info = Shard(path, "key").info();
  std::string bytes = read_file(path);
  const uint64_t beyond = uint64_t(info.tokens);
  std::memcpy(bytes.data() + info.documents_at + 8 * 4, &beyond, 8);
  folder.write("a.bin", bytes);
  const std::string message = "data.train_shards: " + path +
                              " is damaged: its list of document starts does not go from 0 upwards to below its " +
                              std::to_string(info.tokens) + " tokens";
  EXPECT_EQ(error_of({path}, options_with(Shuffle::kDocuments)), message);
  EXPECT_EQ(error_of({path}, options_with(Shuffle::kWindows, true)), message);
  EXPECT_EQ(error_of({path}, options_with(Shuffle::kWindows)), "(nothing was thrown)");
  TokenShardsOptions verifying = options_with(Shuffle::kWindows);
  verifying.verify = true;
  EXPECT_NE(error_of({path}, verifying).find(path + " is damaged: its checksum is "), std::string::npos);
}

TEST(Tokenizers, MustAgreeWithTheShardsAndTheModel) {
  TempFolder folder;
  const auto bytes = std::shared_ptr<const Tokenizer>(load_tokenizer("bytes", "data.tokenizer"));
  const std::string a = write_documents(folder.file("a.bin"), some_documents(20), 2, 5),
                    b = write_documents(folder.file("b.bin"), some_documents(20), 2, 6);
  EXPECT_EQ(error_of({a, b}, options_with(Shuffle::kWindows)),
            "data.train_shards: " + b + " was encoded by another tokenizer (test, hash 0000000000000006) than " + a +
                " (test, hash 0000000000000005)");
  TokenShardsOptions options = options_with(Shuffle::kWindows);
  options.tokenizer = bytes;
  EXPECT_EQ(error_of({a}, options), "data.train_shards: " + a +
                                        " was encoded by another tokenizer (test, hash 0000000000000005) than "
                                        "data.tokenizer (" +
                                        bytes->name() + ", hash " + checksum_text(bytes->hash()) + ")");
  options.tokenizer = nullptr;
  options.vocab_size = 50000;
  EXPECT_EQ(error_of({a}, options),
            "data.train_shards: " + a + " holds tokens of a vocabulary of 60000 (test), but model.vocab_size is 50000");
}

TEST(Tokenizers, TellTokensAndBytesOfText) {
  TempFolder folder;
  const auto bytes = std::shared_ptr<const Tokenizer>(load_tokenizer("bytes", "data.tokenizer"));
  Documents documents(10, {256, 'a', 'b', '\n', 0xC3});
  const std::string path = write_documents(folder.file("a.bin"), documents, 2, bytes->hash(), bytes->vocab_size());
  TokenShardsOptions options = options_with(Shuffle::kNone);
  const TokenShards unknown({path}, options);
  EXPECT_EQ(unknown.target_bytes(0, 5), 0);
  EXPECT_EQ(unknown.token_text('a'), "97");
  EXPECT_EQ(unknown.tokenizer().text(), "test, hash " + checksum_text(bytes->hash()));
  options.tokenizer = bytes;
  const TokenShards source({path}, options);
  EXPECT_EQ(source.target_bytes(0, 5), 32) << "40 targets, of which every fifth opens a document";
  EXPECT_EQ(source.token_text('a'), "a");
  EXPECT_EQ(source.token_text('\n'), "\u21b5");
  EXPECT_EQ(source.token_text(0xC3), "xc3");
  EXPECT_EQ(source.token_text(300), "300");
}

// Of LLaMA's kind: a blank stands before each document and is no byte of it. The first token of a window opens no
// document.
TEST(Tokenizers, ABlankBeforeADocumentIsNoByteOfText) {
  TempFolder folder;
  TokenizerTraining training;
  training.vocab_size = 400;
  const std::vector<std::string> own = {(source_folder() / "README.md").string()};
  const std::string model = train_tokenizer(own, {}, training, [](const DocumentReader&) {}).file;
  TokenShardsOptions options = options_with(Shuffle::kNone);
  options.tokenizer =
      load_tokenizer(folder.write("b.model", model + std::string("\x1A\x02\x18\x01", 4)), "data.tokenizer");
  const int32_t mark = options.tokenizer->end_of_text();
  std::vector<int32_t> document{mark};
  options.tokenizer->encode("ab", document);
  const auto bytes_of = [&](size_t begin) {  // of the document's tokens from there on
    size_t bytes = 0;
    for (size_t i = begin; i < document.size(); ++i) bytes += options.tokenizer->token_bytes(document[i]).size();
    return int64_t(bytes);
  };
  ASSERT_EQ(bytes_of(1), 3) << "the blank and the text";
  options.context = int64_t(document.size());  // a document a window
  const std::string path =
      write_documents(folder.file("a.bin"), Documents(6, document), 2, options.tokenizer->hash(), 400);
  EXPECT_EQ(TokenShards({path}, options).target_bytes(0, 4), 4 * 2);
  options.first_token = mark;  // before the mark of the document: the same targets and the mark
  EXPECT_EQ(TokenShards({path}, options).target_bytes(0, 4), 4 * 2);
  options.context = int64_t(document.size()) - 1;  // the second window begins behind the document's first token
  EXPECT_EQ(TokenShards({path}, options).target_bytes(1, 1), bytes_of(int64_t(document.size()) - 1));
}

TEST(Formats, AllGiveTheSameTokens) {
  TempFolder folder;
  const Documents documents = some_documents(60);
  std::vector<uint16_t> narrow;
  for (const auto& document : documents) narrow.insert(narrow.end(), document.begin(), document.end());
  const std::vector<uint32_t> wide(narrow.begin(), narrow.end());
  write_llmc_shard<uint16_t>(folder.file("llmc16.bin"), narrow);
  write_llmc_shard<uint32_t>(folder.file("llmc32.bin"), wide);
  const std::string plain =
      folder.write("plain.bin", std::string(reinterpret_cast<const char*>(narrow.data()), 2 * narrow.size()));
  write_documents(folder.file("own16.bin"), documents, 2);
  write_documents(folder.file("own32.bin"), documents, 4);
  const auto expected = batch_of(TokenShards({folder.file("own16.bin")}, options_with(Shuffle::kWindows)), 0, 70);
  for (const char* name : {"llmc16.bin", "llmc32.bin", "own32.bin", "plain.bin"}) {
    TokenShardsOptions options = options_with(Shuffle::kWindows);
    if (std::string(name) == "plain.bin") options.plain = PlainTokens::kUint16;
    EXPECT_EQ(batch_of(TokenShards({folder.file(name)}, options), 0, 70).inputs, expected.inputs) << name;
  }
  EXPECT_NE(error_of({plain}, options_with(Shuffle::kWindows)).find("is not a token shard"), std::string::npos);
  const std::string plain32 =
      folder.write("plain32.bin", std::string(reinterpret_cast<const char*>(wide.data()), 4 * wide.size()));
  TokenShardsOptions options = options_with(Shuffle::kWindows);
  options.plain = PlainTokens::kUint32;
  EXPECT_EQ(batch_of(TokenShards({plain32}, options), 0, 70).inputs, expected.inputs);
  EXPECT_NE(error_of({plain}, options).find("but model.vocab_size is 60000; data.shard_format has it read as uint32"),
            std::string::npos);
  options.plain = PlainTokens::kUint16;
  EXPECT_EQ(error_of({plain32}, options),
            "data.train_shards: " + plain32 +
                " is read as uint16 by data.shard_format (or --shard-format), but every second "
                "of its 16-bit tokens is 0, so its ids seem to have 32 bits: that is uint32");
}

// The key is for all files of a config; those with a header of ours need no telling.
TEST(Formats, Uint16LeavesOwnShardsAsTheyAre) {
  TempFolder folder;
  const std::string path = write_documents(folder.file("a.bin"), some_documents(60));
  TokenShardsOptions options = options_with(Shuffle::kWindows);
  const auto expected = batch_of(TokenShards({path}, options), 0, 20).inputs;
  options.plain = PlainTokens::kUint16;
  EXPECT_EQ(batch_of(TokenShards({path}, options), 0, 20).inputs, expected);
}

TEST(Formats, VerifyReadsWhatHasNoChecksum) {
  TempFolder folder;
  std::vector<uint16_t> tokens((1 << 20) + 100, 7);  // more than what is always looked at
  tokens.back() = 60001;
  write_llmc_shard<uint16_t>(folder.file("a.bin"), tokens);
  TokenShardsOptions options = options_with(Shuffle::kWindows);
  EXPECT_EQ(error_of({folder.file("a.bin")}, options), "(nothing was thrown)");
  options.verify = true;
  EXPECT_NE(error_of({folder.file("a.bin")}, options).find("has token id 60001 at position 1048675"),
            std::string::npos);
}

TEST(Formats, IdsThatNoModelHas) {
  TempFolder folder;
  std::vector<uint32_t> tokens(100, 7);
  tokens[40] = 3000000000u;
  write_llmc_shard<uint32_t>(folder.file("a.bin"), tokens);
  EXPECT_EQ(error_of({folder.file("a.bin")}, options_with(Shuffle::kWindows)),
            "data.train_shards: " + folder.file("a.bin") +
                " has token id 3000000000 at position 40, but model.vocab_size is 60000");
}

}  // namespace
}  // namespace sluice
