// A sweep file: every run that it asks for has a config that reads back.
#include "fuzz.h"
#include "runs/sweep.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const MemoryFile memory(data, size);
  for (const bool overridden : {false, true}) {
    expect_user_errors([&] {
      const std::vector<std::string> overrides = overridden ? std::vector<std::string>{"train.steps=5"} : std::vector<std::string>{};
      for (const SweepRun& run : read_sweep(memory.path(), overrides, "out").runs)
        check(parse_experiment(run.config).dump() == run.config, "a run's config does not resolve to itself");
    });
  }
  return 0;
}
