// Headers read, within their limits, and the tensors behind them (safetensors.h).
#include "runs/tensors/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "base/config/config.h"
#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/files/input_file.h"
#include "base/limits.h"
#include "kernels/types/bf16.h"
#include "runs/tensors/element_types.h"

namespace sluice {

namespace fs = std::filesystem;

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
    out.type = type.get<std::string>();
    const ElementType* element = element_type(out.type);
    if (element == nullptr) {
      throw UserError("{}: tensor {} has type {}, but Sluice reads F32, F16, BF16, F64 and I32", path_.string(),
                      excerpt(name_, kMostQuoted), excerpt(out.type, kMostQuoted));
    }
    out.dtype = element->dtype;
    out.shape = shape();
    const std::vector<uint64_t> offsets = numbers("data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) fail("has data_offsets that are not [begin, end]");
    out.offset = data_begin + offsets[0];
    out.bytes = offsets[1] - offsets[0];
    const uint64_t expected = uint64_t(out.shape.elements()) * element->bytes;
    if (out.bytes != expected) {
      fail(fmt::format("has {} bytes, but its shape {} and type {} need {}", out.bytes, out.shape.str(), out.type,
                       expected));
    }
    return out;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw CheckpointDamaged("{}: damaged header: tensor {} {}", path_.string(), excerpt(name_, kMostQuoted), problem);
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
        fail(fmt::format("has {} in its {}", shown(value), key));
      }
      out.push_back(value.get<uint64_t>());
    }
    return out;
  }

  Shape shape() const {
    const std::vector<uint64_t> dims = numbers("shape");
    if (dims.size() > size_t(Shape::kMaxRank)) {
      throw UserError("{}: tensor {} has {} dimensions, but Sluice reads at most {}", path_.string(),
                      excerpt(name_, kMostQuoted), dims.size(), Shape::kMaxRank);
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

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(open_regular(path)) {
  const uint64_t size = file_.size();
  uint64_t length = 0;
  if (file_.read_at(0, &length, kLengthBytes) != kLengthBytes) {
    throw CheckpointDamaged("{}: {} bytes are too few for a safetensors file", path.string(), size);
  }
  if (length > size - kLengthBytes) {
    throw CheckpointDamaged(
        "{}: its header should have {} bytes, but the whole file has {}; it is cut off, or no "
        "safetensors file",
        path.string(), length, size);
  }
  if (length > kMostHeaderBytes) {
    throw CheckpointDamaged("{}: its header has {}, but the format's limit is {}", path.string(), bytes_text(length),
                            bytes_text(kMostHeaderBytes));
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
  for (size_t i = 0; i < tensors_.size(); ++i) places_.emplace(tensors_[i].name, i);
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
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::read(const StoredTensor& stored, void* destination) const {
  const size_t got = file_.read_at(stored.offset, destination, stored.bytes);
  if (got != stored.bytes) {
    throw CheckpointDamaged("{}: tensor {} ends after {} of its {} bytes", path().string(), stored.name, got,
                            stored.bytes);
  }
}

namespace {

// By its parts, for not every compiler has the type: sign, 5 bits of exponent, 10 of mantissa. Exact.
float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float size = 0;
  if (exponent == 0) size = std::ldexp(float(mantissa), -24);
  else if (exponent < 31) size = std::ldexp(float(1024 + mantissa), exponent - 25);
  else size = mantissa == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  return bits & 0x8000 ? -size : size;
}

// `count` stored elements as fp32.
void to_floats(const std::string& type, const std::byte* from, size_t count, float* to) {
  const auto convert = [&]<class Stored>(Stored value, auto to_float_of) {
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(&value, from + i * sizeof value, sizeof value);
      to[i] = to_float_of(value);
    }
  };
  if (type == "F32") std::memcpy(to, from, count * sizeof(float));
  else if (type == "F16") convert(uint16_t{}, half_to_float);
  else if (type == "BF16") convert(Bf16{}, [](Bf16 x) { return to_float(x); });
  else convert(double{}, [](double x) { return float(x); });
}

bool is_float(const std::string& type) { return type == "F32" || type == "F16" || type == "BF16" || type == "F64"; }

}  // namespace

void SafetensorsFile::read_floats(const StoredTensor& stored, int64_t first, int64_t count, float* destination) const {
  if (!is_float(stored.type)) {
    throw UserError("{}: tensor {} {} is {}, but F32, F16, BF16 or F64 is expected", path().string(), stored.name,
                    stored.shape.str(), stored.type);
  }
  const int64_t rows = stored.shape.rank() > 1 ? stored.shape.rows() : stored.shape.elements();
  check(first >= 0 && count >= 0 && first + count <= rows, "read_floats: rows beyond the tensor");
  const size_t bytes = element_type(stored.type)->bytes;
  const uint64_t columns = rows == 0 ? 0 : uint64_t(stored.shape.elements() / rows);
  constexpr size_t kPiece = size_t{1} << 18;  // elements: what is being converted stays in the cache
  std::vector<std::byte> piece;
  for (uint64_t done = 0, total = uint64_t(count) * columns; done < total;) {
    const size_t now = size_t(std::min<uint64_t>(kPiece, total - done));
    piece.resize(now * bytes);
    const uint64_t at = stored.offset + (uint64_t(first) * columns + done) * bytes;
    if (file_.read_at(at, piece.data(), piece.size()) != piece.size())
      throw CheckpointDamaged("{}: tensor {} ends before its last byte", path().string(), stored.name);
    to_floats(stored.type, piece.data(), now, destination + done);
    done += now;
  }
}

void SafetensorsFile::check_target(const NamedTensor& target) const {
  check(target.tensor.contiguous(), "load_into: a tensor is not contiguous");
  const StoredTensor* stored = find(target.name);
  if (stored == nullptr) {
    throw UserError("{} has no tensor {} {}; the checkpoint is of another model", path().string(), target.name,
                    target.tensor.shape.str());
  }
  if (stored->shape != target.tensor.shape) {
    throw UserError("{}: tensor {} is {}, but {} is expected; the checkpoint is of another model", path().string(),
                    target.name, stored->shape.str(), target.tensor.shape.str());
  }
  if (stored->dtype != target.tensor.dtype) {
    throw UserError("{}: tensor {} {} is {}, but {} is expected", path().string(), target.name, stored->shape.str(),
                    stored->type, stored_name(target.tensor.dtype));
  }
}

void SafetensorsFile::check_others(std::span<const NamedTensor> targets) const {
  std::set<std::string_view> wanted;
  for (const NamedTensor& target : targets) wanted.insert(target.name);
  for (const StoredTensor& stored : tensors_) {
    if (wanted.contains(stored.name)) continue;
    throw UserError("{} has a tensor {} {} that is not expected; the checkpoint is of another model", path().string(),
                    stored.name, stored.shape.str());
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
