// A checkpoint's state.json beside two files of tensors. Checksums are made right, as one who edits the file would: its
// own, and those of the two files where it says "right". Then all that a resume and a load look at.
#include <array>

#include "base/config/json_text.h"
#include "experiment/experiment.h"
#include "experiment/experiment_difference.h"
#include "fuzz.h"
#include "runs/checkpoint.h"
#include "runs/trainer_state.h"

namespace {

using namespace sluice;

constexpr const char* kTensors[] = {"model.safetensors", "optimizer.safetensors"};

std::string one_tensor() {
  std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return std::string(1, char(header.size())) + std::string(7, '\0') + header + std::string(8, '\0');
}

// The text as it is where it is no JSON object.
std::string with_right_sums(const std::string& text) {
  std::string out = text;
  expect_user_errors([&] {
    Json json = parse_json(text, "fuzz");
    if (!json.is_object()) return;
    for (const char* name : kTensors) {
      const Json::json_pointer sum = Json::json_pointer("/files") / name / "xxh3";
      if (json.contains(sum) && json[sum] == "right") json[sum] = checksum_text(checksum_of(one_tensor()));
    }
    json.erase("xxh3");
    json["xxh3"] = checksum_text(checksum_of(json.dump()));
    out = json.dump();
  });
  return out;
}

void use(const Checkpoint& checkpoint) {
  const CheckpointState& state = checkpoint.state;
  check(state.step >= 0, "a negative step");
  std::array<float, 2> values{};
  const NamedTensor weights[] = {{"w", Tensor(values.data(), DType::kF32, {2})}};
  load_checkpoint(checkpoint, weights, weights);
  const TrainerState trainer = TrainerState::read(state.trainer, "trainer");
  check(TrainerState::read(trainer.json(), "trainer").json() == trainer.json(),
        "a trainer's state is not read as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static MemoryFolder folder;
  static const Json config = Experiment().dump();
  for (const char* name : kTensors) folder.put(std::string("step_00000010/") + name, one_tensor());
  folder.put("step_00000010/state.json", with_right_sums(std::string(reinterpret_cast<const char*>(data), size)));
  const auto path = folder.path() / "step_00000010";
  expect_user_errors([&] { use(verify_checkpoint(path)); });
  expect_user_errors([&] {
    const auto newest = newest_state(folder.path());
    if (!newest) return;
    const Json& stored = newest->state.config;
    expect_user_errors([&] { check_same_model(stored, config, "fuzz"); });
    expect_user_errors([&] { check_same_experiment(stored, config, "fuzz"); });
    Experiment experiment = parse_experiment(stored);
    const Json dump = experiment.dump();
    check(parse_experiment(dump).dump() == dump, "a stored config does not resolve to itself");
  });
  return 0;
}
