// A config: JSON, fields, limits, presets; what is accepted must dump to something that is accepted.
#include "base/config/json_text.h"
#include "experiment/experiment.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  expect_user_errors([&] {
    Experiment experiment =
        parse_experiment(parse_json(std::string(reinterpret_cast<const char*>(data), size), "fuzz"));
    const Json dump = experiment.dump();
    check(parse_experiment(dump).dump() == dump, "a resolved config does not resolve to itself");
  });
  return 0;
}
