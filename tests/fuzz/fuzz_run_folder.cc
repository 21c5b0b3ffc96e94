// Two runs' folders as `sluice compare` reads them: the input is their files, divided by zero bytes, in the order
// below; then the table, the figures, the findings and the page's data.
#include <string>
#include <vector>

#include "fuzz.h"
#include "report/compare.h"
#include "report/compare_table.h"
#include "report/findings.h"
#include "report/report.h"

namespace {

constexpr const char* kFiles[] = {"config.json",           "info.json",
                                  "metrics.jsonl",         "attention/step_00000000.json",
                                  "attention/step_1.json", "analysis/step_00000010.json",
                                  "quantization.json"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static MemoryFolder folder;
  Parts parts(data, size);
  std::vector<std::string> runs;
  for (const char* run : {"a", "b"}) {
    if (runs.empty() || !parts.done()) runs.push_back((folder.path() / run).string());
    for (const char* file : kFiles) folder.put(std::string(run) + "/" + file, parts.next());
  }
  expect_user_errors([&] {
    std::vector<RunRecord> records;
    for (const std::string& run : runs) records.push_back(read_run(run));
    const Comparison comparison = compare_runs(std::move(records));
    const TextTable table = make_table(comparison);
    to_text(table, 80);
    to_markdown(table);
    to_json(comparison).dump(-1, ' ', false, Json::error_handler_t::replace);
    find_findings(comparison);
    report_data(comparison).dump(-1, ' ', false, Json::error_handler_t::replace);
  });
  return 0;
}
