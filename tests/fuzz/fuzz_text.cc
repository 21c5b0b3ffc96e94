// Text input: the first byte chooses the format; the rest is the file, compressed if it says so.
#include "base/utf8.h"
#include "data/text/document_reader.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  if (size == 0) return 0;
  const MemoryFile memory(data + 1, size - 1);
  TextOptions options;
  options.format = data[0] & 32 ? "auto" : data[0] & 1 ? "jsonl" : "text";
  options.field = data[0] & 2 ? "a.b" : "text";
  options.separator = data[0] & 2 ? "--" : "";
  options.replace_invalid = data[0] & 4;
  options.split_bytes = data[0] & 8 ? 7 : 0;
  options.skip_bad = data[0] & 64;
  options.keep_empty = data[0] & 128;
  options.max_document_bytes = data[0] & 16 ? 100 : 1'000'000;
  expect_user_errors([&] {
    DocumentReader reader({memory.path()}, options);
    uint64_t total = 0;
    for (std::string document; total < 100'000'000 && reader.next(document); total += document.size()) {
      check(options.keep_empty || !document.empty(), "an empty document");
      check(options.format != "text" || document.size() <= options.max_document_bytes, "a document beyond the limit");
      check(scan_utf8(document).valid == document.size(), "a document that is not UTF-8");
    }
  });
  return 0;
}
