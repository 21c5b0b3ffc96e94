// HellaSwag's examples in JSON lines, packed or not.
#include "fuzz.h"
#include "measure/hellaswag_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const MemoryFile memory(data, size);
  expect_user_errors([&] {
    for (const HellaSwagExample& example : read_hellaswag(memory.path()))
      check(example.label < example.endings.size(), "a label without an ending");
  });
  return 0;
}
