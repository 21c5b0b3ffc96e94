// See safetensors.h.
#include "train/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <unordered_set>
#include <utility>

#include <fcntl.h>

#include "base/config.h"
#include "base/json_text.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian and written as they are");

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kHeaderAlignment = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // as the reference implementation has it
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array<std::pair<DType, const char*>, 4> kTypes = {
    {{DType::kF32, "F32"}, {DType::kBF16, "BF16"}, {DType::kF64, "F64"}, {DType::kI32, "I32"}}};

const char* stored_name(DType type) {
  for (const auto& [dtype, name] : kTypes) {
    if (dtype == type) return name;
  }
  throw std::logic_error("safetensors: a type without a name");
}

DType type_of(const std::string& stored, const std::string& tensor, const fs::path& path) {
  for (const auto& [dtype, name] : kTypes) {
    if (stored == name) return dtype;
  }
  throw UserError("{}: tensor {} has type {}, but Sluice reads F32, BF16, F64 and I32", path.string(), tensor, stored);
}

// ---- writing --------------------------------------------------------------------------------------------------------

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

std::string header_of(const std::vector<const NamedTensor*>& order, const SafetensorsMetadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const NamedTensor* named : order) {
    const Tensor& tensor = named->tensor;
    Json shape = Json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    header[named->name] = {{"dtype", stored_name(tensor.dtype)},
                           {"shape", std::move(shape)},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  return text;
}

}  // namespace

FileSum write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                          const SafetensorsMetadata& metadata) {
  const auto order = in_file_order(tensors);
  const std::string header = header_of(order, metadata);
  const uint64_t length = header.size();
  FileWriter writer(path);
  writer.write(&length, kLengthBytes);
  writer.write(header);
  for (const NamedTensor* named : order) writer.write(named->tensor.data, named->tensor.bytes());
  writer.finish();
  return {writer.bytes(), writer.checksum()};
}

uint64_t safetensors_bytes(std::span<const NamedTensor> tensors, const SafetensorsMetadata& metadata) {
  uint64_t bytes = kLengthBytes + header_of(in_file_order(tensors), metadata).size();
  for (const NamedTensor& named : tensors) bytes += named.tensor.bytes();
  return bytes;
}

// ---- reading --------------------------------------------------------------------------------------------------------

namespace {

// One tensor's entry in the header; every step of the way may be wrong in a damaged file.
class EntryReader {
 public:
  EntryReader(const fs::path& path, const std::string& name, const Json& entry)
      : path_(path), name_(name), entry_(entry) {}

  StoredTensor read(uint64_t data_begin) const {
    if (!entry_.is_object()) fail("is not an object");
    const Json& type = member("dtype");
    if (!type.is_string()) fail("has a dtype that is not a string");
    StoredTensor out;
    out.name = name_;
    out.dtype = type_of(type.get<std::string>(), name_, path_);
    out.shape = shape();
    const std::vector<uint64_t> offsets = numbers("data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) fail("has data_offsets that are not [begin, end]");
    out.offset = data_begin + offsets[0];
    out.bytes = offsets[1] - offsets[0];
    const uint64_t expected = uint64_t(out.shape.elements()) * size_of(out.dtype);
    if (out.bytes != expected) {
      fail(fmt::format("has {} bytes, but its shape {} and type {} need {}", out.bytes, out.shape,
                       stored_name(out.dtype), expected));
    }
    return out;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw CheckpointDamaged("{}: damaged header: tensor {} {}", path_.string(), name_, problem);
  }

  const Json& member(const char* key) const {
    const auto found = entry_.find(key);
    if (found == entry_.end()) fail(fmt::format("has no {}", key));
    return *found;
  }

  std::vector<uint64_t> numbers(const char* key) const {
    const Json& list = member(key);
    std::vector<uint64_t> out;
    if (!list.is_array()) fail(fmt::format("has a {} that is not a list", key));
    for (const Json& value : list) {
      // The largest file has 2^63 bytes; with that bound no sum of offsets overflows.
      if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(INT64_MAX)) {
        fail(fmt::format("has {} in its {}", value.dump(), key));
      }
      out.push_back(value.get<uint64_t>());
    }
    return out;
  }

  Shape shape() const {
    const std::vector<uint64_t> dims = numbers("shape");
    if (dims.size() > size_t(Shape::kMaxRank)) {
      throw UserError("{}: tensor {} has {} dimensions, but Sluice reads at most {}", path_.string(), name_,
                      dims.size(), Shape::kMaxRank);
    }
    uint64_t elements = 1;
    for (const uint64_t dim : dims) {
      if (__builtin_mul_overflow(elements, dim, &elements) || elements > uint64_t(INT64_MAX) / 8) {
        fail("has a shape beyond any file");
      }
    }
    const auto at = [&](size_t i) { return int64_t(dims[i]); };
    switch (dims.size()) {
      case 0: return {};
      case 1: return {at(0)};
      case 2: return {at(0), at(1)};
      case 3: return {at(0), at(1), at(2)};
      default: return {at(0), at(1), at(2), at(3)};
    }
  }

