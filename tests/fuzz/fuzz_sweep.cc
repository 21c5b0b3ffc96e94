// A sweep file, the config below it, and what its first run's folder holds, with zero bytes between: every run that it
// asks for has a config that reads back.
#include "fuzz.h"
#include "runs/sweep.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static MemoryFolder folder;
  Parts parts(data, size);
  folder.put("sweep.json", parts.next());
  folder.put("base.json", parts.next());
  folder.put("run/config.json", parts.next());
  folder.put("run/info.json", parts.next());
  for (const bool overridden : {false, true}) {
    expect_user_errors([&] {
      const std::vector<std::string> overrides =
          overridden ? std::vector<std::string>{"train.steps=5"} : std::vector<std::string>{};
      Sweep sweep = read_sweep((folder.path() / "sweep.json").string(), overrides, "out");
      for (const SweepRun& run : sweep.runs)
        check(parse_experiment(run.config).dump() == run.config, "a run's config does not resolve to itself");
      sweep.runs[0].folder = folder.path() / "run";
      is_trained(sweep.runs[0]);
    });
  }
  return 0;
}
