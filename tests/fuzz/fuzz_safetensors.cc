// A safetensors file: the header, and every tensor that it says there is, as it lies there and as numbers.
#include <algorithm>
#include <vector>

#include "fuzz.h"
#include "runs/tensors/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const MemoryFile memory(data, size);
  expect_user_errors([&] {
    const SafetensorsFile file(memory.path());
    std::vector<float> values(2);
    const NamedTensor wanted[] = {{"a", Tensor(values.data(), DType::kF32, {2})}};
    expect_user_errors([&] { file.load_into(wanted, SafetensorsFile::Others::kIgnore); });
    for (const StoredTensor& stored : file.tensors()) {
      check(stored.bytes <= size, "a tensor larger than the file");
      check(file.find(stored.name) != nullptr, "a tensor that is not found");
      std::vector<char> bytes(stored.bytes);
      file.read(stored, bytes.data());
      const int64_t rows = stored.shape.rank() > 1 ? stored.shape.rows() : stored.shape.elements();
      const int64_t columns = rows == 0 ? 0 : stored.shape.elements() / rows;
      const int64_t first = rows / 2, count = std::min<int64_t>(rows - first, 3);
      std::vector<float> numbers(size_t(count * columns));
      if (count > 0) expect_user_errors([&] { file.read_floats(stored, first, count, numbers.data()); });
    }
  });
  return 0;
}
