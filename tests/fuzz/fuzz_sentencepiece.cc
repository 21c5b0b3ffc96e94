// A sentencepiece model: our reader of the file and the library's, and a text encoded with it.
#include "data/tokenizers/tokenizer_files.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  expect_user_errors([&] {
    const auto tokenizer = make_sentencepiece(std::string(reinterpret_cast<const char*>(data), size), "fuzz", "key");
    std::vector<int32_t> tokens;
    tokenizer->encode("The cat's 12 \xC3\xA9 \xE2\x82\xAC\n\n  \xF0\x9F\x8E\x89 \xE2\x96\x81 the", tokens);
    tokenizer->decode(tokens);
  });
  return 0;
}