  const fs::path& path_;
  const std::string& name_;
  const Json& entry_;
};

SafetensorsMetadata metadata_of(const Json& json, const fs::path& path) {
  SafetensorsMetadata out;
  if (!json.is_object()) {
    throw CheckpointDamaged("{}: damaged header: {} is not an object", path.string(), kMetadataKey);
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      throw CheckpointDamaged("{}: damaged header: {}.{} is not a string", path.string(), kMetadataKey, key);
    }
    out[key] = value.get<std::string>();
  }
  return out;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path, O_RDONLY) {
  const uint64_t size = file_.size();
  uint64_t length = 0;
  if (file_.read_at(0, &length, kLengthBytes) != kLengthBytes) {
    throw CheckpointDamaged("{}: {} bytes are too few for a safetensors file", path.string(), size);
  }
  if (length > kLongestHeader || length > size - kLengthBytes) {
    throw CheckpointDamaged("{}: its header should have {} bytes, but the whole file has {}; it is cut off, or no "
                            "safetensors file", path.string(), length, size);
  }
  std::string text(length, '\0');
  if (file_.read_at(kLengthBytes, text.data(), length) != length) {
    throw CheckpointDamaged("{}: the header cannot be read to its end", path.string());
  }
  parse_header(text, kLengthBytes + length);
  check_layout(kLengthBytes + length, size);
}

void SafetensorsFile::parse_header(const std::string& text, uint64_t data_begin) {
  Json header;
  try {
    header = parse_json(text, path().string() + " (header)");
  } catch (const UserError& error) {
    throw CheckpointDamaged("{}", error.what());
  }
  if (!header.is_object()) throw CheckpointDamaged("{}: damaged header: not an object", path().string());
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      metadata_ = metadata_of(entry, path());
    } else {
      tensors_.push_back(EntryReader(path(), name, entry).read(data_begin));
    }
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);  // an empty tensor before its neighbour
  });
}

void SafetensorsFile::check_layout(uint64_t data_begin, uint64_t data_end) const {
  uint64_t end = data_begin;
  for (const StoredTensor& tensor : tensors_) {
    if (tensor.offset != end) {
      throw CheckpointDamaged("{}: damaged header: tensor {} begins at byte {}, but the one before it ends at {}",
                              path().string(), tensor.name, tensor.offset, end);
    }
    end += tensor.bytes;
  }
  if (end != data_end) {
    throw CheckpointDamaged("{}: the header describes {} bytes, but the file has {}", path().string(), end, data_end);
  }
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const StoredTensor& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

void SafetensorsFile::read(const StoredTensor& stored, void* destination) const {
  const size_t got = file_.read_at(stored.offset, destination, stored.bytes);
  if (got != stored.bytes) {
    throw CheckpointDamaged("{}: tensor {} ends after {} of its {} bytes", path().string(), stored.name, got,
                            stored.bytes);
  }
}

void SafetensorsFile::check_target(const NamedTensor& target) const {
  check(target.tensor.contiguous(), "load_into: a tensor is not contiguous");
  const StoredTensor* stored = find(target.name);
  if (stored == nullptr) {
    throw UserError("{} has no tensor {} {}; the checkpoint is of another model", path().string(), target.name,
                    target.tensor.shape);
  }
  if (stored->shape != target.tensor.shape) {
    throw UserError("{}: tensor {} is {}, but {} is expected; the checkpoint is of another model", path().string(),
                    target.name, stored->shape, target.tensor.shape);
  }
  if (stored->dtype != target.tensor.dtype) {
    throw UserError("{}: tensor {} {} is {}, but {} is expected", path().string(), target.name, stored->shape,
                    stored_name(stored->dtype), stored_name(target.tensor.dtype));
  }
}

void SafetensorsFile::check_others(std::span<const NamedTensor> targets) const {
  std::set<std::string_view> wanted;
  for (const NamedTensor& target : targets) wanted.insert(target.name);
  for (const StoredTensor& stored : tensors_) {
    if (wanted.contains(stored.name)) continue;
    throw UserError("{} has a tensor {} {} that is not expected; the checkpoint is of another model", path().string(),
                    stored.name, stored.shape);
  }
}

void SafetensorsFile::check_targets(std::span<const NamedTensor> targets, Others others) const {
  for (const NamedTensor& target : targets) check_target(target);
  if (others == Others::kForbid) check_others(targets);
}

void SafetensorsFile::load_into(std::span<const NamedTensor> targets, Others others) const {
  check_targets(targets, others);
  for (const NamedTensor& target : targets) read(*find(target.name), target.tensor.data);
}

}  // namespace sluice
