// A run's folder as `sluice compare` reads it: the input is its files, divided by zero bytes, in the order below; then the
// table, the figures and the page's data.
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>

#include "base/files/files.h"
#include "fuzz.h"
#include "report/compare.h"
#include "report/compare_table.h"
#include "report/report.h"

namespace {

constexpr const char* kFiles[] = {"config.json",          "info.json",     "metrics.jsonl", "attention/step_00000000.json",
                                  "attention/step_1.json", "analysis/step_00000010.json", "quantization.json"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  namespace fs = std::filesystem;
  // In memory, and one for each process of the fuzzer.
  static const fs::path folder = fs::path("/dev/shm") / ("sluice_fuzz_run_" + std::to_string(getpid()));
  std::error_code ignored;
  fs::create_directories(folder / "attention", ignored);
  fs::create_directories(folder / "analysis", ignored);
  std::string rest(reinterpret_cast<const char*>(data), size);
  for (const char* name : kFiles) {
    const size_t zero = rest.find('\0');
    const std::string content = rest.substr(0, zero);
    rest = zero == rest.npos ? "" : rest.substr(zero + 1);
    fs::remove(folder / name, ignored);
    if (content.empty()) continue;
    File(folder / name, O_WRONLY | O_CREAT | O_TRUNC).write(content.data(), content.size());
  }
  expect_user_errors([&] {
    const Comparison comparison = compare_runs({read_run(folder.string())});
    to_text(make_table(comparison), 80);
    to_json(comparison).dump(-1, ' ', false, Json::error_handler_t::replace);
    report_data(comparison).dump(-1, ' ', false, Json::error_handler_t::replace);
  });
  return 0;
}
