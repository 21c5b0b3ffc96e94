// The model.safetensors.index.json of a transformers folder, beside two files that it may name.
#include "fuzz.h"
#include "interchange/weight_folder.h"

namespace {

std::string tensor_called(char name) {
  std::string header = std::string(R"({")") + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return std::string(1, char(header.size())) + std::string(7, '\0') + header + std::string(4, '\0');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static MemoryFolder folder;
  folder.put("model-1.safetensors", tensor_called('a'));
  folder.put("model-2.safetensors", tensor_called('b'));
  folder.put("model.safetensors.index.json", std::string(reinterpret_cast<const char*>(data), size));
  expect_user_errors([&] {
    const WeightFolder weights(folder.path());
    for (const auto& [name, found] : weights.tensors())
      check(found.tensor->name == name && weights.find(name) == &found, "a tensor under another name");
  });
  return 0;
}
