// A config file, its base behind a zero byte, and what --set says behind others: JSON, layers, fields, limits, presets.
// What is accepted must dump to something that is accepted.
#include "experiment/experiment.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static MemoryFolder folder;
  Parts parts(data, size);
  folder.put("config.json", parts.next());
  folder.put("base.json", parts.next());
  std::vector<std::string> overrides;
  while (!parts.done() && overrides.size() < 8) overrides.push_back(parts.next());
  expect_user_errors([&] {
    Experiment experiment = load_experiment((folder.path() / "config.json").string(), overrides);
    const Json dump = experiment.dump();
    check(parse_experiment(dump).dump() == dump, "a resolved config does not resolve to itself");
  });
  return 0;
}
