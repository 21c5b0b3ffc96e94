// Tensors by name in the safetensors format: 8 bytes of header length (little endian), a JSON header
//   {"__metadata__":{...},"wte":{"dtype":"F32","shape":[67,256],"data_offsets":[0,68608]},...}
// padded with spaces to a multiple of 8 bytes, then the tensors without gaps. Offsets count from the header's end.
// Any program that reads safetensors reads these files. https://github.com/huggingface/safetensors
//
// Written in the order of decreasing element size (then as given), so that each tensor is aligned to its elements.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/files/files.h"
#include "kernels/types/tensor.h"

namespace sluice {

// Contiguous, in host memory, never owning.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// A file is not what it was when it was written: cut, flipped, of another format. The text says what is wrong.
class CheckpointDamaged : public UserError {
 public:
  using UserError::UserError;
};

struct FileSum {
  uint64_t bytes = 0, checksum = 0;
  bool operator==(const FileSum&) const = default;
};

using SafetensorsMetadata = std::map<std::string, std::string>;

struct TensorHeader {
  std::string name, type;  // type as the format names it: "F32"
  Shape shape;
};

// Writes tensors that need not be in memory at once: all headers, and then their bytes one after another, in pieces of
// any size. Throws as FileWriter does, and leaves no file without finish(). Give the larger element sizes first.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors,
                    const SafetensorsMetadata& metadata);
  void write(const void* data, size_t bytes);
  FileSum finish();  // synced; too few or too many bytes are a bug (logic_error)

 private:
  FileWriter writer_;
  uint64_t expected_;  // bytes of the whole file
};

// Streams the tensors to a new file, synced, and returns its size and XXH3. Throws as FileWriter does, and leaves no
// partial file. Two tensors of one name, or one that is not contiguous, are bugs (logic_error).
FileSum write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                          const SafetensorsMetadata& metadata = {});

// The size of the file that write_safetensors would write.
uint64_t safetensors_bytes(std::span<const NamedTensor> tensors, const SafetensorsMetadata& metadata = {});

struct StoredTensor {
  std::string name, type;      // type as the format names it: "F32"
  std::optional<DType> dtype;  // absent: a type that Sluice does not compute with (F16, I64, U8, ...)
  Shape shape;
  uint64_t offset = 0, bytes = 0;  // within the file
};

class SafetensorsFile {
 public:
  // Opens the file and checks all of its header: lengths, JSON, types, shapes against sizes, no gap, no overlap,
  // nothing missing at the end. Throws CheckpointDamaged; UserError if the file cannot be read or has tensors of a
  // rank or element size that Sluice has not.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // by offset
  const SafetensorsMetadata& metadata() const { return metadata_; }
  const StoredTensor* find(const std::string& name) const;

  // Reads one tensor's bytes to `destination`, which has room for stored.bytes.
  void read(const StoredTensor& stored, void* destination) const;
  // Reads rows [first, first + count) of a tensor of numbers (F64, F32, F16, BF16) as fp32; UserError for another type.
  // A vector is one column of rows.
  void read_floats(const StoredTensor& stored, int64_t first, int64_t count, float* destination) const;

  // Compares all names, shapes and types; UserError names the first tensor that differs, with both shapes. A tensor
  // that no target asks for is an error too, unless `others` is kIgnore.
  enum class Others { kForbid, kIgnore };
  void check_targets(std::span<const NamedTensor> targets, Others others = Others::kForbid) const;

  // The same check, and then every target is filled by its name.
  void load_into(std::span<const NamedTensor> targets, Others others = Others::kForbid) const;

 private:
  void parse_header(const std::string& text, uint64_t data_begin);
  void check_layout(uint64_t data_begin, uint64_t data_end) const;
  void check_target(const NamedTensor& target) const;
  void check_others(std::span<const NamedTensor> targets) const;

  File file_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, size_t> places_;  // of names in tensors_
  SafetensorsMetadata metadata_;
};

}  // namespace sluice
