// A safetensors file: the header, and every tensor that it says there is.
#include <vector>

#include "fuzz.h"
#include "runs/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const MemoryFile memory(data, size);
  expect_user_errors([&] {
    const SafetensorsFile file(memory.path());
    for (const StoredTensor& stored : file.tensors()) {
      check(stored.bytes <= size, "a tensor larger than the file");
      std::vector<char> bytes(stored.bytes);
      file.read(stored, bytes.data());
    }
  });
  return 0;
}
