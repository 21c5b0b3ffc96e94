// A checkpoint's state.json. The checksum is made right, as one who edits the file would, so that what it says is read too.
#include <filesystem>

#include <fcntl.h>

#include "base/files.h"
#include "base/json_text.h"
#include "fuzz.h"
#include "train/checkpoint.h"
#include "train/experiment.h"
#include "train/guard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  namespace fs = std::filesystem;
  static const fs::path folder = fs::path("/dev/shm") / ("sluice_fuzz_state_" + std::to_string(getpid()));
  std::error_code ignored;
  fs::create_directories(folder, ignored);
  std::string text(reinterpret_cast<const char*>(data), size);
  expect_user_errors([&] {
    Json json = parse_json(text, "fuzz");
    if (!json.is_object()) return;
    json.erase("xxh3");
    json["xxh3"] = checksum_text(checksum_of(json.dump()));
    text = json.dump();
  });
  File(folder / "state.json", O_WRONLY | O_CREAT | O_TRUNC).write(text.data(), text.size());
  expect_user_errors([&] {
    const Checkpoint checkpoint = verify_checkpoint(folder);
    check(checkpoint.state.step >= 0, "a negative step");
    Guard(GuardConfig{}).restore(checkpoint.state.trainer, "state.json");
    parse_experiment(checkpoint.state.config);
  });
  return 0;
}
