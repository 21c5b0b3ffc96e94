// See shard_text.h.
#include "data/shard_text.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/error.h"
#include "data/shard.h"

namespace sluice {
namespace {

constexpr int64_t kBlockTokens = 1 << 16;

void check_tokenizer(const Shard& shard, const Tokenizer& tokenizer) {
  const ShardInfo& info = shard.info();
  if (info.tokenizer_name.empty() || info.tokenizer_hash == tokenizer.hash()) return;
  throw UserError("{} was made with the tokenizer {} (hash {:016x}), but --tokenizer is {} (hash {:016x})", shard.path(),
                  info.tokenizer_name, info.tokenizer_hash, tokenizer.name(), tokenizer.hash());
}

}  // namespace

void decode_shard(const std::string& path, const Tokenizer& tokenizer, const std::string& separator,
                  const std::function<void(std::string_view)>& write) {
  const Shard shard(path, "tokenizer decode");
  check_tokenizer(shard, tokenizer);
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
  std::vector<int32_t> block(kBlockTokens);
  for (int64_t first = 0; first < shard.tokens(); first += kBlockTokens) {
    const int64_t count = std::min(kBlockTokens, shard.tokens() - first);
    shard.copy(first, count, block.data());
    std::span<const int32_t> rest(block.data(), size_t(count));
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
