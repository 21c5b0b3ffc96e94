// The shard formats' headers, and the writer: what is written is what is read, and nothing half-written looks whole.
#include "data/shards/shard_format.h"

#include <cstring>
#include <filesystem>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

ShardInfo info_of(const std::string& file, PlainTokens plain = PlainTokens::kHeader) {
  return read_shard_info(as_bytes(file).first(std::min(file.size(), kShardHeaderRead)), file.size(), "a.bin", plain);
}

std::string error_of(const std::string& file, PlainTokens plain = PlainTokens::kHeader) {
  return message_of<UserError>([&] { info_of(file, plain); });
}

template <class T>
T value_at(const std::string& file, int64_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

template <class T>
std::string with(std::string file, size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
  return file;
}

std::string llmc_header(int32_t magic, int32_t version, int32_t count) {
  return with(with(with(std::string(1024, '\0'), 0, magic), 4, version), 8, count);
}

// Two documents of three and two tokens, of a tokenizer "test".
std::string two_documents(const TempFolder& folder, int64_t token_bytes, int64_t vocab_size) {
  const std::string path = folder.file("two.bin");
  ShardWriter writer(path, token_bytes, vocab_size, "test", 77);
  writer.append_document(std::vector<int32_t>{1, 40, 999});
  writer.append_document({});
  writer.begin_document();
  writer.append(std::vector<int32_t>{1});
  writer.append(std::vector<int32_t>{int32_t(vocab_size - 1)});
  EXPECT_EQ(writer.tokens(), 5);
  EXPECT_EQ(writer.documents(), 2);
  writer.finish();
  return read_file(path);
}

template <class T>
void check_round_trip(int64_t vocab_size) {
  TempFolder folder;
  const std::string file = two_documents(folder, sizeof(T), vocab_size);
  const ShardInfo info = info_of(file);
  EXPECT_EQ(info.format, ShardFormat::kSluice);
  EXPECT_EQ(info.token_bytes, int64_t(sizeof(T)));
  EXPECT_EQ(info.tokens, 5);
  EXPECT_EQ(info.documents, 2);
  EXPECT_EQ(info.vocab_size, vocab_size);
  EXPECT_EQ(info.tokenizer_name, "test");
  EXPECT_EQ(info.tokenizer_hash, 77u);
  const T expected[] = {1, 40, 999, 1, T(vocab_size - 1)};
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(value_at<T>(file, info.tokens_at + i * int64_t(sizeof(T))), expected[i]);
  EXPECT_EQ(info.documents_at % 8, 0);
  EXPECT_EQ(value_at<uint64_t>(file, info.documents_at), 0u);
  EXPECT_EQ(value_at<uint64_t>(file, info.documents_at + 8), 3u);
  EXPECT_EQ(shard_checksum(as_bytes(file)), info.checksum);
}

TEST(ShardFormat, RoundTripOf16Bits) { check_round_trip<uint16_t>(65536); }
TEST(ShardFormat, RoundTripOf32Bits) { check_round_trip<uint32_t>(70000); }

TEST(ShardFormat, TheChecksumSeesEveryByte) {
  TempFolder folder;
  const std::string file = two_documents(folder, 2, 1000);
  const uint64_t checksum = info_of(file).checksum;
  for (size_t i = 0; i < file.size(); ++i) {
    if (i >= 48 && i < 56) continue;  // the checksum itself
    const std::string flipped = with(file, i, char(file[i] ^ 0x10));
    EXPECT_NE(shard_checksum(as_bytes(flipped)), checksum) << "byte " << i;
  }
}

TEST(ShardFormat, LongNamesAreCutBetweenCharacters) {
  TempFolder folder;
  std::string name(198, 'n');
  name += "\xC3\xA4";  // two bytes, of which one would fit
  ShardWriter writer(folder.file("a.bin"), 2, 10, name, 1);
  writer.append_document(std::vector<int32_t>{3});
  writer.finish();
  EXPECT_EQ(info_of(read_file(folder.file("a.bin"))).tokenizer_name, std::string(198, 'n'));
}

TEST(ShardFormat, AWriterThatStopsLeavesNothing) {
  TempFolder folder;
  const std::string path = folder.file("a.bin"), aside = path + ".part";
  {
    ShardWriter writer(path, 2, 1 << 16, "test", 1);
    std::vector<int32_t> tokens(1 << 20);  // more than is buffered, so that there is a file
    writer.append_document(tokens);
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_GT(std::filesystem::file_size(aside), 256u);
    // A process that is killed here leaves this, and under any name it is refused.
    EXPECT_NE(error_of(read_file(aside)).find("is not a token shard"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(aside));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ShardFormat, AVocabularyThatDoesNotFitIntoTheTokens) {
  TempFolder folder;
  const std::string path = folder.file("a.bin");
  EXPECT_EQ(message_of<UserError>([&] { ShardWriter(path, 2, 70000, "big.model (70000)", 1); }),
            path +
                ": the tokenizer big.model (70000) has 70000 tokens, but 16-bit shards hold ids of at most 65536 "
                "tokens; write 32-bit shards");
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  ShardWriter writer(path, 2, 100, "test", 1);
  EXPECT_THROW(writer.append_document(std::vector<int32_t>{100}), std::logic_error);
  EXPECT_THROW(writer.append_document(std::vector<int32_t>{-1}), std::logic_error);
}

TEST(ShardFormat, DamagedHeaders) {
  TempFolder folder;
  const std::string good = two_documents(folder, 2, 1000);  // 256 + 10 + 6 + 16 bytes
  EXPECT_EQ(error_of(good), "(nothing was thrown)");
  EXPECT_EQ(error_of(""), "a.bin is truncated: 0 bytes are fewer than the 8 of a shard's header");
  EXPECT_EQ(error_of(good.substr(0, 200)), "a.bin is truncated: 200 bytes are fewer than the 256 of a shard's header");
  EXPECT_EQ(error_of(good.substr(0, 280)),
            "a.bin is truncated: its header counts 5 tokens and 2 documents, which makes 288 bytes, but it has 280");
  EXPECT_EQ(error_of(good + "x"),
            "a.bin is damaged: its header counts 5 tokens and 2 documents, which makes 288 bytes, but it has 289");
  EXPECT_EQ(error_of(with(good, 8, 2u)), "a.bin is a shard of version 2, but only version 1 can be read");
  EXPECT_EQ(error_of(with(good, 12, 3u)), "a.bin is damaged: its header says 3 bytes a token, not 2 or 4");
  EXPECT_EQ(error_of(with(good, 32, uint64_t{70000})),
            "a.bin is damaged: its header says a vocabulary of 70000, but 2-byte tokens know 1 to 65536");
  EXPECT_EQ(error_of(with(good, 16, ~uint64_t{0})),
            "a.bin is damaged: its header counts 2 documents of 18446744073709551615 tokens");
  EXPECT_EQ(error_of(with(good, 24, uint64_t{6})), "a.bin is damaged: its header counts 6 documents of 5 tokens");
  EXPECT_EQ(
      error_of("Once upon a time"),
      "a.bin is not a token shard: it starts neither with SLUICETK nor with llm.c's 20240520 or 20240801; for token "
      "ids "
      "without a header say of which width they are (data.shard_format, or --shard-format of tokenizer decode: uint16 "
      "or uint32)");
}

TEST(ShardFormat, LlmcOf16And32Bits) {
  const ShardInfo narrow = info_of(llmc_header(20240520, 1, 3) + std::string(6, '\1'));
  EXPECT_EQ(narrow.format, ShardFormat::kLlmc);
  EXPECT_EQ(narrow.token_bytes, 2);
  EXPECT_EQ(narrow.tokens, 3);
  EXPECT_EQ(narrow.tokens_at, 1024);
  EXPECT_EQ(narrow.tokenizer_name, "");
  EXPECT_EQ(info_of(llmc_header(20240801, 7, 3) + std::string(12, '\1')).token_bytes, 4);
  EXPECT_EQ(error_of(llmc_header(20240801, 7, 3) + std::string(6, '\1')),
            "a.bin is truncated: its header counts 3 tokens, which makes 1036 bytes, but it has 1030");
  EXPECT_EQ(
      error_of(llmc_header(20240520, 7, 3)),
      "a.bin is a shard of version 7, but of this kind (llm.c, magic 20240520) only version 1 (uint16 tokens) can be "
      "read");
  EXPECT_EQ(error_of(llmc_header(20240520, 1, 0).substr(0, 1000)),
            "a.bin is truncated: 1000 bytes are fewer than the 1024 of a shard's header");
  EXPECT_NE(error_of(llmc_header(20240520, 1, -5)).find("damaged: its header counts -5 tokens"), std::string::npos);
}

TEST(ShardFormat, PlainTokensAreTakenAtTheirWord) {
  const ShardInfo narrow = info_of("abcdefgh", PlainTokens::kUint16), wide = info_of("abcdefgh", PlainTokens::kUint32);
  EXPECT_EQ(narrow.format, ShardFormat::kPlain);
  EXPECT_EQ(narrow.tokens, 4);
  EXPECT_EQ(narrow.token_bytes, 2);
  EXPECT_EQ(narrow.tokens_at, 0);
  EXPECT_EQ(wide.format, ShardFormat::kPlain);
  EXPECT_EQ(wide.tokens, 2);
  EXPECT_EQ(wide.token_bytes, 4);
  EXPECT_EQ(error_of("abcde", PlainTokens::kUint16),
            "a.bin is truncated: 5 bytes are no whole number of uint16 tokens");
  EXPECT_EQ(error_of("abcdef", PlainTokens::kUint32),
            "a.bin is truncated: 6 bytes are no whole number of uint32 tokens");
  EXPECT_EQ(error_of("\x93NUMPY\x01 and so on", PlainTokens::kUint16),
            "a.bin is a numpy array with numpy's header, not tokens alone; array.tofile(FILE) writes those");
  EXPECT_EQ(plain_tokens("auto"), PlainTokens::kHeader);
  EXPECT_EQ(plain_tokens("uint16"), PlainTokens::kUint16);
  EXPECT_EQ(plain_tokens("uint32"), PlainTokens::kUint32);
}

// A header that fits its file is no text, whatever the key for files without one says.
TEST(ShardFormat, WholeLlmcFilesKeepTheirHeader) {
  for (const PlainTokens plain : {PlainTokens::kUint16, PlainTokens::kUint32}) {
    EXPECT_EQ(info_of(llmc_header(20240520, 1, 4) + std::string(8, '\1'), plain).format, ShardFormat::kLlmc);
    EXPECT_EQ(info_of(llmc_header(20240801, 7, 2) + std::string(8, '\1'), plain).format, ShardFormat::kLlmc);
    EXPECT_EQ(info_of(llmc_header(20240520, 1, 5) + std::string(8, '\1'), plain).format, ShardFormat::kPlain);
  }
}

template <class T>
std::string suspicion_of(const std::vector<T>& ids, int64_t token_bytes) {
  return width_suspicion(std::as_bytes(std::span(ids)), token_bytes);
}

TEST(ShardFormat, IdsOfAnotherWidthAreSuspicious) {
  std::vector<uint16_t> narrow;
  std::vector<uint32_t> wide, large;
  std::vector<uint64_t> wider;
  for (uint32_t i = 0; i < 1000; ++i) {
    narrow.push_back(uint16_t(i * 7919 % 50257));
    wide.push_back(i * 7919 % 50257);
    large.push_back(i * 7919 % 128256);
    wider.push_back(i * 7919 % 50257);
  }
  EXPECT_EQ(suspicion_of(narrow, 2), "");
  EXPECT_EQ(suspicion_of(wide, 4), "");
  EXPECT_EQ(suspicion_of(large, 4), "");
  EXPECT_EQ(suspicion_of(std::vector<uint16_t>(1000, 0), 2), "");
  EXPECT_EQ(suspicion_of(std::vector<uint16_t>(1000, 3), 2), "");
  EXPECT_EQ(suspicion_of(std::vector<uint32_t>{5, 6, 7}, 2), "") << "too few to say";
  EXPECT_EQ(suspicion_of(wide, 2),
            "every second of its 16-bit tokens is 0, so its ids seem to have 32 bits: that is uint32");
  EXPECT_EQ(suspicion_of(large, 2),
            "every second of its 16-bit tokens is 1 or less, so its ids seem to have 32 bits: that is uint32");
  EXPECT_NE(suspicion_of(wider, 4).find("every second of its 32-bit tokens is 0, so its ids seem to have 64 bits"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice
