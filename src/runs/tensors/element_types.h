// The element types of the safetensors format.
#pragma once

#include <bit>
#include <cstddef>
#include <optional>
#include <string>

#include "kernels/types/tensor.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian, written and read as they are");

// The key of a header that is no tensor's.
inline constexpr const char* kMetadataKey = "__metadata__";
inline constexpr size_t kLengthBytes = 8;  // of the header's length, before it

// The format's types of whole bytes. Only those with a DType can be computed with; files of others may still be opened.
struct ElementType {
  const char* name;
  size_t bytes;
  std::optional<DType> dtype = std::nullopt;
};

const ElementType* element_type(const std::string& name);  // null where the format has none of that name
const char* stored_name(DType type);

}  // namespace sluice
