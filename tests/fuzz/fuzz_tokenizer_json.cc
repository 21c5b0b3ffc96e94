// Tokenizers in JSON: a list of characters, a tokenizer.json; or vocab.json and merges.txt, divided by a zero byte. What is
// accepted must keep text.
#include "base/json_text.h"
#include "data/tokenizer_files.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const std::string input(reinterpret_cast<const char*>(data), size);
  expect_user_errors([&] {
    std::unique_ptr<Tokenizer> tokenizer;
    const size_t zero = input.find('\0');
    if (zero != input.npos) {
      tokenizer = make_gpt2_tokenizer(input.substr(0, zero), input.substr(zero + 1), "fuzz", "key");
    } else {
      const Json json = parse_json(input, "fuzz");
      if (json.is_object() && json.contains("characters")) tokenizer = make_character_tokenizer(json, "fuzz", "key");
      else if (json.is_object() && json.contains("model")) tokenizer = make_gpt2_tokenizer(json, "fuzz", "key");
      else return;
    }
    const std::string text = "The cat's 12 \xC3\xA9 \xE2\x82\xAC\n\n  \xF0\x9F\x8E\x89 aaaaaaaaaaaaaaaaaaaaaaaa";
    std::vector<int32_t> tokens;
    tokenizer->encode(text, tokens);
    check(tokenizer->decode(tokens) == text, "the text does not come back");
  });
  return 0;
}
