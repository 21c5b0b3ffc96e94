// A token shard, as data of a model and as text again. A Sluice shard's checksum is made right, as one who edits the
// file would.
#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "data/corpus/shard_text.h"
#include "data/sources/token_shards.h"
#include "data/tokenizers/tokenizer.h"
#include "fuzz.h"

namespace {

using namespace sluice;

std::string with_right_checksum(const uint8_t* data, size_t size) {
  constexpr size_t kHeader = 256, kChecksumAt = 48;
  std::string file(reinterpret_cast<const char*>(data), size);
  if (!file.starts_with("SLUICETK") || size < kHeader) return file;
  const uint64_t sum = shard_checksum(std::as_bytes(std::span(file)));
  std::memcpy(file.data() + kChecksumAt, &sum, sizeof sum);
  return file;
}

void use(const std::string& path, const TokenShardsOptions& options) {
  const TokenShards shards({path}, options);
  std::vector<int32_t> inputs(size_t(options.context) * 2), targets(inputs.size()), starts(inputs.size());
  for (const int64_t first : {int64_t{0}, shards.sequences_per_epoch() - 1}) {
    shards.fill(first, 2, inputs.data(), targets.data());
    shards.fill_document_starts(first, 2, starts.data());
    for (size_t i = 0; i < inputs.size(); ++i) {
      check(inputs[i] >= 0 && inputs[i] < options.vocab_size, "a token beyond the vocabulary");
      check(starts[i] >= 0 && starts[i] <= int32_t(i % size_t(options.context)), "a document that starts later");
    }
  }
  shards.identity();
  shards.describe();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const Tokenizer> bytes = load_tokenizer("bytes", "key");
  const std::string file = with_right_checksum(data, size);
  const MemoryFile memory(file.data(), file.size());
  TokenShardsOptions options;
  options.key = "key";
  options.context = 3;
  options.vocab_size = 300;
  options.verify = true;
  expect_user_errors([&] { use(memory.path(), options); });
  options.plain = PlainTokens::kUint16;
  options.shuffle = Shuffle::kDocuments;
  options.mask_documents = true;
  options.document_token = 256;
  expect_user_errors([&] { use(memory.path(), options); });
  options.plain = PlainTokens::kUint32;
  options.shuffle = Shuffle::kNone;
  options.split = Split::kHeldOut;
  options.first_token = 256;
  options.vocab_size = int64_t{1} << 31;
  expect_user_errors([&] { use(memory.path(), options); });
  for (const PlainTokens plain : {PlainTokens::kHeader, PlainTokens::kUint16})
    expect_user_errors([&] {
      decode_shard(
          memory.path(), *bytes, "--", [](std::string_view) {}, plain);
    });
  return 0;
}
