// Tokenizers in JSON: a list of characters, a tokenizer.json, a tekken.json; or vocab.json and merges.txt, divided by a
// zero byte; or a file of ranks; or BERT's vocab.txt, and tokenizer_config.json behind a zero byte. What GPT-2's rules
// are accepted for must keep text, others must give tokens that there are.
#include <algorithm>

#include "base/config/json_text.h"
#include "base/error.h"
#include "data/tokenizers/tokenizer_files.h"
#include "fuzz.h"

namespace {

std::unique_ptr<sluice::Tokenizer> read(const std::string& input) {
  using namespace sluice;
  const size_t zero = input.find('\0');
  if (input.starts_with("[PAD]\n")) {
    const size_t end = std::min(zero, input.size());
    return make_wordpiece_vocabulary(input.substr(0, end), input.substr(std::min(end + 1, input.size())), "fuzz",
                                     "key");
  }
  if (zero != input.npos)
    return make_gpt2_tokenizer({input.substr(0, zero), input.substr(zero + 1), "", ""}, "fuzz", "key");
  if (is_rank_file(input)) return make_rank_tokenizer(input, "fuzz.cl100k_base", "key");
  const Json json = parse_json(input, "fuzz");
  if (json.is_object() && json.contains("characters")) return make_character_tokenizer(json, "fuzz", "key");
  if (json.is_object() && json.contains("model")) return make_json_tokenizer(json, "fuzz", "key");
  if (is_tekken(json)) return make_tekken_tokenizer(json, "fuzz", "key");
  return nullptr;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  expect_user_errors([&] {
    const auto tokenizer = read(std::string(reinterpret_cast<const char*>(data), size));
    if (!tokenizer) return;
    const std::string text =
        "The cat's 12 \xC3\xA9 e\xCC\x81 \xE2\x82\xAC\n\n  \xF0\x9F\x8E\x89 aaaaaaaaaaaaaaaaaaaaaaaa<t>";
    std::vector<int32_t> tokens;
    tokenizer->encode(text, tokens);
    for (const int32_t token : tokens) check(token >= 0 && token < tokenizer->vocab_size(), "there is no such token");
    const std::string back = tokenizer->decode(tokens);
    const std::string type = tokenizer->type();
    check((type != "gpt2" && type != "characters") || back == text, "the text does not come back");
  });
  return 0;
}
