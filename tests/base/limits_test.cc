// docs/limits.md says the limits that the program has.
#include "base/limits.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/config/json_text.h"
#include "base/error_text.h"
#include "base/source_folder.h"
#include "data/text/document_reader.h"

namespace sluice {
namespace {

// The line of the page that begins with `start`.
std::string line_of_page(const std::string& start) {
  std::ifstream page(source_folder() / "docs/limits.md");
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(start)) return line;
  }
  return "";
}

std::string mebibytes(uint64_t bytes) { return fmt::format("{} MiB", bytes / kMebibyte); }

TEST(Limits, ThePageSaysWhatTheConstantsAre) {
  expect_contains(line_of_page("| any JSON"), {fmt::format("{} open brackets", kMaxJsonDepth)});
  expect_contains(line_of_page("| configs and their bases"), {mebibytes(kMostConfigBytes)});
  expect_contains(line_of_page("| configs |"),
                  {fmt::format("{} files", kMostBases), fmt::format("{} keys", kMostConfigKeys),
                   mebibytes(kMostConfigPaths) + " of them"});
  expect_contains(line_of_page("| sweeps"), {fmt::format("{} keys", kMostConfigKeys),
                                             fmt::format("{} runs", kMostSweepRuns), mebibytes(kMostSweepBytes)});
  expect_contains(line_of_page("| `info.json`"), {mebibytes(kMostFigureBytes)});
  expect_contains(line_of_page("| `metrics.jsonl`"), {mebibytes(kMostMetricsLine) + " a line"});
  expect_contains(line_of_page("| tokenizers"), {mebibytes(kMostTokenizerBytes)});
  expect_contains(line_of_page("| safetensors"), {fmt::format("{} MB of header", kMostHeaderBytes / 1'000'000)});
  expect_contains(line_of_page("| text to encode"),
                  {fmt::format("{} MB unless set", TextOptions{}.max_document_bytes / 1'000'000)});
  expect_contains(line_of_page("| HellaSwag"),
                  {mebibytes(kMostHellaSwagBytes), mebibytes(kMostHellaSwagLine) + " a line"});
  expect_contains(line_of_page("| `sample --prompt-file`"), {mebibytes(kMostPromptBytes)});
  expect_contains(line_of_page("work begins."), {fmt::format("at most {} bytes", kMostMessage)});
}

}  // namespace
}  // namespace sluice
