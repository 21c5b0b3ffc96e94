// See shard_text.h.
#include "data/shard_text.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "data/shard_format.h"

namespace sluice {
namespace {

constexpr size_t kBlockTokens = 1 << 16;

ShardInfo read_info(const File& file) {
  std::vector<std::byte> opening(kShardHeaderRead);
  opening.resize(file.read_at(0, opening.data(), opening.size()));
  return read_shard_info(opening, file.size(), file.path().string());
}

void check_tokenizer(const ShardInfo& info, const std::string& path, const Tokenizer& tokenizer) {
  if (info.tokenizer_name.empty() || info.tokenizer_hash == tokenizer.hash()) return;
  throw UserError("{} was made with the tokenizer {} (hash {:016x}), but --tokenizer is {} (hash {:016x})", path,
                  info.tokenizer_name, info.tokenizer_hash, tokenizer.name(), tokenizer.hash());
}

// Tokens [first, first + count) of the shard.
std::vector<int32_t> read_tokens(const File& file, const ShardInfo& info, int64_t first, size_t count) {
  std::vector<int32_t> tokens(count);
  const size_t bytes = count * size_t(info.token_bytes);
  const uint64_t at = uint64_t(info.tokens_at + first * info.token_bytes);
  if (info.token_bytes == 4) {
    check_eq(file.read_at(at, tokens.data(), bytes), bytes, "bytes of a shard");
    return tokens;
  }
  std::vector<uint16_t> narrow(count);
  check_eq(file.read_at(at, narrow.data(), bytes), bytes, "bytes of a shard");
  std::copy(narrow.begin(), narrow.end(), tokens.begin());
  return tokens;
}

}  // namespace

void decode_shard(const std::string& path, const Tokenizer& tokenizer, const std::string& separator,
                  const std::function<void(std::string_view)>& write) {
  const File file(path, O_RDONLY);
  const ShardInfo info = read_info(file);
  check_tokenizer(info, path, tokenizer);
  char last = '\n';
  const auto write_text = [&](std::string_view text) {
    if (text.empty()) return;
    last = text.back();
    write(text);
  };
  const auto end_document = [&] {
    if (last != '\n') write_text("\n");
    write_text(separator + "\n");
  };
  bool inside = false;
  for (int64_t first = 0; first < info.tokens; first += kBlockTokens) {
    const auto block = read_tokens(file, info, first, size_t(std::min<int64_t>(kBlockTokens, info.tokens - first)));
    std::span<const int32_t> rest(block);
    while (!rest.empty()) {
      const size_t text = separator.empty() ? rest.size()
                                            : size_t(std::find(rest.begin(), rest.end(), tokenizer.end_of_text()) - rest.begin());
      write_text(tokenizer.decode(rest.first(text)));
      inside |= text > 0;
      rest = rest.subspan(text);
      if (rest.empty()) break;
      if (inside) end_document();
      rest = rest.subspan(1);
      inside = true;
    }
  }
  if (!separator.empty() && inside) end_document();
}

}  // namespace sluice
