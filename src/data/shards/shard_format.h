// Token shards as files: what the headers of the known formats say, and the writer of our own.
//
//   Sluice   256 bytes of header, the tokens (uint16 or uint32), zeros up to a multiple of 8, one uint64 for each
//            document: where it starts. The header, by offset:
//              0 "SLUICETK"   8 u32 version (1)   12 u32 bytes of a token   16 u64 tokens   24 u64 documents
//              32 u64 vocabulary   40 u64 the tokenizer's hash   48 u64 XXH3 of all behind the header, then of the
//              header with this field zero   56 the tokenizer's name, up to 199 bytes, zeros
//   llm.c    256 int32 of header (magic, version, tokens, zeros), then uint16 (20240520, version 1) or uint32 tokens
//            (20240801, version 7)
//   plain    uint16 (nanoGPT's) or uint32 tokens and nothing else; no magic tells it, so it must be asked for
//
// All numbers are little-endian. A document is an end-of-text token, if its tokenizer has one, and the text's tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files/files.h"

namespace sluice {

enum class ShardFormat { kSluice, kLlmc, kPlain };

// What data.shard_format says of files without a header: the bytes of a token; kHeader: headers tell.
enum class PlainTokens { kHeader = 0, kUint16 = 2, kUint32 = 4 };

// The names of data.shard_format: "auto", "uint16", "uint32".
inline const std::vector<std::string> kShardFormatNames = {"auto", "uint16", "uint32"};
PlainTokens plain_tokens(const std::string& name);

struct ShardInfo {
  ShardFormat format = ShardFormat::kSluice;
  int64_t token_bytes = 2;  // 2 or 4
  int64_t tokens = 0;
  int64_t tokens_at = 0;        // the byte at which they start
  int64_t documents = 0;        // 0: the format does not say
  int64_t documents_at = 0;     // the byte at which their offsets start
  int64_t vocab_size = 0;       // 0: the format does not say
  uint64_t tokenizer_hash = 0;  // with an empty name: the format does not say
  std::string tokenizer_name;
  uint64_t checksum = 0;  // kSluice only
};

// What read_shard_info needs to see of a file, or all of a smaller one.
inline constexpr size_t kShardHeaderRead = 1024;

// Whether a file that opens like this is a shard with a header, whatever its version.
bool opens_like_shard(std::span<const std::byte> opening);

// Understands a shard's header. `where` opens each message ("data.train_shards: a.bin"). With `plain` a file without
// one is tokens alone. UserError for what is no shard, of a later version, cut short, or in contradiction with itself.
ShardInfo read_shard_info(std::span<const std::byte> opening, uint64_t file_bytes, const std::string& where,
                          PlainTokens plain = PlainTokens::kHeader);

// Why tokens of `token_bytes` bytes, the first of a file without header, look as if they had another width: a
// sentence's end, or "". Among the ids of a text there is no such regularity.
std::string width_suspicion(std::span<const std::byte> tokens, int64_t token_bytes);

// The checksum of a Sluice shard of `bytes` bytes, whose read(offset, data, bytes) delivers all that it is asked for;
// and of one that lies in memory whole.
using ShardRead = std::function<void(uint64_t offset, std::byte* data, size_t bytes)>;
uint64_t shard_checksum(uint64_t bytes, const ShardRead& read);
uint64_t shard_checksum(std::span<const std::byte> file);

// Writes a Sluice shard as it goes: what is held in memory is 8 bytes a document. The file grows aside, under
// PATH.part, and gets its name and its header in finish(); a writer that is destroyed before removes it again.
class ShardWriter {
 public:
  // UserError if the vocabulary does not fit into `token_bytes` (2 or 4), or if the file cannot be made.
  ShardWriter(std::filesystem::path path, int64_t token_bytes, int64_t vocab_size, std::string tokenizer_name,
              uint64_t tokenizer_hash);

  // A document comes whole, or it is begun and appended to. One without tokens leaves no trace.
  void append_document(std::span<const int32_t> tokens) { begin_document(), append(tokens); }
  void begin_document();
  void append(std::span<const int32_t> tokens);  // ids in [0, vocab_size), else std::logic_error

  int64_t tokens() const { return info_.tokens; }
  int64_t documents() const { return int64_t(documents_.size()); }

  void finish();

 private:
  void write(const void* data, size_t bytes);

  std::filesystem::path path_;
  ShardInfo info_;
  std::unique_ptr<FileWriter> file_;
  Checksum checksum_;
  std::vector<uint64_t> documents_;
  std::vector<std::byte> narrowed_;  // tokens of one append(), as they are stored
  bool begun_ = false;
};

}  // namespace sluice
