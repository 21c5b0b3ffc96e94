// A token shard: its header, and where documents and tokens are said to lie.
#include <algorithm>
#include <span>

#include "data/shards/shard_format.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  for (const PlainTokens plain : {PlainTokens::kHeader, PlainTokens::kUint16, PlainTokens::kUint32}) {
    expect_user_errors([&] {
      const ShardInfo info = read_shard_info(file.first(std::min(size, kShardHeaderRead)), size, "fuzz", plain);
      check(info.tokens >= 0 && info.tokens_at >= 0 && info.tokens <= int64_t(size) && info.tokens_at <= int64_t(size),
            "tokens outside of the file");
      check(info.tokens_at + info.tokens * info.token_bytes <= int64_t(size), "tokens beyond the file");
      if (info.documents > 0) {
        check(info.documents <= int64_t(size) && info.documents_at >= info.tokens_at &&
                  info.documents_at + info.documents * 8 <= int64_t(size), "documents beyond the file");
      }
      if (info.format == ShardFormat::kSluice) shard_checksum(file);
    });
  }
  return 0;
}
