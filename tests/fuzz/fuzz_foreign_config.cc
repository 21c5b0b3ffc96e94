// The config.json of a folder that the transformers library wrote; what is accepted must be a model that can be written
// as a config again, and read.
#include "fuzz.h"
#include "interchange/foreign_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static MemoryFolder folder;
  folder.put("config.json", std::string(reinterpret_cast<const char*>(data), size));
  expect_user_errors([&] {
    read_foreign_model(folder.path(), 64, {"rope_scaling", "rope_parameters.factor", "transformer.h"});
  });
  expect_user_errors([&] {
    const ForeignModel foreign = read_foreign_model(folder.path(), 0);
    const bool only_read = foreign.architecture == Architecture::kOpt || foreign.architecture == Architecture::kGptNeoX;
    const Architecture architecture = only_read ? native_architecture(foreign.model) : foreign.architecture;
    const Json config = exported_config(architecture, foreign.model, "float32", nullptr, foreign.trained);
    const Json before = model_group(foreign.model), after = model_group(read_foreign_config(config, "fuzz", 0).model);
    for (const char* key : {"vocab_size", "context", "layers", "heads", "kv_heads", "width", "mlp_width", "norm", "mlp",
                            "position", "qk_norm", "bias", "tied_head"})
      check(before.at(key) == after.at(key), "an exported config does not come back");
  });
  return 0;
}
