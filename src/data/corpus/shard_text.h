// A token shard as text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "data/shards/shard_format.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {

// Hands the shard's text to `write`, a piece at a time. With a separator each document ends with that line; else an
// end-of-text token is written by its name. UserError where the shard was made with another tokenizer (with both names)
// or has a token beyond the vocabulary (with its place). `plain`: what files without a header hold.
void decode_shard(const std::string& path, const Tokenizer& tokenizer, const std::string& separator,
                  const std::function<void(std::string_view)>& write, PlainTokens plain = PlainTokens::kHeader);

}  // namespace sluice
