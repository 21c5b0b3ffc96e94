// Headers and tensors written (safetensors.h).
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/config/config.h"
#include "runs/tensors/element_types.h"
#include "runs/tensors/safetensors.h"

namespace sluice {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kHeaderAlignment = 8;

std::vector<const NamedTensor*> in_file_order(std::span<const NamedTensor> tensors) {
  std::unordered_set<std::string> names;
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& named : tensors) {
    check(named.tensor.contiguous(), "write_safetensors: a tensor is not contiguous");
    check(named.name != kMetadataKey && names.insert(named.name).second, "write_safetensors: a name is taken");
    order.push_back(&named);
  }
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return size_of(a->tensor.dtype) > size_of(b->tensor.dtype);
  });
  return order;
}

std::string header_of(const std::vector<TensorHeader>& tensors, const SafetensorsMetadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const TensorHeader& tensor : tensors) {
    Json shape = Json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    const ElementType* type = element_type(tensor.type);
    check(type != nullptr, "safetensors: a type that is not the format's");
    const uint64_t bytes = uint64_t(tensor.shape.elements()) * type->bytes;
    header[tensor.name] = {
        {"dtype", tensor.type}, {"shape", std::move(shape)}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  return text;
}

std::vector<TensorHeader> headers_of(const std::vector<const NamedTensor*>& order) {
  std::vector<TensorHeader> headers;
  for (const NamedTensor* named : order)
    headers.push_back({named->name, stored_name(named->tensor.dtype), named->tensor.shape});
  return headers;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const fs::path& path, const std::vector<TensorHeader>& tensors,
                                     const SafetensorsMetadata& metadata)
    : writer_(path) {
  const std::string header = header_of(tensors, metadata);
  const uint64_t length = header.size();
  writer_.write(&length, kLengthBytes);
  writer_.write(header);
  expected_ = writer_.bytes();
  for (const TensorHeader& tensor : tensors)
    expected_ += uint64_t(tensor.shape.elements()) * element_type(tensor.type)->bytes;
}

void SafetensorsWriter::write(const void* data, size_t bytes) { writer_.write(data, bytes); }

FileSum SafetensorsWriter::finish() {
  check_eq(writer_.bytes(), expected_, "bytes of a safetensors file");
  writer_.finish();
  return {writer_.bytes(), writer_.checksum()};
}

FileSum write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                          const SafetensorsMetadata& metadata) {
  const auto order = in_file_order(tensors);
  SafetensorsWriter writer(path, headers_of(order), metadata);
  for (const NamedTensor* named : order) writer.write(named->tensor.data, named->tensor.bytes());
  return writer.finish();
}

uint64_t safetensors_bytes(std::span<const NamedTensor> tensors, const SafetensorsMetadata& metadata) {
  uint64_t bytes = kLengthBytes + header_of(headers_of(in_file_order(tensors)), metadata).size();
  for (const NamedTensor& named : tensors) bytes += named.tensor.bytes();
  return bytes;
}

}  // namespace sluice
